//! What the runtime and the kubelet count of setting up sandboxes, from their own metrics, where these are open to
//! everybody on this host. No right of Kubernetes leads there, and none is needed.
//!
//! They are read once a minute at most: they change with every pod, and nothing rests on them.

mod config;
mod endpoint;
mod http;
mod series;
mod text;

use std::collections::VecDeque;
use std::net::IpAddr;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};

use self::endpoint::{Endpoint, Target, endpoints};
use self::http::Failure;
use self::series::Sum;
use super::root::HostRoot;
use crate::view::Observed;
use crate::view::host::{Missing, Process, Program};
use crate::view::setup::{Counted, Operations, SPANS};

/// From one reading to the next it takes a minute; looks come every 10 s, and earlier where the CNI's configuration changes.
const EVERY: SignedDuration = SignedDuration::from_secs(55);

/// A reading is due some seconds before or after its minute: the one that is ten minutes old counts all the same.
const SLACK: SignedDuration = SignedDuration::from_secs(30);

/// Readings of one program that are kept: as many as there are in the span that growth is told of, and one before.
const READINGS: usize = 11;

/// So many readings may fail one after the other before the last good one is no answer any more: a machine that is busy
/// for a moment hides nothing.
const PATIENCE: u32 = 3;

/// Programs that are asked: a host has a runtime and a kubelet, some a second runtime.
const MOST: usize = 4;

/// Reads them.
#[derive(Debug)]
pub struct MetricsReader {
    root: HostRoot,
    read_at: Option<Timestamp>,
    followed: Vec<Followed>,
}

/// One endpoint as it was read.
#[derive(Debug)]
struct Followed {
    endpoint: Endpoint,
    /// Oldest first.
    readings: VecDeque<(Timestamp, Counted)>,
    failures: u32,
    told: Observed<Operations>,
}

impl MetricsReader {
    /// Of the host whose `/` is at `root`, in the network namespace of whoever looks.
    pub fn new(root: HostRoot) -> Self {
        Self {
            root,
            read_at: None,
            followed: Vec::new(),
        }
    }

    /// The last readings, made now where they are due. A program that is not to be seen has none.
    pub async fn look(&mut self, processes: &Observed<Vec<Process>>, now: Timestamp) -> Vec<Observed<Operations>> {
        // A clock that was set back makes it due.
        let fresh = |at: Timestamp| (SignedDuration::ZERO..EVERY).contains(&now.duration_since(at));
        if !self.read_at.is_some_and(fresh) {
            self.read_at = Some(now);
            let list = processes.get().cloned().unwrap_or_default();
            let root = self.root.clone();
            // Files are read: that may wait for a slow disk, and nothing else may.
            let asked = tokio::task::spawn_blocking(move || endpoints(&root, &list, &own_addresses()));
            let mut wanted = asked.await.unwrap_or_default();
            wanted.truncate(MOST);
            self.follow(wanted);
            join_all(self.followed.iter_mut().map(|one| one.read(now))).await;
        }
        self.followed.iter().map(|one| one.told.clone()).collect()
    }

    fn follow(&mut self, wanted: Vec<Endpoint>) {
        let mut before = std::mem::take(&mut self.followed);
        for endpoint in wanted {
            let known = before.iter().position(|one| one.endpoint == endpoint);
            self.followed.push(match known {
                Some(at) => before.swap_remove(at),
                None => Followed {
                    endpoint,
                    readings: VecDeque::new(),
                    failures: 0,
                    told: Observed::not_yet(),
                },
            });
        }
    }
}

impl Followed {
    async fn read(&mut self, now: Timestamp) {
        let program = self.endpoint.program;
        let source = source(&self.endpoint);
        let value = match &self.endpoint.target {
            Ok(target) => ask(program, target).await,
            Err(missing) => Err(missing.clone()),
        };
        self.told = match value {
            Ok(counted) => {
                self.failures = 0;
                Observed::seen(now, source, self.operations(program, counted, now))
            }
            Err(Missing::Unreadable(_)) if self.told.get().is_some() && self.failures + 1 < PATIENCE => {
                self.failures += 1;
                return;
            }
            Err(missing) => Observed::missing(now, source, missing),
        };
    }

    fn operations(&mut self, program: Program, counted: Counted, now: Timestamp) -> Operations {
        // What lies ahead was read before the clock was set back.
        let lately = |at: Timestamp| at < now && now.duration_since(at) <= SPANS[0] + SLACK;
        self.readings.retain(|(at, _)| lately(*at));
        self.readings.push_back((now, counted.clone()));
        if self.readings.len() > READINGS {
            self.readings.pop_front();
        }
        let pairs = self.readings.iter().zip(self.readings.iter().skip(1));
        let grown = pairs.map(|((_, before), (_, after))| after.since(before));
        let grown = grown.reduce(|sum, more| sum.plus(&more));
        let first = self.readings.front().map(|(at, _)| *at);
        Operations {
            program,
            of: series::counting(program),
            total: counted,
            grown: first.zip(grown),
        }
    }
}

async fn ask(program: Program, target: &Target) -> Result<Counted, Missing> {
    let mut sum = Sum::new(program);
    let read = http::get(target.address, target.path, &mut |line| sum.line(line)).await;
    let counted = read.and_then(|()| Ok(sum.end()?)).map_err(|failure| match failure {
        // It was told to serve there later than it started.
        Failure::Closed => Missing::Absent(failure.to_string()),
        _ if !target.named => Missing::Absent(format!("at the default port {failure}")),
        _ => Missing::Unreadable(failure.to_string()),
    })?;
    counted.ok_or_else(|| Missing::Absent("it does not count calls".to_owned()))
}

/// "containerd's metrics at 127.0.0.1:1338".
fn source(endpoint: &Endpoint) -> String {
    let program = endpoint.program;
    match &endpoint.target {
        Ok(target) => format!("{program}'s metrics at {}", target.address),
        Err(_) => format!("{program}'s metrics"),
    }
}

/// The addresses of this network namespace's devices; none where that cannot be known.
fn own_addresses() -> Vec<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = all.filter_map(|one| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    addresses.collect()
}

#[cfg(test)]
mod tests;
