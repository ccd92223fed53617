//! Whole hosts, judged. Every rule with what must make it fire and what must not.

use cidrift_proto::facts::{CniConfig, FlannelSubnet};
use cidrift_proto::landing::{Discard, Landing, RouteMatch, Via};
use proptest::prelude::*;

use super::*;
use crate::view::{LinkAddress, LinkDetail};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| net(text)).collect()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

/// A forwarding table given row by row, looked up in the slow, obvious way.
#[derive(Clone, Default)]
struct Rows(Vec<ForwardingEntry>);

impl Rows {
    fn row(mut self, prefix: &str, landing: Landing) -> Self {
        self.0.push(ForwardingEntry {
            prefix: net(prefix),
            route: (landing != Landing::NoRoute).then(|| RouteMatch {
                prefix: net(prefix),
                table: 254,
                metric: 0,
                protocol: 3,
            }),
            landing,
            changed_at: at(5),
        });
        self
    }
}

impl Lookup for Rows {
    fn coverage(&self, prefix: IpNet) -> Option<Coverage> {
        let above = self.0.iter().filter(|row| row.prefix.contains(&prefix));
        Some(Coverage {
            base: Some(above.max_by_key(|row| row.prefix.prefix_len())?.clone()),
            specifics: self
                .0
                .iter()
                .filter(|row| prefix.contains(&row.prefix) && row.prefix != prefix)
                .cloned()
                .collect(),
        })
    }
}

fn via(address: &str) -> Landing {
    Landing::Underlay {
        address: address.parse().unwrap(),
        via: Via::Gateway { device: "eth0".into() },
    }
}

fn local(device: &str) -> Landing {
    Landing::Local {
        device: device.into(),
        carrier: true,
    }
}

fn discard() -> Landing {
    Landing::Discard {
        how: Discard::Blackhole,
    }
}

/// A host; a healthy flannel node with pods until something is changed.
#[derive(Clone)]
struct Host {
    expectation: Expectation,
    kernel: Kernel,
    cni: CniFacts,
    rows: Rows,
    gaps: Vec<Gap>,
}

fn config(file: &str, plugin: &str, ipam: Option<&str>, ranges: &[&str], bridge: Option<&str>) -> CniFacts {
    CniFacts {
        directory: "/etc/cni/net.d".into(),
        chosen: Some(CniConfig {
            path: format!("/etc/cni/net.d/{file}"),
            network: "cbr0".into(),
            cni_version: "1.0.0".into(),
            plugins: vec![plugin.into(), "portmap".into()],
            ipam: ipam.map(str::to_owned),
            ranges: nets(ranges),
            subnets: nets(ranges),
            bridge: bridge.map(str::to_owned),
            generated_by: None,
            modified_at: Some(at(1)),
        }),
        ..CniFacts::default()
    }
}

impl Host {
    /// flannel, with the Node's 10.244.1.0/24 everywhere.
    fn flannel() -> Self {
        let mut cni = config("10-flannel.conflist", "flannel", None, &[], Some("cni0"));
        cni.flannel = Some(FlannelSubnet {
            path: "/run/flannel/subnet.env".into(),
            networks: nets(&["10.244.0.0/16"]),
            subnets: nets(&["10.244.1.0/24"]),
            mtu: 1450,
            ipmasq: true,
        });
        Self {
            expectation: Expectation {
                source: "Node node-a".into(),
                node_known: true,
                pod_cidrs: nets(&["10.244.1.0/24"]),
                observed_at: Some(at(3)),
                ..Expectation::default()
            },
            kernel: Kernel::default(),
            cni,
            rows: Rows::default()
                .row("0.0.0.0/0", via("10.0.0.1"))
                .row("10.244.1.0/24", local("cni0"))
                .row(
                    "10.244.1.0/32",
                    Landing::Host {
                        device: "flannel.1".into(),
                    },
                )
                .row("10.244.1.1/32", Landing::Host { device: "cni0".into() })
                .row("10.244.2.0/24", via("10.0.0.2")),
            gaps: Vec::new(),
        }
        .link("eth0", "", &["10.0.0.11/24"])
        .link("flannel.1", "vxlan", &["10.244.1.0/32", "fe80::1/64"])
        .link("cni0", "bridge", &["10.244.1.1/24", "fe80::2/64"])
        .pods(2)
    }

