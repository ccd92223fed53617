//! Pages of the POOL codes that are about the range and those who allocate from it.

use super::{Code, Entry, run, say};
use crate::finding::Severity;

pub(super) const POOL04: Entry = Entry {
    code: Code::Pool04,
    name: "pool-exhausted",
    severity: Severity::Error,
    title: "No node CIDR is left in the pool.",
    meaning: "The range divided by the node mask, less what overlaps the service range, is all in use: the next node gets no CIDR \
        (POOL01). Nodes that have one work on. kcm says \"CIDR allocation failed; there are no remaining CIDRs left to allocate in the \
        accepted range\" and sends a Normal event CIDRNotAvailable, which watchers of Warnings never see.",
    causes: &[
        "More nodes than blocks: a /16 with /24 blocks is 256 nodes, no more.",
        "Node objects of machines that are long gone still hold theirs.",
        "kcm leaked blocks: a timed-out patch, or a dual-stack node whose second family failed. They return when kcm restarts.",
        "The service range lies inside the pool and takes blocks away.",
    ],
    look: &[
        run("Capacity and use:", "kubectl cidrift pool"),
        run(
            "Nodes that hold a block and are not alive:",
            "kubectl get nodes -o custom-columns=NAME:.metadata.name,CIDR:.spec.podCIDR,READY:.status.conditions[-1].status",
        ),
        run(
            "The allocator's events:",
            "kubectl get events -A --field-selector reason=CIDRNotAvailable",
        ),
        run(
            "kcm's own figure, a ratio from 0 to 1; more than the Nodes account for is a leak:",
            "curl -sk -H \"Authorization: Bearer $TOKEN\" https://KCM:10257/metrics | grep -E 'cidrset_usage_cidrs|max_cidrs'",
        ),
    ],
    remedy: &[
        say(
            "If kcm counts more blocks than there are Nodes with one, restart kcm: leaked blocks return. Check POOL02 first, for with a \
             node outside the pool kcm will not come back.",
        ),
        say(
            "Delete Node objects of machines that no longer exist. Be sure that no kubelet runs there: a live one is not stopped by \
             it, keeps its pods and their addresses, and its block is handed to another node (POOL03).",
        ),
        say(
            "Drain and remove idle nodes, if the cluster has capacity to spare. Managed node groups may end the instance with its Node.",
        ),
        say(
            "Widen --cluster-cidr to a range that contains the present one: the flag is read at start only, existing nodes stay valid, \
             and kube-proxy, the CNI's network and firewalls must follow. To another, disjoint range there is no way in place: see POOL02.",
        ),
    ],
    silence: "Delegated IPAM (POOL14 looks at the delegate's own pool). With an unknown --cluster-cidr only the allocator's events speak. \
        CIDRNotAvailable is a harmless event where the CNI ignores podCIDR, and none at all when it is older than an hour, than the \
        Node, or than the last node that got a CIDR. A full pool whose books in kcm's metrics show room, and a pool of one block.",
    related: &[Code::Pool01, Code::Pool05, Code::Pool02, Code::Pool14],
};

pub(super) const POOL05: Entry = Entry {
    code: Code::Pool05,
    name: "pool-low",
    severity: Severity::Warning,
    title: "The pool has little headroom left, or will be full soon at the present growth.",
    meaning: "Fewer free blocks are left than used ones (less than twice the present number of nodes fits), or at the growth of the last \
        month the pool is full within 90 days. How many days are left is said where the Nodes' creation times show a growth. Nothing fails today. Rolling upgrades that add \
        nodes before they remove old ones need the headroom first; a cluster that has not grown for a month is told (as info) only \
        where not even a tenth of its nodes fits.",
    causes: &[
        "A range sized for the first day.",
        "Blocks larger than the nodes need: a /24 has 253 usable addresses, a kubelet runs 110 pods by default.",
        "Dead Node objects, or leaked blocks (see POOL04).",
    ],
    look: &[
        run("Capacity, use and growth:", "kubectl cidrift pool"),
        run(
            "Pods that a node may run:",
            "kubectl get nodes -o custom-columns=NAME:.metadata.name,PODS:.status.capacity.pods,CIDR:.spec.podCIDR",
        ),
    ],
    remedy: &[
        say("Clean up dead Nodes (POOL04)."),
        say(
            "Plan a wider range that contains the present one while there is time; twice the expected nodes is a fair size.",
        ),
        say(
            "Do not make the node mask longer on a live cluster: old and new sizes overlap in kcm's books (POOL07, POOL03).",
        ),
    ],
    silence: "Delegated IPAM; unknown --cluster-cidr; clusters that have not grown for a month, and those of fewer than eight nodes, \
        unless creation times show growth. A pool with room for as many nodes again, unless it is full within 90 days at its growth.",
    related: &[Code::Pool04, Code::Pool07, Code::Pool15],
};

