//! Every witness of reference H, and every reason why one is not comparable.

use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::cluster::objects::{ClusterCidr, Delegates, ManagerFlags, PoolMetric};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| net(text)).collect()
}

fn manager(name: &str, ranges: &[&str]) -> Manager {
    Manager {
        name: format!("kube-system/{name}"),
        flags: ManagerFlags {
            allocate_node_cidrs: Some(true),
            cluster_cidr: nets(ranges),
            ..ManagerFlags::default()
        },
        ..Manager::default()
    }
}

fn managed(managers: impl IntoIterator<Item = Manager>) -> Around {
    Around {
        managers: managers.into_iter().map(|each| (each.name.clone(), each)).collect(),
        ..Around::default()
    }
}

fn named(around: &mut Around, resource: Resource, what: &str, ranges: &[&str]) {
    around.ranges.entry(resource).or_default().push(RangeWitness {
        resource,
        what: what.to_owned(),
        ranges: nets(ranges),
        service_ranges: Vec::new(),
        mask_v4: None,
        mask_v6: None,
        odd: Vec::new(),
    });
}

const BUILT_IN: Users = Users {
    pod_cidr: 3,
    delegated: 0,
    unclear: 0,
    gke: false,
    flannel: true,
};

/// "flannel disagrees: it does not hold 10.244.0.0/16"
fn words(pool: &PoolConfig, around: &Around, users: Users) -> Vec<String> {
    let line = |witness: Witness| match witness.why.as_str() {
        "" => format!("{} {}", witness.kind, witness.stance.word()),
        why => format!("{} {}: {why}", witness.kind, witness.stance.word()),
    };
    witnesses(pool, around, users, &[]).into_iter().map(line).collect()
}

fn settled(around: &Around) -> PoolConfig {
    settle(&PoolConfig::default(), around)
}

#[test]
fn what_the_operator_says_stands_and_its_gaps_are_filled_by_an_instance_of_the_same_range() {
    let flags = PoolConfig {
        ranges: nets(&["10.244.0.0/16"]),
        witness: "flags of cidrift-aggregator".to_owned(),
        ..PoolConfig::default()
    };
    let mut same = manager("a", &["10.244.0.0/16"]);
    same.flags.mask_v4 = Some(26);
    same.flags.service_cidr = nets(&["10.96.0.0/12"]);
    let pool = settle(&flags, &managed([same]));
    assert_eq!(
        (pool.mask_v4, pool.witness.as_str()),
        (Some(26), "flags of cidrift-aggregator")
    );
    assert_eq!(pool.service_ranges, nets(&["10.96.0.0/12"]));
    let mut other = manager("a", &["10.9.0.0/16"]);
    other.flags.mask_v4 = Some(26);
    let around = managed([other]);
    let pool = settle(&flags, &around);
    assert_eq!((&pool.ranges, pool.mask_v4), (&flags.ranges, None));
    let words = words(&pool, &around, BUILT_IN);
    assert_eq!(
        words,
        [
            "operator settles it",
            "kube-controller-manager disagrees: not 10.244.0.0/16"
        ]
    );
}

#[test]
fn members_may_disagree_and_the_most_common_word_stands() {
    let around = managed([
        manager("a", &["10.9.0.0/16"]),
        manager("b", &["10.244.0.0/16"]),
        manager("c", &["10.244.0.0/16"]),
    ]);
    let pool = settled(&around);
    assert_eq!(pool.ranges, nets(&["10.244.0.0/16"]));
    assert_eq!(pool.mask_v4, Some(24), "its default is as good as stated");
    assert_eq!(
        words(&pool, &around, BUILT_IN),
        [
            "kube-controller-manager disagrees: not 10.244.0.0/16",
            "kube-controller-manager settles it",
            "kube-controller-manager agrees"
        ]
    );
}

#[test]
fn another_order_of_the_families_is_another_pool_for_it_goes_by_index() {
    let around = managed([
        manager("a", &["10.244.0.0/16", "fd00::/48"]),
        manager("b", &["fd00::/48", "10.244.0.0/16"]),
    ]);
    let pool = settled(&around);
    assert_eq!((pool.mask_v4, pool.mask_v6), (Some(24), Some(64)));
    let told = words(&pool, &around, BUILT_IN);
    assert!(told[1].contains("another order"), "{told:?}");
}

#[test]
fn an_instance_that_does_not_allocate_settles_nothing() {
    let mut off = manager("a", &["10.244.0.0/16"]);
    off.flags.allocate_node_cidrs = None;
    let mut around = managed([off]);
    named(
        &mut around,
        Resource::KubeadmConfig,
        "kubeadm-config",
        &["10.244.0.0/16"],
    );
    let pool = settled(&around);
    assert_eq!(pool.ranges, []);
    assert!(
        words(&pool, &around, BUILT_IN)[0]
            .starts_with("kube-controller-manager not comparable: it does not allocate (")
    );
}

#[test]
fn metrics_name_the_range_and_the_number_of_blocks_the_mask() {
    let metric = |range: &str, max| PoolMetric {
        manager: "kcm-a".to_owned(),
        range: net(range),
        usage: Some(0.1),
        max,
        read_at: Timestamp::UNIX_EPOCH,
    };
    let mut unread = manager("a", &[]);
    unread.flags.odd = vec!["--cluster-cidr=$(POD_CIDRS)".to_owned()];
    let mut around = managed([unread]);
    around.pool_metrics = vec![metric("fd00::/48", Some(65_536)), metric("10.244.0.0/16", Some(1_024))];
    let pool = settled(&around);
    assert_eq!(pool.ranges, nets(&["10.244.0.0/16", "fd00::/48"]));
    assert_eq!((pool.mask_v4, pool.mask_v6), (Some(26), Some(64)));
    assert_eq!(
        words(&pool, &around, BUILT_IN),
        ["kube-controller-manager names none", "kcm-metrics settles it"]
    );
    around.managers.clear();
    assert_eq!(settled(&around).ranges, [], "nobody is there to have such metrics");
}