    /// A host-local CNI on a bridge, as containerd's template makes it.
    fn bridge(ranges: &[&str]) -> Self {
        let mut host = Self::flannel();
        host.kernel.links.retain(|_, link| link.name != "flannel.1");
        host.cni = config(
            "10-containerd-net.conflist",
            "bridge",
            Some("host-local"),
            ranges,
            Some("cni0"),
        );
        host
    }

    /// A CNI with a route for every pod, and the Node's CIDR in its file.
    fn ptp() -> Self {
        let mut host = Self::flannel();
        host.kernel.links.retain(|_, link| link.name == "eth0");
        host.cni = config(
            "10-kindnet.conflist",
            "ptp",
            Some("host-local"),
            &["10.244.1.0/24"],
            None,
        );
        host.rows = Rows::default()
            .row("0.0.0.0/0", via("10.0.0.1"))
            .row("10.244.1.2/32", local("veth2"))
            .row("10.244.1.3/32", local("veth3"));
        host
    }

    fn link(mut self, name: &str, kind: &str, addresses: &[&str]) -> Self {
        self.kernel.links.retain(|_, link| link.name != name);
        let index = 1 + self.kernel.links.keys().max().copied().unwrap_or(0);
        let link = Link {
            index,
            name: name.into(),
            kind: kind.into(),
            up: true,
            carrier: true,
            loopback: false,
            mtu: 1500,
            lladdr: None,
            master: None,
            peer_elsewhere: false,
            addresses: addresses
                .iter()
                .map(|text| LinkAddress {
                    net: net(text),
                    unusable: false,
                })
                .collect(),
            detail: LinkDetail::Plain,
        };
        self.kernel.links.insert(index, link);
        self
    }

    /// That many pods on cni0.
    fn pods(mut self, count: usize) -> Self {
        let bridge = self.kernel.links.values().find(|link| link.name == "cni0");
        let master = bridge.map(|link| link.index);
        self.kernel.links.retain(|_, link| link.master.is_none());
        for at in 0..count {
            self = self.link(&format!("veth{at}"), "veth", &[]);
            if let Some(link) = self
                .kernel
                .links
                .values_mut()
                .find(|link| link.name == format!("veth{at}"))
            {
                link.master = master;
            }
        }
        self
    }

    fn set_down(mut self, name: &str) -> Self {
        for link in self.kernel.links.values_mut().filter(|link| link.name == name) {
            link.up = false;
        }
        self
    }

    fn rows(mut self, rows: Rows) -> Self {
        self.rows = rows;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn judge(&self) -> Judged {
        check(&Input {
            node: "node-a",
            expectation: Some(&self.expectation),
            kernel: &self.kernel,
            kernel_at: at(10),
            kernel_gaps: &self.gaps,
            links_changed_at: Some(at(4)),
            cni: &self.cni,
            cni_at: at(9),
            cni_changed_at: Some(at(2)),
            lookup: &self.rows,
        })
    }

    fn codes(&self) -> Vec<Code> {
        self.judge().claims.iter().map(|claim| claim.code).collect()
    }

    fn assert_healthy(&self) {
        assert_eq!(self.judge(), Judged::default());
    }

    /// Why each rule was not judged; no claim may stand beside it.
    fn unjudged(&self) -> String {
        let judged = self.judge();
        assert_eq!(judged.claims, vec![]);
        let lines: Vec<String> = judged
            .unjudged
            .iter()
            .map(|row| format!("{} {}", row.code, row.reason))
            .collect();
        lines.join("\n")
    }
}

/// What people would read of it, without the times.
fn text(judged: &Judged) -> String {
    let mut lines = Vec::new();
    for claim in &judged.claims {
        lines.push(format!("{} {} {}", claim.severity, claim.id(), claim.summary));
        lines.extend(
            claim
                .evidence
                .iter()
                .map(|row| format!("  {}: {}", row.source, row.text)),
        );
        lines.extend(claim.unseen.iter().map(|unseen| format!("  unseen: {unseen}")));
        lines.push(format!("  why: {}", claim.cause));
        lines.push(format!("  help: {}", claim.remedy));
    }
    lines.extend(
        judged
            .unjudged
            .iter()
            .map(|row| format!("unjudged {}: {}", row.code, row.reason)),
    );
    lines.join("\n")
}

mod what_can_be_judged {
    use super::*;

