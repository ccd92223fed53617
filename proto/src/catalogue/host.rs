//! Pages of the HOST codes that are about files and addresses of a host.

use super::{Code, Entry, run, say};
use crate::finding::Severity;

pub(super) const HOST01: Entry = Entry {
    code: Code::Host01,
    name: "cni-config-stale",
    severity: Severity::Error,
    title: "CNI configuration on the host names another CIDR than the Node has.",
    meaning: "New pods on this node get addresses of a range that the cluster does not route to it. Nothing else shows it: the pods \
        start, the Node is Ready, there is no event. It is about the configuration that the runtime uses (the first valid file in \
        lexical order), about flannel's subnet.env, and about containerd's rendering of its template. Pods that run already keep the \
        addresses they have.",
    causes: &[
        "The Node was deleted and made again with another CIDR (POOL12). containerd never renders its template anew while a \
         configuration is loaded: it logs \"Network plugin is ready, skip generating cni config from template\" and keeps the old \
         10-containerd-net.conflist.",
        "flanneld reads its Node once, at start: subnet.env stays until its pod is restarted.",
        "kube-router only adds ranges to its configuration: the old one stays beside the new, and both are handed out.",
        "Another file comes first: 10-containerd-net.conflist, 87-podman-bridge.conflist, a leftover of another CNI.",
        "A bridge configuration with one fixed subnet was copied to every node.",
    ],
    look: &[
        run(
            "Which file wins, and its ranges:",
            "ls /etc/cni/net.d; grep -rE '\"(subnet|ranges|type)\"' /etc/cni/net.d",
        ),
        run("flannel's:", "cat /run/flannel/subnet.env"),
        run(
            "What the Node says:",
            "kubectl get node NODE -o jsonpath='{.spec.podCIDRs}{\"\\n\"}'",
        ),
        run(
            "What the runtime has in memory:",
            "crictl info | jq .cniconfig.Networks",
        ),
    ],
    remedy: &[
        say("Cordon the node first: every pod that starts before the mend gets a wrong address."),
        run(
            "flannel: restart its pod on this node; it writes subnet.env from the Node:",
            "kubectl delete pod -n kube-flannel -l app=flannel --field-selector spec.nodeName=NODE",
        ),
        run(
            "containerd's template: remove the rendering, then restart the kubelet, which hands the CIDR to containerd again. \
             Without removing the file the restart changes nothing:",
            "rm /etc/cni/net.d/10-containerd-net.conflist && systemctl restart kubelet",
        ),
        say("A foreign file that comes first: move it out of the directory."),
        say(
            "A file written by hand: put the Node's CIDR into it. Never the other way round: podCIDRs cannot be changed.",
        ),
        say(
            "Then look at HOST02 (the bridge keeps its old address) and replace the pods of the old range (drain, or delete them).",
        ),
    ],
    silence: "CNIs that do not take their range from Node.spec.podCIDR (Calico IPAM, Cilium except ipam=kubernetes, AWS, Azure, \
        OVN-Kubernetes, Weave, whereabouts). Nodes whose podCIDR is overridden by kube-router's annotation. Configurations without \
        a range, as flannel's own: its range is in subnet.env. While the Node has no CIDR it is POOL01.",
    related: &[Code::Pool12, Code::Host02, Code::Host03, Code::Host06, Code::Host08],
};

