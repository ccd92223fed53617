//! What an agent told, applied to what is known of its host.

use cidrift_proto::facts::HostFacts;
use ipnet::IpNet;
use jiff::Timestamp;

use crate::cluster::{Forwarding, HostEvent, HostState, Rivalry};

/// What of a host changed.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Its whole view.
    pub(super) all: bool,
    /// These prefixes of it.
    pub(super) prefixes: Vec<IpNet>,
    /// Its facts.
    pub(super) facts: bool,
    /// Its own claims.
    pub(super) claims: bool,
    /// Its stream: whether its view can be relied on, or why not.
    pub(super) stream: bool,
    /// Who speaks for it.
    pub(super) rivals: bool,
    /// When its agent saw that.
    pub(super) seen: Option<Timestamp>,
}

impl Touched {
    /// No part of what is judged.
    pub(super) fn nothing(&self) -> bool {
        !self.all && self.prefixes.is_empty() && !self.facts && !self.claims && !self.stream && !self.rivals
    }
}

/// Applies an event to the host's state.
pub(super) fn apply(host: &mut HostState, event: HostEvent, now: Timestamp) -> Touched {
    // That its stream ended is no word of the agent's.
    if !matches!(event, HostEvent::Disconnected) {
        host.heard_at = now;
    }
    let mut touched = Touched {
        stream: matches!(
            event,
            HostEvent::Connected { .. } | HostEvent::Lost { .. } | HostEvent::Disconnected
        ),
        ..Touched::default()
    };
    match event {
        HostEvent::Connected { instance, version } => {
            host.connected = true;
            host.agent_version = version;
            if host.instance != instance {
                host.instance = instance;
                host.applied = 0;
                host.whole = false;
                host.lost = None;
            }
        }
        HostEvent::Snapshot {
            sequence,
            expectation,
            entries,
            facts,
            claims,
        } => {
            touched.all = true;
            touched.seen = entries.iter().map(|entry| entry.changed_at).max();
            touched.facts = host.facts.as_ref().is_none_or(|before| !same_facts(before, &facts));
            touched.claims = true;
            host.verified_at = Some(facts.observed_at).max(host.verified_at);
            // Facts may be older than the last route.
            host.changed_at = touched.seen.max(host.changed_at);
            host.forwarding = Forwarding::of(entries);
            host.facts = Some(facts);
            host.claims = claims;
            host.applied = sequence;
            host.expectation = expectation;
            host.whole = true;
            host.lost = None;
        }
        HostEvent::Delta { sequence, .. } if !host.whole || sequence <= host.applied => {
            tracing::debug!(node = host.node, sequence, applied = host.applied, "delta left out");
        }
        HostEvent::Delta { sequence, .. } if sequence != host.applied + 1 => {
            touched.stream = true;
            host.whole = false;
            host.lost = Some(format!("deltas {} to {} are missing", host.applied + 1, sequence - 1));
        }
        HostEvent::Delta {
            sequence,
            expectation,
            upserts,
            removed,
            facts,
            claims,
            observed_at,
        } => {
            // A view made for another expectation says more, or less, of every CIDR.
            touched.all = expectation != host.expectation;
            touched.seen = observed_at;
            touched.prefixes = upserts
                .iter()
                .map(|entry| entry.prefix)
                .chain(removed.iter().copied())
                .collect();
            for prefix in removed {
                host.forwarding.remove(prefix);
            }
            for entry in upserts {
                host.forwarding.upsert(entry);
            }
            if let Some(facts) = facts {
                touched.facts = host.facts.as_ref().is_none_or(|before| !same_facts(before, &facts));
                host.facts = Some(facts);
            }
            if let Some(claims) = claims {
                touched.claims = true;
                host.claims = claims;
            }
            host.applied = sequence;
            host.expectation = expectation;
            host.changed_at = observed_at.max(host.changed_at);
        }
        HostEvent::Heartbeat { verified_at } => host.verified_at = verified_at.max(host.verified_at),
        HostEvent::Lost { reason } => {
            host.whole = false;
            host.lost = Some(reason);
        }
        HostEvent::Rivals { reason, until } => {
            let since = host.rivals.as_ref().filter(|rivalry| now < rivalry.until);
            host.rivals = Some(Rivalry {
                since: since.map_or(now, |rivalry| rivalry.since),
                who: reason,
                at: now,
                until,
            });
            touched.rivals = true;
        }
        HostEvent::Disconnected => host.connected = false,
    }
    touched
}

/// Facts say the same of all that anything is judged by, whenever they were read. The rest is only shown: what the runtime
/// runs, counters and times speak through the agent's claims.
fn same_facts(a: &HostFacts, b: &HostFacts) -> bool {
    // How many ports there are changes with every pod; whether there are any is judged by.
    let ports = |facts: &HostFacts| facts.links_omitted > 0;
    let same = a.links == b.links && a.cni == b.cni && a.gaps == b.gaps && a.programs == b.programs;
    same && ports(a) == ports(b)
}

#[cfg(test)]
mod tests {
    use cidrift_proto::landing::{ForwardingEntry, Landing};

    use super::*;

    #[test]
    fn the_first_port_of_a_pod_is_news_and_the_next_one_is_not() {
        let with = |ports| HostFacts {
            links_omitted: ports,
            ..HostFacts::default()
        };
        assert!(!same_facts(&with(0), &with(1)) && !same_facts(&with(1), &with(0)));
        assert!(same_facts(&with(1), &with(2)));
    }

    #[test]
    fn every_word_of_the_agent_is_heard_and_the_end_of_its_stream_is_none() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut host = HostState::new("node-a", at(0));
        let connected = HostEvent::Connected {
            instance: "one".into(),
            version: "1".into(),
        };
        apply(&mut host, connected, at(10));
        assert_eq!((host.heard_at, host.connected), (at(10), true));
        apply(&mut host, HostEvent::Heartbeat { verified_at: None }, at(20));
        assert_eq!(host.heard_at, at(20));
        let touched = apply(&mut host, HostEvent::Disconnected, at(90));
        assert_eq!((host.heard_at, host.connected), (at(20), false));
        assert!(touched.stream);
    }

    #[test]
    fn a_snapshot_was_seen_no_earlier_than_the_last_route_in_it() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut host = HostState::new("node-a", at(0));
        let entry = ForwardingEntry {
            prefix: "10.244.1.0/24".parse().unwrap(),
            route: None,
            landing: Landing::NoRoute,
            changed_at: at(40),
        };
        let snapshot = HostEvent::Snapshot {
            sequence: 1,
            expectation: 1,
            entries: vec![entry],
            facts: HostFacts {
                observed_at: at(7),
                ..HostFacts::default()
            },
            claims: Vec::new(),
        };
        apply(&mut host, snapshot, at(50));
        assert_eq!(host.seen_at(), Some(at(40)));
    }
}