#[test]
fn k3s_and_kubeadm_speak_where_nobody_better_does_and_proxies_never_settle() {
    let mut around = Around::default();
    named(&mut around, Resource::KubeProxyConfig, "kube-proxy", &["10.244.0.0/16"]);
    assert_eq!(
        settled(&around).ranges,
        [],
        "a managed control plane is unknown, which is no error"
    );
    named(
        &mut around,
        Resource::KubeadmConfig,
        "kubeadm-config",
        &["10.244.0.0/16"],
    );
    assert_eq!(settled(&around).witness, "kubeadm-config");
    named(
        &mut around,
        Resource::K3sNodes,
        "k3s' node arguments",
        &["10.42.0.0/16"],
    );
    let pool = settled(&around);
    assert_eq!(pool.ranges, nets(&["10.42.0.0/16"]));
    assert_eq!(
        words(&pool, &around, BUILT_IN),
        [
            "kubeadm-config disagrees: not 10.42.0.0/16",
            "kube-proxy disagrees: it does not hold 10.42.0.0/16",
            "k3s settles it"
        ]
    );
}

#[test]
fn flannels_network_must_hold_the_pool_and_may_be_wider() {
    let check = |network: &[&str], users| {
        let mut around = managed([manager("a", &["10.244.0.0/16"])]);
        named(&mut around, Resource::FlannelConfig, "kube-flannel-cfg", network);
        words(&settled(&around), &around, users).remove(1)
    };
    assert_eq!(check(&["10.244.0.0/16"], BUILT_IN), "flannel agrees");
    assert_eq!(check(&["10.0.0.0/8"], BUILT_IN), "flannel agrees");
    assert_eq!(
        check(&["10.244.0.0/17"], BUILT_IN),
        "flannel disagrees: it does not hold 10.244.0.0/16"
    );
    assert_eq!(
        check(&["10.42.0.0/16"], BUILT_IN),
        "flannel disagrees: it does not hold 10.244.0.0/16"
    );
    assert_eq!(
        check(&["fd00::/48"], BUILT_IN),
        "flannel agrees",
        "it names the other family only"
    );
    let left_behind = Users {
        flannel: false,
        ..BUILT_IN
    };
    assert_eq!(
        check(&["10.42.0.0/16"], left_behind),
        "flannel not comparable: no node uses flannel"
    );
}

#[test]
fn an_empty_cluster_cidr_of_kube_proxy_is_legal() {
    let mut around = managed([manager("a", &["10.244.0.0/16"])]);
    named(&mut around, Resource::KubeProxyConfig, "kube-proxy", &[]);
    assert_eq!(words(&settled(&around), &around, BUILT_IN)[1], "kube-proxy names none");
}

#[test]
fn pools_of_other_allocators_are_other_pools() {
    let mut around = managed([manager("a", &["10.244.0.0/16"])]);
    for (resource, range) in [
        (Resource::IpPools, "192.168.0.0/16"),
        (Resource::CiliumConfig, "10.0.0.0/8"),
        (Resource::OpenShiftNetworks, "10.128.0.0/14"),
        (Resource::AntreaConfig, "10.10.0.0/16"),
    ] {
        named(&mut around, resource, "x", &[range]);
    }
    let told = words(&settled(&around), &around, BUILT_IN);
    assert!(told[1..].iter().all(|line| line.contains("not comparable")), "{told:?}");
    let mut delegated = managed([manager("a", &["10.244.0.0/16"])]);
    named(
        &mut delegated,
        Resource::KubeProxyConfig,
        "kube-proxy",
        &["192.168.0.0/16"],
    );
    let users = Users {
        delegated: 3,
        ..Users::default()
    };
    let told = words(&settled(&delegated), &delegated, users);
    assert_eq!(told[1], "kube-proxy not comparable: no node's CNI uses spec.podCIDR");
}

#[test]
fn gke_gives_node_pools_ranges_of_their_own() {
    let mut around = managed([manager("a", &["10.244.0.0/16"])]);
    named(&mut around, Resource::ProxyPods, "kube-proxy", &["10.8.0.0/14"]);
    let users = Users { gke: true, ..BUILT_IN };
    assert!(words(&settled(&around), &around, users)[1].starts_with("kube-proxy not comparable"));
}

#[test]
fn cluster_cidr_objects_make_the_flags_mean_nothing() {
    let object = ClusterCidr {
        name: "default".to_owned(),
        per_node_host_bits: 8,
        v4: Some(net("10.64.0.0/12")),
        v6: None,
        selector: Vec::new(),
        deleting: false,
    };
    let around = Around {
        delegates: Arc::new(Delegates {
            cluster_cidrs: vec![object],
            ..Delegates::default()
        }),
        ..managed([manager("a", &["10.244.0.0/16"])])
    };
    let pool = settled(&around);
    assert_eq!(pool.ranges, []);
    assert_eq!(
        words(&pool, &around, BUILT_IN),
        [
            "kube-controller-manager not comparable: ClusterCIDR objects decide: its flag has no effect",
            "clustercidr settles it"
        ]
    );
}

#[test]
fn the_range_that_holds_all_nodes_is_a_hint_and_settles_nothing() {
    let told = witnesses(
        &PoolConfig::default(),
        &Around::default(),
        BUILT_IN,
        &[net("10.244.0.0/22")],
    );
    assert_eq!((told.len(), told[0].stance), (1, Stance::Apart));
}
