//! What was agreed to for a node, and whether a plan that is made later is still that.

use std::collections::BTreeSet;

use cidrift_proto::catalogue::Code;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::on_host;
use crate::correlate::words::list;
use crate::fix::plan::{Does, Method, NodePlan};

/// What was agreed to for a node: where a new plan says another thing, its ground has moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Planned {
    /// Its name.
    pub node: String,
    /// UID of its Node.
    pub uid: String,
    /// How it is mended.
    pub method: Method,
    /// The CIDRs that it is to have.
    pub to: Vec<IpNet>,
    /// Kinds of its steps, in their order.
    pub steps: String,
    /// Those of them that change its host, whole; `None`: they change none, or an earlier version has not written them down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Vec<Does>>,
}

impl From<&NodePlan> for Planned {
    fn from(plan: &NodePlan) -> Self {
        let host: Vec<Does> = of_host(plan).cloned().collect();
        Self {
            node: plan.node.clone(),
            uid: plan.uid.clone(),
            method: plan.method,
            to: plan.to.clone(),
            steps: kinds(plan).join(", "),
            host: Some(host).filter(|host| !host.is_empty()),
        }
    }
}

fn of_host(plan: &NodePlan) -> impl Iterator<Item = &Does> {
    plan.steps.iter().map(|step| &step.does).filter(|does| on_host(does))
}

fn kinds(plan: &NodePlan) -> Vec<&'static str> {
    plan.steps.iter().map(|step| step.does.kind()).collect()
}

/// What removes leases: where all that were agreed to are gone there is no such step any more.
const LEASES: &str = "remove-leases";

/// What replaces pods: there is no such step where none has an address of another range at that moment.
const PODS: &str = "replace-pods";

/// What waits for a controller manager, where none runs.
const CONTROLLERS: &str = "controllers";

/// What restarts the CNI's pod.
const DAEMON: &str = "restart-daemon";

impl Planned {
    /// What has moved since; `None`: `plan` says the same.
    pub fn moved(&self, plan: &NodePlan) -> Option<String> {
        if self.uid != plan.uid {
            return Some(format!("Node {} is another one now", self.node));
        }
        if !self.by(plan.method) {
            return Some(format!(
                "{} was to be mended by {}, and now by {}",
                self.node, self.method, plan.method
            ));
        }
        if self.to != plan.to {
            return Some(format!(
                "{} was to have {}, and now {}",
                self.node,
                list(&self.to),
                list(&plan.to)
            ));
        }
        let (was, now) = (self.kinds(), kinds(plan));
        let counts = |kind: &&str| *kind != PODS && (self.host.is_none() || *kind != LEASES);
        let pods = now.contains(&PODS) && !self.may_replace_pods();
        if pods || !was.filter(counts).eq(now.iter().copied().filter(counts)) {
            let now = now.join(", ");
            return Some(format!("the steps of {} were {}, and now {now}", self.node, self.steps));
        }
        self.host.as_ref().and_then(|agreed| self.beyond(agreed, plan))
    }

    /// Leaves out of a plan the leases that came since, which were not agreed to; how many. A node that leaks goes on leaking: that
    /// it has some is then not what this fix takes away.
    pub(super) fn cut(&self, plan: &mut NodePlan) -> usize {
        let Some(agreed) = &self.host else { return 0 };
        let mut cut = 0;
        for step in &mut plan.steps {
            if let Does::RemoveLeases { directory, leases } = &mut step.does {
                let were = agreed.iter().find_map(|does| match does {
                    Does::RemoveLeases {
                        directory: from,
                        leases,
                    } if from == directory => Some(leases),
                    _ => None,
                });
                let before = leases.len();
                leases.retain(|address, sandbox| were.and_then(|were| were.get(address)) == Some(sandbox));
                cut += before - leases.len();
            }
        }
        if cut > 0 {
            plan.steps
                .retain(|step| !matches!(&step.does, Does::RemoveLeases { leases, .. } if leases.is_empty()));
            plan.mends.retain(|id| !id.starts_with(Code::Host05.as_str()));
        }
        cut
    }

