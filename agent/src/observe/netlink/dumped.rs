//! What a dump brought, and the first view that is made of it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use cidrift_proto::landing::MacAddress;
use jiff::Timestamp;

use super::decode::link::LinkState;
use super::dumper::Dumper;
use super::netconf::Netconf;
use super::parts::Parts;
use super::{Counters, Gap, Look, ObserveError, Part};
use crate::view::{FdbEntry, Kernel, Link, LinkDetail, Neighbour, Nexthop, Rule, Tables};

/// Links by ifindex, with what their events are compared to.
pub(super) type Links = (BTreeMap<u32, Link>, HashMap<u32, LinkState>);
pub(super) type Neighbours = HashMap<(u32, IpAddr), Neighbour>;
pub(super) type Fdb = HashMap<(u32, MacAddress), Vec<FdbEntry>>;

/// What a dump brought. A part is `None` where it was not asked for or could not be had.
#[derive(Debug)]
pub(super) struct Dumped {
    pub(super) parts: Parts,
    pub(super) began: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) took: Duration,
    pub(super) links: Option<Links>,
    pub(super) routes: Option<Tables>,
    pub(super) rules: Option<Vec<Rule>>,
    pub(super) nexthops: Option<HashMap<u32, Nexthop>>,
    pub(super) neighbours: Option<Neighbours>,
    pub(super) fdb: Option<Fdb>,
    pub(super) netconf: Option<Netconf>,
    /// What could not be seen, or not for sure.
    pub(super) gaps: Vec<Gap>,
    /// Parts that changed during every attempt: present, but perhaps not whole.
    pub(super) interrupted: Parts,
    pub(super) counters: Counters,
}

/// Keeps what belongs to VXLAN devices: every other device's own FDB is about
/// what it receives, not about where it sends.
pub(super) fn keep_vxlan(fdb: &mut Fdb, links: &BTreeMap<u32, Link>) {
    fdb.retain(|(device, _), _| {
        links
            .get(device)
            .is_some_and(|link| matches!(link.detail, LinkDetail::Vxlan { .. }))
    });
}

impl Dumped {
    /// Leaves out the parts that changed during every attempt: what is known, kept by events, is better.
    pub(super) fn forget_interrupted(&mut self) {
        let gone = self.interrupted;
        forget(&mut self.links, gone.has(Part::Links));
        forget(&mut self.routes, gone.has(Part::Routes));
        forget(&mut self.rules, gone.has(Part::Rules));
        forget(&mut self.nexthops, gone.has(Part::Nexthops));
        forget(&mut self.neighbours, gone.has(Part::Neighbours));
        forget(&mut self.fdb, gone.has(Part::Fdb));
        forget(&mut self.netconf, gone.has(Part::Sysctls));
    }

    /// True when every part without which no landing can be told is here.
    pub(super) fn is_whole(&self) -> bool {
        self.links.is_some()
            && self.routes.is_some()
            && self.rules.is_some()
            && self.neighbours.is_some()
            && self.fdb.is_some()
    }

    /// The first view. Fails where a part is missing without which no landing can be told.
    pub(super) fn first(self) -> Result<(Look, Netconf, HashMap<u32, LinkState>), ObserveError> {
        let missing = |part: Part| ObserveError::Dump {
            part,
            reason: self
                .gaps
                .iter()
                .find(|gap| gap.part == part)
                .map_or_else(|| "no answer".to_owned(), |gap| gap.reason.clone()),
        };
        let Some((links, states)) = self.links else {
            return Err(missing(Part::Links));
        };
        let Some(routes) = self.routes else {
            return Err(missing(Part::Routes));
        };
        let Some(rules) = self.rules else {
            return Err(missing(Part::Rules));
        };
        let netconf = self.netconf.unwrap_or_default();
        let mut fdb = self.fdb.unwrap_or_default();
        keep_vxlan(&mut fdb, &links);
        let kernel = Kernel {
            sysctls: netconf.sysctls(&links),
            links,
            rules,
            routes,
            nexthops: self.nexthops.unwrap_or_default(),
            neighbours: self.neighbours.unwrap_or_default(),
            fdb,
        };
        let look = Look {
            kernel,
            gaps: self.gaps,
            at: self.began,
            counters: self.counters,
        };
        Ok((look, netconf, states))
    }
}

fn forget<T>(part: &mut Option<T>, gone: bool) {
    if gone {
        *part = None;
    }
}

/// One dump of everything, on a thread of its own: it inherits the caller's namespace.
pub(super) async fn look(mut dumper: Dumper) -> Result<Look, ObserveError> {
    let (answer, arrives) = tokio::sync::oneshot::channel();
    thread::Builder::new()
        .name("netlink-dump".to_owned())
        .spawn(move || {
            // A caller that went away needs no answer.
            let _ = answer.send(dumper.dump(Parts::ALL));
        })
        .map_err(|error| ObserveError::Thread(error.to_string()))?;
    let dumped = arrives.await.map_err(|error| ObserveError::Thread(error.to_string()))?;
    Ok(dumped.first()?.0)
}
