//! The plan of one node: the least that removes everything that is asked of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::{HostFacts, LinkRole};
use ipnet::IpNet;

use super::super::choose::{Chooser, Family};
use super::super::drain::{self, Allowed, Drain, Drains};
use super::super::ground::{Ground, NodeGround};
use super::super::plan::{Does, Interrupts, Method, NodePlan, Step};
use super::Wish;
use super::need::{Need, What, daemon_pod, foreign};
use super::words::owner;
use crate::cluster::ReportState;
use crate::correlate::words::list;

/// Where containerd listens, unless a host says otherwise.
const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// The plan of a node; `Err`: there is none, and why.
pub(super) fn plan(
    ground: &Ground,
    wish: &Wish,
    name: &str,
    need: &Need,
    chooser: &mut Chooser<'_>,
    drains: &Drains<'_>,
    broken: &BTreeSet<&str>,
) -> Result<NodePlan, String> {
    let node = ground.nodes.get(name).ok_or("there is no such Node")?;
    let swap = need.has(&What::Swap);
    let rotate = swap && wish.rotate;
    let to = if rotate {
        Vec::new()
    } else if swap || need.has(&What::Assign) {
        wanted(ground, name, node, chooser)?
    } else {
        node.cidrs.clone()
    };
    // A Node's fields may differ from each other (POOL08) while its CIDRs are right.
    let fields = need.mends.iter().any(|id| id.starts_with(Code::Pool08.as_str()));
    if swap && to == node.cidrs && !fields {
        return Err(format!("nothing is seen to be wrong with {} now", list(&to)));
    }
    let mut planner = Planner {
        ground,
        name,
        node,
        to: &to,
        allowed: wish.allowed,
        steps: Vec::new(),
    };
    let method = if rotate {
        planner.rotate(&need.twins);
        Method::Rotate
    } else {
        planner.steps(need)
    };
    let steps = planner.steps;
    let drain = drains.look(name, wish.allowed);
    let drained = steps.iter().any(|step| step.does == Does::Drain);
    let mut plan = NodePlan {
        node: name.to_owned(),
        uid: node.uid.clone(),
        mends: need.mends.clone(),
        method,
        from: node.cidrs.clone(),
        verify: verify(name, node, &to, method),
        risks: risks(name, node, method),
        interrupts: interrupts(&steps, &drain, drained),
        blocked: Vec::new(),
        to,
        steps,
    };
    if drained {
        plan.risks.extend(drain.risks);
        plan.blocked.extend(drain.blocked);
        plan.blocked.extend(unavailable(ground, name, broken));
        if node.control_plane() && !wish.control_plane {
            plan.blocked.push(format!(
                "{name} carries a part of the control plane: it comes last, and only with --include-control-plane"
            ));
        }
    }
    let replaced = plan.steps.iter().filter_map(|step| match &step.does {
        Does::ReplacePods { pods } => Some(drain::replace(ground, pods, wish.allowed)),
        _ => None,
    });
    for cost in replaced.collect::<Vec<_>>() {
        plan.risks.extend(cost.risks);
        plan.blocked.extend(cost.blocked);
        plan.interrupts.budgets.extend(cost.budgets);
    }
    if method == Method::Assign {
        plan.risks.push(format!(
            "a controller manager that comes back meanwhile may assign one itself: the API server then refuses this, and nothing \
             of {name} has changed"
        ));
    }
    if matches!(method, Method::Swap | Method::Rotate) {
        plan.blocked.extend(undeletable(name, node, wish));
    }
    plan.blocked.extend(without_controllers(ground, name, &plan));
    if matches!(method, Method::Swap | Method::Assign) {
        plan.blocked.extend(outside_of_flannel(node, &plan.to));
    }
    plan.blocked.extend(unseen(name, node));
    Ok(plan)
}

