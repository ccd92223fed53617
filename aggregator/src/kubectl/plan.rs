//! `kubectl cidrift plan` and `migrate`: gather what is known, and plan.

use std::io::Write;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::app::Failure;
use super::args::{Args, MigrateArgs, PlanArgs};
use super::client::{AskError, Client};
use super::cluster::Cluster;
use super::outcome::Outcome;
use super::output::Output;
use super::render;
use crate::fix::drain::Allowed;
use crate::fix::gather::{self, Answers};
use crate::fix::ground::Ground;
use crate::fix::migrate::{Target, what_if};
use crate::fix::planner::{Wish, plan};

/// Nodes asked for at a time.
const AT_ONCE: usize = 8;

pub(super) async fn run<W: Write>(args: &Args, wanted: &PlanArgs, output: &mut Output<W>) -> Result<Outcome, Failure> {
    let client = Client::connect(args).await?;
    let cluster = Cluster::open(args).await?;
    let ground = ground(&client, &cluster).await?;
    for name in &wanted.nodes {
        if !ground.nodes.contains_key(name) {
            return Err(Failure::NoSuchNode(name.clone()));
        }
    }
    let plan = plan(&ground, &wish(wanted));
    output.answer(&plan, |look| render::plan(&plan, look))?;
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
    let ground = ground(&client, &cluster).await?;
    let target = Target {
        ranges: wanted.ranges.clone(),
        mask_v4: wanted.node_cidr_mask_size_ipv4,
        mask_v6: wanted.node_cidr_mask_size_ipv6,
        per_node: wanted.per_node,
    };
    let allowed = Allowed {
        unmanaged: wanted.force,
        scratch: wanted.delete_emptydir_data,
    };
    let answer = what_if(&ground, &target, allowed);
    output.answer(&answer, |look| render::migration(&answer, look))?;
    Ok(Outcome::Fine)
}

fn wish(wanted: &PlanArgs) -> Wish {
    Wish {
        nodes: wanted.nodes.iter().cloned().collect(),
        allowed: Allowed {
            unmanaged: wanted.force,
            scratch: wanted.delete_emptydir_data,
        },
        control_plane: wanted.include_control_plane,
        managed: wanted.allow_managed,
    }
}

/// What the aggregator and the API server say now. Findings are asked for last: what turned wrong meanwhile is rather seen
/// than missed.
async fn ground(client: &Client, cluster: &Cluster) -> Result<Ground, Failure> {
    let objects = gather::objects(cluster.client()).await?;
    let names = client.nodes().await?;
    let views = stream::iter(names.iter().map(|node| client.node(&node.name)))
        .buffer_unordered(AT_ONCE)
        .filter_map(async |answer| match answer {
            // Deleted since it was listed.
            Err(AskError::Question(_)) => None,
            other => Some(other),
        });
    let nodes = views.try_collect().await?;
    let pool = client.pool().await?;
    let findings = client.findings(false, "", "").await?;
    let status = client.status().await?;
    let answers = Answers {
        findings,
        pool,
        nodes,
        gaps: status.status.unknowns,
    };
    Ok(gather::assemble(Timestamp::now(), &objects, answers)?)
}
