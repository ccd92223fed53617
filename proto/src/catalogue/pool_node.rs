//! Pages of the POOL codes that are about what one node was given.

use super::{Code, Entry, run, say};
use crate::finding::Severity;

pub(super) const POOL01: Entry = Entry {
    code: Code::Pool01,
    name: "node-without-cidr",
    severity: Severity::Error,
    title: "The control plane's own IPAM should have given this node a pod CIDR and has not.",
    meaning: "The kubelet never chooses a pod CIDR: kube-controller-manager's node-ipam-controller writes spec.podCIDR \
        and spec.podCIDRs of every Node that has none. This Node has none although its CNI takes pod addresses from there: \
        flannel exits, the CNI configuration cannot be rendered, pods stay in ContainerCreating. It does not say that the \
        host is at fault, and restarting the kubelet does not help: the allocator, not the registration, is what is missing.",
    causes: &[
        "The pool is exhausted (POOL04): kcm logs \"CIDR allocation failed; there are no remaining CIDRs left to allocate \
         in the accepted range\". Guides quote \"out of CIDRs\"; today's kcm does not print that.",
        "--allocate-node-cidrs is false, --cluster-cidr is empty, or the controller is disabled by --controllers (POOL09).",
        "kcm is down or crash-loops, often because another node's CIDR is outside the pool (POOL02): then no new node gets one.",
        "The assignment's patch failed or timed out: event CIDRAssignmentFailed, and still no CIDR (else it is POOL11).",
        "The Node was deleted and registered again while no allocator ran.",
    ],
    look: &[
        run(
            "Every node and what it was given, both families:",
            "kubectl get nodes -o custom-columns=NAME:.metadata.name,CIDRS:.spec.podCIDRs,CREATED:.metadata.creationTimestamp",
        ),
        run(
            "How many nodes have one:",
            "kubectl get nodes -o jsonpath='{range .items[*]}{if .spec.podCIDR}{.metadata.name}{\"\\n\"}{end}{end}' | wc -l",
        ),
        run(
            "The allocator's own word on the Node. Match the reason, not the type: it is a Normal event, in namespace default:",
            "kubectl get events -n default --field-selector involvedObject.kind=Node,involvedObject.name=NODE",
        ),
        run(
            "kcm's log, of every replica; a success reads \"Set node PodCIDR\":",
            "kubectl logs -n kube-system -l component=kube-controller-manager --tail=-1 | grep -iE 'podcidr|cidr allocation|mark cidr'",
        ),
        run(
            "Whether kcm allocates at all:",
            "kubectl get pods -n kube-system -l component=kube-controller-manager -o yaml | grep -E 'allocate-node-cidrs|cluster-cidr|controllers='",
        ),
        run(
            "What the CNI's daemon on the node says of it (flannel, Cilium, kube-router, Antrea):",
            "kubectl logs -n NAMESPACE POD | grep -iE 'pod cidr not assigned|PodCIDR not available|node.Spec.PodCIDR|PodCIDR is empty'",
        ),
    ],
    remedy: &[
        say(
            "First mend the allocator: start kcm, set --allocate-node-cidrs=true and --cluster-cidr, or free the pool (POOL04). \
             kcm then fills every Node without a CIDR by itself; nothing has to be done on the node.",
        ),
        run(
            "Where kcm cannot be mended soon, give the node a free CIDR of the pool by hand. The API server accepts exactly one \
             change, from empty to valid. Take a range that no other node has, or it becomes POOL03:",
            "kubectl patch node NODE -p '{\"spec\":{\"podCIDR\":\"CIDR\",\"podCIDRs\":[\"CIDR\"]}}'",
        ),
        say(
            "Do not delete the Node to make it \"register afresh\": a running kubelet never registers again by itself (it logs \
             \"Error updating node status, will retry … not found\"), its pods run on unseen, and the new Node would wait for the \
             same allocator.",
        ),
    ],
    silence: "Delegated IPAM: where the CNI allocates by itself (Calico IPAM, Cilium unless ipam=kubernetes, AWS VPC CNI, Azure CNI, \
        OVN-Kubernetes, Weave) an empty podCIDR is normal; EKS, AKS with Azure CNI (Overlay too) and OpenShift leave it empty. \
        GKE and AKS kubenet do set it, whatever guides say. virtual-kubelet nodes have no pod network.",
    related: &[
        Code::Pool04,
        Code::Pool09,
        Code::Pool02,
        Code::Pool11,
        Code::Sand01,
        Code::Host06,
    ],
};

