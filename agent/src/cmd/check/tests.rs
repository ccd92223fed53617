//! What people and programs read of one look.

use cidrift_proto::facts::{Agrees, CniConfig, CniFacts, FlannelSubnet};
use cidrift_proto::landing::{ForwardingEntry, Landing, RouteMatch, Via};
use clap::Parser;

use super::*;
use crate::check::{Coverage, Expectation, Lookup};
use crate::observe::node::NodeError;
use crate::view::{Kernel, Link, LinkAddress, LinkDetail};

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    args: CheckArgs,
}

fn at() -> Timestamp {
    "2026-11-23T10:00:00Z".parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

struct One(Landing);

impl Lookup for One {
    fn coverage(&self, prefix: IpNet) -> Option<Coverage> {
        Some(Coverage {
            base: Some(ForwardingEntry {
                prefix,
                landing: self.0.clone(),
                route: Some(RouteMatch {
                    prefix,
                    table: 254,
                    metric: 0,
                    protocol: 2,
                }),
                changed_at: at(),
            }),
            specifics: Vec::new(),
        })
    }
}

fn link(index: u32, name: &str, kind: &str, addresses: &[&str]) -> (u32, Link) {
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
    (index, link)
}

fn flannel(subnet: &str) -> CniFacts {
    CniFacts {
        directory: "/etc/cni/net.d".into(),
        chosen: Some(CniConfig {
            path: "/etc/cni/net.d/10-flannel.conflist".into(),
            network: "cbr0".into(),
            cni_version: "1.0.0".into(),
            plugins: vec!["flannel".into(), "portmap".into()],
            ipam: None,
            ranges: vec![],
            subnets: vec![],
            bridge: Some("cni0".into()),
            generated_by: None,
            modified_at: Some(at()),
        }),
        flannel: Some(FlannelSubnet {
            path: "/run/flannel/subnet.env".into(),
            networks: vec![net("10.244.0.0/16")],
            subnets: vec![net(subnet)],
            mtu: 1450,
            ipmasq: true,
        }),
        ..CniFacts::default()
    }
}

fn look(subnet: &str, bridge: &str, landing: Landing, told: Option<Expectation>, problems: Vec<String>) -> Report {
    let kernel = Kernel {
        links: [
            link(2, "flannel.1", "vxlan", &["10.244.1.0/32"]),
            link(3, "cni0", "bridge", &[bridge]),
        ]
        .into(),
        ..Kernel::default()
    };
    let cni = flannel(subnet);
    let input = Input {
        node: "node-a",
        expectation: told.as_ref(),
        kernel: &kernel,
        kernel_at: at(),
        kernel_gaps: &[],
        links_changed_at: None,
        cni: &cni,
        cni_at: at(),
        cni_changed_at: None,
        lookup: &One(landing),
        host: &crate::view::Host::bare(Timestamp::UNIX_EPOCH),
        lease_growth: &[],
        now: Timestamp::UNIX_EPOCH,
    };
    report(&input, problems, at())
}

fn told() -> Option<Expectation> {
    Some(Expectation {
        source: "Node node-a (nodes.yaml)".into(),
        node_known: true,
        pod_cidrs: vec![net("10.244.1.0/24")],
        kube_subnet_manager: Some(true),
        observed_at: Some(at()),
        ..Expectation::default()
    })
}

fn on_bridge() -> Landing {
    Landing::Local {
        device: "cni0".into(),
        carrier: true,
    }
}

#[test]
fn a_healthy_host_reads_as_one_table() {
    let report = look("10.244.1.0/24", "10.244.1.1/24", on_bridge(), told(), vec![]);
    assert_eq!(report.outcome, Outcome::Healthy);
    insta::assert_snapshot!(render::text(&report));
}

#[test]
fn findings_read_as_a_compiler_puts_them() {
    let away = Landing::Underlay {
        address: "10.0.0.2".parse().unwrap(),
        via: Via::Gateway { device: "eth0".into() },
    };
    let report = look("10.244.7.0/24", "10.244.7.1/24", away, told(), vec![]);
    assert_eq!(report.outcome, Outcome::Findings);
    insta::assert_snapshot!(render::text(&report));
}

#[test]
fn where_packets_go_before_there_is_a_bridge_is_no_agreement() {
    let subnet = "10.244.9.0/24";
    let row = |landing| {
        let report = look(subnet, "10.244.9.1/24", landing, told(), vec![]);
        let rows = report.compared.iter();
        let mut found = rows.filter(|row| row.what.starts_with("to "));
        found.next().unwrap().agrees
    };
    assert_eq!(row(Landing::NoRoute), Agrees::Nothing);
    assert_eq!(row(on_bridge()), Agrees::Yes);
}

#[test]
fn without_an_expectation_it_reads_unknown_never_healthy() {
    let problem = NodeError::NoKubeconfig.to_string();
    let report = look("10.244.1.0/24", "10.244.1.1/24", on_bridge(), None, vec![problem]);
    assert_eq!(report.outcome, Outcome::Unknown);
    insta::assert_snapshot!(render::text(&report));
}

#[test]
fn programs_get_the_same_in_json_and_yaml() {
    let report = look("10.244.7.0/24", "10.244.1.1/24", on_bridge(), told(), vec![]);
    let json = serde_json::to_value(&report).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap());
    let yaml: serde_json::Value = serde_saphyr::from_str(&serde_saphyr::to_string(&report).unwrap()).unwrap();
    assert_eq!(yaml, json);
}