/// The CIDRs that a Node shall have, one a family of the pool: what is right of its own is kept.
fn wanted(ground: &Ground, name: &str, node: &NodeGround, chooser: &mut Chooser<'_>) -> Result<Vec<IpNet>, String> {
    let mut families: Vec<Family> = Vec::new();
    // In the order of the Node's own, then of the pool's: podCIDRs[0] is podCIDR.
    let own = node.cidrs.iter();
    let pool = ground.pool.ranges.iter().map(|range| &range.range);
    for net in own.chain(pool) {
        if !families.contains(&Family::of(net)) {
            families.push(Family::of(net));
        }
    }
    if families.is_empty() {
        let why = ground.pool.unknown.as_deref().unwrap_or("nobody names it");
        return Err(format!(
            "the pool is not known ({why}): --cluster-cidr of the aggregator says it"
        ));
    }
    let near = configured(node);
    let right = |cidr: &&IpNet| {
        let in_pool = ground.pool.ranges.iter().any(|range| range.range.contains(*cidr));
        let others = ground.nodes.iter().filter(|(other, _)| *other != name);
        let mut shared = others
            .flat_map(|(_, other)| &other.cidrs)
            .chain(&ground.pool.service_ranges);
        let mut hosts = ground.nodes.values().flat_map(|node| &node.addresses);
        in_pool && !shared.any(|net| crate::netmap::overlap(net, cidr)) && !hosts.any(|host| cidr.contains(host))
    };
    let mut wanted = Vec::new();
    for family in families {
        let mut own = node.cidrs.iter().filter(|cidr| Family::of(cidr) == family);
        match own.find(right) {
            Some(cidr) => wanted.push(*cidr),
            None => wanted.push(chooser.give(family, name, &near).map_err(|error| error.to_string())?),
        }
    }
    Ok(wanted)
}

/// What the host hands out of now.
fn configured(node: &NodeGround) -> Vec<IpNet> {
    let facts = node.view.as_ref().and_then(|view| view.facts.as_ref());
    let chosen = facts.and_then(|facts| facts.cni.chosen.as_ref());
    chosen.map(|config| config.subnets.clone()).unwrap_or_default()
}

struct Planner<'a> {
    ground: &'a Ground,
    name: &'a str,
    node: &'a NodeGround,
    to: &'a [IpNet],
    allowed: Allowed,
    steps: Vec<Step>,
}