pub(super) const POOL09: Entry = Entry {
    code: Code::Pool09,
    name: "allocator-off",
    severity: Severity::Error,
    title: "Built-in IPAM is expected, but nothing allocates node CIDRs.",
    meaning: "The CNI takes its range from Node.spec.podCIDR, and kcm does not write it. Nodes that have one work on; new ones \
        get none (POOL01). Restarting kubelets changes nothing.",
    causes: &[
        "--allocate-node-cidrs is false or absent. kubeadm sets it only when networking.podSubnet is given.",
        "--controllers contains -node-ipam-controller (or -nodeipam).",
        "--cidr-allocator-type names a cloud allocator that this kcm no longer has (1.31 and later accept RangeAllocator only).",
        "kcm is not running, or exits at start (POOL02).",
    ],
    look: &[
        run(
            "Its flags, as it runs:",
            "kubectl get pods -n kube-system -l component=kube-controller-manager -o yaml | grep -E 'allocate-node-cidrs|cluster-cidr|allocator-type|controllers='",
        ),
        run(
            "The same on a control-plane host, where it is no pod:",
            "ps -o args= -C kube-controller-manager | tr ' ' '\\n' | grep -E 'allocate-node-cidrs|cluster-cidr|controllers'",
        ),
        run(
            "Its word at start:",
            "kubectl logs -n kube-system -l component=kube-controller-manager --tail=-1 | grep -E 'skipping controller.*node-ipam|Must specify --cluster-cidr'",
        ),
    ],
    remedy: &[
        say(
            "Set --allocate-node-cidrs=true and a --cluster-cidr that contains every CIDR that nodes have already; one that does not \
             makes kcm exit (POOL02). On kubeadm: /etc/kubernetes/manifests/kube-controller-manager.yaml on each control-plane host.",
        ),
        say(
            "Make sure that no other allocator runs (a cloud-controller-manager, node-ipam-controller): two of them hand out the same \
             range twice (POOL03).",
        ),
    ],
    silence: "node-ipam-controller demands --allocate-node-cidrs=false: with ClusterCIDR objects this is right. k3s and rke2 run kcm \
        inside and always allocate. Delegated IPAM. Managed control planes, where kcm's flags are not visible: unknown.",
    related: &[Code::Pool01, Code::Pool13, Code::Pool02, Code::Pool03],
};

pub(super) const POOL10: Entry = Entry {
    code: Code::Pool10,
    name: "control-planes-disagree",
    severity: Severity::Error,
    title: "Witnesses of the cluster's pod range name different ranges.",
    meaning: "The pod range stands in many places: each kcm replica's flags, kubeadm-config, kube-proxy's clusterCIDR, flannel's \
        Network, Calico's IPPool, cilium-config. They name different ranges here. Which one is wrong it does not say; the one that acts \
        is kcm's flag for allocation, kube-proxy's for masquerading, the CNI's for routes.",
    causes: &[
        "A manifest was edited by hand on one control-plane host; kubeadm-config is not updated by that.",
        "The CNI was installed with its default range (flannel 10.244.0.0/16, Calico 192.168.0.0/16, Cilium 10.0.0.0/8).",
        "A change of range that was not carried through everywhere.",
    ],
    look: &[
        run(
            "kcm, every replica:",
            "kubectl get pods -n kube-system -l component=kube-controller-manager -o yaml | grep cluster-cidr",
        ),
        run(
            "kubeadm's intent and kube-proxy:",
            "kubectl get cm -n kube-system kubeadm-config kube-proxy -o yaml | grep -iE 'podSubnet|clusterCIDR'",
        ),
        run(
            "flannel, Calico, Cilium:",
            "kubectl get cm -A -o yaml | grep -E '\"Network\"|cluster-pool-ipv4-cidr'; kubectl get ippools.crd.projectcalico.org -o custom-columns=N:.metadata.name,C:.spec.cidr",
        ),
    ],
    remedy: &[
        say("Decide by what the nodes have: the range that contains every node's podCIDR is the one in force."),
        say(
            "Correct the others one at a time: records first (kubeadm-config), kube-proxy next, the CNI's network then, kcm last and \
             only to a range that contains every node's CIDR (POOL02).",
        ),
        say(
            "flanneld refuses to start with \"subnet … specified in the flannel net config doesn't contain … PodCIDR\": change its Network \
             before its pods restart.",
        ),
    ],
    silence: "A range that is a legitimate part of another (an IPPool inside the pod range) is not a contradiction. An empty \
        kube-proxy clusterCIDR is legal. CNIs with their own IPAM need not name kcm's range.",
    related: &[Code::Pool02, Code::Host09, Code::Pool14],
};

