//! Pages of the PATH codes: where packets between nodes land.

use super::{Code, Entry, run, say};
use crate::finding::Severity;

pub(super) const PATH01: Entry = Entry {
    code: Code::Path01,
    name: "route-missing",
    severity: Severity::Error,
    title: "A node has no landing for a peer's pod CIDR though its data plane programs one.",
    meaning: "Pods on this node cannot reach the pods of the nodes listed: no route matches, or only the default route, which leads out \
        of the cluster. Other nodes may reach them well, and everything reports Ready: Node conditions are not evaluated again when \
        routes break. The witness is the kernel's table, so the cause may be anybody who deleted the route.",
    causes: &[
        "A link went down and came up: that deletes its IPv4 routes without a message, and only connected ones return.",
        "flannel vxlan does not check its routes: one that is deleted stays gone until the peer changes or flanneld restarts. \
         (host-gw checks every 10 s, kube-router every 60 s, Calico every 90 s.)",
        "flanneld missed the peer: a watch that broke, or a Node deleted and made again so fast that only one update came.",
        "systemd-networkd removed it at a reload (ManageForeignRoutes), or `netplan apply` did.",
        "A Node with the same CIDR was deleted (POOL03), and the CNI removed the route of the one that stays.",
        "The CNI's daemon on this node does not run, or the node is new and it has not caught up.",
    ],
    look: &[
        run("On the node:", "ip route get ADDRESS-IN-CIDR; ip route show CIDR"),
        run(
            "All pod routes, against the number of other nodes:",
            "ip route | grep -cE 'flannel|dev eth0.*via'",
        ),
        run(
            "Both directions, as cidrift sees them:",
            "kubectl cidrift path NODE PEER",
        ),
        run(
            "The CNI's log on this node:",
            "kubectl logs -n kube-flannel --tail=200 POD | grep -iE 'route|subnet'",
        ),
        run(
            "networkd:",
            "networkctl status; grep -r ManageForeignRoutes /etc/systemd/networkd.conf*",
        ),
    ],
    remedy: &[
        run(
            "Restart the CNI's pod on this node; at its start it programs every peer:",
            "kubectl delete pod -n kube-flannel -l app=flannel --field-selector spec.nodeName=NODE",
        ),
        run(
            "At once, by hand, host-gw; for flannel vxlan all three layers are needed:",
            "ip route add CIDR via PEER-NODE-IP dev eth0\n\
             ip neigh replace CIDR-BASE lladdr PEER-VTEP-MAC dev flannel.1 nud permanent; bridge fdb replace PEER-VTEP-MAC dev flannel.1 \
             dst PEER-NODE-IP self permanent; ip route add CIDR via CIDR-BASE dev flannel.1 onlink",
        ),
        say("Against networkd: ManageForeignRoutes=no and ManageForeignRoutingPolicyRules=no."),
        say("Do not drain or delete either node for this: nothing is wrong with their CIDRs."),
    ],
    silence: "Data planes that program no route for each peer: one route for the whole network (OVN-Kubernetes, Weave, flannel's \
        wireguard), the cloud's or the fabric's own routing (GKE, EKS, AKS, Cilium native routing without auto-direct-node-routes), \
        or eBPF. While the expectation of a new node has not reached the hosts, it is pending, not open.",
    related: &[Code::Path04, Code::Path06, Code::Path07, Code::Pool03, Code::Pool12],
};

pub(super) const PATH02: Entry = Entry {
    code: Code::Path02,
    name: "route-misdelivers",
    severity: Severity::Error,
    title: "Packets for a pod CIDR land on a node that does not own it.",
    meaning: "The route's next hop is the address of another node than the one that the CIDR is assigned to. That node drops \
        the packets, sends them on, or, worst, delivers them to a pod of its own that has the same address. The finding names both.",
    causes: &[
        "The CIDR changed hands: its former owner was deleted, and this host kept the old route (flannel takes up changes of \
         annotations, not of podCIDR).",
        "Two nodes claim the CIDR (POOL03).",
        "The node's address changed, and the old one now belongs to another (Cilium auto-direct-node-routes, host-gw).",
        "A route made by hand.",
    ],
    look: &[
        run(
            "Where it goes, and who that is:",
            "ip route get ADDRESS-IN-CIDR; kubectl get nodes -o wide | grep NEXT-HOP",
        ),
        run("Both ways:", "kubectl cidrift path NODE OWNER"),
    ],
    remedy: &[
        say("If POOL03 stands for the CIDR, decide that first."),
        run(
            "Restart the CNI's pod on this node:",
            "kubectl delete pod -n kube-flannel -l app=flannel --field-selector spec.nodeName=NODE",
        ),
        run(
            "flannel adds what is missing and may leave the wrong route; then replace it by hand:",
            "ip route replace CIDR via OWNER-NODE-IP dev eth0",
        ),
        say("Mind the metric: a replace with another metric adds a second route and leaves the first."),
    ],
    silence: "Route reflectors and gateways that are no nodes (the verdict is then \"leaves the cluster\"). Where the tunnel's layers \
        disagree it is PATH06. CIDRs whose owner is not clear.",
    related: &[Code::Pool03, Code::Path03, Code::Path06, Code::Pool12],
};

