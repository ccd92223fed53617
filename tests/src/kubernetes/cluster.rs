//! A whole cluster, from its first directory to its last cgroup.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::binaries;
use crate::forward::{self, Forward};
use crate::kubernetes::client::{Api, is_ready, pod_cidrs};
use crate::kubernetes::control_plane::{API_PORT, API_SERVER, ControlPlane, Ground, Kcm, make_logs};
use crate::kubernetes::error::{Error, Result, io};
use crate::kubernetes::node::{Node, Parts};
use crate::kubernetes::pki::Pki;
use crate::kubernetes::place::{self, Place};
use crate::kubernetes::scenario::{Cni, Containerd, Scenario};
use crate::kubernetes::service::{Recipe, Service, Where};
use crate::kubernetes::tools::{self, Tools};
use crate::kubernetes::{cni, image, optional};
use crate::topology;

/// How long a node may take until it is Ready: 15 s for two on two idle cores.
const READY: Duration = Duration::from_secs(120);

/// A running cluster. Everything of it is gone when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    // In this order they are dropped: who uses others goes before them.
    api: Api,
    forward: Forward,
    flanneld: Vec<Service>,
    nodes: Vec<Node>,
    plane: ControlPlane,
    pki: Pki,
    lab: PathBuf,
    scenario: Scenario,
    // Last: nothing runs any more when its directory and cgroups go.
    place: Removed,
}

/// One cluster for all tests of a binary that run at a time: the first starts
/// it, and it ends with the last. `place` is the binary's own static.
///
/// # Panics
///
/// Where it cannot be started: a test has nothing else to do then.
pub fn shared(place: &'static Mutex<Weak<Cluster>>, scenario: impl FnOnce() -> Scenario) -> Arc<Cluster> {
    // A test that failed while it started leaves nothing half made here.
    let mut slot = place.lock().unwrap_or_else(PoisonError::into_inner);
    slot.upgrade().unwrap_or_else(|| {
        let cluster = Cluster::start(scenario(), &|text| eprintln!("{text}"));
        let cluster = Arc::new(cluster.unwrap_or_else(|error| panic!("the cluster does not start: {error}")));
        *slot = Arc::downgrade(&cluster);
        cluster
    })
}

/// A place that is removed when it is dropped.
#[derive(Debug)]
struct Removed(Place);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Err(error) = self.0.remove() {
            eprintln!("cluster {} left something behind: {error}", self.0.id());
        }
    }
}

