//! What a host says of itself besides its forwarding table. Pure.

mod setups;
mod traffic;

use cidrift_proto::facts::{
    CniFacts, Compared, Counted, CountedSetups, Gap, HostFacts, LeakedLeases, LinkFact, LinkRole, LinkTraffic,
    LoggedSetups, ProgramFact, RuntimeFact, SettingFact, SetupCounts, SetupSpan,
};
use jiff::{SignedDuration, Timestamp};

use crate::resolve::Roles;
use crate::view::{Host, Kernel, Link, LinkDetail};

pub use self::setups::{logged, setups};
pub use self::traffic::{Growth, grown, traffic};

/// Links told at most. A node has a handful that matter; hosts with hundreds
/// of VLANs exist, and the rest of those is counted.
const LINKS: usize = 256;

/// Addresses told of one link at most.
const ADDRESSES: usize = 64;

/// The device that kube-proxy in IPVS mode puts every Service's address on, thousands of
/// them (`DefaultDummyDevice` in pkg/proxy/ipvs). None of them is the host's or a pod's, so
/// that some are left out hides nothing.
const IPVS: &str = "kube-ipvs0";

/// Programs told at most: a host has one of each, and static pod manifests besides.
const PROGRAMS: usize = 32;

/// Bytes told of a setting's value, or of what of a program could not be read.
const VALUE: usize = 256;

/// What a host's facts are made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The kernel's networking state.
    pub kernel: &'a Kernel,
    /// What its links are to pod traffic.
    pub roles: &'a Roles,
    /// CNI configuration.
    pub cni: &'a CniFacts,
    /// Everything else.
    pub host: &'a Host,
    /// `uname -r`.
    pub release: &'a str,
}

/// What the rules told.
#[derive(Debug, Default)]
pub struct Told<'a> {
    /// What could not be judged, and why.
    pub gaps: &'a [Gap],
    /// What was held against the Node's pod CIDRs.
    pub compared: Vec<Compared>,
    /// Leases of sandboxes that are gone.
    pub leaks: Option<LeakedLeases>,
}

/// Everything that a host says of itself.
pub fn host_facts(parts: Parts<'_>, told: Told<'_>, at: Timestamp) -> HostFacts {
    let Parts {
        kernel,
        roles,
        cni,
        host,
        release,
    } = parts;
    let mut links: Vec<(LinkRole, &Link)> = kernel
        .links
        .values()
        .map(|link| (roles.get(&link.index).copied().unwrap_or(LinkRole::Other), link))
        .filter(|(role, _)| *role != LinkRole::PodPort)
        .collect();
    // The ones that matter most first, where there are too many.
    links.sort_by_key(|(role, link)| (rank(*role), link.index));
    links.truncate(LINKS);
    links.sort_by_key(|(_, link)| link.index);
    let omitted = kernel.links.len() - links.len();
    let mut gaps = told.gaps.to_vec();
    for (_, link) in &links {
        if link.addresses.len() > ADDRESSES && link.name != IPVS {
            gaps.push(Gap {
                what: format!("addresses of {}", link.name),
                why: format!("{} of them, {ADDRESSES} are told", link.addresses.len()),
            });
        }
    }
    HostFacts {
        observed_at: at,
        kernel: release.to_owned(),
        links: links.into_iter().map(|(role, link)| fact(role, link)).collect(),
        links_omitted: u32::try_from(omitted).unwrap_or(u32::MAX),
        cni: cni.clone(),
        gaps,
        compared: told.compared,
        programs: programs(host),
        runtime: runtime(host),
        traffic: traffic(kernel, roles, host),
        setups: setups(host),
        leaks: told.leaks,
    }
}

fn programs(host: &Host) -> Vec<ProgramFact> {
    let processes = host.processes.get().into_iter().flatten().take(PROGRAMS);
    processes
        .map(|process| ProgramFact {
            name: process.program.name().to_owned(),
            embedded_in: process.embedded_in.map(|program| program.name().to_owned()),
            pid: (process.pid != 0).then_some(process.pid),
            started_at: process.started_at,
            settings: process
                .settings
                .iter()
                .map(|(name, setting)| SettingFact {
                    name: name.clone(),
                    value: cut(&setting.value),
                    source: setting.source.clone(),
                })
                .collect(),
            problem: process.problem.as_deref().map(cut),
        })
        .collect()
}

