//! A node: a machine with its own containerd and kubelet.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::ip::Ip;
use crate::kubernetes::cni;
use crate::kubernetes::control_plane::{API_SERVER, Ground};
use crate::kubernetes::error::{Error, Result, io};
use crate::kubernetes::image::IMAGE;
use crate::kubernetes::machine::Machine;
use crate::kubernetes::pki::write;
use crate::kubernetes::place;
use crate::kubernetes::scenario::{Cni, Containerd, Scenario};
use crate::kubernetes::service::{Recipe, Service, Where};
use crate::kubernetes::tools::{CNI_PLUGINS, Tools, debian, path_with};
use crate::netns::Netns;
use crate::topology::{self, Identity};

/// How long containerd may take to answer: half a second on an idle machine.
const READY: Duration = Duration::from_secs(30);

/// Where containerd listens, on the node.
pub(crate) const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// Where CNI plugins are, below the node's root. Not in `/opt`, which is the machine's.
pub(crate) const PLUGINS: &str = "var/lib/cni-plugins";

/// A node.
#[derive(Debug)]
pub struct Node {
    /// "n1".
    pub name: String,
    /// Its addresses on the segment, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Its namespaces and files.
    pub machine: Machine,
    /// A netlink socket in it.
    pub ip: Ip,
    /// containerd.
    pub containerd: Service,
    /// kubelet.
    pub kubelet: Service,
    lab: PathBuf,
    logs: PathBuf,
    ctr: PathBuf,
    version: Containerd,
}

/// What every node is made from.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The cluster's things.
    pub ground: &'a Ground<'a>,
    /// What the cluster is to be like.
    pub scenario: &'a Scenario,
    /// The segment's namespace, with br0.
    pub segment: &'a Netns,
    /// A netlink socket in it.
    pub segment_ip: &'a Ip,
    /// The image's archive.
    pub image: &'a Path,
    /// containerd's programs, where they are not Debian's.
    pub containerd: Option<&'a Tools>,
}

impl Node {
    /// Starts node `number` (1 for n1). `cgroup` is what its pods are below.
    pub fn start(number: u8, cgroup: &str, parts: &Parts<'_>) -> Result<Self> {
        let ground = parts.ground;
        let identity = Identity::new(number, parts.scenario.has_ipv6());
        let name = format!("n{number}");
        let (netns, ip) = wire(&name, &identity, parts)?;
        let machine = Machine::start(&netns, &ground.directory.join(&name), ground.lab)?;
        let logs = ground.directory.join("log");
        let recipe = |program: &str, path: PathBuf, arguments: &[&str]| Recipe {
            name: format!("{program} on {name}"),
            place: Where::Machine(machine.clone()),
            lab: ground.lab.to_owned(),
            program: path,
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: Vec::new(),
            log: logs.join(format!("{program}-{name}.log")),
        };
        let containerd_path = |program: &str| match parts.containerd {
            Some(tools) => tools.path(program),
            None => debian(program),
        };
        containerd_files(machine.root(), parts.scenario.cni)?;
        kubelet_files(machine.root(), &name, &identity.underlay, cgroup, ground)?;
        let containerd = recipe(
            "containerd",
            containerd_path("containerd")?,
            &["--config=/etc/containerd/config.toml"],
        );
        let addresses: Vec<String> = identity.underlay.iter().map(IpAddr::to_string).collect();
        let kubelet = recipe(
            "kubelet",
            ground.tools.path("kubelet")?,
            &[
                "--config=/var/lib/kubelet/config.yaml",
                "--kubeconfig=/etc/kubernetes/kubelet.conf",
                &format!("--hostname-override={name}"),
                &format!("--node-ip={}", addresses.join(",")),
                "--v=2",
            ],
        );
        let node = Self {
            containerd: Service::start(containerd)?,
            kubelet: Service::stopped(kubelet),
            name,
            addresses: identity.underlay,
            machine,
            ip,
            lab: ground.lab.to_owned(),
            logs,
            ctr: containerd_path("ctr")?,
            version: parts.scenario.containerd,
        };
        node.import(parts.image)?;
        node.kubelet.start_again()?;
        Ok(node)
    }

