//! `kubectl cidrift plan` and `migrate`: gather what is known, and plan.

use std::io::Write;
use std::time::Duration;

use ipnet::IpNet;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

use super::app::Failure;
use super::args::{AllowArgs, Args, MaskArgs, MigrateArgs, PlanArgs};
use super::client::Client;
use super::cluster::Cluster;
use super::ground::ground;
use super::outcome::Outcome;
use super::output::Output;
use super::render;
use crate::fix::drain::Allowed;
use crate::fix::ground::Ground;
use crate::fix::migrate::{Target, what_if};
use crate::fix::plan::Plan;
use crate::fix::planner::{Wish, plan};
use crate::fix::run::{Standing, standing};

pub(super) async fn run<W: Write>(args: &Args, wanted: &PlanArgs, output: &mut Output<W>) -> Result<Outcome, Failure> {
    let client = Client::connect(args).await?;
    let cluster = Cluster::open(args).await?;
    let (stands, told) = unfinished(&cluster.impatient_client()?, &args.namespace).await;
    output.say(&told)?;
    let ground = ground(&client, &cluster, None).await?.0;
    let nodes: &[String] = if wanted.all { &[] } else { &wanted.nodes };
    named(&ground, nodes, stands.as_ref())?;
    let mut plan = plan(&ground, &wish(nodes, &wanted.allow));
    also(args, &mut plan, told);
    output.answer(&plan, |look| render::plan(&plan, false, look))?;
    Ok(Outcome::Fine)
}

/// `kubectl cidrift migrate`.
pub(super) async fn migrate<W: Write>(
    args: &Args,
    wanted: &MigrateArgs,
    output: &mut Output<W>,
) -> Result<Outcome, Failure> {
    let client = Client::connect(args).await?;
    let cluster = Cluster::open(args).await?;
    let ground = ground(&client, &cluster, None).await?.0;
    let target = target(&wanted.ranges, &wanted.masks, wanted.per_node);
    let allowed = Allowed {
        unmanaged: wanted.force,
        scratch: wanted.delete_emptydir_data,
    };
    let answer = what_if(&ground, &target, allowed);
    output.answer(&answer, |look| render::migration(&answer, look))?;
    Ok(Outcome::Fine)
}

/// The fix that is not finished, and what is said of it first; nothing where there is none, or he may not look who asks.
pub(super) async fn unfinished(client: &kube::Client, namespace: &str) -> (Option<Standing>, String) {
    match standing(client, namespace).await {
        Ok(stands) => {
            let told = stands.as_ref().map(|stands| stands.text.clone());
            (stands, told.unwrap_or_default())
        }
        Err(error) => (None, format!("whether a fix is unfinished is not known: {error}")),
    }
}

/// Programs read only the plan itself.
pub(super) fn also(args: &Args, plan: &mut Plan, told: String) {
    if args.output.is_machine() && !told.is_empty() {
        plan.unseen.push(told);
    }
}

pub(super) fn target(ranges: &[IpNet], masks: &MaskArgs, per_node: Duration) -> Target {
    Target {
        ranges: ranges.to_vec(),
        mask_v4: masks.node_cidr_mask_size_ipv4,
        mask_v6: masks.node_cidr_mask_size_ipv6,
        per_node,
    }
}

/// Whether there are all of these; one may be missing for a fix that `stands`.
pub(super) fn named(ground: &Ground, nodes: &[String], stands: Option<&Standing>) -> Result<(), Failure> {
    let Some(name) = nodes.iter().find(|name| !ground.nodes.contains_key(*name)) else {
        return Ok(());
    };
    Err(match stands.filter(|stands| stands.misses(name)) {
        Some(stands) => Failure::Missed(name.clone(), stands.text.clone()),
        None => Failure::NoSuchNode(name.clone()),
    })
}

pub(super) fn wish(nodes: &[String], allow: &AllowArgs) -> Wish {
    Wish {
        nodes: nodes.iter().cloned().collect(),
        allowed: Allowed {
            unmanaged: allow.force,
            scratch: allow.delete_emptydir_data,
        },
        control_plane: allow.include_control_plane,
        managed: allow.allow_managed,
        rotate: allow.rotate,
        migrate: None,
    }
}

/// The time, in the seconds in which people read and compare it.
pub(super) fn now() -> Timestamp {
    let now = Timestamp::now();
    let seconds = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc);
    now.round(seconds).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_saved_has_no_parts_of_seconds() {
        assert_eq!(super::now().subsec_nanosecond(), 0);
    }
}