pub(super) const HOST02: Entry = Entry {
    code: Code::Host02,
    name: "bridge-address-foreign",
    severity: Severity::Error,
    title: "The pod bridge or the tunnel device has an address outside the Node's pod CIDR.",
    meaning: "The bridge's address is the pods' gateway, the tunnel device's the source of the host's own packets to pods elsewhere. \
        It belongs to another range than the Node's. With the bridge plugin every new sandbox then fails: \"failed to set bridge addr: \
        \"cni0\" already has an IP address different from 10.244.1.1/24\" (the address named is the wanted one). With forceAddress, as \
        k3s sets it, the plugin instead deletes the old address without a word, and older pods lose their gateway.",
    causes: &[
        "The Node came back with another CIDR (POOL12) and the bridge was never removed; flannel does not clean it up.",
        "CNI configuration of another range made the bridge (HOST01).",
        "A former cluster on the same host.",
    ],
    look: &[
        run(
            "Addresses:",
            "ip -br addr show type bridge; ip -br addr show type vxlan",
        ),
        run("Who hangs on the bridge:", "bridge link; ip neigh show dev cni0"),
        run(
            "The sandbox error:",
            "kubectl get events -A --field-selector reason=FailedCreatePodSandBox | grep 'different from'",
        ),
    ],
    remedy: &[
        say("Mend HOST01 first, else the next pod makes the bridge wrong again."),
        say("Drain the node: taking the bridge away cuts off every pod that hangs on it."),
        run(
            "Remove the bridge; the plugin makes it anew with the next pod. Remove the tunnel device only together with its daemon's \
             restart:",
            "ip link delete cni0",
        ),
        say(
            "If draining is not possible: the address of the new range can be added beside the old one, which keeps both \
             sets of pods alive, but the bridge plugin refuses a bridge with another IPv4 address. It is a stopgap for running pods only.",
        ),
    ],
    silence: "CNIs without a bridge (ptp, kindnet, Calico, Cilium, Antrea, AWS, Azure). A bridge that pods do \
        not use (docker0, virbr0, lxcbr0). Nodes whose podCIDR the CNI ignores.",
    related: &[Code::Host01, Code::Pool12, Code::Host03, Code::Sand01],
};

pub(super) const HOST03: Entry = Entry {
    code: Code::Host03,
    name: "pods-outside-cidr",
    severity: Severity::Error,
    title: "Running pods have addresses outside the Node's pod CIDR.",
    meaning: "Sandboxes on this node hold addresses that the cluster routes elsewhere or nowhere. They may reach others and get no \
        answer; if another node owns the range, their addresses may exist twice. They stay wrong until they are replaced: an \
        address is given once in a sandbox's life. That a pod runs is the runtime's word alone; libcni's cached result and \
        host-local's lease show where its address came from, and outlive the pod: without the runtime this is unknown.",
    causes: &[
        "They are older than the Node's present CIDR (POOL12).",
        "They started while the CNI configuration was stale (HOST01), or before flannel rewrote subnet.env after its Node changed.",
        "Another CNI configuration came first for a while (10.88.0.0/16 is podman's and containerd's default).",
    ],
    look: &[
        run(
            "Addresses as the API has them:",
            "kubectl get pods -A -o wide --field-selector spec.nodeName=NODE",
        ),
        run(
            "Addresses as they were given, with the range in force then:",
            "ls /var/lib/cni/results /var/lib/cni/networks/*",
        ),
        run(
            "And of one sandbox:",
            "crictl inspectp ID | jq '.status.network, .info.cniResult'",
        ),
    ],
    remedy: &[
        say("Mend HOST01 and HOST02 first, else replacements are wrong too."),
        say(
            "Delete those pods one by one, budgets respected; where many are wrong, drain the node. Static pods: move their manifest \
             out and back.",
        ),
    ],
    silence: "hostNetwork pods (they have the node's address). CNIs with their own IPAM: there the delegate's range counts. Families \
        that the Node has no CIDR of. Networks besides the pod's first: the runtime does not list their addresses. An address of a \
        network that the host itself is in (macvlan), or one that a pod may have asked Multus for, may be meant: that is said to be \
        unknown.",
    related: &[Code::Host01, Code::Pool12, Code::Host05, Code::Path02],
};

