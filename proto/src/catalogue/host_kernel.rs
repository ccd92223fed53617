//! Pages of the HOST codes that are about what the kernel and kube-proxy do.

use super::{Code, Entry, run, say};
use crate::finding::Severity;

pub(super) const HOST04: Entry = Entry {
    code: Code::Host04,
    name: "local-route-wrong",
    severity: Severity::Error,
    title: "The Node's own pod CIDR is not delivered on the node itself.",
    meaning: "Packets that arrive here for this node's own pods go somewhere else: to another host, to a blackhole, out of the default \
        route. All of its pods are cut off, or those in the part that a more specific route takes. A bridge without pods that has \
        no carrier is not this: it is normal on an idle node.",
    causes: &[
        "A peer's stale route covers this node's CIDR: `route replace` takes the place of the connected route.",
        "The bridge is down, or lost its address; with its last address go all IPv4 routes through it, without a message.",
        "An old blackhole route of a former range, more specific than the present CIDR.",
        "The Node was deleted and made again with another CIDR: a flanneld that started before takes it for a peer, and makes a route \
         for its own CIDR that leads back to the host, again and again until its pod is started anew.",
        "Two nodes have one CIDR (POOL03) and the CNI here routes it to the other.",
        "A policy rule looks elsewhere first (HOST10).",
    ],
    look: &[
        run(
            "Where an address of the own CIDR goes:",
            "ip route get ADDRESS-IN-CIDR; ip route show table all match ADDRESS-IN-CIDR",
        ),
        run("The bridge:", "ip -d addr show cni0"),
        run("Rules:", "ip rule"),
    ],
    remedy: &[
        say("If HOST02 or POOL03 stands for this node, mend that first."),
        run(
            "Delete the route that takes it, exactly that one:",
            "ip route del PREFIX via GATEWAY dev DEVICE",
        ),
        run(
            "Where that route had taken the place of the bridge's own, the kernel does not bring it back; do so with the bridge's \
             address:",
            "ip route replace CIDR dev cni0 proto kernel scope link src BRIDGE-ADDRESS",
        ),
        run(
            "Set a bridge that is down up again; the connected route returns, routes of other daemons do not:",
            "ip link set cni0 up",
        ),
        say("Restart the CNI's pod on this node, so that it puts its routes back."),
    ],
    silence: "CNIs that deliver each pod by its own /32 or /128 (ptp, kindnet, Calico, Cilium endpoint routes, AWS): there no route for \
        the whole range is needed, and a blackhole for it is normal with Calico. Nodes on which no pod has run yet have no bridge. \
        Where the decision is in eBPF or OVS it is opaque, not wrong.",
    related: &[Code::Host02, Code::Pool03, Code::Host10, Code::Path04],
};

pub(super) const HOST07: Entry = Entry {
    code: Code::Host07,
    name: "forwarding-off",
    severity: Severity::Error,
    title: "The host does not forward pod traffic, or not packets of full size.",
    meaning: "Routes may be right, and packets still do not pass: IP forwarding is off for the host or, with IPv4, for the device that \
        they come in by (IPv6 asks the setting for all devices alone); strict reverse-path filtering drops what comes out of a tunnel \
        whose answers a policy rule sends by another device. A warning where only large packets are in \
        danger: the tunnel's MTU leaves no room for its headers on the way to its far ends, or pods were made with more than FLANNEL_MTU.",
    causes: &[
        "sysctl settings replaced at boot or by a hardening profile: net.ipv4.ip_forward=0, or net.ipv4.conf.default.forwarding=0 \
         for devices that come later.",
        "rp_filter=1 on a tunnel, for itself or by `all`, together with a VPN's or a second uplink's policy rule.",
        "The underlay's MTU was lowered, or the tunnel's overhead (VXLAN: 50 bytes on IPv4, 70 on IPv6; IPIP 20; WireGuard 60 or 80) \
         not taken off.",
    ],
    look: &[
        run(
            "Settings:",
            "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding; sysctl -a -r 'net.ipv4.conf.*.(forwarding|rp_filter)'",
        ),
        run(
            "Devices and MTUs:",
            "ip -br link; ip -d link show type vxlan; cat /run/flannel/subnet.env",
        ),
        run("Large packets, from a pod's network:", "ping -M do -s 1422 ADDRESS"),
        run("What strict filtering dropped:", "nstat -az TcpExtIPReversePathFilter"),
    ],
    remedy: &[
        run(
            "Set it now, and where it comes from:",
            "sysctl -w net.ipv4.ip_forward=1; grep -r ip_forward /etc/sysctl.d /usr/lib/sysctl.d",
        ),
        say("Loose filtering (2) on the tunnel; the highest of `all` and the device's own counts."),
        say("MTU: change it in the CNI's configuration and replace the pods; running ones keep theirs."),
    ],
    silence: "Data planes that forward in eBPF or OVS do not ask ip_forward (Cilium, Calico's eBPF mode, Antrea, OVN-Kubernetes), and the \
        cloud's own CNIs are not judged. A node without pods: bridge and ptp plugins switch ip_forward on with the first one. Strict \
        filtering is fine where paths are symmetric, and which device a peer sends by does not show on one host. A bridge without \
        ports has no MTU of its own. A bridge that is down is HOST04, a tunnel PATH01 or PATH04.",
    related: &[Code::Path01, Code::Path04, Code::Path07, Code::Host04, Code::Host10],
};

