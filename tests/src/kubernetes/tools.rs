//! The programs that the bench starts: Kubernetes' own, built from the Go
//! modules beside this crate, and Debian's.
//!
//! What is built is kept below `target/kubernetes/`, by the content of the
//! module and the version of Go, until `cargo clean`. `KUBEBUILDER_ASSETS`, a
//! directory of ready programs as envtest has them, goes before both.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ring::digest::{Context, SHA256};

use crate::kubernetes::error::{Error, Result, io};

/// A directory of ready programs.
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// How often a long build says how far it is.
const REPORT: Duration = Duration::from_secs(5);

/// A Go module below `tests/kubernetes/` with programs in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoModule {
    /// For messages.
    pub name: &'static str,
    /// Its directory below `tests/kubernetes/`.
    pub directory: &'static str,
    /// Import paths of its programs. The last element is the program's name.
    pub programs: &'static [&'static str],
    /// For `-tags`.
    pub tags: &'static str,
    /// For `-ldflags`.
    pub ldflags: &'static str,
    /// Whether parts of it are C: then it is bound to the machine's C library.
    pub cgo: bool,
    /// How many packages a first build compiles, for progress.
    pub packages: usize,
}

/// Kubernetes 1.36.3.
pub const KUBERNETES: GoModule = GoModule {
    name: "Kubernetes 1.36.3",
    directory: "",
    programs: &[
        "k8s.io/kubernetes/cmd/kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-proxy",
        "k8s.io/kubernetes/cmd/kube-scheduler",
        "k8s.io/kubernetes/cmd/kubelet",
    ],
    tags: "",
    // Without it they call themselves v0.0.0-master, and refuse each other.
    ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3",
    cgo: false,
    packages: 2550,
};

/// Debian's packages, by the program that is looked for.
const DEBIAN: [(&str, &str); 7] = [
    ("etcd", "etcd-server"),
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
];

/// Where Debian's containernetworking-plugins puts them.
pub const CNI_PLUGINS: &str = "/usr/lib/cni";

/// Where programs are looked for. A user's own PATH often lacks the `sbin` ones.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The ready programs of one module.
#[derive(Debug, Clone)]
pub struct Tools {
    directories: Vec<PathBuf>,
}

impl Tools {
    /// The path of a program.
    pub fn path(&self, program: &str) -> Result<PathBuf> {
        let found = self.directories.iter().map(|directory| directory.join(program));
        found
            .into_iter()
            .find(|path| path.is_file())
            .ok_or_else(|| Error::Missing(format!("{program} is in none of {:?}", self.directories)))
    }
}

/// Where Debian's program is.
pub fn debian(program: &str) -> Result<PathBuf> {
    let assets = std::env::var_os(ASSETS).into_iter().map(PathBuf::from);
    let mut directories = assets.chain(PATH.split(':').map(PathBuf::from));
    let found = directories.find_map(|directory| Some(directory.join(program)).filter(|path| path.is_file()));
    found.ok_or_else(|| Error::Missing(format!("{program} is missing")))
}

/// What containerd and its pods need and the machine lacks, as a sentence that
/// says what to install; `None` when all is there.
pub fn missing_for_containerd() -> Option<String> {
    missing(|program| program != "etcd", Path::new(CNI_PLUGINS), debian_has)
}

/// The same for the whole control plane.
pub fn missing_for_kubernetes() -> Option<String> {
    missing(|_| true, Path::new(CNI_PLUGINS), debian_has).or_else(|| {
        let ready = assets().is_some_and(|directory| lacks(&directory, &KUBERNETES).is_none());
        (!ready && go_version().is_err()).then(|| {
            format!(
                "go is missing: Kubernetes is built from source here. Install Go (https://go.dev/dl/, the version in \
                 tests/kubernetes/go.mod or newer), or name a directory with {} in {ASSETS}",
                names(&KUBERNETES).join(", ")
            )
        })
    })
}

fn debian_has(program: &str) -> bool {
    debian(program).is_ok()
}