pub(super) const HOST05: Entry = Entry {
    code: Code::Host05,
    name: "addresses-low",
    severity: Severity::Warning,
    title: "The node's address range is nearly full, leaked, or about to be given out twice.",
    meaning: "host-local keeps a file for each address it has given. Nine in ten of the range are taken and more pods may come: soon \
        sandboxes fail with \"no IP addresses available in range set\"; when none is left it is an error. Or files stand for \
        sandboxes that no longer exist: a leak, which only grows; it is told from five leases on, or a twentieth of the range. Or \
        the kubelet takes more pods than the range has addresses. Or, an error, running pods have no file: their addresses are \
        given out again. A /24 has 253 usable addresses, two are lost to the network and broadcast addresses, one to the gateway.",
    causes: &[
        "CNI DEL never ran: a crash, a reboot, a kill of the runtime.",
        "maxPods is larger than the range: 110 pods and a /25 leave little, 250 and a /24 nothing.",
        "Many short-lived pods, whose addresses are released late.",
        "Files were removed by hand to get rid of a leak, those of running pods with them; or the CNI network got another name.",
    ],
    look: &[
        run(
            "Given addresses against live sandboxes (dataDir may differ; kind uses /run/cni-ipam-state):",
            "ls /var/lib/cni/networks/*/ | grep -v last_ | grep -c '[.:]'; crictl pods -q --state ready | wc -l",
        ),
        run("Whose they are:", "head -qn1 /var/lib/cni/networks/*/*[.:]*"),
        run(
            "maxPods and range:",
            "kubectl get node NODE -o jsonpath='{.status.capacity.pods} {.spec.podCIDRs}{\"\\n\"}'",
        ),
    ],
    remedy: &[
        run(
            "Leak: the files whose sandbox is gone are removed under host-local's lock, unless they are another's by then:",
            "kubectl cidrift fix NODE --yes",
        ),
        say(
            "By hand: delete the files whose container id is no sandbox any more. Compare first: a file of a live pod that is \
             deleted gives its address out twice.",
        ),
        say("Pods without a file: replace them, before another pod gets their address."),
        say(
            "Too many pods: lower maxPods, or move the node to a larger block (a swap with a larger range brings POOL07).",
        ),
    ],
    silence: "CNIs that do not use host-local. A node that may start no more pods than there are addresses left (maxPods), however \
        full. Leases younger than 5 minutes: a sandbox is listed only when its network is up, and the kubelet gives it 4 minutes (longer with a runtimeRequestTimeout above 2 minutes: twice that and a minute). \
        Leases of other networks, or of what CRI did not set up. Where no lease is of a sandbox that the runtime knows, leases and \
        runtime may be strangers: leaks are unknown then.",
    related: &[Code::Sand01, Code::Host03, Code::Pool05],
};