pub(super) const POOL11: Entry = Entry {
    code: Code::Pool11,
    name: "assignment-raced",
    severity: Severity::Info,
    title: "CIDRAssignmentFailed was reported though the node got a CIDR.",
    meaning: "Two of kcm's workers took up the same new Node; one won, the other reported CIDRAssignmentFailed. The node is fine. It is \
        listed so that nobody chases the event.",
    causes: &["A new Node was updated again while its first assignment was under way."],
    look: &[run(
        "The event and the CIDR:",
        "kubectl get events -n default --field-selector reason=CIDRAssignmentFailed; kubectl get node NODE -o jsonpath='{.spec.podCIDRs}{\"\\n\"}'",
    )],
    remedy: &[say("Nothing. If the Node stays without a CIDR it is POOL01, not this.")],
    silence: "Nodes without a CIDR (POOL01).",
    related: &[Code::Pool01],
};

pub(super) const POOL13: Entry = Entry {
    code: Code::Pool13,
    name: "clustercidr-mismatch",
    severity: Severity::Warning,
    title: "A node is in no matching ClusterCIDR, or its capacity is short.",
    meaning: "With the out-of-tree node-ipam-controller, pools are ClusterCIDR objects with a node selector. This node's CIDR lies in \
        none that selects it, or the matching ones are nearly full. The controller allocates to new nodes only and never \
        rewrites an assignment; a node outside every ClusterCIDR goes on working.",
    causes: &[
        "The node's labels changed after it got its CIDR.",
        "The node is older than the ClusterCIDR; or the ClusterCIDR it came from is gone.",
        "No ClusterCIDR selects it: \"no cidrSets with matching labels found for node …\".",
        "Those that do are full: \"unable to get a clusterCIDR for node …, no available CIDRs\".",
    ],
    look: &[
        run("The pools:", "kubectl get clustercidrs.networking.x-k8s.io -o yaml"),
        run(
            "The node:",
            "kubectl get node NODE --show-labels -o jsonpath='{.spec.podCIDRs}{\"\\n\"}{.metadata.labels}{\"\\n\"}'",
        ),
        run(
            "The controller's events:",
            "kubectl get events -A | grep multiCIDRRangeAllocator",
        ),
    ],
    remedy: &[
        say("A legacy node that works needs nothing."),
        say(
            "Add a ClusterCIDR for what is missing; specs of existing ones are immutable. Do not turn kcm's allocator on beside it.",
        ),
        say(
            "To move a node into another pool: drain it and swap it (see POOL02) without a CIDR or with one of that pool.",
        ),
    ],
    silence: "Clusters without ClusterCIDR objects. A terminating ClusterCIDR still covers its nodes.",
    related: &[Code::Pool09, Code::Pool01, Code::Pool07],
};