    #[test]
    fn a_healthy_host_has_neither_claims_nor_doubts() {
        Host::flannel().assert_healthy();
        Host::bridge(&["10.244.1.0/24"]).assert_healthy();
        Host::ptp().assert_healthy();
    }

    #[test]
    fn without_an_expectation_nothing_is_judged() {
        let host = Host::flannel();
        let judged = check(&Input {
            expectation: None,
            node: "node-a",
            kernel: &host.kernel,
            kernel_at: at(0),
            kernel_gaps: &[],
            links_changed_at: None,
            cni: &host.cni,
            cni_at: at(0),
            cni_changed_at: None,
            lookup: &host.rows,
        });
        assert_eq!((judged.claims.len(), judged.unjudged.len()), (0, 3));
    }

    #[test]
    fn an_unknown_node_and_one_without_cidr_are_not_judged() {
        let unknown = Host::flannel().with(|host| host.expectation.node_known = false);
        assert!(unknown.unjudged().contains("knows no Node \"node-a\""));
        let empty = Host::flannel().with(|host| host.expectation.pod_cidrs.clear());
        assert!(empty.unjudged().contains("Node node-a has no podCIDR"));
    }

    #[test]
    fn a_cni_with_its_own_allocator_is_not_judged_by_the_pod_cidr() {
        let mut reasons = Vec::new();
        for (plugin, ipam) in [
            ("calico", Some("calico-ipam")),
            ("cilium-cni", None),
            ("aws-cni", None),
            ("azure-vnet", Some("azure-cns")),
            ("ovn-k8s-cni-overlay", None),
            ("weave-net", None),
            ("kube-ovn", None),
            ("macvlan", Some("host-local")),
            ("bridge", Some("whereabouts")),
            ("bridge", Some("dhcp")),
            ("multus", None),
            ("my-own", None),
        ] {
            // Everything on the host contradicts the Node, and none of it may be held against it.
            let host = Host::flannel().link("cni0", "bridge", &["10.9.0.1/24"]).with(|host| {
                host.cni.chosen = config("x.conflist", plugin, ipam, &["10.9.0.0/24"], Some("cni0")).chosen;
            });
            let text = host.unjudged();
            assert_eq!(text.lines().count(), 3);
            reasons.push(text.lines().next().unwrap().trim_start_matches("HOST01 ").to_owned());
        }
        insta::assert_snapshot!(reasons.join("\n"));
    }

    #[test]
    fn flannel_that_takes_its_subnet_from_etcd_is_not_judged_by_the_node() {
        let host = Host::flannel().with(|host| {
            host.expectation.kube_subnet_manager = Some(false);
            host.expectation.pod_cidrs = nets(&["10.9.0.0/24"]);
        });
        assert!(host.unjudged().contains("etcd"));
    }

    #[test]
    fn a_torn_file_is_unknown() {
        let host = Host::flannel().with(|host| {
            host.cni.chosen = None;
            host.cni.problem = Some("/etc/cni/net.d/10-flannel.conflist: EOF while parsing".into());
        });
        assert!(
            host.unjudged()
                .contains("HOST01 the host's CNI is not known: /etc/cni/net.d/10-flannel.conflist: EOF")
        );
    }

    #[test]
    fn what_the_kernel_did_not_tell_is_not_judged() {
        let host = Host::flannel().link("cni0", "bridge", &["10.9.0.1/24"]).with(|host| {
            host.gaps.push(Gap {
                what: "addresses".into(),
                why: "interrupted".into(),
            });
        });
        assert_eq!(
            host.unjudged(),
            "HOST02 addresses could not be read: interrupted\nHOST04 addresses could not be read: interrupted"
        );
    }
}

mod cni_config_stale {
    use super::*;