pub(super) const POOL02: Entry = Entry {
    code: Code::Pool02,
    name: "cidr-outside-pool",
    severity: Severity::Critical,
    title: "A node's pod CIDR is not inside --cluster-cidr: kube-controller-manager exits at its next start.",
    meaning: "At start kcm marks every node's CIDR as used. One that lies outside --cluster-cidr is an error that ends the whole \
        process: \"failed to mark cidr[…] at idx [0] as occupied for node: …: cidr … is out the range of cluster cidr …\". While kcm \
        runs it only logs and retries, so the cluster looks well until the next restart or change of leader; then no controller \
        of kcm runs: no Endpoints, no ReplicaSets, no evictions. It does not say that the node's pods are cut off today.",
    causes: &[
        "--cluster-cidr was changed on a live cluster; the old nodes keep what they have, for podCIDRs cannot be changed.",
        "One of several kcm replicas has another --cluster-cidr (POOL10): it fails only when that one becomes leader.",
        "A node came from elsewhere (a restored etcd, another cluster's kubelet), or its podCIDR was written by hand.",
        "Dual-stack: the ranges of --cluster-cidr were given in another order. kcm compares by index, not by family.",
    ],
    look: &[
        run(
            "The pool, of each replica:",
            "kubectl get pods -n kube-system -l component=kube-controller-manager -o yaml | grep -E 'cluster-cidr|hostname'",
        ),
        run(
            "Every node's CIDRs:",
            "kubectl get nodes -o custom-columns=NAME:.metadata.name,CIDRS:.spec.podCIDRs",
        ),
        run(
            "Whether kcm has already met it:",
            "kubectl logs -n kube-system -l component=kube-controller-manager --tail=-1 | grep 'out the range'",
        ),
        run("The same, as cidrift counts it:", "kubectl cidrift pool"),
    ],
    remedy: &[
        say(
            "Until it is mended, do not restart kcm, its hosts or its leader. If it crash-loops already, put back a --cluster-cidr \
             that contains every node's CIDR: a wider range that contains the old one starts without complaint, and everything else \
             that names the range (kube-proxy, the CNI's network, firewalls) must follow.",
        ),
        say(
            "The usual advice, \"rotate the nodes one at a time under the new configuration\", cannot work as written: kcm exits \
             until the last old node is gone, so rotated nodes get no CIDR. Cordoning all old nodes at once leaves no room to move to.",
        ),
        run(
            "Node swap, one node at a time, drained first: delete the Node and create it again at once with a CIDR of the pool. The \
             running kubelet adopts it within seconds, labels and taints are kept, and it works while kcm is down:",
            "kubectl drain NODE --ignore-daemonsets --delete-emptydir-data\n\
             kubectl get node NODE -o json | jq 'del(.status, .metadata.uid, .metadata.resourceVersion, .metadata.creationTimestamp, \
             .metadata.managedFields) | .spec.podCIDR=\"CIDR\" | .spec.podCIDRs=[\"CIDR\"] | .spec.unschedulable=true' > node.json\n\
             kubectl delete node NODE && kubectl create -f node.json",
        ),
        say(
            "Traps of the swap: emptyDir data goes with the drain; CSINode still names the old Node as owner and must go too (the \
             garbage collector does it where kcm runs); a cloud that owns the instance may end it when its Node is deleted; CNI \
             configuration on the host may keep the old range (HOST01, HOST02). Uncordon when those are clean.",
        ),
        say(
            "The classic rotation (drain, delete the Node, restart the kubelet on the host, wait for a CIDR, uncordon) is the last \
             resort: it needs a kcm that runs, loses labels, taints and annotations, and gives whatever CIDR is next. One node at a \
             time, never two: each takes capacity away and every other host must follow its new routes.",
        ),
    ],
    silence: "Only built-in IPAM (RangeAllocator) with a known --cluster-cidr. Where the pool is not visible, as on managed control \
        planes, it is unknown, not healthy. With node-ipam-controller, nodes outside every ClusterCIDR are legal (POOL13). GKE gives \
        node pools discontiguous ranges by design.",
    related: &[Code::Pool10, Code::Pool01, Code::Pool12, Code::Host01],
};

