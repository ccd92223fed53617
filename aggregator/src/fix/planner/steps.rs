//! The steps of a node's plan, in the order in which they keep it whole.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::{HostFacts, LinkFact, LinkRole};
use ipnet::IpNet;

use super::super::drain::{self, Allowed};
use super::super::ground::{Ground, NodeGround};
use super::super::plan::{CONTAINERD, Does, Hop, Method, Step};
use super::need::{Need, What, back_by, daemon_pod, daemons_elsewhere, flannel, foreign, rewrites, stale};
use crate::correlate::words::list;

/// One node's steps, as they come together.
pub(super) struct Planner<'a> {
    pub(super) ground: &'a Ground,
    pub(super) name: &'a str,
    pub(super) node: &'a NodeGround,
    pub(super) to: &'a [IpNet],
    pub(super) allowed: Allowed,
    pub(super) steps: Vec<Step>,
}

impl Planner<'_> {
    fn step(&mut self, does: Does, text: String) {
        self.steps.push(Step { does, text });
    }

    /// Plans what is asked for; returns how destructive it is.
    pub(super) fn steps(&mut self, need: &Need) -> Method {
        if need.has(&What::Swap) {
            // One that does not look would not take the new Node over either.
            if need.has(&What::Kubelet) {
                self.restart_kubelet();
            }
            self.leftovers(need);
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
        let own = |prefix: &IpNet| self.to.iter().any(|cidr| crate::netmap::overlap(cidr, prefix));
        let of_pods = |what: &What| match what {
            What::Render { .. } => true,
            What::Route { prefix, .. } => own(prefix),
            _ => false,
        };
        let of_host = |what: &What| matches!(what, What::Route { .. } | What::Leases { .. });
        let pods = !bridges.is_empty() || need.what.iter().any(of_pods);
        let host = pods || need.what.iter().any(of_host);
        let (back, away): (Vec<_>, Vec<_>) = routes(need).partition(|(prefix, _)| own(prefix));
        // A bridge carries all pods of the node: without it they are cut off.
        if !bridges.is_empty() {
            self.cordon();
            self.drain();
        }
        // Before a file goes: what renders that is then asked for until it is there, and not told once by a kubelet's start.
        if need.has(&What::Kubelet) {
            self.restart_kubelet();
        }
        for what in &need.what {
            match what {
                What::Render { path } => self.render(path),
                What::Leases { directory } => self.remove_leases(directory),
                _ => {}
            }
        }
        // The daemon, where it is started anew, then finds them gone.
        for (prefix, by) in away {
            self.remove_route(prefix, by);
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
        for (prefix, by) in back {
            self.remove_route(prefix, by);
        }
        self.reach(need);
        if !bridges.is_empty() {
            self.replace(true);
        } else if pods || need.has(&What::Pods) || need.has(&What::Daemon) {
            self.replace(false);
        }
        if assign {
            self.announce(&[]);
        }
        self.step(Does::Verify, "verify, as below".to_owned());
        if !bridges.is_empty() {
            self.uncordon();
        }
        let pods = pods || need.has(&What::Pods);
        match assign {
            true if !pods => Method::Assign,
            _ if pods || host => Method::Host,
            _ => Method::Restart,
        }
    }

    /// What a node has too much that is not of its own CIDRs: it does not go with them.
    pub(super) fn leftovers(&mut self, need: &Need) {
        for what in &need.what {
            if let What::Leases { directory } = what {
                self.remove_leases(directory);
            }
        }
        let own = self.to.iter().chain(&self.node.cidrs);
        let own: Vec<IpNet> = own.copied().collect();
        for (prefix, by) in routes(need) {
            if !own.iter().any(|cidr| crate::netmap::overlap(cidr, &prefix)) {
                self.remove_route(prefix, by);
            }
        }
        self.reach(need);
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
            if let Some(config) = chosen.filter(|config| stale(config, self.to, &self.node.cidrs)) {
                match &config.generated_by {
                    // Between drain and new Node: once the kubelet tells the new CIDR, the runtime renders only what is missing.
                    Some(by) if by.starts_with("containerd template") => {
                        self.remove_file(&config.path);
                    }
                    _ if rewrites(self.ground, self.name, config) => {}
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
    pub(super) fn rotate(&mut self, twins: &[String]) {
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
        let bridges = links.filter(|link| link.role == LinkRole::Bridge && !self.stale_on(link).is_empty());
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
        let addresses = link.map(|link| self.stale_on(link)).unwrap_or_default();
        let text = format!(
            "on {}: ip link delete {name}   # the next pod's CNI makes it anew",
            self.name
        );
        let name = name.to_owned();
        self.step(Does::RemoveLink { name, addresses }, text);
    }

    /// The addresses for which a device goes. Of a Node that keeps one CIDR of two flanneld takes that for a peer's as well, and
    /// removes the bridge's own route to it: only a bridge that is made anew has it again.
    fn stale_on(&self, link: &LinkFact) -> Vec<IpNet> {
        let taken = self.to != self.node.cidrs.as_slice() && flannel(self.ground, self.name);
        let kept = |net: &IpNet| {
            let mut own = self.node.cidrs.iter().filter(|cidr| cidr.contains(&net.addr()));
            own.any(|cidr| self.to.contains(cidr) && back_by(self.node, cidr).is_some())
        };
        let stale = |net: &&IpNet| foreign(net, self.to) || (taken && kept(net));
        link.addresses.iter().filter(stale).copied().collect()
    }

    fn facts(&self) -> Option<&HostFacts> {
        self.node.view.as_ref().and_then(|view| view.facts.as_ref())
    }

    fn remove_route(&mut self, prefix: IpNet, by: Hop) {
        let (name, route) = (self.name, by.route(prefix));
        let family = if prefix.addr().is_ipv4() { "" } else { "-6 " };
        let text = match by {
            Hop::Via(_) if self.to.iter().any(|cidr| crate::netmap::overlap(cidr, &prefix)) => format!(
                "on {name}: ip {family}route flush exact {route}   # where it is there: it leads the node's own pods away"
            ),
            Hop::Via(_) => format!("on {name}: ip {family}route flush exact {route}   # no Node has that, and no pod"),
            Hop::Type(_) => format!("on {name}: ip {family}route del {route}"),
        };
        let does = Does::RemoveRoute { prefix, by };
        if !self.steps.iter().any(|step| step.does == does) {
            self.step(does, text);
        }
    }

    /// Where a route that dropped is gone, its daemon may have to make the right one.
    fn reach(&mut self, need: &Need) {
        let nodes = need.what.iter().filter_map(|what| match what {
            What::Reach { node } => Some(node.clone()),
            _ => None,
        });
        let nodes: Vec<String> = nodes.collect();
        if nodes.is_empty() {
            return;
        }
        let text = format!(
            "where kubectl cidrift path {} {} shows no way within 15 s, delete the CNI's pod of {0}",
            self.name,
            nodes.join("|")
        );
        self.step(Does::Reach { nodes }, text);
    }

    /// Those that are told, each as the one of a sandbox that is gone.
    fn remove_leases(&mut self, directory: &str) {
        let leaks = self.facts().and_then(|facts| facts.leaks.as_ref());
        let networks = leaks.into_iter().flat_map(|leaks| &leaks.networks);
        let leases: BTreeMap<IpAddr, String> = networks
            .filter(|network| network.directory == directory)
            .flat_map(|network| &network.leases)
            .map(|lease| (lease.address, lease.container.clone()))
            .collect();
        let addresses: Vec<String> = leases.keys().map(ToString::to_string).collect();
        let text = format!(
            "on {}: cd {directory} && flock lock rm {}   # their sandboxes are gone; each names its own",
            self.name,
            addresses.join(" ")
        );
        let directory = directory.to_owned();
        self.step(Does::RemoveLeases { directory, leases }, text);
    }

    fn restart_kubelet(&mut self) {
        let text = format!(
            "on {}: systemctl restart kubelet   # it looks at its Node again",
            self.name
        );
        self.step(Does::RestartKubelet, text);
    }

    /// flanneld takes the new Node for a peer until it is started anew, and its successor leaves the route alone.
    fn led_back(&mut self) {
        if !flannel(self.ground, self.name) {
            return;
        }
        for prefix in self.to {
            if let Some(via) = back_by(self.node, prefix) {
                self.remove_route(*prefix, Hop::Via(via));
            }
        }
    }

    /// Daemons that look at Nodes' annotations only do not hear of a CIDR, and forget a twin with the Node that had it too.
    fn announce(&mut self, twins: &[String]) {
        if !daemons_elsewhere(self.ground, self.name) {
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
        let on_it = self.ground.pods.on(self.name).iter();
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

/// Routes that have to go.
fn routes(need: &Need) -> impl Iterator<Item = (IpNet, Hop)> + '_ {
    need.what.iter().filter_map(|what| match what {
        What::Route { prefix, by } => Some((*prefix, *by)),
        _ => None,
    })
}

fn json_list(nets: &[IpNet]) -> String {
    let quoted: Vec<String> = nets.iter().map(|net| format!("\"{net}\"")).collect();
    format!("[{}]", quoted.join(","))
}