    #[test]
    fn containerds_frozen_template_is_stale_and_named_as_such() {
        let host = Host::bridge(&["10.244.7.0/24"]).with(|host| {
            let config = host.cni.chosen.as_mut().unwrap();
            config.generated_by = Some("containerd template /etc/containerd/cni.template".into());
        });
        insta::assert_snapshot!(text(&host.judge()));
    }

    #[test]
    fn a_stale_subnet_env_is_found_behind_flannels_file_without_ranges() {
        let host = Host::flannel().with(|host| {
            host.cni.flannel.as_mut().unwrap().subnets = nets(&["10.244.7.0/24"]);
        });
        insta::assert_snapshot!(text(&host.judge()));
    }

    #[test]
    fn a_range_inside_the_nodes_cidr_is_not_stale() {
        let mut host = Host::bridge(&["10.244.1.0/26"]).link("cni0", "bridge", &["10.244.1.1/26"]);
        host.assert_healthy();
        host.cni.chosen.as_mut().unwrap().ranges = nets(&["10.244.1.64/27"]);
        host.assert_healthy();
    }

    #[test]
    fn a_subnet_shared_by_all_nodes_is_not_stale_where_the_range_is_the_nodes() {
        let host = Host::bridge(&["10.244.1.0/24"])
            .link("cni0", "bridge", &["10.244.1.1/16"])
            .with(|host| host.cni.chosen.as_mut().unwrap().subnets = nets(&["10.244.0.0/16"]));
        host.assert_healthy();
    }

    #[test]
    fn a_range_wider_than_the_nodes_cidr_is_stale() {
        assert_eq!(Host::bridge(&["10.244.0.0/16"]).codes()[0], Code::Host01);
    }

    #[test]
    fn kube_routers_old_range_beside_the_new_one_is_stale() {
        let host = Host::bridge(&["10.244.7.0/24", "10.244.1.0/24"])
            .link("kube-bridge", "bridge", &["10.244.1.1/24"])
            .rows(Rows::default().row("10.244.1.0/24", local("kube-bridge")))
            .with(|host| host.cni.chosen.as_mut().unwrap().bridge = Some("kube-bridge".into()));
        let judged = host.judge();
        assert_eq!(host.codes(), [Code::Host01]);
        assert_eq!(judged.claims[0].affected[0].prefix, Some(net("10.244.7.0/24")));
        assert!(judged.claims[0].cause.starts_with("kube-router only adds"));
    }

    #[test]
    fn calico_that_asks_the_node_cannot_be_stale() {
        let mut host = Host::ptp();
        host.cni = config("10-canal.conflist", "calico", Some("host-local"), &[], None);
        host.assert_healthy();
    }

    #[test]
    fn antreas_range_is_in_no_file_and_that_is_said() {
        let mut host = Host::flannel().link("antrea-gw0", "openvswitch", &["10.244.1.1/24"]);
        host.cni = config("10-antrea.conflist", "antrea", Some("host-local"), &[], None);
        host.rows = Rows::default().row("10.244.1.0/24", local("antrea-gw0"));
        assert_eq!(
            host.unjudged(),
            "HOST01 antrea's agent keeps the range, no file of the host names it"
        );
    }

    #[test]
    fn a_single_stack_cni_on_a_dual_stack_node_is_fine() {
        Host::flannel()
            .with(|host| host.expectation.pod_cidrs.push(net("fd00:1::/64")))
            .rows(Host::flannel().rows.row("fd00:1::/64", Landing::NoRoute))
            .assert_healthy();
    }

    #[test]
    fn a_family_that_the_node_has_no_cidr_of_cannot_be_judged() {
        let host = Host::bridge(&["10.244.1.0/24", "fd00:1::/64"]);
        assert_eq!(
            host.unjudged(),
            "HOST01 /etc/cni/net.d/10-containerd-net.conflist hands out of fd00:1::/64, and the Node has no podCIDR of that family"
        );
    }