    /// Its files as seen from outside: `etc/cni/net.d` below it, `run`,
    /// `var/lib/kubelet`. What an agent gets as the host's root.
    pub fn root(&self) -> &Path {
        self.machine.root()
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        self.machine.netns()
    }

    /// Where its CNI configurations are, seen from outside.
    pub fn cni_directory(&self) -> PathBuf {
        self.root().join("etc/cni/net.d")
    }

    /// Where its CNI plugins are, seen from outside: Debian's and what a CNI adds.
    pub fn plugins(&self) -> PathBuf {
        self.root().join(PLUGINS)
    }

    /// containerd's socket, seen from outside. Inside it is
    /// `/run/containerd/containerd.sock`, as everywhere.
    pub fn containerd_socket(&self) -> PathBuf {
        self.root().join("run/containerd/containerd.sock")
    }

    /// kubelet's `--root-dir`, seen from outside.
    pub fn kubelet_directory(&self) -> PathBuf {
        self.root().join("var/lib/kubelet")
    }

    /// Runs a program on the node to its end.
    pub fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Result<Output> {
        let program = program.as_ref();
        let what = format!("{} {} on {}", program.display(), arguments.join(" "), self.name);
        let own = program.parent().unwrap_or(Path::new("/"));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("PATH", path_with(&[own]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = self.machine.spawn(command).map_err(io(what.clone()))?;
        child.wait_with_output().map_err(io(what))
    }

    /// Starts a program that stays, on the node: an agent, a daemon. It ends
    /// when the service is dropped. Its log is `NAME-NODE.log` beside the others.
    pub fn start_program(
        &self,
        name: &str,
        program: &Path,
        arguments: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
    ) -> Result<Service> {
        Service::start(Recipe {
            name: format!("{name} on {}", self.name),
            place: Where::Machine(self.machine.clone()),
            lab: self.lab.clone(),
            program: program.to_owned(),
            arguments,
            environment,
            log: self.logs.join(format!("{name}-{}.log", self.name)),
        })
    }

    /// The CNI configurations that are there, in the order in which runtimes look at them.
    pub fn conflists(&self) -> Result<Vec<PathBuf>> {
        cni::conflists(&self.cni_directory())
    }

    /// Removes every CNI configuration. containerd hears of it by itself.
    pub fn delete_conflist(&self) -> Result<()> {
        for path in self.conflists()? {
            fs::remove_file(&path).map_err(io(format!("remove {}", path.display())))?;
        }
        Ok(())
    }

    /// A pod's network namespace, by what the runtime's CNI library has kept of it.
    pub fn pod_netns(&self, namespace: &str, pod: &str) -> Result<Netns> {
        let results = self.root().join("var/lib/cni/results");
        let path = cni::netns_of(&results, namespace, pod)?;
        let file = self
            .machine
            .open(&path)
            .map_err(io(format!("open {} on {}", path.display(), self.name)))?;
        Ok(Netns::from_file(&format!("{namespace}/{pod}"), file))
    }

    /// `ctr -n k8s.io ARGUMENTS`.
    pub fn ctr(&self, arguments: &[&str]) -> Result<Output> {
        let all: Vec<&str> = ["-a", CONTAINERD, "-n", "k8s.io"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        self.run(&self.ctr, &all)
    }

    /// Imports an image's archive as soon as containerd answers.
    ///
    /// # Errors
    ///
    /// containerd has ended, or does not take it for half a minute.
    pub fn import(&self, image: &Path) -> Result<()> {
        let start = Instant::now();
        // containerd 2 imports by its transfer service, which unpacks for the overlayfs snapshotter only.
        let local: &[&str] = match self.version {
            Containerd::Debian => &[],
            Containerd::V2 => &["--local"],
        };
        loop {
            self.containerd.check()?;
            let path = image.to_string_lossy();
            let arguments = [&["images", "import"], local, &["--snapshotter", "native", &path]].concat();
            let output = self.ctr(&arguments)?;
            if output.status.success() {
                return Ok(());
            }
            if start.elapsed() >= READY {
                return Err(Error::TimedOut {
                    what: format!("containerd on {} takes {path}", self.name),
                    patience: READY,
                    last: String::from_utf8_lossy(&output.stderr).into_owned(),
                });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The node's namespace, joined to the segment.
fn wire(name: &str, identity: &Identity, parts: &Parts<'_>) -> Result<(Netns, Ip)> {
    let netns = topology::namespace(name)?;
    topology::forward(&netns)?;
    let ip = Ip::new(&netns)?;
    ip.set_up("lo")?;
    ip.add_veth("eth0", name, parts.segment)?;
    parts.segment_ip.set_master(name, "br0")?;
    parts.segment_ip.set_up(name)?;
    for &address in &identity.underlay {
        ip.add_addr("eth0", topology::underlay_net(address))?;
    }
    ip.set_up("eth0")?;
    for route in topology::default_routes(identity) {
        ip.add_route(&route)?;
    }
    Ok((netns, ip))
}

/// containerd's configuration, of the version that 1.6 and 2.x both read.
pub(crate) fn containerd_files(root: &Path, cni: Cni) -> Result<()> {
    for directory in [
        "etc/containerd",
        "etc/cni/net.d",
        "run/netns",
        "var/log/pods",
        "var/log/containers",
    ] {
        place::make(&root.join(directory))?;
    }
    let plugins = root.join(PLUGINS);
    place::make(&plugins)?;
    for entry in fs::read_dir(CNI_PLUGINS).map_err(io(format!("read {CNI_PLUGINS}")))? {
        let from = entry.map_err(io(format!("read {CNI_PLUGINS}")))?;
        std::os::unix::fs::symlink(from.path(), plugins.join(from.file_name())).map_err(io("link a CNI plugin"))?;
    }
    let template = match cni {
        Cni::Template => {
            write(&root.join("etc/containerd/cni.template"), cni::TEMPLATE, 0o644)?;
            "conf_template = \"/etc/containerd/cni.template\""
        }
        Cni::None | Cni::Bridge | Cni::Flannel(_) => "",
    };
    // oom_score_adj below the own one is refused where CAP_SYS_RESOURCE is
    // missing, and runc then fails with no word about why.
    let text = format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = "{CONTAINERD}"
[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/{PLUGINS}"
conf_dir = "/etc/cni/net.d"
{template}
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#
    );
    write(&root.join("etc/containerd/config.toml"), &text, 0o644)
}

/// kubelet's files, where kubeadm puts them.
fn kubelet_files(root: &Path, name: &str, addresses: &[IpAddr], cgroup: &str, ground: &Ground<'_>) -> Result<()> {
    for directory in ["etc/kubernetes/pki", "var/lib/kubelet/pki"] {
        place::make(&root.join(directory))?;
    }
    let mut names = vec![name.to_owned()];
    names.extend(addresses.iter().map(IpAddr::to_string));
    let pair = ground.pki.server(&format!("kubelet-{name}"), &names)?;
    let copies = [
        (ground.pki.ca(), "etc/kubernetes/pki/ca.crt"),
        (pair.certificate, "var/lib/kubelet/pki/kubelet.crt"),
        (pair.key, "var/lib/kubelet/pki/kubelet.key"),
    ];
    for (from, to) in copies {
        fs::copy(&from, root.join(to)).map_err(io(format!("copy {}", from.display())))?;
    }
    let user = format!("system:node:{name}");
    let kubeconfig = root.join("etc/kubernetes/kubelet.conf");
    ground
        .pki
        .kubeconfig(&kubeconfig, API_SERVER, &user, Some("system:nodes"))?;
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": "/etc/kubernetes/pki/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": "/var/lib/kubelet/pki/kubelet.crt",
        "tlsPrivateKeyFile": "/var/lib/kubelet/pki/kubelet.key",
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "cgroupsPerQOS": true,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        // The machine's disk is not this node's to judge.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        // Less than its own is refused to who lacks CAP_SYS_RESOURCE.
        "oomScoreAdj": 0,
        "resolvConf": "",
    });
    write(
        &root.join("var/lib/kubelet/config.yaml"),
        &format!("{config:#}\n"),
        0o600,
    )
}

/// The whole of a file that is opened on a node.
pub fn read_on(node: &Node, path: &Path) -> Result<String> {
    let what = format!("read {} on {}", path.display(), node.name);
    let mut file = node.machine.open(path).map_err(io(what.clone()))?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(io(what))?;
    Ok(text)
}