    fn kinds(&self) -> impl Iterator<Item = &str> {
        self.steps.split(", ").filter(|kind| !kind.is_empty())
    }

    /// Whether it is mended as was agreed to: where only leases were to go of a host, and all of them have, it is started anew only.
    fn by(&self, method: Method) -> bool {
        let leases = |host: &Vec<Does>| host.iter().all(|does| does.kind() == LEASES);
        let less = self.method == Method::Host && method == Method::Restart;
        self.method == method || (less && self.host.as_ref().is_some_and(leases))
    }

    /// Whether pods with addresses of another range were to go, had there been any.
    fn may_replace_pods(&self) -> bool {
        let mut host = self.host.iter().flatten();
        host.any(|does| does.sets_up_pods(&self.to)) || self.kinds().any(|kind| [PODS, DAEMON].contains(&kind))
    }

    /// What a plan would do to the host that was not agreed to.
    fn beyond(&self, agreed: &[Does], plan: &NodePlan) -> Option<String> {
        let node = &self.node;
        let mut now = of_host(plan).peekable();
        for was in agreed {
            match now.peek() {
                Some(now_is) if within(was, now_is) => {
                    now.next();
                }
                _ if was.kind() == LEASES => {}
                Some(now_is) => return Some(format!("{node} was to {}, and now to {}", told(was), told(now_is))),
                None => return Some(format!("{node} was to {}, and is not now", told(was))),
            }
        }
        let more = now.next()?;
        Some(format!("{node} is to {} now, which was not agreed to", told(more)))
    }

    /// Whether nothing has moved but that a controller manager has come up, for whose absence it was planned. One that ends at
    /// its start holds its Lease for a moment each time.
    pub fn came_up(&self, plan: &NodePlan) -> bool {
        self.same_ends(plan) && self.waits() && !kinds(plan).contains(&CONTROLLERS)
    }

    /// The mirror of that: one that ran is quiet, which another one's start or a busy API server brings about for a moment.
    pub fn went_down(&self, plan: &NodePlan) -> bool {
        self.same_ends(plan) && !self.waits() && kinds(plan).contains(&CONTROLLERS)
    }

    fn waits(&self) -> bool {
        self.kinds().any(|kind| kind == CONTROLLERS)
    }

    fn same_ends(&self, plan: &NodePlan) -> bool {
        (&self.uid, &self.to) == (&plan.uid, &plan.to) && self.by(plan.method)
    }
}

/// Whether what a step does now is what was agreed to. What a host loses must be the very same: file and what is stale in it,
/// device and what is foreign on it, route, socket. Leases may have gone by themselves, and those that came are left out
/// ([`Planned::cut`]); none may be another sandbox's. Which pods go, the CNI's own among them, and who is to be led to is seen
/// when the step is there: pods come and go, and have other names each time.
fn within(agreed: &Does, now: &Does) -> bool {
    match (agreed, now) {
        (
            Does::RemoveLeases {
                directory: from,
                leases: were,
            },
            Does::RemoveLeases { directory, leases },
        ) => {
            directory == from
                && leases
                    .iter()
                    .all(|(address, sandbox)| were.get(address).is_none_or(|was| was == sandbox))
        }
        (
            Does::RemoveLink {
                name: was,
                addresses: were,
            },
            Does::RemoveLink { name, addresses },
        ) => name == was && set(addresses) == set(were),
        (Does::RemoveFile { .. } | Does::Render { .. } | Does::RemoveRoute { .. }, _) => agreed == now,
        _ => agreed.kind() == now.kind(),
    }
}

fn set(nets: &[IpNet]) -> BTreeSet<&IpNet> {
    nets.iter().collect()
}