impl Cluster {
    /// Starts what `scenario` asks for, and returns once its nodes are Ready
    /// (those that can be: without a CNI configuration none is).
    ///
    /// What an earlier cluster left whose process was killed is removed first.
    pub fn start(scenario: Scenario, progress: &dyn Fn(&str)) -> Result<Self> {
        if let Some(missing) = tools::missing_for_kubernetes() {
            return Err(Error::Missing(missing));
        }
        if scenario.nodes > 40 {
            return Err(Error::Malformed(format!("{} nodes: 40 are possible", scenario.nodes)));
        }
        let base = place::base();
        for id in place::remove_stale(&base)? {
            progress(&format!("removed what cluster {id} had left"));
        }
        if matches!(scenario.cni, Cni::Flannel(_)) && scenario.has_ipv6() {
            let why = "the bench's flannel speaks IPv4 only: leave --dual-stack out, or take another --cni";
            return Err(Error::Malformed(why.to_owned()));
        }
        let kubernetes = tools::build(&tools::KUBERNETES, progress)?;
        let containerd = match scenario.containerd {
            Containerd::Debian => None,
            Containerd::V2 => Some(tools::build(&optional::CONTAINERD, progress)?),
        };
        let flannel = match scenario.cni {
            Cni::Flannel(_) => Some(tools::build(&optional::FLANNEL, progress)?),
            Cni::None | Cni::Template | Cni::Bridge => None,
        };
        let image = image::archive()?;
        let binaries = binaries::find(progress).map_err(|error| Error::Missing(error.to_string()))?;
        let start = Instant::now();
        let place = Removed(Place::new(&base)?);
        let directory = place.0.directory().to_owned();
        make_logs(&directory)?;
        let pki = Pki::new(&directory.join("pki"))?;
        let ground = Ground {
            directory: &directory,
            pki: &pki,
            tools: &kubernetes,
            lab: &binaries.lab,
        };
        let plane = ControlPlane::start(&scenario, &ground)?;
        let target = (topology::GATEWAY, API_PORT).into();
        let forward = forward::open(&plane.netns, 0, target).map_err(io("listen on 127.0.0.1"))?;
        let kubeconfig = directory.join("kubeconfig");
        let server = format!("https://{}", forward.address());
        pki.kubeconfig(&kubeconfig, &server, "admin", Some("system:masters"))?;
        let api = Api::new(&kubeconfig)?;
        let patience = Duration::from_secs(60);
        api.wait("the API server is ready", patience, || {
            plane.etcd.check()?;
            plane.apiserver.check()?;
            api.raw("/readyz").map(Some)
        })?;
        progress(&format!("API server ready after {:.1?}", start.elapsed()));
        plane.start_controllers(&scenario)?;
        let parts = Parts {
            ground: &ground,
            scenario: &scenario,
            segment: &plane.netns,
            segment_ip: &plane.ip,
            image: &image,
            containerd: containerd.as_ref(),
        };
        let nodes = start_nodes(&place.0, &parts)?;
        let mut cluster = Self {
            api,
            forward,
            flanneld: Vec::new(),
            nodes,
            plane,
            pki,
            lab: binaries.lab.clone(),
            scenario,
            place,
        };
        cluster.bring_up(flannel.as_ref())?;
        progress(&format!(
            "{} nodes Ready after {:.1?}",
            cluster.nodes.len(),
            start.elapsed()
        ));
        Ok(cluster)
    }

    /// Gives the nodes their CNI configuration and waits until they are Ready.
    fn bring_up(&mut self, flannel: Option<&Tools>) -> Result<()> {
        let wait = match self.scenario.cni {
            Cni::None => return Ok(()),
            Cni::Template => self.scenario.allocate_node_cidrs,
            Cni::Bridge => {
                if self.scenario.allocate_node_cidrs {
                    self.sync_bridge()?;
                }
                self.scenario.allocate_node_cidrs
            }
            Cni::Flannel(backend) => {
                if let Some(tools) = flannel {
                    self.flanneld = optional::start_flannel(self, tools, backend)?;
                }
                self.scenario.allocate_node_cidrs
            }
        };
        if wait {
            self.wait_ready(READY)?;
        }
        Ok(())
    }

