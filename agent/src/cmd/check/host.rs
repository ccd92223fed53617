//! One look at this host: its kernel, its files, and what its Node should have.

use std::collections::BTreeSet;

use cidrift_proto::facts::Gap;
use ipnet::IpNet;
use jiff::Timestamp;

use super::{CheckArgs, Report, report};
use crate::check::{Expectation, Input, model};
use crate::observe::cni::CniReader;
use crate::observe::host::HostReader;
use crate::observe::netlink;
use crate::observe::node::{self, NodeError};
use crate::observe::root::HostRoot;
use crate::resolve::{Fib, Scope};
use crate::view::Kernel;
use crate::view::host::{Process, Program};

/// A host, and what its Node should have.
pub(super) struct Host<'a> {
    args: &'a CheckArgs,
    root: HostRoot,
    /// Known once the host was looked at: its kubelet may name it.
    node: Option<Node>,
    reader: HostReader,
}

/// The host's Node.
struct Node {
    name: String,
    /// What the control plane says, and kube-router's own CIDRs where it has some.
    told: Option<(Expectation, Vec<IpNet>)>,
    problems: Vec<String>,
}

impl Node {
    /// The Node of a host with these processes.
    async fn of(args: &CheckArgs, root: &HostRoot, processes: &[Process]) -> Self {
        let mut problems = Vec::new();
        let name = args
            .node_name
            .clone()
            .or_else(|| overridden(processes))
            .or_else(host_name);
        let name = name.unwrap_or_else(|| {
            problems.push("the host name cannot be read: name the Node with --node-name".to_owned());
            "unknown".to_owned()
        });
        if !args.host_root.is_dir() {
            problems.push(format!("--host-root {} is not a directory", args.host_root.display()));
        }
        let told = match expect(args, root, &name).await {
            Ok(told) => Some(told),
            Err(error) => {
                problems.push(error.to_string());
                None
            }
        };
        Self { name, told, problems }
    }
}

impl<'a> Host<'a> {
    pub(super) fn new(args: &'a CheckArgs) -> Self {
        let root = HostRoot::new(&args.host_root);
        Self {
            args,
            node: None,
            reader: HostReader::new(root.clone()),
            root,
        }
    }

    pub(super) async fn look(&mut self, now: Timestamp) -> Report {
        let reader = CniReader::new(self.root.clone(), self.args.cni_dir.clone());
        let cni = tokio::task::spawn_blocking(move || reader.read())
            .await
            .unwrap_or_default();
        let host = self.reader.look(&cni).await;
        let node = match self.node.take() {
            Some(node) => node,
            None => {
                let processes = host.processes.get().map_or(&[][..], Vec::as_slice);
                Node::of(self.args, &self.root, processes).await
            }
        };
        let node = self.node.insert(node);
        let expectation = node.told.as_ref().map(|(told, kube_router)| {
            let bridge = cni.chosen.as_ref().and_then(|config| config.bridge.as_deref());
            if bridge == Some("kube-bridge") && !kube_router.is_empty() {
                return Expectation {
                    source: format!("annotation kube-router.io/pod-cidrs of {}", told.source),
                    pod_cidrs: kube_router.clone(),
                    ..told.clone()
                };
            }
            told.clone()
        });
        let (kernel, kernel_at, gaps) = kernel(now).await;
        let mut fib = Fib::new();
        let scope = expectation.clone().unwrap_or_default();
        let model = model(&cni).ok();
        fib.set_scope(Scope {
            interest: scope.pod_cidrs.clone(),
            internal_ips: scope.internal_ips,
            pod_cidrs: scope.pod_cidrs,
            pod_device: model.and_then(|model| model.delivery.device().map(str::to_owned)),
        });
        fib.rebuild(&kernel, kernel_at);
        let input = Input {
            node: &node.name,
            expectation: expectation.as_ref(),
            kernel: &kernel,
            kernel_at,
            kernel_gaps: &gaps,
            links_changed_at: None,
            cni: &cni,
            cni_at: now,
            cni_changed_at: None,
            lookup: &fib,
            host: &host,
            lease_growth: &[],
            now,
        };
        report(&input, node.problems.clone(), now)
    }
}