pub(super) const POOL14: Entry = Entry {
    code: Code::Pool14,
    name: "delegate-mismatch",
    severity: Severity::Error,
    title: "The CNI's own allocation objects are inconsistent, overlapping or exhausted.",
    meaning: "Where the CNI allocates by itself, its objects are the truth, not Node.spec.podCIDR: CiliumNode, BlockAffinity and \
        IPPool, NodeNetworkConfig, AWS ENIs. They overlap, contradict each other or have run out. A podCIDR that differs from them \
        is not the fault: on Cilium cluster-pool kcm may assign one that nothing uses.",
    causes: &[
        "Cilium's operator has no range left: status.ipam.operator-status.error says \"allocator full\".",
        "Cilium's operator allocated before it had read what is in use: \"requested CIDR (…) is already allocated\".",
        "Calico: blocks of nodes that are gone are still affine to them; or the limit of blocks per host is reached.",
        "AWS: the instance type's ENI limit, or a subnet without free addresses. Azure: CNS waits for addresses.",
        "kcm's mask and the delegate's differ over one range.",
    ],
    look: &[
        run(
            "Cilium, every range of every node and the operator's complaint:",
            "kubectl get ciliumnodes -o json | jq -r '.items[] | [.metadata.name, (.spec.ipam.podCIDRs // [] | join(\",\")), .status.ipam[\"operator-status\"].error // \"\"] | @tsv'",
        ),
        run(
            "Calico:",
            "kubectl get blockaffinities.crd.projectcalico.org -o custom-columns=NODE:.spec.node,CIDR:.spec.cidr,STATE:.spec.state",
        ),
        run(
            "AWS:",
            "kubectl get ds -n kube-system aws-node; kubectl logs -n kube-system -l k8s-app=aws-node --tail=200 | grep -i 'no available'",
        ),
        run("Azure:", "kubectl get nodenetworkconfigs -n kube-system"),
    ],
    remedy: &[
        say(
            "Do not edit Node.spec.podCIDR: the delegate does not read it, and the API server refuses a change anyway.",
        ),
        say(
            "Cilium: add a range to clusterPoolIPv4PodCIDRList; never alter one that is there. Of two nodes with one range, delete the \
             younger CiliumNode after draining that node; its agent makes it anew.",
        ),
        say(
            "Calico: release blocks of nodes that are gone (calicoctl ipam check, then ipam release), or add an IPPool.",
        ),
        say("AWS, Azure: follow the provider's way: prefix delegation, another subnet, larger instances."),
    ],
    silence: "What a node that is gone left behind counts half an hour after it went: the CNI clears up by itself. IPAM that takes \
        Node.spec.podCIDR (flannel, kindnet, kube-router, Antrea, Cilium ipam=kubernetes, Canal): POOL01 to \
        POOL08 apply there.",
    related: &[Code::Pool03, Code::Pool04, Code::Sand01],
};

pub(super) const POOL15: Entry = Entry {
    code: Code::Pool15,
    name: "node-churn",
    severity: Severity::Warning,
    title: "Node objects are created and deleted at an unusual rate.",
    meaning: "Each new Node takes a block and each host must follow each change of routes. At this rate hosts lag behind, ranges are \
        reused while routes of their former owners still stand, and every defect of an allocator shows.",
    causes: &[
        "An autoscaler that flaps, spot instances, a rotation of many nodes at once.",
        "A cloud controller that deletes Nodes of instances it cannot see, whose kubelets register again at each restart.",
        "A script that deletes NotReady Nodes.",
    ],
    look: &[
        run(
            "The youngest nodes:",
            "kubectl get nodes --sort-by=.metadata.creationTimestamp -o wide | tail -20",
        ),
        run(
            "How many Nodes etcd holds; a graph of it shows the churn:",
            "kubectl get --raw /metrics | grep -E 'objects.*\"nodes\"'",
        ),
        run(
            "Who deletes:",
            "kubectl get events -A | grep -E 'RemovingNode|DeletingNode|RegisteredNode'",
        ),
    ],
    remedy: &[
        say("Slow the cause: scale-down delay, smaller batches, one rotation at a time."),
        say("Look at POOL03, POOL12 and PATH03 findings of the same hour; they are its harm."),
    ],
    silence: "Growth, shrinking and rotations, however fast: only Nodes that live for less than an hour count, three times if they come \
        again under the same name. It takes a weight of 12, and of half the cluster, within one hour. A Node that kubectl cidrift fix \
        has cordoned and makes anew does not count.",
    related: &[Code::Pool12, Code::Pool03, Code::Path03, Code::Pool05],
};
