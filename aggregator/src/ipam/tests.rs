//! Every row of reference G's tables, and the order of the evidence.

mod platforms;

use std::collections::BTreeMap;
use std::sync::Arc;

use cidrift_proto::facts::{CniConfig, CniFacts, HostFacts};
use jiff::Timestamp;

use super::{Ipam, classify, report::report};
use crate::cluster::around::{Around, NodePods, PodAddresses, PodRecord};
use crate::cluster::objects::{Block, CiliumNode, Daemon, Delegates, NodeNetworkConfig, Resource, Watched};
use crate::cluster::{FlannelAnnotations, NodeRecord};

fn node(cidr: Option<&str>) -> NodeRecord {
    NodeRecord {
        name: "n1".to_owned(),
        pod_cidrs: cidr.iter().map(|cidr| cidr.parse().unwrap()).collect(),
        ..NodeRecord::default()
    }
}

fn labelled(labels: &[(&str, &str)], cidr: Option<&str>) -> NodeRecord {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    NodeRecord {
        labels: labels.collect(),
        ..node(cidr)
    }
}

fn facts(plugin: &str, ipam: Option<&str>) -> HostFacts {
    HostFacts {
        observed_at: Timestamp::UNIX_EPOCH,
        kernel: String::new(),
        links: Vec::new(),
        links_omitted: 0,
        cni: CniFacts {
            chosen: Some(CniConfig {
                path: "/etc/cni/net.d/10-cni.conflist".to_owned(),
                network: "net".to_owned(),
                cni_version: "1.0.0".to_owned(),
                plugins: vec![plugin.to_owned(), "portmap".to_owned()],
                ipam: ipam.map(str::to_owned),
                ranges: Vec::new(),
                subnets: Vec::new(),
                bridge: None,
                generated_by: None,
                modified_at: None,
            }),
            ..CniFacts::default()
        },
        ..HostFacts::default()
    }
}

fn daemons(kinds: &[&str]) -> Around {
    let daemon = |kind: &&str| Daemon {
        node: "n1".to_owned(),
        kind: (*kind).to_owned(),
        pod: format!("kube-system/{kind}-x"),
        ready: true,
        trouble: None,
    };
    Around {
        daemons: BTreeMap::from([("n1".to_owned(), kinds.iter().map(daemon).collect())]),
        ..Around::default()
    }
}

fn delegates(delegates: Delegates) -> Around {
    Around {
        delegates: Arc::new(delegates),
        ..Around::default()
    }
}

fn cilium(ipam: Option<&str>, cidrs: &[&str]) -> Around {
    delegates(Delegates {
        cilium_ipam: ipam.map(str::to_owned),
        cilium_nodes: vec![CiliumNode {
            node: "n1".to_owned(),
            pod_cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
            ..CiliumNode::default()
        }],
        ..Delegates::default()
    })
}

fn pods(addresses: &[&str]) -> Around {
    let pod = |address: &&str| PodRecord {
        name: "default/web".into(),
        uid: "u".into(),
        addresses: PodAddresses {
            v4: address.parse().ok(),
            v6: address.parse().ok(),
        },
        sandbox_since: 1,
        created: 1,
    };
    let pods = NodePods {
        pods: addresses.iter().map(pod).collect(),
    };
    Around {
        pods: BTreeMap::from([("n1".to_owned(), Arc::new(pods))]),
        ..Around::default()
    }
}

/// "spec.podCIDR", "delegated", …
fn word(node: &NodeRecord, facts: Option<&HostFacts>, around: &Around) -> &'static str {
    classify(node, facts, around).word()
}

const CIDR: Option<&str> = Some("10.244.1.0/24");

#[test]
fn a_plugin_of_the_decision_table_says_it_by_itself() {
    let by_pod_cidr = [
        ("flannel", None),
        ("kindnet", None),
        ("ptp", Some("host-local")),
        ("bridge", Some("host-local")),
        ("kube-router", None),
        ("antrea", Some("host-local")),
        ("calico", Some("host-local")),
    ];
    for (plugin, ipam) in by_pod_cidr {
        for cidr in [CIDR, None] {
            let found = word(&node(cidr), Some(&facts(plugin, ipam)), &Around::default());
            assert_eq!(found, "spec.podCIDR", "{plugin} {ipam:?}");
        }
    }
    let own = [
        ("calico", Some("calico-ipam")),
        ("calico", None),
        ("aws-cni", None),
        ("azure-vnet", Some("azure-vnet-ipam")),
        ("azure-vnet", Some("azure-cns")),
        ("cilium-cni", Some("azure-cns")),
        ("ovn-k8s-cni-overlay", None),
        ("weave-net", Some("weave-net")),
        ("macvlan", Some("whereabouts")),
        ("bridge", Some("dhcp")),
        ("macvlan", Some("spiderpool")),
        ("kube-ovn", Some("kube-ovn")),
        ("antrea", Some("antrea")),
    ];
    for (plugin, ipam) in own {
        let found = word(&node(CIDR), Some(&facts(plugin, ipam)), &Around::default());
        assert_eq!(found, "delegated", "{plugin} {ipam:?}");
    }
    for plugin in ["cilium-cni", "multus", "macvlan", "terway", ""] {
        let found = word(&node(CIDR), Some(&facts(plugin, None)), &Around::default());
        assert_eq!(found, "unclear", "{plugin}");
    }
}

