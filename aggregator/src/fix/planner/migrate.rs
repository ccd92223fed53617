//! Every node to other ranges: the same swaps, for no finding.

use std::collections::BTreeSet;

use cidrift_proto::finding::Severity;

use super::super::choose::Chooser;
use super::super::drain::Drains;
use super::super::ground::Ground;
use super::super::migrate::{Migration, Target, what_if};
use super::super::plan::{ByHand, Plan};
use super::need::{Need, What};
use super::{Wish, node, ordered, words};

/// The plan of all nodes with a CIDR outside of the target; what is against the target blocks every one.
pub(super) fn plan(ground: &Ground, wish: &Wish, target: &Target) -> Plan {
    let answer = what_if(ground, target, wish.allowed);
    let empty = Plan {
        unseen: answer.unseen.clone(),
        ..Plan::new(ground.at, wish.clone())
    };
    // Without a range of blocks for every family nothing can be given to anybody.
    if answer.lacks(ground, target.ranges.len()) {
        return Plan {
            by_hand: against(ground, wish, &answer),
            ..empty
        };
    }
    let there = answer.ground(ground);
    let (mut chooser, drains) = (Chooser::new(&there), Drains::new(&there));
    let need = Need {
        what: vec![What::Swap],
        ..Need::default()
    };
    let moves: BTreeSet<&str> = answer.nodes.iter().map(|row| row.node.as_str()).collect();
    let (mut plans, mut by_hand) = (Vec::new(), Vec::new());
    for (name, ours) in &there.nodes {
        if !moves.contains(name.as_str()) || !wish.wants(name) {
            continue;
        }
        let planned = match words::not_ours(name, ours, false) {
            Some(why) => Err(why),
            None => node::plan(&there, wish, name, &need, &mut chooser, &drains, &BTreeSet::new()),
        };
        match planned {
            Ok(mut plan) => {
                plan.blocked.extend(answer.conflicts.iter().cloned());
                plans.push((Severity::Info, ours.control_plane(), plan));
            }
            Err(why) => by_hand.push(ByHand {
                finding: name.clone(),
                nodes: vec![name.clone()],
                why,
                remedy: String::new(),
            }),
        }
    }
    Plan {
        nodes: ordered(plans),
        by_hand,
        ..empty
    }
}

/// What is against the ranges themselves, and so against every node.
fn against(ground: &Ground, wish: &Wish, answer: &Migration) -> Vec<ByHand> {
    let nodes: Vec<String> = ground.nodes.keys().filter(|name| wish.wants(name)).cloned().collect();
    let rows = answer.conflicts.iter().map(|why| ByHand {
        finding: "--cluster-cidr".to_owned(),
        nodes: nodes.clone(),
        why: why.clone(),
        remedy: String::new(),
    });
    rows.collect()
}
