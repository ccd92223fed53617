//! The allocator of the control plane: which instances of kube-controller-manager hand out
//! node CIDRs, which of them run, and whose CIDR makes one exit at its start (reference A).

use cidrift_proto::finding::Evidence;
use ipnet::IpNet;

use super::{Scene, words};
use crate::cluster::NodeRecord;
use crate::cluster::objects::{Manager, ManagerFlags, Resource};

/// Why an instance with these flags hands out no node CIDRs, in words; `None`: it does, or cannot be said not to.
pub fn idle(flags: &ManagerFlags) -> Option<String> {
    let given = |flag: &str| flags.odd.iter().any(|odd| odd.starts_with(&format!("--{flag}=")));
    // A cloud's code stands in for the range. It was taken out with 1.31, and the names of clouds with it.
    let cloud = flags.cloud_provider.as_deref().is_some_and(|name| name != "external");
    if flags.ipam_disabled {
        return Some("its node-ipam-controller is switched off by --controllers".to_owned());
    }
    match flags.allocate_node_cidrs {
        Some(true) => {}
        Some(false) => return Some("--allocate-node-cidrs=false".to_owned()),
        None if given("allocate-node-cidrs") => return None,
        None => return Some("--allocate-node-cidrs is not given, which means false".to_owned()),
    }
    match flags.allocator_type.as_deref().filter(|_| !by_range(flags)) {
        Some(_) if cloud => None,
        Some(kind) => Some(format!(
            "--cidr-allocator-type={kind}, which needs the code of a cloud that it does not have"
        )),
        None if flags.cluster_cidr.is_empty() && !given("cluster-cidr") => {
            Some("--allocate-node-cidrs=true without a --cluster-cidr to allocate from".to_owned())
        }
        None => None,
    }
}

/// Whether an instance with these flags hands out node CIDRs.
pub fn allocates(flags: &ManagerFlags) -> bool {
    idle(flags).is_none()
}

/// Its allocator is the one that takes CIDRs of --cluster-cidr, and marks those of all nodes at its start.
pub fn by_range(flags: &ManagerFlags) -> bool {
    let kind = flags.allocator_type.as_deref();
    kind.is_none_or(|kind| kind == "RangeAllocator")
}

/// What makes an instance that is [`idle`] hand out node CIDRs: the beginning of a sentence that goes on with what its
/// --cluster-cidr has to contain.
pub fn mend(flags: &ManagerFlags) -> &'static str {
    match flags.allocate_node_cidrs {
        _ if flags.ipam_disabled => {
            "Take -node-ipam-controller (or -nodeipam) out of --controllers, beside --allocate-node-cidrs=true and a --cluster-cidr"
        }
        Some(true) if !by_range(flags) => {
            "Take --cidr-allocator-type out, which means RangeAllocator, beside a --cluster-cidr"
        }
        Some(true) => "Give it a --cluster-cidr",
        _ => "Set --allocate-node-cidrs=true and a --cluster-cidr",
    }
}

/// How a node's CIDR fails the check of kube-controller-manager's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Its place in `spec.podCIDRs`.
    pub at: usize,
    /// The CIDR.
    pub cidr: IpNet,
    /// The range that it is compared with; `None`: --cluster-cidr has none at this place.
    pub range: Option<IpNet>,
}

/// The check of kube-controller-manager's start: entry `i` of `spec.podCIDRs` must overlap range `i` of --cluster-cidr.
/// The places are compared, not the families, and prefixes overlap where one contains the other, whichever it is.
pub fn misfits(ranges: &[IpNet], node: &NodeRecord) -> Vec<Misfit> {
    let check = |(at, cidr): (usize, IpNet)| {
        let range = ranges.get(at).copied();
        let fits = range.is_some_and(|range| range.contains(&cidr) || cidr.contains(&range));
        (!fits).then_some(Misfit { at, cidr, range })
    };
    if node.pod_cidrs.len() == node.pod_cidrs_raw.len() {
        return node.pod_cidrs.iter().copied().enumerate().filter_map(check).collect();
    }
    // Some are no prefixes: the others keep their places.
    let entries = node.pod_cidrs_raw.iter().enumerate();
    let nets = entries.filter_map(|(at, raw)| Some((at, raw.parse::<IpNet>().ok()?.trunc())));
    nets.filter_map(check).collect()
}