#[test]
fn cilium_takes_the_nodes_cidr_in_one_mode_only() {
    let config = facts("cilium-cni", None);
    let modes = [
        ("kubernetes", "spec.podCIDR"),
        ("cluster-pool", "delegated"),
        ("multi-pool", "delegated"),
        ("eni", "delegated"),
        ("azure", "delegated"),
        ("alibabacloud", "delegated"),
        ("crd", "delegated"),
        ("delegated-plugin", "unclear"),
    ];
    for (mode, expected) in modes {
        let around = cilium(Some(mode), &["10.0.1.0/24"]);
        assert_eq!(word(&node(CIDR), Some(&config), &around), expected, "{mode}");
        assert_eq!(word(&node(CIDR), None, &around), expected, "{mode}, no agent");
    }
    let copy = cilium(None, &["10.244.1.0/24"]);
    assert_eq!(word(&node(CIDR), Some(&config), &copy), "spec.podCIDR");
    let own = cilium(None, &["10.0.1.0/24"]);
    assert_eq!(word(&node(CIDR), Some(&config), &own), "unclear");
    assert_eq!(word(&node(None), Some(&config), &own), "delegated");
}

#[test]
fn daemons_and_objects_say_it_where_no_agent_does() {
    let kinds: &[(&[&str], &str)] = &[
        (&["flannel"], "spec.podCIDR"),
        (&["kindnet"], "spec.podCIDR"),
        (&["kube-router"], "spec.podCIDR"),
        (&["antrea"], "spec.podCIDR"),
        (&["calico-node", "flannel"], "spec.podCIDR"),
        (&["aws-node"], "delegated"),
        (&["aws-node", "cilium"], "delegated"),
        (&["aws-node", "calico-node"], "delegated"),
        (&["azure-cns"], "delegated"),
        (&["ovnkube"], "delegated"),
        (&["weave"], "delegated"),
        (&["kube-ovn"], "delegated"),
        (&["calico-node"], "unclear"),
        (&["cilium"], "unclear"),
        (&["cilium", "flannel"], "unclear"),
        (&["kube-proxy"], "unclear"),
    ];
    for (kinds, expected) in kinds {
        assert_eq!(word(&node(CIDR), None, &daemons(kinds)), *expected, "{kinds:?}");
    }
    let block = Block {
        node: "n1".to_owned(),
        cidr: "192.168.1.0/26".parse().unwrap(),
        state: "confirmed".to_owned(),
        deleted: false,
    };
    let calico = delegates(Delegates {
        blocks: vec![block],
        ..Delegates::default()
    });
    assert_eq!(word(&node(CIDR), None, &calico), "delegated");
    let azure = delegates(Delegates {
        node_network_configs: vec![NodeNetworkConfig {
            node: "n1".to_owned(),
            cidrs: vec!["10.244.1.0/24".parse().unwrap()],
            addresses: Vec::new(),
        }],
        ..Delegates::default()
    });
    assert_eq!(word(&node(None), None, &azure), "delegated");
    let aws = delegates(Delegates {
        cni_nodes: vec!["n0".to_owned(), "n1".to_owned()],
        ..Delegates::default()
    });
    assert_eq!(word(&node(None), None, &aws), "delegated");
    let other = NodeRecord {
        name: "hybrid-7".to_owned(),
        ..node(CIDR)
    };
    assert_eq!(
        word(&other, None, &aws),
        "unclear",
        "only some nodes of it are the VPC CNI's"
    );
}

#[test]
fn annotations_name_the_allocator() {
    let annotated = |key: &str, value: &str| NodeRecord {
        annotations: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        ..node(CIDR)
    };
    let cases = [
        (
            "k8s.ovn.org/node-subnets",
            "{\"default\":\"10.128.0.0/23\"}",
            "delegated",
        ),
        ("ovn.kubernetes.io/allocated", "true", "delegated"),
        ("kube-router.io/pod-cidr", "10.99.1.0/24", "delegated"),
        ("kube-router.io/pod-cidrs", "10.244.1.0/24", "spec.podCIDR"),
        ("kube-router.io/pod-cidr", "nonsense", "delegated"),
        ("example.com/note", "x", "unclear"),
    ];
    for (key, value, expected) in cases {
        assert_eq!(
            word(&annotated(key, value), None, &Around::default()),
            expected,
            "{key} {value}"
        );
    }
    let flannel = NodeRecord {
        flannel: Some(FlannelAnnotations {
            backend: "vxlan".to_owned(),
            public_ip: None,
            vtep_mac: None,
            vni: None,
        }),
        ..node(CIDR)
    };
    assert_eq!(word(&flannel, None, &Around::default()), "spec.podCIDR");
    // Annotations outlive a migration to another CNI.
    let migrated = Around {
        delegates: Arc::clone(&cilium(Some("cluster-pool"), &[]).delegates),
        ..daemons(&["cilium"])
    };
    assert_eq!(word(&flannel, None, &migrated), "delegated");
}

