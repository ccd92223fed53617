//! Pages of SAND (what fails as a result) and SEEN (what could not be looked at).

use super::{Code, Entry, run, say};
use crate::finding::Severity;

pub(super) const SAND01: Entry = Entry {
    code: Code::Sand01,
    name: "sandbox-failures",
    severity: Severity::Error,
    title: "Pod sandboxes fail on a node for one classified reason.",
    meaning: "Pods stay in ContainerCreating with FailedCreatePodSandBox, clustered on one node, and the error text names the class. It is \
        a symptom: the finding joined to it is the cause. A single failure heals itself and is not reported; what counts is that \
        failures repeat and nothing succeeds. A node without podCIDR whose sandboxes fail has an IPAM fault (POOL01), not a runtime fault.",
    causes: &[
        "\"no IP addresses available in range set\": the node's range is full or leaked (HOST05). Cilium: \"range is full\".",
        "\"already has an IP address different from\": the bridge has another range's address (HOST02).",
        "\"open /run/flannel/subnet.env: no such file or directory\": flanneld has not run; it may wait for a podCIDR (POOL01).",
        "\"cni plugin not initialized\", \"failed to find plugin\": HOST06.",
        "\"No IPs available in pools\", \"failed to assign an IP address to container\": the delegate's pool (POOL14).",
        "\"connection is unauthorized\": the CNI's credential has expired.",
        "\"dial tcp 10.…:443: i/o timeout\": the node does not reach the API's Service: kube-proxy, or a route.",
    ],
    look: &[
        run(
            "Failures by node:",
            "kubectl get events -A --field-selector reason=FailedCreatePodSandBox -o custom-columns=NODE:.source.host,COUNT:.count,MESSAGE:.message",
        ),
        run(
            "The runtime's own words:",
            "journalctl -u containerd | grep -E 'RunPodSandbox for .* failed' | tail",
        ),
        run(
            "The node's CIDR:",
            "kubectl get node NODE -o jsonpath='{.spec.podCIDRs}{\"\\n\"}'",
        ),
        run(
            "The kubelet's counters:",
            "kubectl get --raw /api/v1/nodes/NODE/proxy/metrics | grep run_podsandbox_errors_total",
        ),
    ],
    remedy: &[
        say(
            "Mend the cause named with it. The kubelet repeats the attempt by itself; failed pods need not be deleted.",
        ),
        say("Cordon the node while it lasts: it stays Ready, and the scheduler goes on sending pods to it."),
    ],
    silence: "A pod that got its sandbox after all, or is gone. One pod that has failed fewer than four times, and pods that fail while \
        others of their node start (pods on the host's network do not count for that). A node in its first five minutes, or whose kubelet \
        has just started, and whose CNI is not there yet. Failures that have nothing to do with the network (image, cgroup, seccomp) are a warning.",
    related: &[
        Code::Pool01,
        Code::Host01,
        Code::Host02,
        Code::Host05,
        Code::Host06,
        Code::Pool14,
    ],
};

pub(super) const SEEN01: Entry = Entry {
    code: Code::Seen01,
    name: "host-silent",
    severity: Severity::Warning,
    title: "A node whose agent does not report.",
    meaning: "Nothing is known of this host's tables: verdicts from it are unknown, which is not healthy, and findings that rest on its \
        word stay as they are, marked stale. It does not say that the host is broken, only that nobody looks.",
    causes: &[
        "The agent does not run there: not scheduled (taints), image missing, crashed.",
        "The host is down or cut off from the aggregator.",
        "The agent runs under another node name than the Node has.",
        "The aggregator does not let it in: it shows no token, or none that is good (its own log says which).",
    ],
    look: &[
        run("What was last heard:", "kubectl cidrift node NODE"),
        run(
            "The agent's pod:",
            "kubectl get pods -A -o wide --field-selector spec.nodeName=NODE | grep cidrift-agent",
        ),
        run(
            "On the host:",
            "curl -s http://127.0.0.1:7442/readyz; cidrift-agent check",
        ),
        run(
            "Whether the aggregator answers from there:",
            "curl -s http://AGGREGATOR:7441/readyz",
        ),
    ],
    remedy: &[
        say("Start the agent there: tolerations for every taint, for the nodes in trouble are those that are tainted."),
        say("If the Node's machine no longer exists, see POOL04 on deleting Nodes."),
    ],
    silence: "Nodes that have no Linux data plane: virtual-kubelet, Windows. For 20 s after the aggregator started, slept, or lost all \
        streams at once, a node that was not heard since: its agent may pause for 15 s between attempts. It is unknown meanwhile. An agent that reports for a Node that the control plane does \
        not have is shown in `nodes`, not here.",
    related: &[Code::Seen02, Code::Seen03],
};

