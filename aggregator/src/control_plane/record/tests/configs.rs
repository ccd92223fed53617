use super::{nets, object};
use crate::control_plane::record::{antrea, cilium, flannel, k3s, kube_proxy, kubeadm, openshift};

const V1BETA3: &str = r#"
metadata: {name: kubeadm-config, namespace: kube-system}
data:
  ClusterConfiguration: |
    apiVersion: kubeadm.k8s.io/v1beta3
    kind: ClusterConfiguration
    controllerManager:
      extraArgs:
        node-cidr-mask-size: "25"
        bind-address: 0.0.0.0
    networking:
      dnsDomain: cluster.local
      podSubnet: 10.244.0.0/16
      serviceSubnet: 10.96.0.0/12
"#;

#[test]
fn kubeadms_configuration_names_ranges_and_masks() {
    let word = kubeadm::record(&object(V1BETA3)).unwrap();
    assert_eq!(nets(&word.ranges), ["10.244.0.0/16"]);
    assert_eq!(nets(&word.service_ranges), ["10.96.0.0/12"]);
    assert_eq!((word.mask_v4, word.mask_v6), (Some(25), None));
    assert!(word.what.ends_with("networking.podSubnet"), "{}", word.what);
}

#[test]
fn arguments_of_v1beta4_are_a_list_and_win_over_the_pod_subnet() {
    let text = V1BETA3.replace(
        "        node-cidr-mask-size: \"25\"\n        bind-address: 0.0.0.0\n",
        "      - {name: cluster-cidr, value: 10.1.0.0/16}\n      - {name: cluster-cidr, value: \"10.2.0.0/16,fd00::/48\"}\n      - {name: node-cidr-mask-size-ipv6, value: \"64\"}\n",
    );
    let word = kubeadm::record(&object(&text)).unwrap();
    assert_eq!(nets(&word.ranges), ["10.2.0.0/16", "fd00::/48"]);
    assert_eq!(word.mask_v6, Some(64));
    assert!(word.what.contains("extraArgs"), "{}", word.what);
}

#[test]
fn a_configuration_without_a_pod_subnet_names_none() {
    let word = kubeadm::record(&object(&V1BETA3.replace("      podSubnet: 10.244.0.0/16\n", ""))).unwrap();
    assert!(word.ranges.is_empty() && word.odd.is_empty());
    let word = kubeadm::record(&object("metadata: {name: kubeadm-config}")).unwrap();
    assert!(word.what.contains("without ClusterConfiguration"));
    let error = kubeadm::record(&object("data: {ClusterConfiguration: 'a: ['}")).unwrap_err();
    assert!(error.starts_with("ClusterConfiguration: "), "{error}");
}

#[test]
fn an_empty_range_of_kube_proxy_is_legal() {
    let text = |cidr: &str| {
        format!(
            "data:\n  config.conf: |\n    kind: KubeProxyConfiguration\n    clusterCIDR: {cidr}\n    detectLocalMode: BridgeInterface\n"
        )
    };
    let word = kube_proxy::record(&object(&text("\"\""))).unwrap();
    assert!(word.ranges.is_empty() && word.odd.is_empty());
    assert!(
        word.what.ends_with("clusterCIDR (detectLocalMode BridgeInterface)"),
        "{}",
        word.what
    );
    let word = kube_proxy::record(&object(&text("10.244.0.0/16,fd00::/56"))).unwrap();
    assert_eq!(nets(&word.ranges), ["10.244.0.0/16", "fd00::/56"]);
    let word = kube_proxy::record(&object(&text("10.244.0.0"))).unwrap();
    assert_eq!(word.odd, ["10.244.0.0"]);
}