impl Planner<'_> {
    fn step(&mut self, does: Does, text: String) {
        self.steps.push(Step { does, text });
    }

    /// Plans what is asked for; returns how destructive it is.
    fn steps(&mut self, need: &Need) -> Method {
        if need.has(&What::Swap) {
            self.swap(&need.twins);
            return Method::Swap;
        }
        let assign = need.has(&What::Assign);
        if assign {
            let (first, all) = (self.to.first().map(ToString::to_string), json_list(self.to));
            self.step(
                Does::Assign,
                format!(
                    "kubectl patch node {} --type=merge -p '{{\"spec\":{{\"podCIDR\":\"{}\",\"podCIDRs\":{all}}}}}'",
                    self.name,
                    first.unwrap_or_default(),
                ),
            );
            self.controllers();
            self.adopt();
            self.restart_daemon();
        }
        let bridges: Vec<&String> = need
            .what
            .iter()
            .filter_map(|what| match what {
                What::Link { name } => Some(name),
                _ => None,
            })
            .collect();
        let hosts = |what: &What| matches!(what, What::Render { .. } | What::Route { .. });
        let host = !bridges.is_empty() || need.what.iter().any(hosts);
        // A bridge carries all pods of the node: without it they are cut off.
        if !bridges.is_empty() {
            self.cordon();
            self.drain();
        }
        for what in &need.what {
            if let What::Render { path } = what {
                self.render(path);
            }
        }
        for bridge in &bridges {
            self.remove_link(bridge);
        }
        if need.has(&What::Daemon) && !assign {
            self.restart_daemon();
        }
        let reborn = need.mends.iter().any(|id| id.starts_with(Code::Pool12.as_str()));
        if need.has(&What::Daemon) && reborn {
            self.led_back();
        }
        for what in &need.what {
            if let What::Route { prefix, via } = what {
                self.remove_route(*prefix, *via);
            }
        }
        if !bridges.is_empty() {
            self.replace(true);
        } else if host || need.has(&What::Pods) || need.has(&What::Daemon) {
            self.replace(false);
        }
        if assign {
            self.announce(&[]);
        }
        self.step(Does::Verify, "verify, as below".to_owned());
        if !bridges.is_empty() {
            self.uncordon();
        }
        match (assign, host || need.has(&What::Pods)) {
            (_, true) => Method::Host,
            (true, false) => Method::Assign,
            (false, false) => Method::Restart,
        }
    }

    fn swap(&mut self, twins: &[String]) {
        // What ends the controller manager goes first: without one no drain comes to an end.
        let late = self.ground.controllers.is_some();
        self.cordon();
        if !late {
            self.drain();
        }
        if let Some(facts) = self.node.view.as_ref().and_then(|view| view.facts.as_ref()) {
            let chosen = facts.cni.chosen.as_ref();
            let stale = chosen.filter(|config| config.subnets.iter().any(|net| foreign(net, self.to)));
            if let Some(config) = stale {
                match &config.generated_by {
                    // Between drain and new Node: once the kubelet tells the new CIDR, the runtime renders only what is missing.
                    Some(by) if by.starts_with("containerd template") => {
                        self.remove_file(&config.path);
                    }
                    _ if daemon_pod(self.ground, self.name).is_some() => {}
                    _ => {
                        let text = format!(
                            "on {}: {} hands out of {}; write it for {}",
                            self.name,
                            config.path,
                            list(&config.ranges),
                            list(self.to)
                        );
                        self.step(Does::ByHand, text);
                    }
                }
            }
        }
        if !late {
            self.remove_bridges();
        }
        self.step(
            Does::Recreate,
            format!(
                "kubectl get node {name} -o json | jq 'del(.status, .metadata.uid, .metadata.resourceVersion, \
                 .metadata.creationTimestamp, .metadata.managedFields) | .spec.podCIDR=\"{first}\" | .spec.podCIDRs={all} | \
                 .spec.unschedulable=true | .spec.taints=[.spec.taints[]?|select(.key|startswith(\"node.kubernetes.io/\")|not)]' > {name}.json && kubectl delete node {name} && kubectl create -f {name}.json",
                name = self.name,
                first = self.to.first().map(ToString::to_string).unwrap_or_default(),
                all = json_list(self.to),
            ),
        );
        self.controllers();
        self.adopt();
        if late {
            self.drain();
            self.remove_bridges();
        }
        self.restart_daemon();
        self.led_back();
        self.replace(true);
        self.announce(twins);
        self.step(Does::Verify, "verify, as below".to_owned());
        self.uncordon();
    }

    /// The classic way: whoever allocates chooses, and all that the host made of the old CIDRs goes before.
    fn rotate(&mut self, twins: &[String]) {
        let name = self.name;
        self.cordon();
        self.drain();
        let rendered = self
            .facts()
            .and_then(|facts| facts.cni.chosen.as_ref())
            .filter(|config| {
                let by = config.generated_by.as_deref();
                by.is_some_and(|by| by.starts_with("containerd template"))
            });
        if let Some(path) = rendered.map(|config| config.path.clone()) {
            let text = format!("on {name}: rm {path}");
            let containing = String::new();
            self.step(Does::RemoveFile { path, containing }, text);
        }
        let links = self.facts().into_iter().flat_map(|facts| &facts.links);
        let bridges = links.filter(|link| link.role == LinkRole::Bridge);
        for link in bridges.map(|link| link.name.clone()).collect::<Vec<_>>() {
            let text = format!("on {name}: ip link delete {link}   # the next pod's CNI makes it anew");
            let addresses = Vec::new();
            self.step(Does::RemoveLink { name: link, addresses }, text);
        }
        self.step(
            Does::Rotate,
            format!(
                "kubectl delete node {name}; on {name}: systemctl restart kubelet; once it has registered: kubectl cordon {name}, and \
                 its labels, annotations and taints as they were"
            ),
        );
        self.adopt();
        self.restart_daemon();
        self.replace(true);
        self.announce(twins);
        self.step(Does::Verify, "verify, as below".to_owned());
        self.uncordon();
    }

    fn remove_bridges(&mut self) {
        let links = self.facts().into_iter().flat_map(|facts| &facts.links);
        let bridges = links
            .filter(|link| link.role == LinkRole::Bridge && link.addresses.iter().any(|net| foreign(net, self.to)));
        for name in bridges.map(|link| link.name.clone()).collect::<Vec<_>>() {
            self.remove_link(&name);
        }
    }

    /// Where none runs, what follows needs one.
    fn controllers(&mut self) {
        if self.ground.controllers.is_some() {
            let text = "start kube-controller-manager, unless its supervisor does";
            self.step(Does::Controllers, text.to_owned());
        }
    }

    fn cordon(&mut self) {
        if !self.node.unschedulable {
            self.step(Does::Cordon, format!("kubectl cordon {}", self.name));
        }
    }

    fn drain(&mut self) {
        let name = self.name;
        let mut text = format!("kubectl drain {name} --ignore-daemonsets");
        if self.allowed.scratch {
            text += " --delete-emptydir-data";
        }
        if self.allowed.unmanaged {
            text += " --force";
        }
        self.step(Does::Drain, text);
    }

    /// One that somebody else set stays.
    fn uncordon(&mut self) {
        if !self.node.unschedulable {
            self.step(Does::Uncordon, format!("kubectl uncordon {}", self.name));
        }
    }

    fn adopt(&mut self) {
        let text = format!("kubectl wait --for=condition=Ready node/{} --timeout=2m", self.name);
        self.step(Does::Adopt, text);
    }

    fn render(&mut self, path: &str) {
        let name = self.name;
        self.remove_file(path);
        let runtime = self.facts().and_then(|facts| facts.runtime.as_ref());
        let socket = runtime.map(|runtime| runtime.socket.clone());
        self.step(
            Does::Render {
                path: path.to_owned(),
                socket: socket.unwrap_or_else(|| CONTAINERD.to_owned()),
            },
            format!("on {name}: systemctl restart kubelet   # it tells containerd the Node's CIDR, once"),
        );
    }

    /// What the runtime rendered, as long as it says what is stale.
    fn remove_file(&mut self, path: &str) {
        let chosen = self.facts().and_then(|facts| facts.cni.chosen.as_ref());
        let stale = chosen.and_then(|config| config.subnets.iter().find(|net| foreign(net, self.to)));
        let containing = stale.map(ToString::to_string).unwrap_or_default();
        let path = path.to_owned();
        let text = format!("on {}: rm {path}", self.name);
        self.step(Does::RemoveFile { path, containing }, text);
    }

    fn remove_link(&mut self, name: &str) {
        let link = self
            .facts()
            .and_then(|facts| facts.links.iter().find(|link| link.name == name));
        let addresses = link.into_iter().flat_map(|link| &link.addresses);
        let addresses = addresses.filter(|net| foreign(net, self.to)).copied().collect();
        let text = format!(
            "on {}: ip link delete {name}   # the next pod's CNI makes it anew",
            self.name
        );
        let name = name.to_owned();
        self.step(Does::RemoveLink { name, addresses }, text);
    }

    fn facts(&self) -> Option<&HostFacts> {
        self.node.view.as_ref().and_then(|view| view.facts.as_ref())
    }

    fn remove_route(&mut self, prefix: IpNet, via: IpAddr) {
        let family = if prefix.addr().is_ipv4() { "" } else { "-6 " };
        let text = format!(
            "on {}: ip {family}route del {prefix} via {via} || true   # where it is there: it leads the node's own pods away",
            self.name
        );
        let does = Does::RemoveRoute { prefix, via };
        if !self.steps.iter().any(|step| step.does == does) {
            self.step(does, text);
        }
    }

    /// flanneld takes the new Node for a peer until it is started anew, and its successor leaves the route alone.
    fn led_back(&mut self) {
        let flannel = daemon_pod(self.ground, self.name)
            .and_then(|key| self.ground.pods.iter().find(|pod| pod.key == key))
            .is_some_and(|pod| pod.daemon.as_deref() == Some("flannel"));
        if !flannel {
            return;
        }
        for prefix in self.to {
            let mut own = self.node.addresses.iter();
            if let Some(via) = own.find(|address| address.is_ipv4() == prefix.addr().is_ipv4()) {
                self.remove_route(*prefix, *via);
            }
        }
    }

    /// Daemons that look at Nodes' annotations only do not hear of a CIDR, and forget a twin with the Node that had it too.
    fn announce(&mut self, twins: &[String]) {
        let daemons = self
            .ground
            .pods
            .iter()
            .filter(|pod| pod.node.as_deref() != Some(self.name));
        let daemons = daemons.filter(|pod| pod.daemon.as_deref().is_some_and(|kind| kind != "kube-proxy"));
        if daemons.count() == 0 {
            return;
        }
        let mut nodes = vec![self.name.to_owned()];
        nodes.extend(twins.iter().filter(|twin| *twin != self.name).cloned());
        nodes.dedup();
        let text = format!(
            "wherever kubectl cidrift path NODE {} shows no way, delete the CNI's pod of NODE",
            nodes.join("|")
        );
        self.step(Does::Announce { nodes }, text);
    }

    fn restart_daemon(&mut self) {
        if let Some(key) = daemon_pod(self.ground, self.name) {
            let text = match key.split_once('/') {
                Some((namespace, pod)) => {
                    format!("kubectl -n {namespace} delete pod {pod}   # its DaemonSet makes it anew")
                }
                None => format!("kubectl delete pod {key}"),
            };
            self.step(Does::RestartDaemon { pod: key.to_owned() }, text);
        }
    }

    /// Pods in the pods' network: those that stay through a drain, or those with a foreign address.
    fn replace(&mut self, all: bool) {
        let on_it = self
            .ground
            .pods
            .iter()
            .filter(|pod| pod.node.as_deref() == Some(self.name));
        let theirs = on_it.filter(|pod| {
            !pod.host_network
                && if all {
                    drain::departure(pod) == drain::Departure::Daemon
                } else {
                    let outside = |address| foreign(&IpNet::from(address), self.to);
                    pod.addresses.iter().any(|&address| outside(address))
                }
        });
        let pods: Vec<String> = theirs.map(|pod| pod.key.clone()).collect();
        if pods.is_empty() {
            // One that tolerates a cordon may be back by then.
            if all {
                let text = format!(
                    "kubectl get pods -A -o wide --field-selector spec.nodeName={}   # delete those with addresses of another range",
                    self.name
                );
                self.step(Does::ReplacePods { pods }, text);
            }
            return;
        }
        let commands = pods.iter().map(|key| match key.split_once('/') {
            Some((namespace, pod)) => format!("kubectl -n {namespace} delete pod {pod}"),
            None => format!("kubectl delete pod {key}"),
        });
        let text = commands.collect::<Vec<_>>().join("; ");
        self.step(Does::ReplacePods { pods }, text);
    }
}