/// The kernel's state, when it was read, and what of it could not be read that the rules rest on.
async fn kernel(now: Timestamp) -> (Kernel, Timestamp, Vec<Gap>) {
    match netlink::look(&netlink::Options::default()).await {
        Ok(look) => {
            // Where a tunnel's frames go is between hosts, not this host's own.
            let matters = |gap: &&netlink::Gap| !matches!(gap.part, netlink::Part::Neighbours | netlink::Part::Fdb);
            let gaps = look.gaps.iter().filter(matters).map(|gap| Gap {
                what: gap.part.to_string(),
                why: gap.reason.clone(),
            });
            (look.kernel, look.at, gaps.collect())
        }
        Err(error) => {
            let gap = Gap {
                what: "the kernel's state".to_owned(),
                why: error.to_string(),
            };
            (Kernel::default(), now, vec![gap])
        }
    }
}

/// The name that this host's kubelet was told (`--hostname-override`, k3s' `--node-name`), as the kubelet takes it: in lower
/// case. `None` where none was, or two kubelets were told different ones.
fn overridden(processes: &[Process]) -> Option<String> {
    let kubelets = processes.iter().filter(|process| process.program == Program::Kubelet);
    let names: BTreeSet<String> = kubelets
        .filter_map(|process| process.settings.get("hostname-override"))
        .map(|setting| setting.value.trim().to_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    names.first().filter(|_| names.len() == 1).cloned()
}

/// As the kubelet does: the host name, in lower case.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim().to_lowercase();
    (!name.is_empty()).then_some(name)
}

async fn expect(args: &CheckArgs, root: &HostRoot, node: &str) -> Result<(Expectation, Vec<IpNet>), NodeError> {
    if !args.pod_cidrs.is_empty() {
        let expectation = Expectation {
            source: "--pod-cidr".to_owned(),
            node_known: true,
            pod_cidrs: args.pod_cidrs.iter().map(IpNet::trunc).collect(),
            internal_ips: args.internal_ips.clone(),
            ..Expectation::default()
        };
        return Ok((expectation, Vec::new()));
    }
    let (facts, from) = match &args.cluster_state {
        Some(path) => node::from_cluster_state(path, node)?,
        None => node::from_kubeconfig(root, args.kubeconfig.as_deref(), node).await?,
    };
    let expectation = Expectation {
        source: format!("Node {node} ({from})"),
        observed_at: Some(Timestamp::now()),
        ..Expectation::default()
    };
    Ok(match facts {
        None => (expectation, Vec::new()),
        Some(facts) => (
            Expectation {
                node_known: true,
                pod_cidrs: facts.pod_cidrs,
                internal_ips: facts.internal_ips,
                kube_subnet_manager: facts.kube_subnet_manager,
                ..expectation
            },
            facts.kube_router_cidrs,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::host::Setting;

    fn process(program: Program, name: Option<&str>) -> Process {
        let setting = name.map(|name| Setting {
            value: name.to_owned(),
            source: "command line".to_owned(),
        });
        Process {
            program,
            embedded_in: None,
            pid: 7,
            started_at: None,
            settings: setting
                .map(|setting| ("hostname-override".to_owned(), setting))
                .into_iter()
                .collect(),
            problem: None,
        }
    }

    #[test]
    fn the_node_is_called_what_its_kubelet_was_told() {
        let kubelet = |name| process(Program::Kubelet, name);
        let worker = Some("worker-3".to_owned());
        assert_eq!(overridden(&[kubelet(Some("Worker-3 "))]), worker);
        assert_eq!(overridden(&[kubelet(None), kubelet(Some("worker-3"))]), worker);
        assert_eq!(overridden(&[kubelet(None)]), None);
        assert_eq!(overridden(&[kubelet(Some(""))]), None);
        assert_eq!(
            overridden(&[kubelet(Some("a")), kubelet(Some("b"))]),
            None,
            "it is not guessed"
        );
        assert_eq!(
            overridden(&[process(Program::Proxy, Some("proxy"))]),
            None,
            "kube-proxy's is no Node's name"
        );
    }
}