    #[test]
    fn a_missing_subnet_env_is_unknown_not_healthy() {
        let host = Host::flannel().with(|host| host.cni.flannel = None);
        assert!(
            host.unjudged()
                .starts_with("HOST01 flannel's subnet.env does not exist")
        );
    }

    #[test]
    fn a_stale_file_that_changed_after_the_node_was_the_hosts_doing() {
        let stale = |since| {
            let host = Host::bridge(&["10.244.7.0/24"]).with(|host| host.expectation.since = Some(since));
            let claim = host.judge().claims.remove(0);
            (claim.trigger, claim.changed_at)
        };
        assert_eq!(stale(at(0)), (Trigger::Host, Some(at(2))));
        assert_eq!(stale(at(8)), (Trigger::ControlPlane, Some(at(8))));
    }
}

mod bridge_address_foreign {
    use super::*;

    #[test]
    fn a_bridge_with_another_nodes_old_address_is_foreign() {
        let host = Host::flannel().link("cni0", "bridge", &["10.244.7.1/24"]).pods(3);
        let judged = host.judge();
        assert_eq!(host.codes(), [Code::Host02]);
        insta::assert_snapshot!(text(&judged));
    }

    #[test]
    fn a_bridge_that_follows_a_stale_file_points_at_the_file() {
        let host = Host::bridge(&["10.244.7.0/24"]).link("cni0", "bridge", &["10.244.7.1/24"]);
        let judged = host.judge();
        assert_eq!(host.codes(), [Code::Host01, Code::Host02]);
        assert!(judged.claims[1].cause.contains("HOST01"));
        assert!(
            judged.claims[1].remedy.starts_with("Mend HOST01 first. Then drain")
                || judged.claims[1].remedy.starts_with("Mend HOST01 first. Then ip link")
        );
    }

    #[test]
    fn no_bridge_yet_is_fine() {
        let mut host = Host::flannel().pods(0);
        host.kernel.links.retain(|_, link| link.name != "cni0");
        host.rows = Rows::default().row("0.0.0.0/0", via("10.0.0.1"));
        host.assert_healthy();
    }

    #[test]
    fn link_local_addresses_do_not_count() {
        Host::flannel()
            .link("cni0", "bridge", &["fe80::1/64", "169.254.1.1/32", "10.244.1.1/24"])
            .pods(1)
            .assert_healthy();
    }

    #[test]
    fn a_leftover_address_before_the_right_one_stops_the_bridge_plugin_and_counts() {
        let before = Host::flannel().link("cni0", "bridge", &["10.244.7.1/24", "10.244.1.1/24"]);
        assert_eq!(before.codes(), [Code::Host02]);
        let after = Host::flannel().link("cni0", "bridge", &["10.244.1.1/24", "192.168.9.1/24"]);
        after.assert_healthy();
    }

    #[test]
    fn a_bridge_with_a_wrong_mask_counts() {
        let host = Host::flannel().link("cni0", "bridge", &["10.244.1.1/26"]).pods(1);
        let judged = host.judge();
        assert_eq!(host.codes(), [Code::Host02]);
        assert_eq!(
            judged.claims[0].summary,
            "cni0 has 10.244.1.1/26 with mask /26 where the CNI uses /24"
        );
    }

    #[test]
    fn flannels_tunnel_address_of_another_subnet_counts() {
        let host = Host::flannel().link("flannel.1", "vxlan", &["10.244.7.0/32", "fe80::9/64"]);
        let judged = host.judge();
        assert_eq!(host.codes(), [Code::Host02]);
        assert_eq!(
            judged.claims[0].summary,
            "flannel.1 has 10.244.7.0/32, outside 10.244.1.0/24"
        );
    }

    #[test]
    fn another_cnis_leftover_bridge_is_not_this_ones() {
        Host::ptp().link("cni0", "bridge", &["10.244.7.1/24"]).assert_healthy();
        Host::bridge(&["10.244.1.0/24"])
            .link("docker0", "bridge", &["172.17.0.1/16"])
            .link("flannel.1", "vxlan", &["10.244.7.0/32"])
            .assert_healthy();
    }