fn json_list(nets: &[IpNet]) -> String {
    let quoted: Vec<String> = nets.iter().map(|net| format!("\"{net}\"")).collect();
    format!("[{}]", quoted.join(","))
}

fn interrupts(steps: &[Step], drain: &Drain, drains: bool) -> Interrupts {
    let mut interrupts = Interrupts::default();
    if drains {
        interrupts.pods.extend(drain.evicted.iter().cloned());
        interrupts.budgets.extend(drain.budgets.iter().cloned());
    }
    for step in steps {
        match &step.does {
            Does::ReplacePods { pods } => interrupts.pods.extend(pods.iter().cloned()),
            Does::RestartDaemon { pod } => interrupts.pods.push(pod.clone()),
            _ => {}
        }
    }
    interrupts.pods.sort();
    interrupts.pods.dedup();
    interrupts
}

fn verify(name: &str, node: &NodeGround, to: &[IpNet], method: Method) -> Vec<String> {
    let cidrs = match method {
        Method::Rotate => "what the controller manager gives it".to_owned(),
        _ => list(to),
    };
    let mut lines = Vec::new();
    if matches!(method, Method::Swap | Method::Assign | Method::Rotate) {
        lines.push(format!(
            "Node {name} has {cidrs} and is Ready; its kubelet has taken them over (kubectl cidrift node {name})"
        ));
    }
    if matches!(method, Method::Swap | Method::Rotate) {
        lines.push("labels, taints and annotations are those from before".to_owned());
    }
    if method != Method::Restart {
        lines.push(format!(
            "CNI configuration and bridge of {name} are of {cidrs}, and so is the address of a new pod on it"
        ));
    }
    lines.push(format!(
        "the packets of every other node for {cidrs} land on {name}, and its own land on their owners"
    ));
    let gone: Vec<IpNet> = node.cidrs.iter().filter(|cidr| !to.contains(cidr)).copied().collect();
    if !gone.is_empty() {
        lines.push(format!("nothing leads to {} any more", list(&gone)));
    }
    lines
}

