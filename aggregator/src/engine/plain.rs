//! What goes without saying of hosts' routes, so that views of thousands of nodes can be told: every host has a way to every
//! pod CIDR, and nearly all of them are right.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cidrift_proto::catalogue::Code;
use cidrift_proto::landing::{ForwardingEntry, Landing};
use ipnet::IpNet;

use super::State;
use crate::correlate::book::addresses;
use crate::ipam;
use crate::netmap::NetMap;
use crate::summary::{NodeDetail, NodeSummary};

/// Pod CIDRs that one Node alone has, as of one moment, each with that Node.
#[derive(Debug, Default)]
pub struct Plain {
    owners: NetMap<Owner>,
}

#[derive(Debug)]
struct Owner {
    name: String,
    /// Underlay addresses.
    addresses: Vec<IpAddr>,
}

impl Plain {
    /// The CIDRs.
    pub fn cidrs(&self) -> impl Iterator<Item = IpNet> {
        self.owners.iter().map(|(cidr, _)| cidr)
    }

    /// The entries of `source` that are not plain.
    fn told<'a>(&self, source: &str, entries: impl Iterator<Item = &'a ForwardingEntry>) -> Vec<ForwardingEntry> {
        let (mut told, mut right) = (Vec::new(), Vec::new());
        for entry in entries {
            match self.leads(source, entry) {
                Some(cidr) => right.push((cidr, entry)),
                None => told.push(entry.clone()),
            }
        }
        // Where anything in a CIDR is not right, what lies behind it matters.
        let inside = told.iter().filter_map(|entry| self.owners.longest(entry.prefix));
        let odd: BTreeSet<IpNet> = inside.map(|(cidr, _)| cidr).collect();
        let behind = right.into_iter().filter(|(cidr, _)| odd.contains(cidr));
        told.extend(behind.map(|(_, entry)| entry.clone()));
        told.sort_by_key(|entry| entry.prefix);
        told
    }

    /// Into which such CIDR of another node this entry of `source` leads, where it does so rightly.
    fn leads(&self, source: &str, entry: &ForwardingEntry) -> Option<IpNet> {
        let Landing::Underlay { address, .. } = &entry.landing else {
            return None;
        };
        // One that stands for a part of a wider route says where that leads, too.
        let (cidr, owner) = self.owners.longest(entry.meant_for())?;
        (owner.name != source && owner.addresses.contains(address)).then_some(cidr)
    }
}

impl State {
    /// Those of now. Where several nodes lay claim to addresses, by whatever anybody says (POOL03), every way to them counts.
    pub fn plain(&self) -> Plain {
        let overlaps = self
            .ledger
            .standing()
            .filter(|finding| finding.claim.code == Code::Pool03);
        let named: BTreeSet<&str> = overlaps
            .flat_map(|finding| finding.claim.nodes.iter().map(String::as_str))
            .collect();
        let mut plain = Plain::default();
        for slot in self.book.slots.iter().filter(|slot| slot.contested.is_empty()) {
            let node = self.plane.nodes.get(&slot.owner);
            let Some(node) = node.filter(|_| !named.contains(slot.owner.as_str())) else {
                continue;
            };
            let owner = Owner {
                name: slot.owner.clone(),
                addresses: addresses(node).collect(),
            };
            plain.owners.insert(slot.cidr, owner);
        }
        plain
    }

    /// What a plan rests on of the node of this summary: without verdicts and findings, and without what is [`Plain`].
    pub fn view(&self, summary: &NodeSummary, plain: &Plain) -> NodeDetail {
        let name = &summary.name;
        let host = self.hosts.get(name);
        let facts = host.and_then(|host| host.facts.as_ref());
        let entries = host.into_iter().flat_map(|host| host.forwarding.iter());
        NodeDetail {
            summary: summary.clone(),
            facts: facts.cloned(),
            verdicts: Vec::new(),
            findings: Vec::new(),
            entries: plain.told(name, entries),
            classification: self
                .plane
                .nodes
                .get(name)
                .map(|node| ipam::report::report(node, facts, &self.plane.around)),
        }
    }

    /// The names of all nodes of the control plane.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.plane.nodes.keys().map(String::as_str)
    }
}
