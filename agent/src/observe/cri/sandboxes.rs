//! The runtime's pod sandboxes.
//!
//! `ListPodSandbox` tells neither addresses nor whether a sandbox shares the host's network; `PodSandboxStatus` does,
//! one by one. What it says never changes once there is an address, so each sandbox is asked for once. A list in which
//! a ready sandbox is still missing its status is not told, since a rule would take it for one without an address:
//! until all are known the last whole list stands, with the time at which it was.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use tokio::time::Instant;

use super::client::Client;
use super::connection::{CriError, cut};
use super::v1;
use super::v1::{NamespaceMode, PodSandboxState};
use crate::view::Observed;
use crate::view::host::{Missing, Sandbox};

/// Sandboxes that are kept at most: a kubelet's own limit is 110 pods, the largest in use some 500, and each may
/// leave a few that are not ready any more.
const LIMIT: usize = 4096;

/// Sandboxes asked for in one look: twice what large nodes have (250 pods), so that one look is enough there.
const PER_LOOK: usize = 512;

/// Calls under way at the same time: enough to hide the latency, few enough not to delay the kubelet's own.
const CONCURRENT: usize = 8;

/// How old the last whole list may become before it is no answer any more: six looks.
const OLD: Duration = Duration::from_secs(60);

/// What is known of the runtime's sandboxes.
#[derive(Debug, Default)]
pub(super) struct Sandboxes {
    known: HashMap<String, Known>,
    whole: Option<Observed<Vec<Sandbox>>>,
}

/// What `PodSandboxStatus` said.
#[derive(Debug, Clone)]
struct Known {
    host_network: bool,
    addresses: Vec<IpAddr>,
}

impl Sandboxes {
    /// Lists them, and asks for those that are new.
    pub(super) async fn look(
        &mut self,
        client: &Client,
        source: &str,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Observed<Vec<Sandbox>>, CriError> {
        let mut items = client.list(deadline).await?;
        if items.len() > LIMIT {
            let why = format!("it has {} sandboxes, more than the {LIMIT} that are read", items.len());
            return Ok(Observed::missing(now, source, Missing::Unreadable(why)));
        }
        items.sort_by(|one, other| one.id.cmp(&other.id));
        let listed: HashSet<&str> = items.iter().map(|item| item.id.as_str()).collect();
        self.known.retain(|id, _| listed.contains(id.as_str()));
        let (gone, failed) = self.ask(client, &items, deadline).await;
        items.retain(|item| !gone.contains(&item.id));
        let open = items
            .iter()
            .filter(|item| ready(item) && !self.known.contains_key(&item.id));
        let open = open.count();
        if open == 0 {
            let sandboxes = items.iter().map(|item| self.sandbox(item)).collect();
            let observed = Observed::seen(now, source, sandboxes);
            self.whole = Some(observed.clone());
            return Ok(observed);
        }
        Ok(self.not_whole(source, now, open, failed))
    }

    #[cfg(test)]
    pub(super) fn known_ids(&self) -> usize {
        self.known.len()
    }

    /// Asks for what is not known. Returns those that went in the meantime, and the first error.
    async fn ask(
        &mut self,
        client: &Client,
        items: &[v1::PodSandbox],
        deadline: Instant,
    ) -> (HashSet<String>, Option<CriError>) {
        let ready = items.iter().filter(|item| ready(item));
        // Those of which nothing is known come first: of the others only the address may still be missing.
        let (new, known): (Vec<_>, Vec<_>) = ready.partition(|item| !self.known.contains_key(&item.id));
        let addressless = known.into_iter().filter(|item| {
            let known = self.known.get(&item.id);
            known.is_some_and(|known| !known.host_network && known.addresses.is_empty())
        });
        let todo: Vec<String> = new
            .into_iter()
            .chain(addressless)
            .take(PER_LOOK)
            .map(|item| item.id.clone())
            .collect();
        let mut answers = stream::iter(todo)
            .map(|id| async move {
                let status = client.sandbox(&id, deadline).await;
                (id, status.and_then(read))
            })
            .buffer_unordered(CONCURRENT);
        let (mut gone, mut failed) = (HashSet::new(), None);
        while let Some((id, answer)) = answers.next().await {
            match answer {
                Ok(known) => drop(self.known.insert(id, known)),
                Err(error) if error.is_not_found() => drop(gone.insert(id)),
                Err(error) => {
                    let broken = error.breaks_connection();
                    failed.get_or_insert(error);
                    if broken {
                        break;
                    }
                }
            }
        }
        (gone, failed)
    }

    fn sandbox(&self, item: &v1::PodSandbox) -> Sandbox {
        let known = self.known.get(&item.id);
        let metadata = item.metadata.clone().unwrap_or_default();
        Sandbox {
            id: item.id.clone(),
            pod: format!("{}/{}", metadata.namespace, metadata.name),
            uid: metadata.uid,
            created_at: Timestamp::from_nanosecond(item.created_at.into())
                .ok()
                .filter(|at| *at > Timestamp::UNIX_EPOCH),
            ready: ready(item),
            host_network: known.is_some_and(|known| known.host_network),
            addresses: known.map(|known| known.addresses.clone()).unwrap_or_default(),
        }
    }

    /// `open` ready sandboxes are not known yet.
    fn not_whole(&self, source: &str, now: Timestamp, open: usize, failed: Option<CriError>) -> Observed<Vec<Sandbox>> {
        let last = self.whole.as_ref().filter(|whole| whole.source == source);
        if let Some(whole) = last
            && now.duration_since(whole.at).unsigned_abs() < OLD
        {
            return whole.clone();
        }
        let why = match failed {
            Some(error) => Missing::Unreadable(format!("{open} of its sandboxes are not known: {error}")),
            None if last.is_some() => Missing::Unreadable(format!("{open} of its sandboxes are not known yet")),
            None => Missing::NotYet,
        };
        Observed::missing(now, source, why)
    }
}

fn ready(item: &v1::PodSandbox) -> bool {
    item.state == i32::from(PodSandboxState::SandboxReady)
}

/// Reads one answer.
fn read(status: v1::PodSandboxStatus) -> Result<Known, CriError> {
    let options = status.linux.and_then(|linux| linux.namespaces?.options);
    let network = status.network.unwrap_or_default();
    let first = std::iter::once(network.ip);
    let texts = first.chain(network.additional_ips.into_iter().map(|more| more.ip));
    let addresses = texts.filter(|text| !text.is_empty()).map(|text| {
        text.parse().map_err(|_| CriError::Answer {
            call: "PodSandboxStatus",
            code: tonic::Code::Ok,
            message: format!("{:?} is no address", cut(&text)),
        })
    });
    Ok(Known {
        host_network: options.is_some_and(|options| options.network == i32::from(NamespaceMode::Node)),
        addresses: addresses.collect::<Result<_, _>>()?,
    })
}
