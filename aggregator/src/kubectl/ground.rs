//! What the aggregator and the API server say, gathered for a plan.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};

use super::app::Failure;
use super::client::{AskError, Client};
use super::cluster::Cluster;
use super::plan::now;
use crate::fix::gather::{self, Answers, Views};
use crate::fix::ground::{Ground, Pods};

/// Asked at a time, where an older aggregator is asked about one node after the other.
pub(super) const AT_ONCE: usize = 8;

/// Pods that were listed stand for those of now for so many times as long as it took to list them: while nodes are begun one
/// after the other, the API server spends a twentieth of the time on that. 150,000 pods take some 20 s, a hundred no time.
const SHARE: u32 = 20;

/// But for no longer than a few nodes take.
const OLDEST: Duration = Duration::from_secs(600);

/// Pods as they were listed last.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pods: Pods,
    at: Instant,
    took: Duration,
}

impl Listed {
    async fn now(cluster: &Cluster, objects: &gather::Objects) -> Result<Self, Failure> {
        let at = Instant::now();
        let pods = gather::pods(cluster.client(), objects).await?;
        Ok(Self {
            pods,
            at,
            took: at.elapsed(),
        })
    }

    fn stands(&self) -> bool {
        self.at.elapsed() < (self.took * SHARE).min(OLDEST)
    }
}

/// A node all pods of which are listed now, and pods of others as they were listed before.
pub(super) type Before<'a> = (&'a str, Listed);

/// All that is known, and the pods that were listed. Findings are asked for last: what turned wrong meanwhile is rather seen
/// than missed.
pub(super) async fn ground(
    client: &Client,
    cluster: &Cluster,
    before: Option<Before<'_>>,
) -> Result<(Ground, Listed), Failure> {
    let objects = gather::objects(cluster.client()).await?;
    let listed = match before {
        Some((node, mut listed)) if listed.stands() => {
            let here = gather::pods_of(cluster.client(), &objects, node).await?;
            listed.pods.replace(node, here);
            listed
        }
        _ => Listed::now(cluster, &objects).await?,
    };
    let views = match client.views().await? {
        Some(views) => views,
        None => one_by_one(client).await?,
    };
    let pool = client.pool().await?;
    let findings = client.findings(false, "", "").await?;
    let status = client.status().await?;
    let answers = Answers {
        findings,
        pool,
        views,
        gaps: status.status.unknowns,
    };
    let ground = gather::assemble(now(), &objects, listed.pods.clone(), answers)?;
    Ok((ground, listed))
}

/// Of an aggregator that tells only of one node at a time.
async fn one_by_one(client: &Client) -> Result<Views, AskError> {
    let names = client.nodes().await?;
    let views = stream::iter(names.iter().map(|node| client.node(&node.name)))
        .buffer_unordered(AT_ONCE)
        .filter_map(async |answer| match answer {
            // Deleted since it was listed.
            Err(AskError::Question(_)) => None,
            other => Some(other),
        });
    Ok(Views {
        nodes: views.try_collect().await?,
        plain: Vec::new(),
    })
}