    /// Waits until all nodes with a machine are Ready.
    pub fn wait_ready(&self, patience: Duration) -> Result<()> {
        for node in &self.nodes {
            let start = Instant::now();
            while !self.api.node(&node.name)?.is_some_and(|node| is_ready(&node)) {
                for service in [&node.kubelet, &node.containerd, &self.plane.scheduler] {
                    service.check()?;
                }
                if start.elapsed() >= patience {
                    return Err(Error::TimedOut {
                        what: format!("node {} is Ready", node.name),
                        patience,
                        last: node.kubelet.tail(),
                    });
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(())
    }

    fn wait_cidrs(&self, node: &Node) -> Result<Vec<IpNet>> {
        self.api.wait(&format!("node {} has a pod CIDR", node.name), READY, || {
            node.kubelet.check()?;
            self.plane.kcm.check()?;
            let cidrs = self
                .api
                .node(&node.name)?
                .map(|node| pod_cidrs(&node))
                .unwrap_or_default();
            Ok(Some(cidrs).filter(|cidrs| !cidrs.is_empty()))
        })
    }

    /// Writes every node's conflist with the CIDRs that its Node object has
    /// now, and the routes between them: what [`Cni::Bridge`] starts with.
    pub fn sync_bridge(&self) -> Result<()> {
        let cidrs: Vec<(&Node, Vec<IpNet>)> = self
            .nodes
            .iter()
            .map(|node| Ok((node, self.wait_cidrs(node)?)))
            .collect::<Result<_>>()?;
        for (node, cidrs) in &cidrs {
            cni::write_conflist(&node.cni_directory(), cni::CONFLIST, &cni::bridge(cidrs))?;
        }
        cni::peer_routes(&cidrs)
    }

    /// Writes one node's conflist anew with the CIDRs that its Node object has now.
    pub fn sync_bridge_of(&self, node: &str) -> Result<()> {
        let node = self.node(node)?;
        let cidrs = self.wait_cidrs(node)?;
        cni::write_conflist(&node.cni_directory(), cni::CONFLIST, &cni::bridge(&cidrs))
    }

    /// The API server, through a client of the administrator's.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The control plane's programs and namespace.
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// kube-controller-manager.
    pub fn kcm(&self) -> &Kcm {
        &self.plane.kcm
    }

    /// The nodes, n1 first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        let found = self.nodes.iter().find(|node| node.name == name);
        found.ok_or_else(|| Error::Malformed(format!("no node {name}")))
    }

    /// flanneld by node, where the scenario has it.
    pub fn flanneld(&self, node: &str) -> Result<&Service> {
        let position = self.nodes.iter().position(|known| known.name == node);
        let found = position.and_then(|position| self.flanneld.get(position));
        found.ok_or_else(|| Error::Malformed(format!("no flanneld on {node}")))
    }

    /// What it was started from.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The cluster's name on this machine.
    pub fn id(&self) -> String {
        self.place.0.id()
    }

    /// Its directory: logs are in `log`, each node's root in `n1` and so on.
    pub fn directory(&self) -> &Path {
        self.place.0.directory()
    }

    /// The cgroup that all its pods are below, in every hierarchy.
    pub fn cgroup(&self) -> String {
        self.place.0.cgroup()
    }

    /// The administrator's kubeconfig, through 127.0.0.1: for this machine's own programs.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory().join("kubeconfig")
    }

    /// Where 127.0.0.1 leads to the API server.
    pub fn address(&self) -> std::net::SocketAddr {
        self.forward.address()
    }

    /// A kubeconfig for another user, through 127.0.0.1, or with `inside` for
    /// a program on the nodes' segment. What the user may do is RBAC's to say.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>, inside: bool) -> Result<PathBuf> {
        let side = if inside { "inside" } else { "outside" };
        let path = self
            .directory()
            .join(format!("{}-{side}.kubeconfig", user.replace(':', "-")));
        let outside = format!("https://{}", self.forward.address());
        let server = if inside { API_SERVER } else { &outside };
        self.pki.kubeconfig(&path, server, user, group)?;
        Ok(path)
    }

    /// Starts a program that stays, in the control plane's namespace: an
    /// aggregator. It ends when the service is dropped; its log is beside the others.
    pub fn start_program(
        &self,
        name: &str,
        program: &Path,
        arguments: Vec<std::ffi::OsString>,
        environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    ) -> Result<Service> {
        Service::start(Recipe {
            name: name.to_owned(),
            place: Where::Netns(self.plane.netns.clone()),
            lab: self.lab.clone(),
            program: program.to_owned(),
            arguments,
            environment,
            log: self.directory().join("log").join(format!("{name}.log")),
        })
    }
}

/// All at once: each waits mostly for its own containerd.
fn start_nodes(place: &Place, parts: &Parts<'_>) -> Result<Vec<Node>> {
    let start = |number: u8| {
        let cgroup = place.make_cgroup(&format!("n{number}"))?;
        Node::start(number, &cgroup, parts)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=parts.scenario.nodes)
            .map(|number| scope.spawn(move || start(number)))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Node>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        // Every thread is waited for, also after a failure.
        threads.into_iter().map(join).collect::<Vec<_>>().into_iter().collect()
    })
}