    #[test]
    fn one_of_several_ipv6_addresses_must_be_the_nodes() {
        let dual = |addresses: &[&str]| {
            Host::flannel()
                .with(|host| {
                    host.expectation.pod_cidrs.push(net("fd00:1::/64"));
                    host.cni.flannel.as_mut().unwrap().subnets.push(net("fd00:1::/64"));
                })
                .link("cni0", "bridge", addresses)
                .rows(Host::flannel().rows.row("fd00:1::/64", local("cni0")))
        };
        dual(&["10.244.1.1/24", "fd00:7::1/64", "fd00:1::1/64"]).assert_healthy();
        assert_eq!(dual(&["10.244.1.1/24", "fd00:7::1/64"]).codes(), [Code::Host02]);
    }
}

mod local_route_wrong {
    use super::*;

    fn flannel(landing: Landing) -> Host {
        Host::flannel().rows(
            Rows::default()
                .row("0.0.0.0/0", via("10.0.0.1"))
                .row("10.244.1.0/24", landing),
        )
    }

    #[test]
    fn a_peers_route_for_the_own_cidr_counts_and_the_remedy_is_one_command() {
        let host = flannel(via("10.0.0.2"));
        assert_eq!(host.codes(), [Code::Host04]);
        insta::assert_snapshot!(text(&host.judge()));
    }

    #[test]
    fn a_part_that_leads_away_counts() {
        let rows = Host::flannel().rows.row("10.244.1.128/25", via("10.0.0.2"));
        let judged = Host::flannel().rows(rows).judge();
        assert_eq!(judged.claims[0].code, Code::Host04);
        assert_eq!(judged.claims[0].affected[0].prefix, Some(net("10.244.1.128/25")));
    }

    #[test]
    fn parts_count_where_they_leave_nothing_to_the_whole() {
        struct Halves;
        impl Lookup for Halves {
            fn coverage(&self, _: IpNet) -> Option<Coverage> {
                let rows = Rows::default()
                    .row("10.244.1.0/25", via("10.0.0.2"))
                    .row("10.244.1.128/25", via("10.0.0.2"));
                Some(Coverage {
                    base: None,
                    specifics: rows.0,
                })
            }
        }
        let host = Host::flannel();
        let judged = check(&Input {
            node: "node-a",
            expectation: Some(&host.expectation),
            kernel: &host.kernel,
            kernel_at: at(0),
            kernel_gaps: &[],
            links_changed_at: None,
            cni: &host.cni,
            cni_at: at(0),
            cni_changed_at: None,
            lookup: &Halves,
        });
        assert_eq!(judged.claims[0].affected_total, 2);
    }

    #[test]
    fn a_connected_route_that_is_gone_counts() {
        let host = Host::flannel().rows(Rows::default().row("0.0.0.0/0", via("10.0.0.1")));
        let judged = host.judge();
        assert_eq!(host.codes(), [Code::Host04]);
        assert_eq!(
            judged.claims[0].remedy,
            "On the node: ip route add 10.244.1.0/24 dev cni0 proto kernel scope link src 10.244.1.1."
        );
    }

    #[test]
    fn a_discard_before_the_bridge_counts_and_one_without_a_bridge_does_not() {
        assert_eq!(flannel(discard()).codes(), [Code::Host04]);
        let mut fresh = flannel(discard()).pods(0);
        fresh.kernel.links.retain(|_, link| link.name != "cni0");
        fresh.assert_healthy();
    }

    #[test]
    fn calicos_own_blackhole_and_kindnets_missing_aggregate_are_normal() {
        let mut calico = Host::ptp();
        calico.cni = config(
            "10-calico.conflist",
            "calico",
            Some("host-local"),
            &["10.244.1.0/24"],
            None,
        );
        calico.rows = calico
            .rows
            .row("10.244.1.0/24", discard())
            .row("10.244.1.64/26", discard());
        calico.assert_healthy();
        Host::ptp().assert_healthy();
    }