pub(super) const HOST09: Entry = Entry {
    code: Code::Host09,
    name: "proxy-cidr-differs",
    severity: Severity::Warning,
    title: "kube-proxy's idea of the pod range differs.",
    meaning: "kube-proxy takes traffic from outside its clusterCIDR for foreign and masquerades it: Services see the node's address \
        instead of the pod's, and NetworkPolicies by pod address fail. The running kube-proxy's configuration file (with one, most flags \
        mean nothing) or flags name a range of a family that does not contain the Node's podCIDR of that family. In NodeCIDR mode it \
        exits when the Node's CIDR changes: \"PodCIDRs changed for the node\"; one that still runs five minutes after kubelet logged \
        such a change goes by the old CIDR.",
    causes: &[
        "The pool was changed and kube-proxy's ConfigMap was not (POOL10).",
        "The Node has a CIDR that is not of the pool (POOL02).",
        "k3s or microk8s was given another range on this node than on the others.",
        "detectLocalMode: NodeCIDR, and the node got a new CIDR (POOL12) that kube-proxy has not heard of.",
    ],
    look: &[
        run(
            "Its configuration:",
            "kubectl get cm -n kube-system kube-proxy -o yaml | grep -E 'clusterCIDR|detectLocal'",
        ),
        run(
            "What runs on the node, and the file as its container has it:",
            "pgrep -a kube-proxy; cat /proc/$(pgrep -o kube-proxy)/root/var/lib/kube-proxy/config.conf",
        ),
        run(
            "Its restarts:",
            "kubectl get pods -n kube-system -l k8s-app=kube-proxy -o wide",
        ),
    ],
    remedy: &[
        say("If POOL02 stands for this node, mend that first: the node's CIDR is the odd one then."),
        run(
            "Correct the ConfigMap and let its pods start anew, one node after another:",
            "kubectl edit cm -n kube-system kube-proxy && kubectl rollout restart ds -n kube-system kube-proxy",
        ),
        say(
            "k3s: cluster-cidr in /etc/rancher/k3s/config.yaml or in its unit, the same on every server, then restart it.",
        ),
    ],
    silence: "An empty clusterCIDR, or none of the Node's family, is legal. Clusters without kube-proxy (Cilium's replacement). Modes \
        BridgeInterface and InterfaceNamePrefix know no ranges. Where the CNI has its own IPAM a difference is not judged. An agent of k3s \
        has the range from its server only, and nothing on the host names it.",
    related: &[Code::Pool10, Code::Pool02, Code::Pool12],
};