#[test]
fn addresses_of_pods_speak_before_the_platform_and_after_the_cni() {
    let eks = labelled(&[("eks.amazonaws.com/nodegroup", "w")], CIDR);
    let inside = pods(&["10.244.1.7", "10.244.1.8", "192.0.2.1"]);
    assert_eq!(word(&eks, None, &inside), "spec.podCIDR");
    assert_eq!(word(&node(CIDR), None, &inside), "spec.podCIDR");
    assert_eq!(word(&node(CIDR), Some(&facts("aws-cni", None)), &inside), "delegated");
    let outside = pods(&["10.9.1.7", "10.9.1.8"]);
    assert_eq!(word(&node(CIDR), None, &outside), "unclear");
    assert_eq!(word(&node(None), None, &outside), "unclear");
    let drifted = word(&node(CIDR), Some(&facts("bridge", Some("host-local"))), &outside);
    assert_eq!(drifted, "spec.podCIDR", "drift is no other allocator");
    // An address of a family that the Node has no CIDR of says nothing.
    assert_eq!(
        word(&node(CIDR), None, &pods(&["fd00::7", "10.244.1.7"])),
        "spec.podCIDR"
    );
}

#[test]
fn a_mixed_cluster_is_classified_node_by_node() {
    let around = cilium(Some("cluster-pool"), &["10.0.1.0/24"]);
    assert_eq!(word(&node(CIDR), None, &around), "delegated");
    let gke = NodeRecord {
        name: "n2".to_owned(),
        ..labelled(&[("cloud.google.com/gke-nodepool", "dp1")], CIDR)
    };
    assert_eq!(word(&gke, None, &around), "spec.podCIDR");
}

#[test]
fn the_report_names_what_decides_what_else_was_seen_and_what_was_not() {
    let mut around = daemons(&["flannel"]);
    around
        .watches
        .insert(Resource::CniPods, Watched::Live(Timestamp::UNIX_EPOCH));
    around
        .watches
        .insert(Resource::Pods, Watched::Refused("pods is forbidden".to_owned()));
    let node = NodeRecord {
        provider_id: Some("kind://docker/kind/n1".to_owned()),
        ..node(CIDR)
    };
    let told = report(&node, None, &around);
    assert_eq!((told.model.as_str(), told.authoritative), ("spec.podCIDR", Some(true)));
    let lines: Vec<_> = told
        .evidence
        .iter()
        .map(|line| (line.text.as_str(), line.decides))
        .collect();
    assert_eq!(
        lines,
        [
            ("flannel runs on it", true),
            ("providerID kind://docker/kind/n1, which alone says nothing", false)
        ]
    );
    assert!(
        told.unseen
            .contains(&"pods: not allowed to read: pods is forbidden".to_owned())
    );
    assert!(told.unseen.iter().all(|line| !line.starts_with("pods of CNI daemons")));
    let config = facts("cilium-cni", None);
    let mode = cilium(Some("cluster-pool"), &["10.0.1.0/24"]);
    let told = report(&node, Some(&config), &mode);
    assert_eq!(told.why, "Cilium's ipam is cluster-pool");
    let deciding: Vec<_> = told
        .evidence
        .iter()
        .filter(|line| line.decides)
        .map(|line| &line.source)
        .collect();
    assert_eq!(deciding, ["CiliumNode n1", "ConfigMap kube-system/cilium-config"]);
    assert!(told.rules.starts_with("POOL14"));
}

/// At 15,000 nodes classification must not allocate.
#[test]
fn the_words_of_a_clear_answer_are_not_made_up() {
    let clear: Vec<(NodeRecord, Option<HostFacts>, Around)> = vec![
        (node(CIDR), Some(facts("flannel", None)), Around::default()),
        (node(CIDR), None, cilium(Some("cluster-pool"), &[])),
        (node(CIDR), None, daemons(&["aws-node"])),
        (
            labelled(&[("eks.amazonaws.com/nodegroup", "w")], None),
            None,
            Around::default(),
        ),
    ];
    for (node, facts, around) in &clear {
        match classify(node, facts.as_ref(), around) {
            Ipam::PodCidr => {}
            Ipam::Delegated(why) | Ipam::NoDataPlane(why) | Ipam::Unclear(why) => {
                assert!(matches!(why, std::borrow::Cow::Borrowed(_)), "{why}");
            }
        }
    }
}