    #[test]
    fn a_fresh_node_under_a_route_for_the_whole_network_is_normal() {
        let mut host = Host::flannel().link("flannel-wg", "wireguard", &["10.244.1.0/32"]);
        host.kernel.links.retain(|_, link| link.name != "cni0");
        host.rows = Rows::default().row(
            "10.244.0.0/16",
            Landing::Opaque {
                device: Some("flannel-wg".into()),
                reason: "WireGuard".into(),
            },
        );
        host.assert_healthy();
    }

    #[test]
    fn a_bridge_without_carrier_and_pods_is_benign() {
        let idle = Landing::Local {
            device: "cni0".into(),
            carrier: false,
        };
        flannel(idle).pods(0).assert_healthy();
        let ignored = Landing::DeadDevice {
            device: "cni0".into(),
            reason: "no carrier".into(),
        };
        flannel(ignored).pods(0).assert_healthy();
    }

    #[test]
    fn a_bridge_set_down_counts_only_where_pods_hang_on_it() {
        let down = |pods| {
            Host::flannel()
                .rows(Rows::default().row("0.0.0.0/0", via("10.0.0.1")))
                .pods(pods)
                .set_down("cni0")
        };
        let judged = down(2).judge();
        assert_eq!(down(2).codes(), [Code::Host04]);
        assert_eq!(judged.claims[0].remedy, "On the node: ip link set cni0 up.");
        down(0).assert_healthy();
    }

    #[test]
    fn flannels_bridge_without_any_address_counts_once_pods_hang_on_it() {
        let bare = |pods| {
            Host::flannel()
                .link("cni0", "bridge", &["fe80::1/64"])
                .pods(pods)
                .rows(Rows::default().row("0.0.0.0/0", via("10.0.0.1")))
        };
        assert_eq!(bare(1).codes(), [Code::Host04]);
        bare(0).assert_healthy();
    }

    #[test]
    fn a_foreign_address_is_one_finding_not_two() {
        let host = Host::flannel()
            .link("cni0", "bridge", &["10.244.7.1/24"])
            .pods(1)
            .rows(Rows::default().row("0.0.0.0/0", via("10.0.0.1")));
        assert_eq!(host.codes(), [Code::Host02]);
    }

    #[test]
    fn a_duplicate_cidr_is_a_warning_where_pods_have_routes_of_their_own() {
        let host = Host::ptp().rows(Host::ptp().rows.row("10.244.1.0/24", via("10.0.0.2")));
        let claim = host.judge().claims.remove(0);
        assert_eq!((claim.code, claim.severity), (Code::Host04, Severity::Warning));
    }

    #[test]
    fn another_bridges_network_inside_the_pods_counts() {
        let host = Host::flannel()
            .link("docker0", "bridge", &["10.244.1.129/25"])
            .rows(Host::flannel().rows.row("10.244.1.128/25", local("docker0")));
        assert_eq!(host.codes(), [Code::Host04]);
    }

    #[test]
    fn what_the_fib_does_not_decide_is_not_judged() {
        let opaque = Landing::Opaque {
            device: Some("cni0".into()),
            reason: "eBPF".into(),
        };
        assert_eq!(
            flannel(opaque).unjudged(),
            "HOST04 10.244.1.0/24: dev cni0: not in the FIB (eBPF)"
        );
    }

    use cidrift_proto::finding::Severity;
}

fn any_net() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<u8>(), 8..=32u8).prop_map(|(host, len)| IpNet::new([10, 244, 1, host].into(), len).unwrap());
    let v6 = (any::<u16>(), 48..=128u8)
        .prop_map(|(host, len)| IpNet::new([0xfd00, 1, 0, 0, 0, 0, 0, host].into(), len).unwrap());
    prop_oneof![v4, v6]
}