fn missing(wanted: impl Fn(&str) -> bool, plugins: &Path, has: impl Fn(&str) -> bool) -> Option<String> {
    let lacking = DEBIAN.iter().filter(|(program, _)| wanted(program) && !has(program));
    let mut packages: Vec<&str> = lacking.map(|&(_, package)| package).collect();
    if !["bridge", "host-local", "loopback"]
        .iter()
        .all(|plugin| plugins.join(plugin).is_file())
    {
        packages.push("containernetworking-plugins");
    }
    packages.dedup();
    (!packages.is_empty()).then(|| {
        format!(
            "{} missing. Install, on Debian: sudo apt-get install --no-install-recommends {}",
            if packages.len() == 1 {
                "a package is"
            } else {
                "packages are"
            },
            packages.join(" ")
        )
    })
}

/// The module's programs, built first where they are not yet.
pub fn build(module: &GoModule, progress: &dyn Fn(&str)) -> Result<Tools> {
    let ready: Vec<PathBuf> = assets().into_iter().collect();
    if let Some(directory) = ready.first().filter(|directory| lacks(directory, module).is_none()) {
        progress(&format!("{}: from {}", module.name, directory.display()));
        return Ok(Tools { directories: ready });
    }
    let go = go_version().map_err(|error| {
        Error::Missing(format!(
            "{} is built with Go, and `go version` says: {error}. Install Go: https://go.dev/dl/",
            module.name
        ))
    })?;
    let source = sources().join(module.directory);
    let cache = cache();
    fs::create_dir_all(&cache).map_err(io(format!("make {}", cache.display())))?;
    let directory = cache.join(key(module, &source, &go)?);
    // Test binaries that start together build once: the others wait here.
    let lock = File::create(directory.with_extension("lock")).map_err(io("make a lock"))?;
    lock.lock().map_err(io("wait for another build"))?;
    if lacks(&directory, module).is_some() {
        let fresh = tempfile::Builder::new().prefix("building").tempdir_in(&cache);
        let fresh = fresh.map_err(io(format!("make a directory in {}", cache.display())))?;
        go_build(module, &source, fresh.path(), progress)?;
        if directory.exists() {
            fs::remove_dir_all(&directory).map_err(io(format!("remove {}", directory.display())))?;
        }
        fs::rename(fresh.keep(), &directory).map_err(io(format!("keep {}", directory.display())))?;
    }
    Ok(Tools {
        directories: ready.into_iter().chain([directory]).collect(),
    })
}

fn go_build(module: &GoModule, source: &Path, output: &Path, progress: &dyn Fn(&str)) -> Result<()> {
    let mut command = Command::new("go");
    command
        .args([
            "build",
            "-v",
            "-trimpath",
            "-mod=readonly",
            "-tags",
            module.tags,
            // Nobody debugs them: the linker drops it anyway, and compilers take a fifth less without.
            "-gcflags=all=-dwarf=false",
            "-ldflags",
            module.ldflags,
            "-o",
        ])
        .arg(output)
        .args(module.programs)
        .current_dir(source)
        // Static where it can be: such programs run whatever the machine's C library is.
        .env("CGO_ENABLED", if module.cgo { "1" } else { "0" })
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let start = Instant::now();
    progress(&format!(
        "{}: building (minutes the first time, then kept below target/)",
        module.name
    ));
    let mut child = command.spawn().map_err(io("start go"))?;
    let mut said: Vec<String> = Vec::new();
    let mut reported = Instant::now();
    // go -v names each package on stderr once it is compiled, and its errors there too.
    for line in child
        .stderr
        .take()
        .into_iter()
        .flat_map(|stderr| BufReader::new(stderr).lines())
    {
        said.push(line.map_err(io("read what go says"))?);
        if reported.elapsed() >= REPORT {
            let count = said.len();
            progress(&format!(
                "{}: {count} of about {} packages",
                module.name, module.packages
            ));
            reported = Instant::now();
        }
    }
    if child.wait().map_err(io("wait for go"))?.success() {
        progress(&format!("{}: built in {:.0?}", module.name, start.elapsed()));
        return Ok(());
    }
    let tail = said.get(said.len().saturating_sub(20)..).unwrap_or_default();
    Err(Error::Build {
        what: format!("go build in {}", source.display()),
        output: tail.join("\n"),
    })
}