/// The node and the CIDR that kube-controller-manager's last words name ("failed to mark cidr[10.244.0.0/24] at idx \[0\]
/// as occupied for node: n1: cidr … is out the range of cluster cidr …"; or "node:n1 has an allocated cidr: … at index:1
/// that does not exist in cluster cidrs configuration").
pub fn culprit(last_words: &str) -> Option<String> {
    let name = |text: &str| {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.'));
        let name = text[..end.unwrap_or(text.len())].trim_end_matches('.');
        (!name.is_empty()).then(|| name.to_owned())
    };
    if let Some((_, rest)) = last_words.split_once("as occupied for node: ") {
        return name(rest);
    }
    let (before, _) = last_words.split_once(" has an allocated cidr: ")?;
    let (_, node) = before.rsplit_once("node:")?;
    name(node)
}

/// Whether an instance ended because of a node's CIDR, or nothing is known of why it ended.
pub fn exits_at_a_node(manager: &Manager) -> bool {
    let words = manager
        .last_exit
        .as_ref()
        .map(|(_, words)| words.as_str())
        .unwrap_or_default();
    words.trim().is_empty() || culprit(words).is_some()
}

/// The part of an instance's last words that says why it exited, cut to a readable length.
pub fn last_words(manager: &Manager) -> Option<&str> {
    let (_, words) = manager.last_exit.as_ref()?;
    let starts = ["failed to mark cidr", "node:"]
        .iter()
        .filter_map(|start| words.find(start));
    let from = match starts.min() {
        Some(at) => &words[at..],
        None => words.as_str(),
    };
    let line = from.lines().next().unwrap_or_default().trim().trim_end_matches('"');
    let cut = line.char_indices().nth(400).map_or(line.len(), |(at, _)| at);
    (!line.is_empty()).then_some(&line[..cut])
}

/// Whether a writer of `spec.podCIDRs` is a controller that allocates, and not a person, a kubelet or a restore.
pub fn is_allocator(writer: &str) -> bool {
    let writer = writer.to_ascii_lowercase();
    let by_hand = ["kubectl", "kubelet", "cidrift", "curl", "velero", "python", "mozilla"];
    let known = ["controller", "ipam", "allocator", "operator", "k3s", "rke2"];
    !by_hand.iter().any(|hand| writer.starts_with(hand)) && known.iter().any(|word| writer.contains(word))
}

/// An instance's flags, as evidence.
pub fn flags_evidence(scene: &Scene<'_>, manager: &Manager) -> Evidence {
    let flags = &manager.flags;
    let mut said = Vec::new();
    match flags.allocate_node_cidrs {
        Some(value) => said.push(format!("--allocate-node-cidrs={value}")),
        None => said.push("no --allocate-node-cidrs".to_owned()),
    }
    if !flags.cluster_cidr.is_empty() {
        let ranges: Vec<String> = flags.cluster_cidr.iter().map(IpNet::to_string).collect();
        said.push(format!("--cluster-cidr={}", ranges.join(",")));
    }
    if let Some(kind) = &flags.allocator_type {
        said.push(format!("--cidr-allocator-type={kind}"));
    }
    if flags.ipam_disabled {
        said.push("node-ipam-controller switched off by --controllers".to_owned());
    }
    scene.around_evidence(
        Resource::ManagerPods,
        format!("pod {}", manager.name),
        words::list(said),
    )
}

/// How an instance fares, as evidence.
pub fn state_evidence(scene: &Scene<'_>, manager: &Manager) -> Option<Evidence> {
    let mut text = manager.down()?;
    if let Some(words) = last_words(manager) {
        text.push_str(&format!(": \"{words}\""));
    }
    let mut evidence = scene.around_evidence(Resource::ManagerPods, format!("pod {}", manager.name), text);
    evidence.observed_at = manager.last_exit_at.or(evidence.observed_at);
    Some(evidence)
}

/// Where the flags of an instance are changed.
pub fn manifest(manager: &Manager) -> String {
    let host = manager.node.as_deref().unwrap_or("its control-plane host");
    format!("/etc/kubernetes/manifests/kube-controller-manager.yaml on {host}")
}

