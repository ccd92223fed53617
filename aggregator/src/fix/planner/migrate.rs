//! Every node to other ranges: the same swaps, for no finding.

use std::collections::BTreeSet;

use cidrift_proto::finding::Severity;

use super::super::choose::Chooser;
use super::super::drain::Drains;
use super::super::ground::Ground;
use super::super::migrate::{Target, what_if};
use super::super::plan::{API_VERSION, ByHand, Plan};
use super::need::{Need, What};
use super::{Wish, node, ordered, words};

/// The plan of all nodes with a CIDR outside of the target; what is against the target blocks every one.
pub(super) fn plan(ground: &Ground, wish: &Wish, target: &Target) -> Plan {
    let answer = what_if(ground, target, wish.allowed);
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
        api_version: API_VERSION.to_owned(),
        kind: "Plan".to_owned(),
        made_at: ground.at,
        nodes: ordered(plans),
        by_hand,
        release: Vec::new(),
        unseen: answer.unseen,
    }
}