#[test]
fn what_is_good_to_know_is_no_finding_and_hides_nothing_unknown() {
    let broken = look("10.244.7.0/24", "10.244.7.1/24", on_bridge(), told(), vec![]);
    let mut claim = broken.findings[0].clone();
    assert_eq!(outcome(std::slice::from_ref(&claim), true), Outcome::Findings);
    claim.severity = Severity::Info;
    assert_eq!(outcome(std::slice::from_ref(&claim), true), Outcome::Healthy);
    assert_eq!(outcome(std::slice::from_ref(&claim), false), Outcome::Unknown);
    assert_eq!(outcome(&[claim, broken.findings[1].clone()], true), Outcome::Findings);
}

#[test]
fn what_another_finding_of_the_host_explains_says_so_and_nothing_else_does() {
    let away = Landing::Underlay {
        address: "10.0.0.2".parse().unwrap(),
        via: Via::Gateway { device: "eth0".into() },
    };
    let mut report = look("10.244.1.0/24", "10.244.1.1/24", away, told(), vec![]);
    assert_eq!(report.findings[0].code, Code::Host04);
    assert!(
        !render::text(&report).contains("explained by"),
        "nothing that stands explains it"
    );
    let rule = Claim {
        code: Code::Host10,
        ..report.findings[0].clone()
    };
    report.findings.push(rule);
    report.explained_by = explained_by(&report.findings);
    let text = render::text(&report);
    let (of_route, of_rule) = text.split_once("[HOST10]").unwrap();
    assert!(of_route.contains("   = explained by: HOST10\n"), "{text}");
    assert!(!of_rule.contains("explained by"), "{text}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["explained_by"], serde_json::json!({"HOST04": ["HOST10"]}));
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let parse = |args: &[&str]| Program::try_parse_from([&["check"], args].concat()).map(|program| program.args);
    assert!(parse(&["--pod-cidr", "10.1.0.0/24", "--cluster-state", "nodes.yaml"]).is_err());
    assert!(parse(&["--internal-ip", "10.0.0.1"]).is_err());
    assert!(parse(&["--pod-cidr", "10.1.0.0"]).is_err());
    let args = parse(&["--pod-cidr", "10.1.0.0/24", "--pod-cidr", "fd00::/64", "-o", "json"]).unwrap();
    assert_eq!((args.pod_cidrs.len(), args.output), (2, Output::Json));
}