/// What it does to a host, with all that decides what that is.
fn told(does: &Does) -> String {
    let title = does.title();
    match does {
        Does::RemoveFile { containing, .. } if !containing.is_empty() => format!("{title} for {containing}"),
        Does::RemoveLink { addresses, .. } if !addresses.is_empty() => format!("{title} for {}", list(addresses)),
        Does::Render { socket, .. } => format!("{title} by {socket}"),
        Does::RemoveLeases { leases, .. } => {
            let which = leases
                .iter()
                .map(|(address, sandbox)| format!("{address} of {sandbox}"));
            format!("{title} ({})", which.collect::<Vec<_>>().join(", "))
        }
        _ => title,
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use serde_json::{Value, json};

    use super::super::tests::plan;
    use super::*;
    use crate::fix::plan::Step;

    fn does(value: Value) -> Does {
        serde_json::from_value(value).unwrap()
    }

    fn file(path: &str, containing: &str) -> Value {
        json!({"do": "remove-file", "path": path, "containing": containing})
    }

    fn link(name: &str, addresses: &[&str]) -> Value {
        json!({"do": "remove-link", "name": name, "addresses": addresses})
    }

    fn render(path: &str, socket: &str) -> Value {
        json!({"do": "render", "path": path, "socket": socket})
    }

    fn route(prefix: &str, via: &str) -> Value {
        json!({"do": "remove-route", "prefix": prefix, "via": via})
    }

    fn leases(directory: &str, leases: &Value) -> Value {
        json!({"do": "remove-leases", "directory": directory, "leases": leases})
    }

    #[test]
    fn what_a_step_does_is_held_against_what_was_agreed_to() {
        let both = json!({"10.244.2.7": "aa", "10.244.2.9": "bb"});
        let one = json!({"10.244.2.7": "aa"});
        let drops = |how: &str| json!({"do": "remove-route", "prefix": "10.244.9.0/24", "type": how});
        let daemon = |pod: &str| json!({"do": "restart-daemon", "pod": pod});
        let pods = |pods: &[&str]| json!({"do": "replace-pods", "pods": pods});
        let nodes = |kind: &str, nodes: &[&str]| json!({"do": kind, "nodes": nodes});
        for (agreed, now, same) in [
            (
                file("/a/b.conf", "10.99.2.0/24"),
                file("/a/b.conf", "10.99.2.0/24"),
                true,
            ),
            (
                file("/a/b.conf", "10.99.2.0/24"),
                file("/a/c.conf", "10.99.2.0/24"),
                false,
            ),
            (
                file("/a/b.conf", "10.99.2.0/24"),
                file("/a/b.conf", "10.99.3.0/24"),
                false,
            ),
            (
                link("cni0", &["10.9.2.1/24", "10.9.3.1/24"]),
                link("cni0", &["10.9.3.1/24", "10.9.2.1/24"]),
                true,
            ),
            (link("cni0", &["10.9.2.1/24"]), link("cni1", &["10.9.2.1/24"]), false),
            (link("cni0", &["10.9.2.1/24"]), link("cni0", &["10.9.3.1/24"]), false),
            (link("cni0", &["10.9.2.1/24"]), link("cni0", &[]), false),
            (render("/a/b.conf", "/run/s"), render("/a/b.conf", "/run/s"), true),
            (render("/a/b.conf", "/run/s"), render("/a/c.conf", "/run/s"), false),
            (render("/a/b.conf", "/run/s"), render("/a/b.conf", "/run/t"), false),
            (
                route("10.244.9.0/24", "172.30.0.1"),
                route("10.244.9.0/24", "172.30.0.1"),
                true,
            ),
            (
                route("10.244.9.0/24", "172.30.0.1"),
                route("10.244.9.0/24", "172.30.0.2"),
                false,
            ),
            (
                route("10.244.9.0/24", "172.30.0.1"),
                route("10.244.8.0/24", "172.30.0.1"),
                false,
            ),
            (route("10.244.9.0/24", "172.30.0.1"), drops("blackhole"), false),
            (drops("blackhole"), drops("blackhole"), true),
            (drops("blackhole"), drops("prohibit"), false),
            (leases("/l/net", &both), leases("/l/net", &both), true),
            (leases("/l/net", &both), leases("/l/net", &one), true),
            // What came is left out.
            (leases("/l/net", &one), leases("/l/net", &both), true),
            (
                leases("/l/net", &one),
                leases("/l/net", &json!({"10.244.2.7": "cc"})),
                false,
            ),
            (leases("/l/net", &one), leases("/l/old", &one), false),
            // Whoever is there then.
            (daemon("kube-system/a"), daemon("kube-system/b"), true),
            (pods(&["default/a"]), pods(&["default/b", "default/c"]), true),
            (nodes("reach", &["n1"]), nodes("reach", &["n3"]), true),
            (nodes("announce", &["n1"]), nodes("announce", &["n1", "n3"]), true),
            (nodes("announce", &["n1"]), nodes("reach", &["n1"]), false),
            (json!({"do": "drain"}), json!({"do": "drain"}), true),
            (json!({"do": "drain"}), json!({"do": "cordon"}), false),
        ] {
            assert_eq!(
                within(&does(agreed.clone()), &does(now.clone())),
                same,
                "{agreed} {now}"
            );
        }
    }

    /// A plan that does these to its host.
    fn doing(all: &[Value]) -> NodePlan {
        let mut plan = plan();
        let steps = all.iter().map(|value| Step {
            does: does(value.clone()),
            text: String::new(),
        });
        plan.steps.splice(2..2, steps);
        plan
    }

    #[test]
    fn what_would_be_done_to_a_host_and_was_not_agreed_to_is_said() {
        let (a, b) = (
            leases("/l/a", &json!({"10.244.2.7": "aa"})),
            leases("/l/b", &json!({"10.244.3.7": "bb"})),
        );
        let bridge = link("cni0", &["10.99.2.1/24"]);
        let stale = file("/a/b.conf", "10.99.2.0/24");
        let agreed = Planned::from(&doing(&[stale.clone(), a.clone(), b.clone(), bridge.clone()]));
        let moved = |all: &[&Value]| {
            let all: Vec<Value> = all.iter().map(|&value| value.clone()).collect();
            agreed.moved(&doing(&all))
        };
        for same in [
            &[&stale, &a, &b, &bridge][..],
            &[&stale, &b, &bridge],
            &[&stale, &a, &bridge],
            &[&stale, &bridge],
        ] {
            assert_eq!(moved(same), None, "{same:?}");
        }
        let other = link("cni1", &["10.99.2.1/24"]);
        let why = "n2 was to remove device cni0 for 10.99.2.1/24, and now to remove device cni1 for 10.99.2.1/24";
        assert_eq!(moved(&[&stale, &a, &b, &other]).as_deref(), Some(why));
        let more = leases("/l/b", &json!({"10.244.3.7": "dd", "10.244.3.8": "cc"}));
        let why = moved(&[&stale, &a, &more, &bridge]).unwrap();
        assert!(
            why.contains("now to remove 2 leases from /l/b (10.244.3.7 of dd, 10.244.3.8 of cc)"),
            "{why}"
        );
        let new = leases("/l/c", &json!({"10.244.4.7": "dd"}));
        assert!(
            moved(&[&stale, &a, &b, &bridge, &new])
                .unwrap()
                .ends_with("which was not agreed to")
        );
        assert!(moved(&[&stale, &a, &b]).unwrap().starts_with("the steps of n2 were "));
    }

    #[test]
    fn leases_that_came_since_are_left_for_the_next_fix_and_no_reason_to_plan_again() {
        let a = leases("/l/a", &json!({"10.244.2.7": "aa"}));
        let b = leases("/l/b", &json!({"10.244.3.7": "bb"}));
        let agreed = Planned::from(&doing(&[a.clone(), b.clone()]));
        let cut = |all: &[&Value]| {
            let all: Vec<Value> = all.iter().map(|&value| value.clone()).collect();
            let mut plan = doing(&all);
            plan.mends.push("HOST05/n2".to_owned());
            assert_eq!(agreed.moved(&plan), None);
            let cut = agreed.cut(&mut plan);
            let left: Vec<Does> = of_host(&plan).cloned().collect();
            (cut, left, plan.mends.len())
        };
        let more = leases("/l/b", &json!({"10.244.3.7": "bb", "10.244.3.8": "cc"}));
        let new = leases("/l/b", &json!({"10.244.3.8": "cc"}));
        let of = |all: [&Value; 2]| all.map(|value| does(value.clone())).to_vec();
        assert_eq!(cut(&[&a, &b]), (0, of([&a, &b]), 2));
        assert_eq!(cut(&[&a, &more]), (1, of([&a, &b]), 1));
        assert_eq!(cut(&[&a, &new]), (1, vec![does(a.clone())], 1));
    }

    #[test]
    fn pods_to_replace_come_and_go_where_pods_are_set_up_anew() {
        let pods = json!({"do": "replace-pods", "pods": ["default/a"]});
        let daemon = json!({"do": "restart-daemon", "pod": "kube-system/a"});
        let rendered = render("/a/b.conf", "/run/s");
        for anew in [&rendered, &daemon, &link("cni0", &["10.99.2.1/24"])] {
            let (without, with) = (doing(from_ref(anew)), doing(&[anew.clone(), pods.clone()]));
            assert_eq!(Planned::from(&without).moved(&with), None, "{anew}");
            assert_eq!(Planned::from(&with).moved(&without), None, "{anew}");
        }
        let kubelet = json!({"do": "restart-kubelet"});
        let (without, with) = (doing(from_ref(&kubelet)), doing(&[kubelet.clone(), pods]));
        let why = Planned::from(&without).moved(&with).unwrap();
        assert!(why.starts_with("the steps of n2 were "), "{why}");
        assert_eq!(Planned::from(&with).moved(&without), None);
    }

    #[test]
    fn a_host_whose_leases_are_all_gone_is_only_started_anew_and_one_that_was_to_lose_more_is_not() {
        let daemon = json!({"do": "restart-daemon", "pod": "kube-system/a"});
        let by = |method: Method, all: &[&Value]| {
            let all: Vec<Value> = all.iter().map(|&value| value.clone()).collect();
            NodePlan { method, ..doing(&all) }
        };
        let lease = leases("/l/a", &json!({"10.244.2.7": "aa"}));
        let restart = by(Method::Restart, &[&daemon]);
        assert_eq!(
            Planned::from(&by(Method::Host, &[&lease, &daemon])).moved(&restart),
            None
        );
        let route = route("10.244.9.0/24", "172.30.0.1");
        let more = Planned::from(&by(Method::Host, &[&lease, &route, &daemon]));
        let why = "n2 was to be mended by host, and now by restart";
        assert_eq!(more.moved(&restart).as_deref(), Some(why));
        assert!(
            Planned::from(&restart)
                .moved(&by(Method::Host, &[&lease, &daemon]))
                .is_some()
        );
    }

    #[test]
    fn a_record_of_an_earlier_version_is_held_against_the_kinds_of_its_steps() {
        let (a, b) = (file("/a/b.conf", ""), file("/a/c.conf", ""));
        let mut agreed = serde_json::to_value(Planned::from(&doing(&[a]))).unwrap();
        agreed.as_object_mut().unwrap().remove("host");
        let agreed: Planned = serde_json::from_value(agreed).unwrap();
        assert_eq!(agreed.moved(&doing(from_ref(&b))), None);
        assert!(agreed.moved(&doing(&[b.clone(), b])).is_some());
        assert!(agreed.moved(&plan()).is_some());
    }

    #[test]
    fn a_plan_of_no_steps_is_the_same_as_itself() {
        let mut none = plan();
        none.steps.clear();
        assert_eq!(Planned::from(&none).moved(&none), None);
        assert!(Planned::from(&none).moved(&plan()).is_some());
    }
}