#[test]
fn flannels_networks_count_where_they_are_on() {
    let word = |json: &str| {
        let json = serde_json::json!({"metadata": {"namespace": "kube-system"}, "data": {"net-conf.json": json}});
        flannel::record(&json)
    };
    let both =
        word(r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/56","Backend":{"Type":"vxlan"}}"#);
    let both = both.unwrap();
    assert_eq!(nets(&both.ranges), ["10.244.0.0/16", "fd00::/56"]);
    assert_eq!(both.what, "ConfigMap kube-system/kube-flannel-cfg, net-conf.json");
    let off =
        word(r#"{"Network":"10.244.0.0/16","IPv6Network":"fd00::/56","EnableIPv4":false,"SubnetLen":0}"#).unwrap();
    assert!(off.ranges.is_empty() && off.mask_v4.is_none());
    assert!(word("{").unwrap_err().starts_with("net-conf.json: "));
}

#[test]
fn ciliums_ranges_count_in_cluster_pool_only() {
    let config = |ipam: &str| {
        cilium::config(&serde_json::json!({"data": {
            "ipam": ipam, "cluster-pool-ipv4-cidr": "10.0.0.0/8 172.16.0.0/12", "cluster-pool-ipv4-mask-size": "24",
            "cluster-pool-ipv6-cidr": "fd00::/104", "cluster-pool-ipv6-mask-size": "120",
        }}))
    };
    let (word, ipam) = config("cluster-pool");
    assert_eq!(nets(&word.ranges), ["10.0.0.0/8", "172.16.0.0/12", "fd00::/104"]);
    assert_eq!((word.mask_v4, word.mask_v6), (Some(24), Some(120)));
    assert_eq!(ipam.as_deref(), Some("cluster-pool"));
    let (word, ipam) = config("kubernetes");
    assert!(word.ranges.is_empty() && word.mask_v4.is_none());
    assert_eq!(ipam.as_deref(), Some("kubernetes"));
    assert_eq!(cilium::config(&serde_json::json!({})).1, None);
}

#[test]
fn antreas_ranges_count_where_it_allocates() {
    let text = |on: bool| {
        format!(
            "data:\n  antrea-controller.conf: |\n    nodeIPAM:\n      enableNodeIPAM: {on}\n      clusterCIDRs: [10.100.0.0/16, 'fd00:100::/56']\n      serviceCIDR: 10.96.0.0/12\n      nodeCIDRMaskSizeIPv4: 25\n"
        )
    };
    let word = antrea::record(&object(&text(true))).unwrap();
    assert_eq!(nets(&word.ranges), ["10.100.0.0/16", "fd00:100::/56"]);
    assert_eq!(
        (word.mask_v4, nets(&word.service_ranges)),
        (Some(25), vec!["10.96.0.0/12".to_owned()])
    );
    assert!(antrea::record(&object(&text(false))).unwrap().ranges.is_empty());
}

#[test]
fn openshifts_network_speaks_by_its_status_or_its_spec() {
    let spec = "metadata: {name: cluster}\nspec:\n  clusterNetwork: [{cidr: 10.128.0.0/14, hostPrefix: 23}]\n  serviceNetwork: [172.30.0.0/16]\n";
    let word = openshift::record(&object(spec)).unwrap();
    assert_eq!(
        (nets(&word.ranges), word.mask_v4),
        (vec!["10.128.0.0/14".to_owned()], Some(23))
    );
    assert_eq!(nets(&word.service_ranges), ["172.30.0.0/16"]);
    let status = format!("{spec}status:\n  clusterNetwork: [{{cidr: 10.132.0.0/14, hostPrefix: 24}}]\n");
    let word = openshift::record(&object(&status)).unwrap();
    assert_eq!(
        (nets(&word.ranges), word.mask_v4),
        (vec!["10.132.0.0/14".to_owned()], Some(24))
    );
}

#[test]
fn a_server_of_k3s_says_its_range_or_the_default() {
    let word = |args: &str| {
        let annotations = [("k3s.io/node-args".to_owned(), args.to_owned())].into();
        k3s::record("s1", &annotations)
    };
    let said =
        word(r#"["server","--cluster-cidr","10.52.0.0/16","--service-cidr","10.53.0.0/16","--disable","traefik"]"#);
    let said = said.unwrap();
    assert_eq!(nets(&said.ranges), ["10.52.0.0/16"]);
    assert_eq!(nets(&said.service_ranges), ["10.53.0.0/16"]);
    assert_eq!(said.what, "Node s1, annotation k3s.io/node-args");
    let passed =
        word(r#"["server","--cluster-cidr=10.52.0.0/16","--kube-controller-manager-arg=node-cidr-mask-size=22"]"#);
    assert_eq!(passed.unwrap().mask_v4, Some(22));
    let default = word(r#"["server"]"#).unwrap();
    assert_eq!(nets(&default.ranges), ["10.42.0.0/16"]);
    assert!(default.what.starts_with("default of k3s"), "{}", default.what);
    assert_eq!(
        word(r#"["agent","--server","https://s1:6443"]"#),
        None,
        "an agent decides nothing"
    );
    let torn = word("[\"server").unwrap();
    assert!(torn.ranges.is_empty() && torn.odd.len() == 1);
    assert_eq!(k3s::record("n", &std::collections::BTreeMap::new()), None);
}