proptest! {
    /// A file is held against the Node exactly when some address of it, of a
    /// family that the Node has, is in none of the Node's CIDRs.
    #[test]
    fn stale_means_an_address_that_is_not_the_nodes(
        cidrs in prop::collection::vec(any_net().prop_map(|net| net.trunc()), 1..3),
        ranges in prop::collection::vec(any_net().prop_map(|net| net.trunc()), 1..4),
    ) {
        let mut host = Host::ptp();
        host.cni.chosen.as_mut().unwrap().ranges.clone_from(&ranges);
        host.expectation.pod_cidrs.clone_from(&cidrs);
        let same = |a: &IpNet, b: &IpNet| a.addr().is_ipv4() == b.addr().is_ipv4();
        let stale = ranges.iter().any(|range| {
            cidrs.iter().any(|cidr| same(cidr, range))
                && !cidrs.iter().any(|cidr| cidr.contains(&range.network()) && cidr.contains(&range.broadcast()))
        });
        prop_assert_eq!(host.codes().contains(&Code::Host01), stale);
    }

    /// Whatever addresses there are: no panic, and a bridge with the Node's own
    /// gateway address first is never foreign.
    #[test]
    fn the_nodes_own_address_first_is_never_foreign(more in prop::collection::vec(any_net(), 0..5)) {
        let mut addresses = vec!["10.244.1.1/24".to_owned()];
        addresses.extend(more.iter().map(ToString::to_string));
        let texts: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let host = Host::flannel().link("cni0", "bridge", &texts);
        prop_assert!(!host.codes().contains(&Code::Host02));
    }
}

mod against_the_real_table {
    use super::*;
    use crate::resolve::{Fib, Scope};
    use crate::view::{Hop, Hops, Route, RouteKind};

    /// Both kinds of lookup agree on what a prefix's own route is.
    #[test]
    fn the_effective_table_answers_as_the_rules_expect() {
        let mut kernel = Host::flannel().kernel;
        let bridge = kernel.links.values().find(|link| link.name == "cni0").unwrap().index;
        let rule = |priority, table| crate::view::Rule {
            ipv6: false,
            priority,
            invert: false,
            source: None,
            destination: None,
            iif: None,
            oif: None,
            mark: None,
            tos: 0,
            ip_protocol: None,
            source_ports: None,
            destination_ports: None,
            uids: None,
            suppress_prefix_length: None,
            unmodelled: None,
            action: crate::view::RuleAction::Table(table),
        };
        kernel.rules = vec![rule(32766, 254)];
        let route = |prefix: &str, device, gateway: Option<&str>| Route {
            prefix: net(prefix),
            table: 254,
            metric: 0,
            tos: 0,
            protocol: 2,
            scope: 253,
            kind: RouteKind::Unicast,
            hops: Hops::One(Hop {
                device: Some(device),
                gateway: gateway.map(|text| text.parse().unwrap()),
                weight: 1,
                dead: false,
                linkdown: false,
                onlink: false,
                encap: None,
            }),
        };
        let eth0 = kernel.links.values().find(|link| link.name == "eth0").unwrap().index;
        let main = kernel.routes.v4.entry(254).or_default();
        for route in [
            route("0.0.0.0/0", eth0, Some("10.0.0.1")),
            route("10.244.1.0/24", bridge, None),
            route("10.244.1.128/25", eth0, Some("10.0.0.2")),
        ] {
            let IpNet::V4(prefix) = route.prefix else {
                unreachable!()
            };
            main.insert(prefix, vec![route]);
        }
        let mut fib = Fib::new();
        fib.set_scope(Scope {
            interest: nets(&["10.244.1.0/24"]),
            internal_ips: vec!["10.0.0.11".parse().unwrap()],
            pod_cidrs: nets(&["10.244.1.0/24"]),
            pod_device: Some("cni0".into()),
        });
        fib.rebuild(&kernel, at(5));
        let coverage = fib.coverage(net("10.244.1.0/24")).unwrap();
        assert_eq!(coverage.base.unwrap().landing, local("cni0"));
        assert_eq!(coverage.specifics.len(), 1);
        assert_eq!(coverage.specifics[0].prefix, net("10.244.1.128/25"));
        assert_eq!(fib.coverage(net("10.9.0.0/24")), None);
    }
}
