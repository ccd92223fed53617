//! Whether a record can be a fix's: others may write on the Lease and on what lies beside it, and what is in it is done with
//! the operator's rights. What no plan could have is refused, before a node is begun and whenever it is read.

use std::net::IpAddr;
use std::path::{Component, Path};

use ipnet::IpNet;

use super::record::{Record, Work};
use crate::fix::plan::{Does, Hop, NodePlan};
use crate::ingest::hello::name_problem;

/// The longest name of a device (IFNAMSIZ without the byte that ends it).
const DEVICE: usize = 15;

impl Record {
    /// Whether it can be a fix's.
    ///
    /// # Errors
    ///
    /// What cannot be.
    pub(super) fn sound(&self) -> Result<(), String> {
        if self.id.is_empty() || !self.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(format!("id {:?} is none", self.id));
        }
        let queue = self.queue.iter().map(|next| &next.node);
        let over = self.over.iter().map(|over| &over.node);
        let mut names = queue.chain(over).chain(&self.wish.nodes);
        if let Some(odd) = names.find(|name| !node(name)) {
            return Err(format!("{odd:?} is no Node's name"));
        }
        self.work.as_ref().map_or(Ok(()), Work::sound)
    }
}

impl Work {
    /// The same of a node that is worked on, or is about to be.
    ///
    /// # Errors
    ///
    /// What cannot be.
    pub(super) fn sound(&self) -> Result<(), String> {
        let (plan, saved) = (&self.plan, self.saved.metadata.name.as_deref());
        let (name, steps) = (&plan.node, plan.steps.len());
        if !node(name) {
            return Err(format!("{name:?} is no Node's name"));
        }
        if saved != Some(name.as_str()) {
            return Err(format!(
                "the Node that is saved is {}, and {name} is worked on",
                saved.unwrap_or("none")
            ));
        }
        if plan.uid.is_empty() {
            return Err(format!("it does not say which Node {name} is meant: it has no UID"));
        }
        if self.at > steps {
            return Err(format!("{name} is at step {} of {steps}", self.at.saturating_add(1)));
        }
        match plan.steps.iter().find(|step| !possible(&step.does, plan)) {
            Some(step) => Err(format!("no plan has a step like {:?}", step.does)),
            None => Ok(()),
        }
    }
}

/// Whether a plan may have it. Errands are asked for the same, and refuse what they do not take.
pub(crate) fn possible(does: &Does, plan: &NodePlan) -> bool {
    match does {
        Does::RemoveFile { path, .. } => configuration(path),
        Does::Render { path, socket } => configuration(path) && deep(socket),
        Does::RemoveLink { name, .. } => device(name),
        Does::RemoveRoute { prefix, by } => route(prefix, by),
        Does::RemoveLeases { directory, leases } => deep(directory) && leases.values().all(|id| sandbox(id)),
        Does::Reach { nodes } | Does::Announce { nodes } => nodes.iter().all(|name| node(name)),
        Does::Recreate | Does::Assign => !plan.to.is_empty(),
        _ => true,
    }
}

/// Whether a Node may be called so. It is put into the operator's own commands.
fn node(name: &str) -> bool {
    name_problem(name).is_none()
}

/// Whether it is a path of what CNI reads: `libcni` looks at these names only.
fn configuration(path: &str) -> bool {
    let kind = Path::new(path).extension().and_then(|kind| kind.to_str());
    deep(path) && matches!(kind, Some("conf" | "conflist" | "json"))
}