fn runtime(host: &Host) -> Option<RuntimeFact> {
    let runtime = host.runtime.get()?;
    let network = runtime.network_ready.as_ref();
    Some(RuntimeFact {
        name: runtime.name.clone(),
        version: runtime.version.clone(),
        socket: host.runtime.source.clone(),
        network_ready: network.map(|condition| condition.ok),
        why: network
            .filter(|condition| !condition.ok)
            .map(|condition| cut(&format!("{}: {}", condition.reason, condition.message))),
    })
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(VALUE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// How long what only counts (pods, their addresses, packets) may wait to be told: a page that people look at need not be
/// fresher, and thousands of nodes start pods all the time.
const COUNTS: SignedDuration = SignedDuration::from_secs(60);

/// Whether there is something new to tell. A pod that came or went is not: it
/// is told with the next thing that is, or after a while.
pub fn differ(told: &HostFacts, now: &HostFacts) -> bool {
    told.kernel != now.kernel
        || told.links != now.links
        || told.cni != now.cni
        || told.gaps != now.gaps
        || !same_witnesses(&told.compared, &now.compared)
        || ((told.compared != now.compared || counted(told) != counted(now) || set_up(told) != set_up(now))
            && now.observed_at.duration_since(told.observed_at) >= COUNTS)
        || told.programs != now.programs
        || told.runtime != now.runtime
        || told.leaks != now.leaks
}

/// The counters, without the time at which they were read.
fn counted(facts: &HostFacts) -> Option<(&[LinkTraffic], &[Counted])> {
    let traffic = facts.traffic.as_ref()?;
    Some((&traffic.links, &traffic.counted))
}

/// How sandboxes are set up, without the times at which that was read.
fn set_up(facts: &HostFacts) -> Option<SetUp<'_>> {
    let setups = facts.setups.as_ref()?;
    let counted = setups.counted.iter();
    let counted =
        counted.map(|row: &CountedSetups| (row.source.as_str(), row.total, row.grown.map(|grown| grown.counts)));
    let logged = setups.logged.as_ref();
    let logged = logged.map(|log: &LoggedSetups| (log.spans.as_slice(), log.waiting, log.waiting_since));
    Some((logged, counted.collect()))
}

/// Spans and who waits since when; of each program its counts.
type SetUp<'a> = (
    Option<(&'a [SetupSpan], u32, Option<Timestamp>)>,
    Vec<(&'a str, SetupCounts, Option<SetupCounts>)>,
);

/// Whether the same witnesses agree with the Node, whatever they count.
fn same_witnesses(told: &[Compared], now: &[Compared]) -> bool {
    let mut pairs = told.iter().zip(now);
    told.len() == now.len() && pairs.all(|(a, b)| (&a.what, &a.source, a.agrees) == (&b.what, &b.source, b.agrees))
}

fn rank(role: LinkRole) -> u8 {
    match role {
        LinkRole::Uplink => 0,
        LinkRole::Bridge => 1,
        LinkRole::Tunnel => 2,
        LinkRole::Loopback => 3,
        LinkRole::Other => 4,
        LinkRole::PodPort => 5,
    }
}

fn fact(role: LinkRole, link: &Link) -> LinkFact {
    LinkFact {
        index: link.index,
        name: link.name.clone(),
        kind: link.kind.clone(),
        up: link.up,
        carrier: link.carrier,
        mtu: link.mtu,
        lladdr: link.lladdr,
        addresses: link
            .addresses
            .iter()
            .take(ADDRESSES)
            .map(|address| address.net)
            .collect(),
        role,
        vxlan: match link.detail {
            LinkDetail::Vxlan { fact, .. } => Some(fact),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use cidrift_proto::facts::Agrees;

    use super::*;
    use crate::view::LinkAddress;

    fn link(index: u32, name: &str, addresses: usize) -> Link {
        Link {
            index,
            name: name.into(),
            kind: String::new(),
            up: true,
            carrier: true,
            loopback: false,
            mtu: 1500,
            lladdr: None,
            master: None,
            peer_elsewhere: false,
            addresses: (0..addresses)
                .map(|i| LinkAddress {
                    net: format!("10.96.{}.{}/32", i / 256, i % 256).parse().unwrap(),
                    unusable: false,
                })
                .collect(),
            detail: LinkDetail::Plain,
        }
    }

    fn facts(links: Vec<(Link, LinkRole)>) -> HostFacts {
        let roles = links.iter().map(|(link, role)| (link.index, *role)).collect();
        let kernel = Kernel {
            links: links.into_iter().map(|(link, _)| (link.index, link)).collect(),
            ..Kernel::default()
        };
        let cni = CniFacts::default();
        let parts = Parts {
            kernel: &kernel,
            roles: &roles,
            cni: &cni,
            host: &Host::default(),
            release: "6.18.44",
        };
        host_facts(parts, Told::default(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn pods_own_ports_are_only_counted() {
        let facts = facts(vec![
            (link(2, "eth0", 1), LinkRole::Uplink),
            (link(7, "veth1", 0), LinkRole::PodPort),
            (link(8, "veth2", 0), LinkRole::PodPort),
        ]);
        assert_eq!(facts.links.len(), 1);
        assert_eq!(facts.links_omitted, 2);
    }

    #[test]
    fn a_pod_that_comes_is_no_news() {
        let before = facts(vec![(link(2, "eth0", 1), LinkRole::Uplink)]);
        let after = facts(vec![
            (link(2, "eth0", 1), LinkRole::Uplink),
            (link(7, "veth1", 0), LinkRole::PodPort),
        ]);
        assert!(!differ(&before, &after));
        assert!(differ(&before, &facts(vec![(link(2, "eth0", 2), LinkRole::Uplink)])));
    }

    #[test]
    fn counts_of_pods_wait_a_minute_and_a_witness_that_disagrees_does_not() {
        let row = |value: &str, agrees| Compared {
            what: "running pods".into(),
            value: value.into(),
            source: "containerd".into(),
            agrees,
        };
        let mut before = facts(vec![]);
        before.compared = vec![row("3 addresses", Agrees::Yes)];
        let mut after = before.clone();
        after.compared = vec![row("4 addresses", Agrees::Yes)];
        after.observed_at = Timestamp::from_second(59).unwrap();
        assert!(!differ(&before, &after));
        after.observed_at = Timestamp::from_second(60).unwrap();
        assert!(differ(&before, &after));
        after.observed_at = before.observed_at;
        after.compared = vec![row("4 addresses, 1 outside", Agrees::No)];
        assert!(differ(&before, &after));
    }

    #[test]
    fn how_sandboxes_are_set_up_waits_a_minute_and_is_no_news_where_it_is_read_again() {
        let row = |second| cidrift_proto::facts::SetupFacts {
            observed_at: Timestamp::from_second(second).unwrap(),
            logged: Some(LoggedSetups {
                source: "containerd.log".into(),
                since: Timestamp::from_second(second).ok(),
                spans: vec![SetupSpan::default()],
                waiting: 0,
                waiting_since: None,
            }),
            counted: vec![],
        };
        let mut before = facts(vec![]);
        before.setups = Some(row(0));
        let mut after = before.clone();
        after.observed_at = Timestamp::from_second(60).unwrap();
        after.setups = Some(row(60));
        assert!(!differ(&before, &after), "it was read again");
        after.setups.as_mut().unwrap().logged.as_mut().unwrap().waiting = 1;
        assert!(differ(&before, &after));
        after.observed_at = Timestamp::from_second(59).unwrap();
        assert!(!differ(&before, &after));
    }

    #[test]
    fn of_a_thousand_links_those_that_matter_are_told() {
        let mut links: Vec<_> = (10..1010)
            .map(|i| (link(i, &format!("vlan{i}"), 0), LinkRole::Other))
            .collect();
        links.push((link(5000, "cni0", 1), LinkRole::Bridge));
        let facts = facts(links);
        assert_eq!(facts.links.len(), LINKS);
        assert_eq!(facts.links_omitted, 1001 - 256);
        assert!(facts.links.iter().any(|link| link.name == "cni0"));
    }

    #[test]
    fn addresses_left_out_are_a_gap() {
        let facts = facts(vec![(link(9, "vips", 3000), LinkRole::Other)]);
        assert_eq!(facts.links[0].addresses.len(), ADDRESSES);
        assert_eq!(facts.gaps[0].what, "addresses of vips");
    }

    #[test]
    fn the_addresses_of_thousands_of_services_are_no_gap() {
        let facts = facts(vec![(link(9, "kube-ipvs0", 3000), LinkRole::Other)]);
        assert_eq!(facts.links[0].addresses.len(), ADDRESSES);
        assert_eq!(facts.gaps, []);
    }
}