pub(super) const PATH03: Entry = Entry {
    code: Code::Path03,
    name: "route-stale",
    severity: Severity::Warning,
    title: "A node still routes a CIDR that no node owns any more.",
    meaning: "A node that is gone, or that came back with another CIDR, has left a route. Nobody lives there now, so little breaks today; \
        it breaks when the range is given to a new node, or when it overlaps this host's own range. kcm hands ranges out \
        in a ring, so that day comes late and as a surprise.",
    causes: &[
        "The CNI's daemon was down while the Node was deleted: flannel and Cilium do not remove what they did not see go; kindnet \
         never removes routes of removed nodes.",
        "BIRD left its routes when it was stopped.",
        "The node was reborn with another CIDR (POOL12).",
    ],
    look: &[
        run(
            "Pod routes whose range no node has:",
            "ip route | grep -vE '^default'; kubectl get nodes -o custom-columns=CIDR:.spec.podCIDRs",
        ),
        run(
            "Former owners that cidrift remembers are in the finding:",
            "kubectl cidrift findings --code PATH03",
        ),
    ],
    remedy: &[
        say(
            "Make sure that no pod of the former owner still runs with the old range: a live kubelet whose Node was deleted keeps its \
             pods, and this route is then the only way to them.",
        ),
        run(
            "fix removes it where nothing that is seen (Node, pod, host) has any of it, it is one of table main by one IPv4 next hop \
             or drops, and it leads by a Node, or who had it is remembered (since the aggregator's start). Else it is by hand, below:",
            "kubectl cidrift fix NODE --yes",
        ),
        run(
            "By hand: delete the route, and on flannel vxlan what stands behind it:",
            "ip route del CIDR via GATEWAY dev DEVICE; ip neigh del GATEWAY dev flannel.1; bridge fdb del MAC dev flannel.1 dst ADDRESS self",
        ),
        say("A restart of the CNI's pod is not enough: it adds what is missing and leaves what is too much."),
    ],
    silence: "Routes outside of the pool and of every former node's CIDR are nobody's business here. Routes wider than a node's block \
        (the whole network through a tunnel) are not stale, nor are those to where Nodes have their own addresses. Calico's blocks follow their own objects.",
    related: &[Code::Pool12, Code::Path02, Code::Pool15],
};

pub(super) const PATH04: Entry = Entry {
    code: Code::Path04,
    name: "route-blackholes",
    severity: Severity::Error,
    title: "Packets for a pod CIDR are dropped by a route, a dead device or an unresolved neighbour.",
    meaning: "There is a route, and it leads nowhere: of type blackhole, unreachable or prohibit; through a device that is down or gone; or \
        to a next hop whose link-layer address or tunnel destination is not known. A part of a CIDR counts too: a /25 that \
        drops half of a node's pods.",
    causes: &[
        "A blackhole left from a former range, more specific than the present one (flannel's ip-blackhole-route after a change of \
         block size).",
        "An unreachable or prohibit route set by hand or by a firewall.",
        "The tunnel device is down, or was deleted and made again without its entries.",
        "VXLAN: the gateway has no neighbour entry, or its MAC no FDB entry; with nolearning nobody will find it.",
        "The peer's underlay address does not answer: FAILED in the neighbour table.",
    ],
    look: &[
        run(
            "The kernel's answer (blackhole: Invalid argument; unreachable: No route to host; prohibit: Permission denied):",
            "ip route get ADDRESS-IN-CIDR",
        ),
        run(
            "Routes that drop:",
            "ip route show table all type blackhole; ip route show table all type unreachable; ip route show table all type prohibit",
        ),
        run(
            "Device, neighbour, forwarding database:",
            "ip -d link show flannel.1; ip neigh show dev flannel.1; bridge fdb show dev flannel.1",
        ),
    ],
    remedy: &[
        run(
            "A route that drops and that nobody's daemon owns is deleted; then the right one must be there:",
            "kubectl cidrift fix NODE --yes # or, on NODE: ip route del blackhole PREFIX",
        ),
        say(
            "A device that is down: set it up, then restart the CNI's pod on this node, for its IPv4 routes do not come back by themselves.",
        ),
        say(
            "Missing neighbour or FDB entry of a tunnel: restart the CNI's pod on this node, as fix does; by hand see PATH01.",
        ),
    ],
    silence: "Calico's and BIRD's blackhole for the node's own block is by design, and \"Invalid argument\" for an unused address in \
        it too. A bridge without carrier on a node without pods. A default route's gateway is not looked at.",
    related: &[Code::Path01, Code::Path06, Code::Host04, Code::Host10],
};

