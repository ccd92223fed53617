//! A host with a real container runtime and nothing of Kubernetes: containerd (Debian's 1.6, or 2.4.2 built by Go),
//! runc and Debian's CNI plugins in a machine of its own ([`Machine`]), and sandboxes that are made as a kubelet makes
//! them. It takes a second or two to start, and needs root ([`Need::Containerd`](crate::require::Need::Containerd)).
//!
//! ```no_run
//! use cidrift_lab::kubernetes::Containerd;
//! use cidrift_lab::kubernetes::cni::bridge;
//! use cidrift_lab::runtime::RuntimeHost;
//! use cidrift_agent::observe::cri::CriReader;
//! use cidrift_agent::observe::root::HostRoot;
//! use cidrift_agent::view::Observed;
//! use jiff::Timestamp;
//! use tokio::runtime::Builder;
//!
//! # fn main() -> Result<(), cidrift_lab::kubernetes::Error> {
//! // In a test, first: if !have(Need::Containerd) { return; }
//! let host = RuntimeHost::start(Containerd::Debian)?;
//! host.write_conflist(&bridge(&["10.244.1.0/29".parse().unwrap()]))?;
//! let web = host.run_sandbox("web")?;
//! // What there is of it: host.root().join("var/lib/cni/networks/bench") has its lease, …/cni/results its result,
//! // host.containerd.log() what containerd said of it.
//! let inside = host.sandbox_netns("web")?;
//! // An observer of the agent gets host.root(). It looks from within the host's network namespace, as an agent does:
//! // the sockets of another are none of its host's. On a thread with an async runtime of its own:
//! let mut reader = CriReader::new(HostRoot::new(host.root()));
//! let seen = host.netns().run(|| {
//!     let runtime = Builder::new_current_thread().enable_all().build().unwrap();
//!     runtime.block_on(reader.look(&Observed::not_yet(), Timestamp::now()))
//! });
//! let (runtime, sandboxes) = seen.unwrap();
//! # drop((runtime, sandboxes));
//! host.remove_sandbox(&web)?;
//! # drop(inside);
//! # Ok(())
//! # }   // Processes, mounts, namespaces, cgroups and files are gone here, after a panic as well.
//! ```

mod cri;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use self::cri::{Answer, Cri, Pod};
use crate::binaries::{self, Binaries};
use crate::ip::Ip;
use crate::kubernetes::cni;
use crate::kubernetes::error::{Error, Result, io};
use crate::kubernetes::image;
use crate::kubernetes::machine::Machine;
use crate::kubernetes::node::{CONTAINERD, PLUGINS, containerd_files};
use crate::kubernetes::optional;
use crate::kubernetes::pki::write;
use crate::kubernetes::place::{self, Place};
use crate::kubernetes::service::{Recipe, Service, Where};
use crate::kubernetes::tools::{self, debian, path_with};
use crate::kubernetes::{Cni, Containerd};
use crate::netns::Netns;
use crate::topology;

/// How long containerd may take to answer and to take in the image: half a second each on an idle machine.
const READY: Duration = Duration::from_secs(30);

/// The host. Its fields are dropped from first to last: programs, then the machine, then what is left on disk.
#[derive(Debug)]
pub struct RuntimeHost {
    /// A kubelet's calls.
    pub cri: Cri,
    /// A netlink socket in its network namespace.
    pub ip: Ip,
    /// containerd: it can be stopped, killed and started again, and says what it said.
    pub containerd: Service,
    /// Namespaces and files.
    pub machine: Machine,
    binaries: Binaries,
    ctr: PathBuf,
    cgroup: String,
    place: Removed,
}

/// Removes the host's directory and cgroups when everything else is gone.
#[derive(Debug)]
struct Removed(Place);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Err(error) = self.0.remove() {
            eprintln!("host {} left something behind: {error}", self.0.id());
        }
    }
}

impl RuntimeHost {
    /// Starts one without any CNI configuration, and returns once containerd answers and has its image.
    pub fn start(version: Containerd) -> Result<Self> {
        Self::start_with(version, Cni::None)
    }

    /// The same with `conf_template` in containerd's configuration ([`cni::TEMPLATE`]).
    pub fn start_with_template(version: Containerd) -> Result<Self> {
        Self::start_with(version, Cni::Template)
    }

    fn start_with(version: Containerd, cni: Cni) -> Result<Self> {
        let say = |text: &str| eprintln!("{text}");
        let tools = match version {
            Containerd::Debian => None,
            Containerd::V2 => Some(tools::build(&optional::CONTAINERD, &say)?),
        };
        let program = |name: &str| match &tools {
            Some(tools) => tools.path(name),
            None => debian(name),
        };
        let binaries = binaries::find(say).map_err(|error| Error::Missing(error.to_string()))?;
        let image = image::archive()?;
        // Of a host whose process was killed.
        place::remove_stale(&place::base())?;
        let place = Removed(Place::new(&place::base())?);
        let cgroup = place.0.make_cgroup("h1")?;
        let netns = topology::namespace("h1")?;
        topology::forward(&netns)?;
        let ip = Ip::new(&netns)?;
        ip.set_up("lo")?;
        let root = place.0.directory().join("h1");
        place::make(&root)?;
        let machine = Machine::start(&netns, &root, &binaries.lab)?;
        containerd_files(machine.root(), cni)?;
        // A sandbox gets a copy of it, where the kubelet says nothing else.
        write(&machine.root().join("etc/resolv.conf"), "", 0o644)?;
        let containerd = Service::start(Recipe {
            name: "containerd on h1".to_owned(),
            place: Where::Machine(machine.clone()),
            lab: binaries.lab.clone(),
            program: program("containerd")?,
            arguments: vec!["--config=/etc/containerd/config.toml".into()],
            environment: Vec::new(),
            log: place.0.directory().join("containerd.log"),
        })?;
        let host = Self {
            cri: Cri::new(&root.join(CONTAINERD.trim_start_matches('/')))?,
            ip,
            containerd,
            machine,
            ctr: program("ctr")?,
            binaries,
            cgroup,
            place,
        };
        host.import(&image, version)?;
        Ok(host)
    }