pub(super) const SEEN02: Entry = Entry {
    code: Code::Seen02,
    name: "agent-restricted",
    severity: Severity::Warning,
    title: "The agent may not read something it needs.",
    meaning: "The agent runs and lacks a part: a directory that is not mounted, a socket without permission, another network namespace than \
        the host's. What rests on that part is unknown for this node; everything else is judged.",
    causes: &[
        "hostNetwork is not set: it sees its pod's namespace, where no pod route is.",
        "/etc/cni/net.d, /run/flannel or the host's root is not mounted, or lies elsewhere (k3s: /var/lib/rancher/k3s/agent/etc/cni/net.d).",
        "A security module or a seccomp profile denies netlink.",
    ],
    look: &[
        run("What it could not look at:", "kubectl cidrift node NODE"),
        run("The same on the host:", "cidrift-agent check"),
    ],
    remedy: &[say(
        "Grant what is named, read-only. Reading routes needs no capability, only the host's network namespace.",
    )],
    silence: "Parts that do not exist on this host's data plane (no flannel, no containerd template) are not missing.",
    related: &[Code::Seen01],
};

pub(super) const SEEN03: Entry = Entry {
    code: Code::Seen03,
    name: "report-refused",
    severity: Severity::Error,
    title: "An agent showed one node's token and named another.",
    meaning: "A token or certificate is bound to one node, and an agent speaks for that node only. One that names another is not let in, and \
        nothing that it says is taken: the node that it named is judged by its own agent's word alone. The finding is about the node whose \
        token was shown.",
    causes: &[
        "The agent's --node-name is written by hand, or comes from the host's name where the Node has another.",
        "A host was cloned with its certificate or its token.",
        "Somebody who has the token of this node's agent tries to speak for another node.",
    ],
    look: &[
        run(
            "Who came, from where, and what it named:",
            "kubectl cidrift findings --code SEEN03 --node NODE",
        ),
        run(
            "What the agent is told as its name:",
            "kubectl get daemonset -n cidrift cidrift-agent -o yaml | grep -B1 -A4 CIDRIFT_NODE_NAME",
        ),
        run(
            "Where a pod has that address:",
            "kubectl get pods -A -o wide | grep ADDRESS; kubectl get nodes -o wide | grep ADDRESS",
        ),
    ],
    remedy: &[
        say("Give the agent its node's name from spec.nodeName (downward API), not from a host name."),
        run(
            "Where no agent should be: its token ends with its pod. It opens no stream after 2 minutes, and one that stands ends within 5. \
                Make a new pod, then look at who could read the old one's token:",
            "kubectl delete pod -n cidrift -l app.kubernetes.io/name=cidrift-agent --field-selector spec.nodeName=NODE",
        ),
    ],
    silence: "With --identity none nobody is checked. Agents that show nothing, or a token that is not an agent's, are refused as well and counted \
        (cidrift_aggregator_identity_refusals_total): whose node that is about is not known. It clears when nobody has tried for 10 minutes, \
        and is not remembered over a restart of the aggregator, whose log keeps it.",
    related: &[Code::Seen01, Code::Seen04],
};

pub(super) const SEEN04: Entry = Entry {
    code: Code::Seen04,
    name: "rival-agents",
    severity: Severity::Error,
    title: "Several agents report for one node.",
    meaning: "A node has one seat, and the newest stream takes it. An agent that was put out comes back and takes it again: two that live \
        show themselves by doing so in turn. What is heard may be either host's, so nothing of that node is judged: verdicts from it are \
        unknown and its findings stay as they are.",
    causes: &[
        "Two hosts run an agent with the same --node-name (a host that was cloned, a name written by hand).",
        "An agent that was started by hand or by systemd runs beside the DaemonSet's pod.",
        "Pods of two installations, or a pod that the kubelet could not end, report beside the DaemonSet's.",
        "Somebody who has the token of this node's agent reports for it from elsewhere.",
    ],
    look: &[
        run(
            "Who reports, and from where:",
            "kubectl cidrift findings --code SEEN04 --node NODE",
        ),
        run(
            "The agents' pods of that node, and whose the addresses are:",
            "kubectl get pods -A -o wide --field-selector spec.nodeName=NODE | grep cidrift-agent; kubectl get nodes -o wide | grep ADDRESS",
        ),
        run("On each of the hosts:", "pgrep -a cidrift-agent"),
    ],
    remedy: &[
        say("Stop the agent that is not this node's, or give it its own node's name (spec.nodeName)."),
        run(
            "Where no other agent should be, the token was taken. It ends with its pod; make a new one, then look at who could read the old \
                one's token:",
            "kubectl delete pod -n cidrift -l app.kubernetes.io/name=cidrift-agent --field-selector spec.nodeName=NODE",
        ),
    ],
    silence: "Agents that take turns for less than a minute: while a DaemonSet is rolled out the old pod may run beside the new one for its \
        grace period. An agent that is started over and over, or whose connection is made anew: only one that was put out and comes back \
        shows that there are two. One that comes less often than once a minute is not found by this; the aggregator's log tells of \
        each takeover. It clears when none has taken another's place for a minute.",
    related: &[Code::Seen01, Code::Seen03],
};