fn risks(name: &str, node: &NodeGround, method: Method) -> Vec<String> {
    if method == Method::Rotate {
        return vec![format!(
            "there is no Node {name} until its kubelet was restarted and has registered it; the allocator may choose what another \
             host still routes"
        )];
    }
    if method != Method::Swap {
        return Vec::new();
    }
    let mut risks = vec![format!(
        "between delete and create there is no Node {name}: if that is cut short, create it from the saved copy; its kubelet does \
         not register it by itself, and after 40 s its pods are removed"
    )];
    if !node.drivers.is_empty() {
        risks.push(format!(
            "CSINode {name} belongs to the old Node, and goes with it where these commands are typed (fix gives it to the new one): \
             drivers {} must then register again (their pods on {name} are made anew), else volumes cannot be attached",
            node.drivers.join(", ")
        ));
    }
    risks
}

/// Nodes that are unavailable for any reason count; those that wait to be mended themselves are not made worse.
fn unavailable(ground: &Ground, name: &str, broken: &BTreeSet<&str>) -> Vec<String> {
    let others = ground.nodes.iter().filter(|(other, node)| {
        let waits = !node.ready && !node.unschedulable && broken.contains(other.as_str());
        other.as_str() != name && !node.available() && !waits
    });
    others
        .map(|(other, node)| {
            let why = if node.deleting {
                "is being deleted"
            } else if node.unschedulable {
                "is unschedulable"
            } else {
                "is not Ready"
            };
            format!("{other} {why}: never two nodes at a time")
        })
        .collect()
}