/// The first of the module's programs that the directory has not.
fn lacks(directory: &Path, module: &GoModule) -> Option<&'static str> {
    names(module).into_iter().find(|name| !directory.join(name).is_file())
}

fn names(module: &GoModule) -> Vec<&'static str> {
    module.programs.iter().map(|path| program_name(path)).collect()
}

/// As `go build` names a program: the last element that is no major version.
fn program_name(import: &'static str) -> &'static str {
    let version = |element: &str| {
        element
            .strip_prefix('v')
            .is_some_and(|rest| rest.parse::<u32>().is_ok())
    };
    import.rsplit('/').find(|element| !version(element)).unwrap_or(import)
}

fn assets() -> Option<PathBuf> {
    std::env::var_os(ASSETS)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn go_version() -> Result<String> {
    let output = Command::new("go").arg("version").output().map_err(io("go version"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Where the Go modules are.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes")
}

/// Below cargo's target directory, so that `cargo clean` clears it.
pub(crate) fn cache() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    target.unwrap_or_else(|| workspace.join("target")).join("kubernetes")
}

/// Changes when anything does that the programs are made of.
fn key(module: &GoModule, source: &Path, go: &str) -> Result<String> {
    let mut content = vec![go.as_bytes().to_vec(), module.tags.into(), module.ldflags.into()];
    content.extend(module.programs.iter().map(|program| program.as_bytes().to_vec()));
    for file in ["go.mod", "go.sum"] {
        let path = source.join(file);
        content.push(fs::read(&path).map_err(io(format!("read {}", path.display())))?);
    }
    Ok(hex(&content)[..16].to_owned())
}

/// SHA-256 of the parts, each told apart from the next.
pub(crate) fn hex<T: AsRef<[u8]>>(parts: &[T]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part.as_ref());
        if parts.len() > 1 {
            context.update(&[0]);
        }
    }
    context
        .finish()
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// PATH with `first` before everything else.
pub(crate) fn path_with(first: &[&Path]) -> std::ffi::OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let parts = first
        .iter()
        .map(|path| path.as_os_str())
        .chain([OsStr::new(PATH), own.as_os_str()]);
    parts
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(OsStr::new(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_by_its_last_element_that_is_no_version() {
        assert_eq!(program_name("k8s.io/kubernetes/cmd/kubelet"), "kubelet");
        assert_eq!(program_name("github.com/containerd/containerd/v2/cmd/ctr"), "ctr");
        assert_eq!(program_name("example.com/tool/v2"), "tool");
    }

    #[test]
    fn what_is_missing_is_said_with_the_command_that_installs_it() {
        let directory = tempfile::tempdir().unwrap();
        for plugin in ["bridge", "host-local", "loopback"] {
            fs::write(directory.path().join(plugin), "").unwrap();
        }
        assert_eq!(missing(|_| true, directory.path(), |_| true), None);
        let said = missing(|_| true, directory.path(), |program| program != "etcd").unwrap();
        assert!(
            said.ends_with("apt-get install --no-install-recommends etcd-server"),
            "{said}"
        );
        let said = missing(|program| program != "etcd", Path::new("/nowhere"), |_| false).unwrap();
        assert!(
            said.contains(" containerd runc iptables nftables containernetworking-plugins"),
            "{said}"
        );
    }

    #[test]
    fn another_go_or_another_flag_is_another_build() {
        let source = sources();
        let one = key(&KUBERNETES, &source, "go1").unwrap();
        assert_ne!(one, key(&KUBERNETES, &source, "go2").unwrap());
        assert_ne!(
            one,
            key(
                &GoModule {
                    tags: "x",
                    ..KUBERNETES
                },
                &source,
                "go1"
            )
            .unwrap()
        );
        assert_eq!(one, key(&KUBERNETES, &source, "go1").unwrap());
    }
}
