use super::{nets, object};
use crate::control_plane::record::{azure, calico, cilium, cluster_cidr};

#[test]
fn a_cilium_node_has_the_cidrs_of_its_ipam_and_the_operators_complaint() {
    let record = cilium::node(&object(
        r#"
metadata: {name: node-a}
spec:
  ipam:
    podCIDRs: [10.0.1.0/24, "fd00::100/120", not-a-cidr]
    pools: {allocated: [{pool: default, cidrs: [10.9.0.0/27]}, {pool: other, cidrs: [{cidr: 10.9.1.0/27}]}]}
status: {ipam: {operator-status: {error: "allocator full"}}}
"#,
    ))
    .unwrap();
    assert_eq!(
        nets(&record.pod_cidrs),
        ["10.0.1.0/24", "fd00::100/120", "10.9.0.0/27", "10.9.1.0/27"]
    );
    assert_eq!(record.error.as_deref(), Some("allocator full"));
    assert_eq!(record.odd, ["not-a-cidr"]);
    assert!(cilium::node(&object("spec: {}")).is_err());
}

#[test]
fn calicos_pools_have_their_defaults() {
    let pool = calico::pool(&object("metadata: {name: default}\nspec: {cidr: 192.168.0.0/16}")).unwrap();
    assert_eq!(
        (pool.block_size, pool.disabled, pool.node_selector.as_str()),
        (26, false, "all()")
    );
    let pool = calico::pool(&object(
        "metadata: {name: six}\nspec: {cidr: 'fd00::/48', disabled: true, nodeSelector: zone == 'a'}",
    ))
    .unwrap();
    assert_eq!(
        (pool.block_size, pool.disabled, pool.node_selector.as_str()),
        (122, true, "zone == 'a'")
    );
    let error = calico::pool(&object("metadata: {name: x}\nspec: {cidr: 7}")).unwrap_err();
    assert_eq!(error, "it has no spec.cidr");
    let error = calico::pool(&object("metadata: {name: x}\nspec: {cidr: 10.0.0.0/8, blockSize: 64}")).unwrap_err();
    assert_eq!(error, "spec.blockSize is 64");
}

#[test]
fn a_blocks_deletion_is_a_text_in_one_version_and_a_truth_value_in_the_other() {
    let block = |deleted: &str| {
        let text = format!("spec: {{node: node-a, cidr: 192.168.1.64/26, state: confirmed, deleted: {deleted}}}");
        calico::block(&object(&text)).unwrap()
    };
    assert!(block("\"true\"").deleted && block("true").deleted);
    assert!(!block("\"false\"").deleted && !block("false").deleted);
    assert_eq!(block("false").node, "node-a");
}

const RANGE: &str = r#"
metadata: {name: edge, deletionTimestamp: "2026-11-23T10:00:00Z"}
spec:
  perNodeHostBits: 8
  ipv4: 10.1.0.0/16
  ipv6: "fd00:1::/112"
  nodeSelector:
    nodeSelectorTerms:
    - matchExpressions: [{key: rack, operator: In, values: [r1, r2]}]
      matchFields: [{key: metadata.name, operator: NotIn, values: [cp-1]}]
"#;

#[test]
fn a_cluster_cidr_is_read_with_its_selector() {
    let range = cluster_cidr::record(&object(RANGE)).unwrap();
    assert_eq!(range.per_node_host_bits, 8);
    assert!(range.v4.is_some() && range.v6.is_some() && range.deleting);
    let [term] = range.selector.as_slice() else {
        panic!("{:?}", range.selector)
    };
    assert_eq!(
        (term[0].key.as_str(), term[0].field, term[0].values.len()),
        ("rack", false, 2)
    );
    assert_eq!((term[1].key.as_str(), term[1].field), ("metadata.name", true));
}

#[test]
fn a_cluster_cidr_that_cannot_be_read_whole_is_not_read_in_part() {
    let error = |from: &str, to: &str| cluster_cidr::record(&object(&RANGE.replace(from, to))).unwrap_err();
    assert_eq!(
        error("perNodeHostBits: 8", "perNodeHostBits: many"),
        "spec.perNodeHostBits is \"many\""
    );
    assert_eq!(
        error("ipv4: 10.1.0.0/16", "ipv4: 'fd00::/64'"),
        "spec.ipv4 is \"fd00::/64\""
    );
    assert_eq!(
        error("operator: In,", "operatr: In,"),
        "a requirement of spec.nodeSelector has no operator"
    );
}

#[test]
fn a_node_network_config_has_a_prefix_or_addresses() {
    let overlay = azure::record(&object(
        "metadata: {name: aks-1}\nstatus: {networkContainers: [{primaryIP: 10.244.1.0/24, subnetAddressSpace: 10.244.0.0/16, type: overlay}]}",
    ))
    .unwrap();
    assert_eq!(
        (overlay.node.as_str(), nets(&overlay.cidrs)),
        ("aks-1", vec!["10.244.1.0/24".to_owned()])
    );
    let vnet = azure::record(&object(
        "metadata: {name: aks-1}\nstatus: {networkContainers: [{primaryIP: 10.240.0.4, subnetAddressSpace: 10.240.0.0/16, ipAssignments: [{name: a, ip: 10.240.0.5}, {name: b, ip: x}]}]}",
    ))
    .unwrap();
    assert_eq!(nets(&vnet.cidrs), ["10.240.0.0/16"]);
    assert_eq!(vnet.addresses, ["10.240.0.5".parse::<std::net::IpAddr>().unwrap()]);
}