fn undeletable(name: &str, node: &NodeGround, wish: &Wish) -> Vec<String> {
    let mut blocked = Vec::new();
    if node.deleting {
        blocked.push(format!("somebody is deleting Node {name}"));
    }
    if !node.finalizers.is_empty() {
        blocked.push(format!(
            "finalizers ({}) keep a deleted Node {name}, so that it cannot be made again at once",
            node.finalizers.join(", ")
        ));
    }
    if let Some(owner) = owner(node)
        && !wish.managed
    {
        blocked.push(format!(
            "{owner} owns the instance of {name} ({}), and may end it when its Node is deleted; where it does not, --allow-managed \
             says so",
            node.provider
        ));
    }
    blocked
}

/// Without a controller manager nobody makes a pod anew that goes. A node may still be given CIDRs; and the one that lies
/// outside of the pool, for which every controller manager ends at its start (POOL02), is swapped first and drained then.
fn without_controllers(ground: &Ground, name: &str, plan: &NodePlan) -> Option<String> {
    let why = ground.controllers.as_ref()?;
    let outside = |node: &NodeGround| {
        let mut cidrs = node.cidrs.iter();
        cidrs.any(|cidr| !ground.pool.ranges.iter().any(|range| range.range.contains(cidr)))
    };
    let others = ground
        .nodes
        .iter()
        .filter(|(other, node)| *other != name && outside(node));
    let others: Vec<&str> = others.map(|(other, _)| other.as_str()).collect();
    match plan.method {
        Method::Assign => None,
        Method::Swap if others.is_empty() && plan.mends.iter().any(|id| id.starts_with(Code::Pool02.as_str())) => None,
        Method::Swap if !others.is_empty() => Some(format!(
            "{why}; nobody would make its pods anew, and it ends at its start while {} lie outside of the pool, too: start it with \
             the --cluster-cidr from before, or with one around all, until the last of them is mended",
            others.join(", ")
        )),
        _ => Some(format!("{why}; nobody would make anew what goes: start it first")),
    }
}

/// flanneld ends at its start, again and again, where its Node's CIDR lies outside of the network that it was told.
fn outside_of_flannel(node: &NodeGround, to: &[IpNet]) -> Option<String> {
    let facts = node.view.as_ref().and_then(|view| view.facts.as_ref());
    let networks = &facts.and_then(|facts| facts.cni.flannel.as_ref())?.networks;
    let told = |net: &IpNet| {
        networks
            .iter()
            .any(|network| network.addr().is_ipv4() == net.addr().is_ipv4())
    };
    let outside = to
        .iter()
        .find(|net| told(net) && !networks.iter().any(|network| network.contains(*net)))?;
    Some(format!(
        "flannel's Network ({}) does not hold {outside}: widen it in net-conf.json and restart flannel's pods first",
        list(networks)
    ))
}

/// Without the agent's view nothing shows whether it worked.
fn unseen(name: &str, node: &NodeGround) -> Option<String> {
    let state = node.view.as_ref().map(|view| view.summary.report);
    (state != Some(ReportState::Live))
        .then(|| format!("the agent of {name} does not report: nothing could show whether it worked"))
}
