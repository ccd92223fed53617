//! What labels, names and objects say of the platform.

use super::*;

#[test]
fn every_platform_of_the_table_is_a_hint_and_a_provider_id_is_none() {
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str, Option<&'a str>, &'a str);
    let rows: &[Row<'_>] = &[
        // EKS with the VPC CNI: nodegroups, eksctl, and by the kubelet's version alone.
        (
            &[("eks.amazonaws.com/nodegroup", "w")],
            "v1.30.1-eks-036c24b",
            "aws:///us-east-1a/i-1",
            None,
            "delegated",
        ),
        (
            &[("alpha.eksctl.io/nodegroup-name", "w")],
            "",
            "aws:///us-east-1a/i-1",
            None,
            "delegated",
        ),
        (
            &[("karpenter.sh/nodepool", "w")],
            "v1.34.0-eks-1",
            "aws:///us-east-1a/i-1",
            None,
            "delegated",
        ),
        (
            &[("eks.amazonaws.com/compute-type", "hybrid")],
            "v1.30.1-eks-1",
            "eks-hybrid:///x",
            CIDR,
            "unclear",
        ),
        (
            &[("eks.amazonaws.com/compute-type", "fargate")],
            "v1.30.1-eks-1",
            "aws:///x",
            None,
            "no data plane",
        ),
        // AWS without EKS: kops sets the field for kubenet, and runs any CNI.
        (
            &[("kops.k8s.io/instancegroup", "nodes")],
            "v1.30.1",
            "aws:///us-east-1a/i-1",
            CIDR,
            "unclear",
        ),
        (
            &[("karpenter.sh/nodepool", "w")],
            "v1.30.1",
            "aws:///us-east-1a/i-1",
            CIDR,
            "unclear",
        ),
        // GKE.
        (
            &[("cloud.google.com/gke-nodepool", "p")],
            "v1.30.1-gke.1042000",
            "gce://p/z/n",
            CIDR,
            "spec.podCIDR",
        ),
        (&[], "v1.30.1-gke.1042000", "gce://p/z/n", CIDR, "spec.podCIDR"),
        // AKS: kubenet, overlay, vnet, pod subnet, Cilium's data plane.
        (
            &[("kubernetes.azure.com/cluster", "c")],
            "v1.30.1",
            "azure:///s",
            CIDR,
            "spec.podCIDR",
        ),
        (
            &[("kubernetes.azure.com/cluster", "c")],
            "v1.30.1",
            "azure:///s",
            None,
            "unclear",
        ),
        (
            &[("kubernetes.azure.com/podnetwork-type", "overlay")],
            "v1.30.1",
            "azure:///s",
            None,
            "delegated",
        ),
        (
            &[("kubernetes.azure.com/azure-cni-overlay", "true")],
            "v1.30.1",
            "azure:///s",
            None,
            "delegated",
        ),
        (
            &[("kubernetes.azure.com/azure-cni-overlay", "true")],
            "v1.30.1",
            "azure:///s",
            CIDR,
            "unclear",
        ),
        (
            &[("kubernetes.azure.com/podnetwork-type", "vnet")],
            "v1.30.1",
            "azure:///s",
            None,
            "delegated",
        ),
        (
            &[("kubernetes.azure.com/podnetwork-subnet", "s")],
            "v1.30.1",
            "azure:///s",
            None,
            "delegated",
        ),
        (
            &[("kubernetes.azure.com/ebpf-dataplane", "cilium")],
            "v1.30.1",
            "azure:///s",
            None,
            "delegated",
        ),
        // Whose CNI anybody may replace: what runs there says it, not who made the machine.
        (&[], "v1.30.1", "kind://docker/kind/n1", CIDR, "unclear"),
        (&[], "v1.30.1+k3s1", "k3s://n1", CIDR, "unclear"),
        (&[], "v1.30.1+rke2r1", "rke2://n1", CIDR, "unclear"),
        (
            &[("node.openshift.io/os_id", "rhcos")],
            "v1.30.1",
            "aws:///x",
            None,
            "delegated",
        ),
        (&[], "v1.30.1", "openstack:///x", CIDR, "unclear"),
        (&[], "v1.30.1", "vsphere://x", CIDR, "unclear"),
        (&[], "v1.30.1", "hcloud://7", CIDR, "unclear"),
        (&[], "v1.30.1", "digitalocean://7", CIDR, "unclear"),
        (&[], "v1.30.1", "metal3://x", CIDR, "unclear"),
        // Nothing to look at.
        (&[("type", "virtual-kubelet")], "v1.30.1", "", None, "no data plane"),
        (&[("kubernetes.io/os", "windows")], "v1.30.1", "", CIDR, "no data plane"),
    ];
    for (labels, version, provider, cidr, expected) in rows {
        let node = NodeRecord {
            kubelet_version: Some((*version).to_owned()),
            provider_id: Some((*provider).to_owned()),
            ..labelled(labels, *cidr)
        };
        assert_eq!(
            word(&node, None, &Around::default()),
            *expected,
            "{labels:?} {version} {provider}"
        );
    }
}