    /// Imports the image as soon as containerd answers.
    fn import(&self, image: &Path, version: Containerd) -> Result<()> {
        let path = image.to_string_lossy();
        let mut arguments = vec!["images", "import", "--snapshotter", "native"];
        if version == Containerd::V2 {
            // Its daemon does not unpack for the native snapshotter ("no unpack platforms defined"); ctr itself does.
            arguments.push("--local");
        }
        arguments.push(&path);
        let start = Instant::now();
        loop {
            self.containerd.check()?;
            let output = self.ctr(&arguments)?;
            if output.status.success() {
                return Ok(());
            }
            if start.elapsed() >= READY {
                return Err(Error::TimedOut {
                    what: "containerd on h1 takes its image".to_owned(),
                    patience: READY,
                    last: String::from_utf8_lossy(&output.stderr).into_owned(),
                });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Its files as seen from outside, what an agent gets as the host's root.
    pub fn root(&self) -> &Path {
        self.machine.root()
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        self.machine.netns()
    }

    /// The directory of everything of it, for tests of what is left.
    pub fn directory(&self) -> &Path {
        self.place.0.directory()
    }

    /// The programs under test.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Where its CNI configurations are, seen from outside.
    pub fn cni_directory(&self) -> PathBuf {
        self.root().join("etc/cni/net.d")
    }

    /// Where its CNI plugins are, seen from outside: links to Debian's.
    pub fn plugins(&self) -> PathBuf {
        self.root().join(PLUGINS)
    }

    /// host-local's leases of a CNI network, seen from outside.
    pub fn leases(&self, network: &str) -> PathBuf {
        self.root().join("var/lib/cni/networks").join(network)
    }

    /// Writes the CNI configuration ([`cni::CONFLIST`]) and waits until containerd has loaded it. It is loaded by a
    /// restart, which is what tells for certain that it is this one and not the one before.
    pub fn write_conflist(&self, conflist: &Value) -> Result<()> {
        cni::write_conflist(&self.cni_directory(), cni::CONFLIST, conflist)?;
        self.containerd.restart()?;
        self.wait_network_ready(true).map(drop)
    }

    /// Removes every CNI configuration. What containerd has loaded of it is gone once it is restarted.
    pub fn delete_conflists(&self) -> Result<()> {
        for path in cni::conflists(&self.cni_directory())? {
            fs::remove_file(&path).map_err(io(format!("remove {}", path.display())))?;
        }
        Ok(())
    }

    /// Waits until `NetworkReady` is so; returns its message.
    pub fn wait_network_ready(&self, ready: bool) -> Result<String> {
        self.wait(&format!("NetworkReady is {ready}"), READY, || {
            self.containerd.check()?;
            // While it starts it refuses.
            let told = self.cri.network_ready().ok().filter(|(is, _)| *is == ready);
            Ok(told.map(|(_, message)| message))
        })
    }

    /// Makes a sandbox of the pod "default/NAME" with a network of its own; returns its id.
    pub fn run_sandbox(&self, name: &str) -> Result<String> {
        self.try_sandbox(name, false)
            .map_err(cri::refused(format!("sandbox {name}")))
    }

    /// The same where the runtime may refuse it: with its own words.
    pub fn try_sandbox(&self, name: &str, host_network: bool) -> Answer<String> {
        self.cri.run(&Pod {
            name,
            host_network,
            cgroup: &self.cgroup,
        })
    }

    /// Stops and removes a sandbox, as the kubelet does with a pod that is deleted.
    pub fn remove_sandbox(&self, id: &str) -> Result<()> {
        let what = || cri::refused(format!("remove sandbox {id}"));
        self.cri.stop(id).map_err(what())?;
        self.cri.remove(id).map_err(what())
    }

    /// The network namespace of the pod "default/NAME", by what libcni keeps of it.
    pub fn sandbox_netns(&self, name: &str) -> Result<Netns> {
        let path = cni::netns_of(&self.root().join("var/lib/cni/results"), "default", name)?;
        let file = self.machine.open(&path);
        let file = file.map_err(io(format!("open {} on h1", path.display())))?;
        Ok(Netns::from_file(name, file))
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

    /// Runs a program on the host, where paths are those of a real one, to its end.
    pub fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Result<Output> {
        let program = program.as_ref();
        let what = format!("{} {} on h1", program.display(), arguments.join(" "));
        let own = program.parent().unwrap_or(Path::new("/"));
        let mut command = Command::new(program);
        command
            .args(arguments.iter().map(OsString::from))
            .env("PATH", path_with(&[own]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = self.machine.spawn(command).map_err(io(what.clone()))?;
        child.wait_with_output().map_err(io(what))
    }

    /// Waits until `look` gives something; the end of containerd's log is in the error otherwise.
    pub fn wait<T>(&self, what: &str, patience: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            if start.elapsed() >= patience {
                return Err(Error::TimedOut {
                    what: what.to_owned(),
                    patience,
                    last: self.containerd.tail(),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