pub(super) const POOL03: Entry = Entry {
    code: Code::Pool03,
    name: "cidr-overlap",
    severity: Severity::Critical,
    title: "Two nodes, or a node and the service range, the node network or a host interface, claim the same addresses.",
    meaning: "An address in two ranges has two owners. Between two nodes, every other host routes the common part to only one of them: \
        the other's pods get no answers, and two pods may have one address. With the service range, a pod's address can be taken \
        for a Service. With the node network, hosts become unreachable from pods. kcm does not notice two nodes with one CIDR: \
        marking a used range as used succeeds. Overlaps need not be equal: a /24 inside a /21 counts.",
    causes: &[
        "kcm handed a range out twice: v1.31.0 and later releases of 1.31 before the fix released it when deletion of a Node began.",
        "Two allocators at once, kcm and a cloud-controller-manager, both with --allocate-node-cidrs=true.",
        "One of two equal Nodes was deleted before: that frees the range while the other uses it, and a third may get it.",
        "--node-cidr-mask-size was changed: the new size's blocks fall inside the old ones (POOL07).",
        "Cilium's or another delegate's operator allocated before it had read what is in use (POOL14).",
        "The pool was chosen over the service range, the nodes' own subnet or a VPN's route.",
    ],
    look: &[
        run(
            "Equal ranges of two nodes:",
            "kubectl get nodes -o jsonpath='{range .items[*]}{.spec.podCIDR}{\"\\n\"}{end}' | sort | uniq -d",
        ),
        run("Every overlap, unequal ones too:", "kubectl cidrift pool"),
        run(
            "Whom the others route it to, on any third host:",
            "ip route get ADDRESS-IN-CIDR",
        ),
        run(
            "Who wrote the field; two managers mean two allocators:",
            "kubectl get node NODE -o yaml --show-managed-fields | grep -B3 -A40 managedFields",
        ),
        run(
            "The service range:",
            "kubectl get servicecidrs; kubectl cluster-info dump | grep -m1 service-cluster-ip-range",
        ),
    ],
    remedy: &[
        say("Find which of the two the others route to; that one works. Act on the other one, never on both."),
        say(
            "Cordon the unrouted one so that no more pods land there, stop the second allocator if there is one, upgrade kcm if it is \
             an affected 1.31.",
        ),
        say("Then give it another range by a node swap (see POOL02), drained first."),
        say(
            "Trap: when the twin's Node is deleted, flannel on every other host deletes the route for that CIDR, which was the healthy \
             node's. Look at the routes right after, and restart the CNI's pod on hosts that lost it (PATH01).",
        ),
        say(
            "Trap: kcm frees the range when either Node goes, though the other still uses it. Restart kcm afterwards, so that it \
             marks it anew, before nodes are added.",
        ),
    ],
    silence: "Node against node applies wherever podCIDR is authoritative. With delegated IPAM a podCIDR that nothing uses may \
        overlap the CNI's own range: that is normal there. Service ranges are compared only where they are known. A host interface counts \
        by its address: one whose prefix is wider than a pod CIDR and whose address is in none (Docker with 10.0.0.1/8) takes only what has \
        no longer route. Where a pod CIDR has none, PATH01 says that its packets go there.",
    related: &[Code::Pool07, Code::Pool14, Code::Path02, Code::Path01, Code::Pool15],
};