pub(super) const PATH05: Entry = Entry {
    code: Code::Path05,
    name: "route-loops",
    severity: Severity::Error,
    title: "Nodes pass packets for a pod CIDR round.",
    meaning: "A hands the packet to B, and B, which does not own the CIDR, hands it back or on to C that returns it. Packets die when \
        their TTL ends, and each is multiplied on the way: load on the underlay, ICMP time exceeded at the sender.",
    causes: &[
        "Wrong routes on two nodes (PATH02) that name each other.",
        "The CIDR's owner is gone, and each host's default route leads to a router that routes the pod range back.",
        "Two clusters that share a cloud route table.",
    ],
    look: &[
        run("From a pod or a node:", "traceroute -n ADDRESS-IN-CIDR"),
        run("Both nodes:", "kubectl cidrift path A B"),
    ],
    remedy: &[
        say("Mend the PATH02 or PATH03 finding of one of them; that ends the loop."),
        say(
            "Against the last kind, let every host drop what is in the pool and nobody's: a blackhole route for the whole pool.",
        ),
    ],
    silence: "Nothing: a loop is never meant. Parts of the way that are not visible make it unknown.",
    related: &[Code::Path02, Code::Path03],
};

pub(super) const PATH06: Entry = Entry {
    code: Code::Path06,
    name: "tunnel-inconsistent",
    severity: Severity::Error,
    title: "Route, neighbour, FDB and the peer's annotations do not agree.",
    meaning: "A VXLAN packet is sent by three tables in turn: the route names a gateway, the neighbour table its MAC, the forwarding \
        database that MAC's underlay address. The peer publishes what they should say in its Node's annotations (public-ip, VtepMAC, \
        VNI). One of them differs: the packet goes to another host, or to the right one with a MAC that it drops. It stands in place of \
        PATH02 when the route is right and a layer below it is not.",
    causes: &[
        "The peer's tunnel device was made again and has a new MAC; this host kept the old neighbour or FDB entry.",
        "The peer's address changed.",
        "An FDB entry by hand, or left from a former node with the same MAC.",
        "The peer's annotation is old: its flanneld does not run. Then this host is right and the annotation wrong.",
        "Two VNIs or ports in one cluster.",
    ],
    look: &[
        run(
            "What the peer publishes:",
            "kubectl get node PEER -o jsonpath='{.metadata.annotations}' | jq 'with_entries(select(.key|startswith(\"flannel\")))'",
        ),
        run(
            "What stands here, layer by layer:",
            "ip route show CIDR; ip neigh show dev flannel.1; bridge fdb show dev flannel.1",
        ),
        run("What the peer's device has:", "ip -d link show flannel.1"),
    ],
    remedy: &[
        run(
            "Restart the CNI's pod here; if the annotation is old, on the peer first:",
            "kubectl delete pod -n kube-flannel -l app=flannel --field-selector spec.nodeName=NODE",
        ),
        run(
            "By hand, only the layer that is wrong:",
            "ip neigh replace GATEWAY lladdr MAC dev flannel.1 nud permanent\nbridge fdb replace MAC dev flannel.1 dst PEER-NODE-IP self permanent",
        ),
        say("A second FDB entry for one MAC stays beside the new one: delete the wrong one too."),
    ],
    silence: "Only data planes whose tunnel is in neighbour table and FDB and whose peers publish it: flannel vxlan. Devices in \
        `external` mode (Cilium, Antrea, OVN) decide elsewhere: opaque.",
    related: &[Code::Path02, Code::Path04, Code::Path07],
};

pub(super) const PATH07: Entry = Entry {
    code: Code::Path07,
    name: "one-way",
    severity: Severity::Warning,
    title: "One node reaches another, which does not reach it.",
    meaning: "Packets from A to B arrive, the answers do not: connections hang instead of being refused, and each side blames the other. \
        It follows from a broken way back and is listed so that symptoms on A are found under A's name; it is explained by the PATH \
        finding of B where there is one. Mend that.",
    causes: &[
        "A missing, wrong or dropping route on the node that does not reach back (PATH01, PATH02, PATH04, PATH06).",
    ],
    look: &[
        run("Both ways:", "kubectl cidrift path A B"),
        run("On B, while A sends:", "tcpdump -ni any net CIDR-OF-A"),
    ],
    remedy: &[say(
        "Mend the finding named under \"explained by\"; this one goes with it.",
    )],
    silence: "Pairs of which one direction is unknown or opaque. Pairs broken in both directions.",
    related: &[Code::Path01, Code::Path02, Code::Path04, Code::Path06],
};