/// Whether it leads down from the host's root, to what lies in a directory there: a network's leases in host-local's
/// `dataDir`, wherever that is, a runtime's socket, a file.
fn deep(path: &str) -> bool {
    let path = Path::new(path);
    let mut parts = path.components();
    let names = parts.clone().filter(|part| matches!(part, Component::Normal(_)));
    path.is_absolute()
        && names.count() >= 2
        && parts.all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

/// What the kernel takes for a device's name (`dev_valid_name`), and no program for a flag.
fn device(name: &str) -> bool {
    let strange = |letter: char| letter == '/' || letter == ':' || letter.is_whitespace();
    let length = (1..=DEVICE).contains(&name.len());
    length && name != "." && name != ".." && !name.starts_with('-') && !name.contains(strange)
}

/// Whether it is a network, and not all of them: a plan removes the route to a part of a pool.
fn route(prefix: &IpNet, by: &Hop) -> bool {
    let alike = match by {
        Hop::Via(IpAddr::V4(_)) => prefix.addr().is_ipv4(),
        Hop::Via(IpAddr::V6(_)) => prefix.addr().is_ipv6(),
        Hop::Type(_) => true,
    };
    alike && prefix.prefix_len() > 0 && prefix.addr() == prefix.network()
}

/// What containerd and CRI-O give their sandboxes for ids, and whatever else host-local may be told.
fn sandbox(id: &str) -> bool {
    let mut letters = id.bytes();
    let first = letters.next().is_some_and(|letter| letter.is_ascii_alphanumeric());
    first && letters.all(|letter| letter.is_ascii_alphanumeric() || b"_.-".contains(&letter))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{plan, work};
    use super::*;
    use crate::fix::plan::Step;

    fn sound(does: Value) -> bool {
        let mut work = work();
        let does: Does = serde_json::from_value(does).unwrap();
        let text = String::new();
        work.plan.steps.push(Step { does, text });
        work.sound().is_ok()
    }

    fn lease(directory: &str, id: &str) -> Value {
        json!({"do": "remove-leases", "directory": directory, "leases": {"10.244.2.9": id}})
    }

    fn via(prefix: &str, via: &str) -> Value {
        json!({"do": "remove-route", "prefix": prefix, "via": via})
    }

    #[test]
    fn what_a_plan_may_have_is_carried_out() {
        for does in [
            json!({"do": "remove-file", "path": "/etc/cni/net.d/10-x.conflist", "containing": ""}),
            json!({"do": "render", "path": "/etc/cni/net.d/x.conf", "socket": "/run/k3s/containerd/containerd.sock"}),
            json!({"do": "remove-link", "name": "cni0", "addresses": []}),
            lease("/var/lib/cni/networks/net", "3f2ab1"),
            lease("/run/cni-ipam-state/kindnet", "a_b.c-d"),
            via("10.244.9.0/24", "172.30.0.12"),
            via("fd00:244::/48", "fd00::2"),
            json!({"do": "remove-route", "prefix": "10.244.9.0/24", "type": "blackhole"}),
            json!({"do": "announce", "nodes": ["n2", "ip-10-0-0-1.ec2.internal"]}),
        ] {
            assert!(sound(does.clone()), "{does}");
        }
    }

    #[test]
    fn what_no_plan_has_is_refused() {
        for does in [
            json!({"do": "remove-file", "path": "/x.conf", "containing": ""}),
            json!({"do": "remove-file", "path": "/etc/cni/../x.conf", "containing": ""}),
            json!({"do": "render", "path": "/etc/cni/net.d/x.conf", "socket": "run/x/x.sock"}),
            json!({"do": "render", "path": "/etc/cni/net.d/x.conf", "socket": "/run/../etc/x"}),
            json!({"do": "remove-link", "name": "", "addresses": []}),
            json!({"do": "remove-link", "name": "--version", "addresses": []}),
            json!({"do": "remove-link", "name": "a/b", "addresses": []}),
            json!({"do": "remove-link", "name": "0123456789abcdef", "addresses": []}),
            lease("/var", "3f2ab1"),
            lease("/", "3f2ab1"),
            lease("var/lib/cni/networks/net", "3f2ab1"),
            lease("/var/lib/cni/networks/../../x", "3f2ab1"),
            lease("/var/lib/cni/networks/net", ""),
            lease("/var/lib/cni/networks/net", "a/b"),
            via("0.0.0.0/0", "172.30.0.12"),
            via("::/0", "fd00::2"),
            via("10.244.9.7/24", "172.30.0.12"),
            via("10.244.9.0/24", "fd00::2"),
            json!({"do": "remove-route", "prefix": "0.0.0.0/0", "type": "blackhole"}),
            json!({"do": "reach", "nodes": ["n2; reboot"]}),
            json!({"do": "announce", "nodes": ["N2"]}),
        ] {
            assert!(!sound(does.clone()), "{does}");
        }
        let mut nowhere = work();
        nowhere.plan.to.clear();
        assert!(nowhere.sound().is_err(), "it is made again with no CIDR");
    }

    /// A shell reads them.
    #[test]
    fn what_no_node_can_be_called_is_refused_wherever_it_stands() {
        let long = "a".repeat(254);
        for name in [
            "",
            "n2;reboot",
            "$(reboot)",
            "n2 n3",
            "-n2",
            "n2.",
            "N2",
            "../n2",
            long.as_str(),
        ] {
            let mut odd = work();
            odd.plan = NodePlan {
                node: name.to_owned(),
                ..plan()
            };
            odd.saved.metadata.name = Some(name.to_owned());
            let why = format!("{name:?} is no Node's name");
            assert_eq!(odd.sound(), Err(why));
        }
    }
}