pub(super) const POOL06: Entry = Entry {
    code: Code::Pool06,
    name: "family-missing",
    severity: Severity::Error,
    title: "A node of a dual-stack cluster has a pod CIDR of one family only.",
    meaning: "The pool has an IPv4 and an IPv6 range, and this node has a CIDR of only one family. Its pods come up with one address; \
        dual-stack Services and everything that needs the other family fail from there. podCIDRs cannot be added to once it is set.",
    causes: &[
        "The node registered while the cluster was still single-stack.",
        "One family's pool was exhausted. kcm takes the first family's CIDR anew at each retry and does not give it back until it \
         restarts, so the other pool drains as well.",
        "The node's --node-ip names one family only.",
    ],
    look: &[
        run(
            "Families of every node:",
            "kubectl get nodes -o jsonpath='{range .items[*]}{.metadata.name}{\": \"}{.spec.podCIDRs}{\"\\n\"}{end}'",
        ),
        run(
            "Which index failed:",
            "kubectl logs -n kube-system -l component=kube-controller-manager --tail=-1 | grep 'cidr from cluster cidr at idx'",
        ),
    ],
    remedy: &[
        say("Widen or free the pool of the missing family first (POOL04), and restart kcm to get leaked CIDRs back."),
        say(
            "Then swap the node (see POOL02) with its present CIDR and one of the missing family in podCIDRs, in the order of \
             --cluster-cidr: running pods keep their addresses, new ones get both.",
        ),
    ],
    silence: "Single-stack clusters; CNIs that are single-stack by choice in a dual-stack cluster; delegated IPAM.",
    related: &[Code::Pool04, Code::Pool08, Code::Pool01],
};

pub(super) const POOL07: Entry = Entry {
    code: Code::Pool07,
    name: "mask-differs",
    severity: Severity::Warning,
    title: "A node's mask differs from --node-cidr-mask-size where one size is expected.",
    meaning: "kcm keeps one bit for each block of one size, and marks every block that a node's CIDR touches. A longer CIDR keeps the \
        rest of its block from others; a shorter one holds several. Pods work. It costs room (info; warning where room is short), and \
        where two longer CIDRs share a block, the block counts as free as soon as one of their Nodes is deleted, though the other \
        uses it: a new node may get it (warning; then POOL03).",
    causes: &[
        "--node-cidr-mask-size (or its -ipv4, -ipv6 form) was changed on a live cluster; existing nodes keep theirs.",
        "kcm and the CNI's own allocator use different sizes over one range.",
        "The CIDR was written by hand.",
    ],
    look: &[
        run(
            "Sizes in use:",
            "kubectl get nodes -o jsonpath='{range .items[*]}{.spec.podCIDR}{\"\\n\"}{end}' | cut -d/ -f2 | sort | uniq -c",
        ),
        run(
            "The size asked for (24 and 64 where no flag is given):",
            "kubectl get pods -n kube-system -l component=kube-controller-manager -o yaml | grep node-cidr-mask-size",
        ),
    ],
    remedy: &[
        say("Put the old size back if the change was not meant. It costs nothing and ends the danger."),
        say(
            "Where blocks are shared, restart kcm after each of those Nodes that goes, before nodes are added: it counts anew at its start.",
        ),
        say("If it was meant, give new nodes a range of their own, or swap the old nodes one at a time (see POOL02)."),
    ],
    silence: "GKE (size follows max-pods of each node pool) and node-ipam-controller (size belongs to the ClusterCIDR): many sizes \
        are normal there. Delegated IPAM.",
    related: &[Code::Pool03, Code::Pool05, Code::Pool13],
};