/// How to read an instance's last words.
pub fn logs(manager: &Manager) -> String {
    match manager.name.split_once('/') {
        Some((namespace, pod)) => format!("kubectl -n {namespace} logs {pod} --previous --tail=20"),
        None => format!("the log of {}", manager.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(cidrs: &[&str]) -> NodeRecord {
        NodeRecord {
            pod_cidrs_raw: cidrs.iter().map(|cidr| (*cidr).to_owned()).collect(),
            pod_cidrs: cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect(),
            ..NodeRecord::default()
        }
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_cidr_that_contains_the_range_passes_and_one_beside_it_does_not() {
        let ranges = nets(&["10.244.0.0/16"]);
        assert_eq!(misfits(&ranges, &node(&["10.244.3.0/24"])), []);
        assert_eq!(misfits(&ranges, &node(&["10.0.0.0/8"])), []);
        let found = misfits(&ranges, &node(&["10.245.0.0/24"]));
        assert_eq!((found[0].at, found[0].range), (0, Some(ranges[0])));
    }

    #[test]
    fn places_are_compared_and_not_families() {
        let ranges = nets(&["10.244.0.0/16", "fd00::/48"]);
        assert_eq!(misfits(&ranges, &node(&["10.244.3.0/24", "fd00::/64"])), []);
        assert_eq!(misfits(&ranges, &node(&["fd00::/64", "10.244.3.0/24"])).len(), 2);
        let single = misfits(&nets(&["10.244.0.0/16"]), &node(&["10.244.3.0/24", "fd00::/64"]));
        assert_eq!((single.len(), single[0].at, single[0].range), (1, 1, None));
        assert_eq!(
            misfits(&ranges, &node(&["10.244.3.0/24"])),
            [],
            "a family may be missing"
        );
    }

    #[test]
    fn the_culprit_stands_in_the_last_words_of_every_version() {
        let new = "E1123 10:00:00.1 1 controllermanager.go:259] \"Error building controllers\" err=\"failed to mark \
                   cidr[10.200.0.0/24] at idx [0] as occupied for node: n1.example.com: cidr 10.200.0.0/24 is out the \
                   range of cluster cidr 10.244.0.0/16\"";
        assert_eq!(culprit(new).as_deref(), Some("n1.example.com"));
        let index =
            "node:win-7 has an allocated cidr: fd00::/64 at index:1 that does not exist in cluster cidrs configuration";
        assert_eq!(culprit(index).as_deref(), Some("win-7"));
        assert_eq!(culprit("leaderelection lost"), None);
    }

    #[test]
    fn an_instance_allocates_unless_its_flags_say_why_not() {
        let on = ManagerFlags {
            allocate_node_cidrs: Some(true),
            cluster_cidr: nets(&["10.244.0.0/16"]),
            ..ManagerFlags::default()
        };
        let kind = |kind: &str, cloud: Option<&str>| ManagerFlags {
            allocator_type: Some(kind.to_owned()),
            cloud_provider: cloud.map(ToOwned::to_owned),
            ..on.clone()
        };
        assert!(allocates(&on) && allocates(&kind("RangeAllocator", None)));
        // Up to 1.30 a cloud's code allocated by itself, and marked nothing.
        let cloud = kind("CloudAllocator", Some("gce"));
        assert!(allocates(&cloud) && !by_range(&cloud));
        for without in [kind("CloudAllocator", None), kind("IPAMFromCloud", Some("external"))] {
            let why = idle(&without).unwrap();
            assert!(why.starts_with("--cidr-allocator-type="), "{why}");
            assert!(mend(&without).starts_with("Take --cidr-allocator-type out"));
        }
        let rangeless = ManagerFlags {
            cluster_cidr: Vec::new(),
            ..on.clone()
        };
        assert!(idle(&rangeless).unwrap().contains("without a --cluster-cidr"));
        let unread = ManagerFlags {
            odd: vec!["--cluster-cidr=$(POD_CIDR)".to_owned()],
            ..rangeless
        };
        assert_eq!(idle(&unread), None, "it has one, and which is not known");
        let disabled = ManagerFlags {
            ipam_disabled: true,
            ..on
        };
        assert!(mend(&disabled).contains("--controllers"), "{:?}", idle(&disabled));
        assert_eq!(
            mend(&ManagerFlags::default()),
            "Set --allocate-node-cidrs=true and a --cluster-cidr"
        );
    }

    #[test]
    fn people_and_kubelets_are_no_allocators() {
        let yes = [
            "kube-controller-manager",
            "gcp-cloud-controller-manager",
            "node-ipam-controller",
            "k3s",
        ];
        let no = [
            "kubectl-patch",
            "kubectl-create",
            "kubelet",
            "cidrift",
            "Go-http-client",
        ];
        assert!(yes.iter().all(|writer| is_allocator(writer)));
        assert!(!no.iter().any(|writer| is_allocator(writer)));
    }
}
