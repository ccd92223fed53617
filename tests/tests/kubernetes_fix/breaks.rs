//! What goes wrong, for real.

use std::fs;
use std::path::PathBuf;

use cidrift_lab::kubernetes::client::pod;
use cidrift_lab::kubernetes::swap::swap;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::ObjectMeta;
use serde_json::json;

use crate::ground::{CONFLIST, Ground, PATIENCE};
use crate::mend::{remove_own_routes, restart_flanneld};

/// A pod that has to run on n3.
pub(crate) const LATE: &str = "late";

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// n2's Node has another CIDR of the pool than its file, its bridge and its pods, and its kubelet was not started anew.
pub(crate) fn stale_template(ground: &Ground) {
    swap(&ground.cluster, "n2", &[net("10.244.77.0/24")], PATIENCE).unwrap();
    assert!(!ground.conflist("n2").contains("10.244.77.0/24"));
}

/// n3's bridge has an address of another range than its file and its Node, and no new pod starts on it.
pub(crate) fn foreign_bridge(ground: &Ground) {
    let typist = ground.typist();
    let line = "ip addr flush dev cni0 && ip addr add 10.66.0.1/24 dev cni0";
    typist.type_on("n3", line).unwrap();
    let labels = json!({"app": LATE});
    let mut spec = serde_json::to_value(pod(LATE, None).spec.unwrap()).unwrap();
    spec["nodeSelector"] = json!({"kubernetes.io/hostname": "n3"});
    spec["tolerations"] = json!([{"key": "soft", "operator": "Exists"}]);
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": LATE},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    });
    typist.apply(&deployment).unwrap();
    let failed = || {
        let events = typist.type_line("kubectl get events --field-selector reason=FailedCreatePodSandBox")?;
        Ok(events
            .contains("already has an IP address different from")
            .then_some(()))
    };
    ground.cluster.api().wait("a sandbox fails", PATIENCE, failed).unwrap();
}

/// Node, file and bridge of n2 have a range that the pool does not have; so do routes of its peers. Its flanneld ends at
/// every start.
pub(crate) fn out_of_pool(ground: &Ground) {
    move_to(ground, "n2", "10.200.2.0/24", |_| true);
    remove_own_routes(ground, "n2");
    ground.spread();
}

/// What the runtime rendered on n2 is somebody's own file from now on. Returns its path.
pub(crate) fn own_configuration(ground: &Ground) -> PathBuf {
    let rendered = ground.node("n2").root().join(CONFLIST);
    let own = rendered.with_file_name("05-own.conflist");
    fs::rename(rendered, &own).unwrap();
    own
}

/// Node, file and bridge of n3 have n2's CIDR, and so has its flanneld; as after a reboot nothing on it leads to n2's pods.
pub(crate) fn duplicate(ground: &Ground) {
    let (cidr, owner) = (ground.cidr("n2"), ground.node("n2").addresses[0]);
    // Those of flannel are its own to write: it does when it starts.
    move_to(ground, "n3", &cidr.to_string(), |annotation| {
        !annotation.starts_with("flannel.alpha.coreos.com/")
    });
    let line = format!("ip route del {cidr} via {owner}");
    ground.typist().type_on("n3", &line).unwrap();
    ground.spread();
}

/// n2's Node was made anew while nobody allocates.
pub(crate) fn without_cidr(ground: &Ground) {
    ground.cluster.kcm().stop().unwrap();
    let line = "kubectl get node n2 -o json | jq 'del(.status, .metadata.uid, .metadata.resourceVersion, \
                .metadata.creationTimestamp, .metadata.managedFields, .spec.podCIDR, .spec.podCIDRs)' > bare.json && \
                kubectl delete node n2 && kubectl create -f bare.json";
    ground.typist().type_line(line).unwrap();
}

/// Gives a drained node another CIDR, with everything on it: its kubelet and its flanneld start anew. `keep` says which
/// annotations the new Node has.
fn move_to(ground: &Ground, name: &str, cidr: &str, keep: fn(&str) -> bool) {
    let (api, node, typist) = (ground.cluster.api(), ground.node(name), ground.typist());
    typist
        .type_line(&format!("kubectl drain {name} --ignore-daemonsets"))
        .unwrap();
    node.kubelet.stop().unwrap();
    let old = api.node(name).unwrap().unwrap();
    let mut spec = old.spec.unwrap_or_default();
    spec.pod_cidr = Some(cidr.to_owned());
    spec.pod_cidrs = Some(vec![cidr.to_owned()]);
    spec.taints
        .iter_mut()
        .for_each(|taints| taints.retain(|taint| !taint.key.starts_with("node.kubernetes.io/")));
    let mut annotations = old.metadata.annotations.unwrap_or_default();
    annotations.retain(|key, _| keep(key));
    let new = Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: old.metadata.labels,
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        // A kubelet that starts rejects the pods that run where a Node tells no capacity.
        status: old.status,
    };
    api.delete_node(name).unwrap();
    api.create_node(&new).unwrap();
    node.delete_conflist().unwrap();
    typist.type_on(name, "ip link delete cni0").unwrap();
    node.kubelet.start_again().unwrap();
    ground.rendered(name);
    restart_flanneld(ground, name);
    typist.type_line(&format!("kubectl uncordon {name}")).unwrap();
}