pub(super) const POOL08: Entry = Entry {
    code: Code::Pool08,
    name: "cidr-fields-differ",
    severity: Severity::Error,
    title: "spec.podCIDR is not spec.podCIDRs[0].",
    meaning: "The API server keeps both fields equal, so this Node was not written through it, or what was read is not what it holds: \
        an edited snapshot, a proxy, a broken conversion. Readers of the old field and of the new one disagree on where its \
        pods are. spec.podCIDR is not deprecated, whatever guides say: podCIDRs came beside it in 1.16.",
    causes: &[
        "A hand-edited snapshot or backup, restored into etcd past the API server.",
        "A controller or an aggregated API that writes one field only.",
        "An entry of podCIDRs that is not a prefix at all.",
    ],
    look: &[
        run(
            "Both fields:",
            "kubectl get node NODE -o jsonpath='{.spec.podCIDR}{\"\\n\"}{.spec.podCIDRs}{\"\\n\"}'",
        ),
        run("Who wrote them:", "kubectl get node NODE -o yaml --show-managed-fields"),
    ],
    remedy: &[
        say("If the state comes from a file, mend the file."),
        say(
            "Else find what the host uses (CNI configuration, bridge address) and swap the node (see POOL02) with that CIDR in both \
             fields; if the CIDR stays what the host has, running pods are not touched.",
        ),
    ],
    silence: "Nothing: the two fields must agree whatever the IPAM model. Both empty is POOL01's business.",
    related: &[Code::Pool01, Code::Host01],
};

pub(super) const POOL12: Entry = Entry {
    code: Code::Pool12,
    name: "node-reborn",
    severity: Severity::Warning,
    title: "A Node was deleted and made again under its name with another pod CIDR.",
    meaning: "podCIDRs cannot be changed, so another CIDR under the same name always means another UID: delete and create. kcm hands \
        ranges out in a ring and does not reuse, so the new Node normally gets a different one. Everything that took the old CIDR \
        as given may still use it: this host's bridge, CNI configuration and pods, other hosts' routes. The finding says that the \
        change happened and names who has not followed; it explains HOST01, HOST02, PATH01 and PATH03 findings of the same node.",
    causes: &[
        "The Node was deleted (by hand, by an autoscaler, by the usual \"delete and restart kubelet\" advice) and registered again.",
        "A node swap: then it is meant, and what is left to do is listed.",
        "etcd was restored from a backup.",
    ],
    look: &[
        run(
            "Its age against its pods':",
            "kubectl get node NODE -o jsonpath='{.metadata.uid} {.metadata.creationTimestamp} {.spec.podCIDRs}{\"\\n\"}'; kubectl get pods -A -o wide --field-selector spec.nodeName=NODE",
        ),
        run(
            "What the running kubelet saw; a non-empty originalPodCIDR is the change:",
            "journalctl -u kubelet | grep -E 'Updating Pod CIDR|Updating runtime config through cri'",
        ),
        run(
            "Who still routes the old one:",
            "kubectl cidrift findings --code PATH03",
        ),
        run("What the host still has:", "kubectl cidrift node NODE"),
    ],
    remedy: &[
        say("On the host, follow the new CIDR: HOST01 (CNI configuration), then HOST02 (bridge and tunnel)."),
        run(
            "Restart the CNI's pod on that node, so that flannel reads its Node again: it does so only at its start:",
            "kubectl delete pod -n kube-flannel --field-selector spec.nodeName=NODE -l app=flannel",
        ),
        say("Replace pods that still have old addresses: drain, or delete them one by one."),
        say("On the others, PATH03 and PATH01 say which routes are left over and which are missing."),
        say(
            "To prevent it: when a Node must be deleted, create it again at once with its old podCIDRs (a swap keeps them); then \
             nothing has to follow.",
        ),
    ],
    silence: "What happened before this aggregator started shows only by pods that are older than their Node and have addresses that \
        it does not; who still routes the old CIDR is not known then. Nodes whose podCIDR no CNI uses. A Node that came back with \
        the same CIDR.",
    related: &[
        Code::Host01,
        Code::Host02,
        Code::Host03,
        Code::Path01,
        Code::Path03,
        Code::Host08,
        Code::Pool15,
    ],
};