pub(super) const HOST10: Entry = Entry {
    code: Code::Host10,
    name: "rule-diverts",
    severity: Severity::Error,
    title: "A policy rule or a more specific route takes pod traffic elsewhere.",
    meaning: "The route for a pod CIDR is there, and packets do not take it, or not all of them: a policy rule looks into another table \
        first and that loses them or hands them to somebody else; a discard route of a former range is more specific than a peer's; \
        or a container engine's bridge or a VPN has a network of its own inside the cluster's ranges (a warning while no peer has \
        that part). `ip route` alone does not show the first.",
    causes: &[
        "A VPN client, a second uplink's policy routing, a leftover rule of another CNI (kube-router's table 77, AWS's 512 and 1536).",
        "A blackhole of a former range inside the present one: flannel's --ip-blackhole-route does not take the old one away when \
         the node's range changes.",
        "Docker's, libvirt's or a VPN's network overlaps with the cluster CIDR.",
    ],
    look: &[
        run("Rules, in order:", "ip rule; ip -6 rule"),
        run(
            "Every route that could match, in every table:",
            "ip route show table all match ADDRESS; ip route show table all root CIDR",
        ),
        run(
            "The kernel's own answer for forwarded traffic:",
            "ip route get ADDRESS from POD-ADDRESS iif cni0",
        ),
    ],
    remedy: &[
        say(
            "Find who made the rule before deleting it: its daemon makes it again. Stop the daemon, or exempt the pod range in it.",
        ),
        run(
            "A rule that lets pod traffic through first, until then:",
            "ip rule add to POD-RANGE lookup main priority 100",
        ),
        run(
            "A discard that nobody keeps, and that takes away what a peer has:",
            "kubectl cidrift fix NODE --yes # or, on NODE: ip route del blackhole PREFIX",
        ),
        say("An overlap: give Docker (\"bip\", \"default-address-pools\") or the VPN another network."),
    ],
    silence: "Rules that are a CNI's own and lead to the right place, into a tunnel or out of the FIB (AWS VPC CNI, Cilium, kube-router, \
        WireGuard of Calico, Antrea or Kilo, Submariner). Calico's discards for its own blocks (proto bird or 80). Discards outside \
        every peer's route, and the node's own range (HOST04). Unicast routes inside a peer's, which may be borrowed addresses: where \
        they lead to the wrong node it is PATH02. `check` on one host knows no peers, and sees only what takes the node's own range.",
    related: &[Code::Host04, Code::Path02, Code::Path04],
};

pub(super) const HOST11: Entry = Entry {
    code: Code::Host11,
    name: "routes-at-risk",
    severity: Severity::Warning,
    title: "A network manager of the host may remove what the CNI makes.",
    meaning: "Nothing is lost yet. systemd-networkd takes routes and policy rules that it did not make for foreign and removes them when \
        it starts or configures a device anew (a bond's port that changes its state is enough), unless it is told to leave them: all \
        rules, and routes by the devices that it configures, as host-gw, kindnet, BGP and the clouds' CNIs make them over the uplink. \
        NetworkManager does the like with the CNI's own devices where it manages them. The pods' routes are then gone at a moment that \
        has nothing to do with Kubernetes, and a CNI that does not check them again never brings them back. One that is seen to check \
        them (flannel's host-gw and ipip, kind's kindnet: every 10 s; kube-router: 60 s; Calico's BIRD and Felix: 2 and 90 s) makes \
        this an information: pods are cut off for that long at most.",
    causes: &[
        "systemd-networkd with its defaults: ManageForeignRoutes=yes and ManageForeignRoutingPolicyRules=yes.",
        "A .network file that matches the CNI's devices too ([Match] Name=*).",
        "NetworkManager without an unmanaged-devices entry for the CNI's devices.",
    ],
    look: &[
        run(
            "systemd-networkd, and what it is told (drop-ins win over networkd.conf, later names over earlier ones):",
            "systemctl is-active systemd-networkd; systemd-analyze cat-config systemd/networkd.conf | grep ManageForeign",
        ),
        run("The devices that it configures:", "networkctl list"),
        run("NetworkManager's devices:", "nmcli device status"),
    ],
    remedy: &[
        run(
            "systemd-networkd: leave foreign routes and rules alone. It reads that when it starts; restart it only while you can watch \
             the routes, for that restart itself still removes them on some versions:",
            "mkdir -p /etc/systemd/networkd.conf.d; printf '[Network]\\nManageForeignRoutes=no\\nManageForeignRoutingPolicyRules=no\\n' > \
             /etc/systemd/networkd.conf.d/90-cni.conf",
        ),
        run(
            "NetworkManager: name the CNI's devices, then reload:",
            "printf '[keyfile]\\nunmanaged-devices=interface-name:cni*;interface-name:flannel*;interface-name:cali*;interface-name:veth*\\n' \
             > /etc/NetworkManager/conf.d/90-cni.conf && nmcli general reload",
        ),
    ],
    silence: "Hosts on which neither runs in this network namespace, and settings that leave foreign routes and devices alone. Routes by \
        devices that networkd does not configure (flannel.1, cni0, cali*): it leaves those alone. Routes with protocol kernel, dhcp, \
        ra or static. Devices that NetworkManager only shows (\"connected (externally)\"). CNIs that make no route for pods over such a \
        device and no rule. What is lost already is HOST04 or PATH01.",
    related: &[Code::Path01, Code::Host04, Code::Host10],
};