pub(super) const HOST06: Entry = Entry {
    code: Code::Host06,
    name: "cni-not-ready",
    severity: Severity::Error,
    title: "The runtime has no usable CNI configuration or plugin.",
    meaning: "No pod with its own network can start here. The Node is NotReady with \"container runtime network not ready: \
        NetworkReady=false reason:NetworkPluginNotReady\", or it is Ready and what a plugin needs is missing: its binary, flannel's \
        subnet.env, a range for host-local. The reverse is not true: NetworkReady=true means that a configuration file parses (and, \
        with CNI 1.1, that its plugin's STATUS does not object); it says nothing of podCIDR, routes or the CNI's daemon. As a warning: \
        the runtime has loaded something else than the file says, or a package's default network hides the CNI that is at work here.",
    causes: &[
        "The CNI's daemon has not run yet: it waits for a podCIDR (POOL01), cannot reach the API, or its pod is not scheduled.",
        "containerd has a conf_template, which it renders only once the kubelet hands it the Node's podCIDR.",
        "The file is torn, or not JSON; the directory is empty: \"cni plugin not initialized\".",
        "A plugin's binary is missing, empty or not executable: \"failed to find plugin \"flannel\" in path [/opt/cni/bin]\". CRI-O \
         passes such a configuration over.",
        "A plugin that only extends others (linkerd-cni, istio-cni, portmap) stands first, in a file of its own.",
        "The file was moved in from another directory, linked or mounted: containerd reads it anew only when it is written in the \
         directory or renamed there.",
    ],
    look: &[
        run(
            "The Node's word:",
            "kubectl get node NODE -o jsonpath='{.status.conditions[?(@.type==\"Ready\")].message}{\"\\n\"}'",
        ),
        run(
            "Configuration and binaries:",
            "ls -l /etc/cni/net.d /opt/cni/bin; crictl info | jq '.lastCNILoadStatus, .status.conditions'",
        ),
        run(
            "What containerd has loaded, and where it looks for plugins:",
            "crictl info | jq '.cniconfig.PluginDirs, (.cniconfig.Networks[].Config | {Name, Source})'",
        ),
        run(
            "The CNI's pod on this node:",
            "kubectl get pods -A -o wide --field-selector spec.nodeName=NODE | grep -E 'flannel|calico|cilium|antrea|kindnet|kube-router'",
        ),
    ],
    remedy: &[
        say("Mend what the daemon waits for; its log says what. \"pod cidr not assigned\" is POOL01."),
        say("Restart the CNI's pod on this node; it writes configuration and binaries."),
        say(
            "loopback, bridge, host-local, portmap and their kin come with the package kubernetes-cni or containernetworking-plugins.",
        ),
        say("Do not copy a configuration from another node: its range comes along (HOST01, POOL03)."),
    ],
    silence: "Hosts without kubelet and runtime. A node whose kubelet started less than five minutes ago and that has run no pod \
        since: a CNI that is still being set up is unknown, not wrong. Plugins are called missing only where the runtime or its \
        configuration names their directory, or the only default one there is is in use. virtual-kubelet.",
    related: &[Code::Pool01, Code::Host01, Code::Sand01],
};

pub(super) const HOST08: Entry = Entry {
    code: Code::Host08,
    name: "kubelet-cidr-differs",
    severity: Severity::Warning,
    title: "What the kubelet last applied is not what the Node says.",
    meaning: "The kubelet hands Node.spec.podCIDRs to the runtime at its start and at each change, and keeps it in memory only. What it \
        applied last, by its own log since it started, differs from the Node. It never withdraws a CIDR: if the Node came back \
        without one, the old one stands. A change has a minute to arrive: the kubelet looks at its Node every 10 s.",
    causes: &[
        "The Node was deleted under a running kubelet, which does not register again by itself.",
        "The runtime refused the update; the kubelet repeats it: \"Error updating pod CIDR\".",
        "The kubelet cannot read its Node.",
    ],
    look: &[
        run(
            "What it applied:",
            "journalctl -u kubelet | grep -E 'Updating Pod CIDR|Updating runtime config|Error updating pod CIDR' | tail",
        ),
        run(
            "The Node:",
            "kubectl get node NODE -o jsonpath='{.spec.podCIDRs}{\"\\n\"}'",
        ),
        say("configz shows the podCIDR of its configuration file, normally none, not what it applied."),
    ],
    remedy: &[
        say(
            "If the Node is gone, create it again with its labels, taints and old podCIDRs: the running kubelet adopts it within \
             seconds, without a restart. A kubelet restart registers it too, but labels, taints and annotations are lost and the CIDR \
             is new.",
        ),
        run(
            "If the kubelet does not look at its Node, restart it; pods keep running, unless the Node tells no room for them:",
            "kubectl cidrift fix NODE --yes --restart-command 'ssh {node} sudo systemctl restart kubelet'",
        ),
        say("If the runtime refuses: mend the runtime, then restart the kubelet. Pods keep running through that."),
    ],
    silence: "A log that cannot be found or has lost what the kubelet said since it started: then what it applied is unknown. \
        CRI-O ignores the update; containerd acts on it only with a conf_template. Where neither matters, a difference has no \
        effect. CNIs with their own IPAM, and kube-router, whose annotation counts.",
    related: &[Code::Pool12, Code::Host01, Code::Pool01],
};
