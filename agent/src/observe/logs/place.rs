//! Where a process of this host writes its log.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::observe::root::HostRoot;
use crate::view::host::{Process, Program};

/// /proc/PID/cgroup has a line for each hierarchy: a dozen.
const CGROUP: u64 = 64 << 10;

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A file: where it can be opened, and what it is called on the host.
    File { open: PathBuf, name: String },
    /// The journal, under these units.
    Journal { units: Vec<String> },
}

/// Finds places.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    pub(super) root: &'a HostRoot,
    /// The procfs that numbers the processes.
    pub(super) proc: &'a Path,
    /// Whether this host has a journal.
    pub(super) journal: bool,
}

/// What a file descriptor of a process is.
enum Output {
    File(PathBuf, String),
    Socket,
    Other,
}

impl Finder<'_> {
    /// Where it writes; `None`: nowhere that could be found. An error: that may not be seen.
    pub(super) fn find(&self, process: &Process) -> io::Result<Option<Place>> {
        if let Some(place) = self.told(process) {
            return Ok(Some(place));
        }
        let mut denied = None;
        let mut output = Output::Other;
        // klog and logrus write to standard error; a service manager may have both.
        for number in [2, 1] {
            match self.output(process.pid, number) {
                Ok(Output::Other) => {}
                Ok(found) => {
                    output = found;
                    break;
                }
                Err(error) => denied = Some(error),
            }
        }
        let journal = || {
            self.journal.then(|| Place::Journal {
                units: self.units(process),
            })
        };
        let found = match output {
            Output::File(open, name) => Some(Place::File { open, name }),
            Output::Socket => journal().or_else(|| self.known(process)),
            // A pipe leads to whoever started it, or it is not known where: a log that it has written to since it
            // started is its own.
            Output::Other => self.known(process).or_else(journal),
        };
        match (found, denied) {
            (None, Some(error)) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
            (found, _) => Ok(found),
        }
    }

    /// The file that it was told to write to.
    fn told(&self, process: &Process) -> Option<Place> {
        let setting = ["log-file", "log"].iter().find_map(|name| process.settings.get(*name));
        self.file(Path::new(&setting?.value), |_| true)
    }

    fn known(&self, process: &Process) -> Option<Place> {
        let written = |metadata: &fs::Metadata| match (process.started_at, metadata.modified()) {
            (Some(started), Ok(at)) => jiff::Timestamp::try_from(at).is_ok_and(|at| at >= started),
            _ => false,
        };
        let mut paths = known(process.program).iter();
        paths.find_map(|path| self.file(Path::new(path), written))
    }

    fn file(&self, path: &Path, wanted: impl Fn(&fs::Metadata) -> bool) -> Option<Place> {
        let open = self.root.resolve(path).ok()?;
        let metadata = fs::metadata(&open).ok()?;
        (path.is_absolute() && metadata.is_file() && wanted(&metadata)).then(|| Place::File {
            open,
            name: path.display().to_string(),
        })
    }

    /// The link is opened itself, not what it says: so it is that file whatever namespace the process has, and also
    /// when the file was renamed.
    fn output(&self, pid: u32, number: u8) -> io::Result<Output> {
        let link = self.proc.join(format!("{pid}/fd/{number}"));
        let target = fs::read_link(&link)?;
        let name = target.to_string_lossy();
        if name.starts_with("socket:") {
            return Ok(Output::Socket);
        }
        let file = name.starts_with('/') && fs::metadata(&link).is_ok_and(|metadata| metadata.is_file());
        Ok(if file {
            Output::File(link, name.into_owned())
        } else {
            Output::Other
        })
    }

    /// The service that it belongs to by its control group, and those that its program usually has.
    fn units(&self, process: &Process) -> Vec<String> {
        let own = self.service(process.pid);
        let usual = usual_units(process.embedded_in.unwrap_or(process.program));
        let usual = || usual.iter().map(|unit| format!("{unit}.service")).collect();
        own.map_or_else(usual, |own| vec![own])
    }

    fn service(&self, pid: u32) -> Option<String> {
        let file = HostRoot::new(self.proc).read(Path::new(&format!("{pid}/cgroup")), CGROUP);
        let (bytes, _) = file.ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let mut parts = text.lines().flat_map(|line| line.rsplit('/'));
        let unit = parts.find(|part| part.ends_with(".service"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ':' | '\\');
        (unit.len() < 256 && unit.chars().all(plain) && !unit.starts_with('-')).then(|| unit.to_owned())
    }
}

/// Log files that installers set up.
fn known(program: Program) -> &'static [&'static str] {
    match program {
        Program::Kubelet => &[
            "/var/log/kubelet.log",
            "/var/lib/rancher/rke2/agent/logs/kubelet.log",
            "/var/log/k3s.log",
        ],
        Program::Containerd => &[
            "/var/log/containerd.log",
            "/var/lib/rancher/k3s/agent/containerd/containerd.log",
            "/var/lib/rancher/rke2/agent/containerd/containerd.log",
        ],
        Program::Crio => &["/var/log/crio.log", "/var/log/crio/crio.log"],
        _ => &[],
    }
}

/// The units of packages and installers.
fn usual_units(program: Program) -> &'static [&'static str] {
    match program {
        Program::Kubelet => &["kubelet"],
        Program::Containerd => &["containerd"],
        Program::Crio => &["crio"],
        Program::K3s => &["k3s", "k3s-agent"],
        Program::Rke2 => &["rke2-server", "rke2-agent"],
        Program::Kubelite => &["snap.microk8s.daemon-kubelite"],
        Program::K0s => &["k0scontroller", "k0sworker"],
        Program::ControllerManager | Program::Proxy | Program::Flanneld => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;

    use jiff::Timestamp;

    use super::*;
    use crate::view::host::Setting;

    struct Bench {
        dir: tempfile::TempDir,
        root: HostRoot,
        proc: PathBuf,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let proc = dir.path().join("proc");
            fs::create_dir_all(proc.join("7/fd")).unwrap();
            let root = HostRoot::new(dir.path().join("root"));
            Self { dir, root, proc }
        }

        fn put(&self, path: &str) -> PathBuf {
            let path = self.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "x").unwrap();
            path
        }

        fn find(&self, process: &Process, journal: bool) -> Option<Place> {
            let finder = Finder {
                root: &self.root,
                proc: &self.proc,
                journal,
            };
            finder.find(process).unwrap()
        }
    }

    fn kubelet() -> Process {
        Process {
            program: Program::Kubelet,
            embedded_in: None,
            pid: 7,
            started_at: Some(Timestamp::UNIX_EPOCH),
            settings: BTreeMap::new(),
            problem: None,
        }
    }

    fn name(place: Option<Place>) -> String {
        match place {
            Some(Place::File { name, .. }) => name,
            Some(Place::Journal { units }) => format!("journal {}", units.join(" ")),
            None => "nowhere".to_owned(),
        }
    }

    #[test]
    fn a_file_that_it_writes_to_comes_before_the_journal() {
        let bench = Bench::new();
        let log = bench.put("n1/kubelet.log");
        symlink(&log, bench.proc.join("7/fd/2")).unwrap();
        let place = bench.find(&kubelet(), true).unwrap();
        assert_eq!(
            place,
            Place::File {
                open: bench.proc.join("7/fd/2"),
                name: log.display().to_string()
            }
        );
    }

    #[test]
    fn a_service_logs_to_the_journal_under_its_own_unit() {
        let bench = Bench::new();
        symlink("socket:[123]", bench.proc.join("7/fd/2")).unwrap();
        assert_eq!(name(bench.find(&kubelet(), true)), "journal kubelet.service");
        fs::write(
            bench.proc.join("7/cgroup"),
            "0::/../../system.slice/my-kubelet.service\n",
        )
        .unwrap();
        assert_eq!(name(bench.find(&kubelet(), true)), "journal my-kubelet.service");
        assert_eq!(name(bench.find(&kubelet(), false)), "nowhere");
        fs::write(bench.proc.join("7/cgroup"), "0::/x/--output=cat .service\n\0").unwrap();
        assert_eq!(name(bench.find(&kubelet(), true)), "journal kubelet.service");
    }

    #[test]
    fn behind_a_pipe_the_known_log_counts_if_it_was_written_since_the_start() {
        let bench = Bench::new();
        symlink("pipe:[123]", bench.proc.join("7/fd/2")).unwrap();
        assert_eq!(name(bench.find(&kubelet(), true)), "journal kubelet.service");
        bench.put("root/var/log/kubelet.log");
        assert_eq!(name(bench.find(&kubelet(), true)), "/var/log/kubelet.log");
        let later = Process {
            started_at: Some(Timestamp::MAX),
            ..kubelet()
        };
        assert_eq!(
            name(bench.find(&later, false)),
            "nowhere",
            "another kubelet's, from before"
        );
    }

    #[test]
    fn a_file_that_it_was_told_to_write_to_comes_first() {
        let bench = Bench::new();
        bench.put("root/var/log/my.log");
        let mut process = kubelet();
        let setting = Setting {
            value: "/var/log/my.log".into(),
            source: "command line".into(),
        };
        process.settings.insert("log-file".into(), setting);
        assert_eq!(name(bench.find(&process, true)), "/var/log/my.log");
    }

    #[test]
    fn what_a_k3s_embeds_logs_under_k3s() {
        let bench = Bench::new();
        symlink("socket:[123]", bench.proc.join("7/fd/2")).unwrap();
        let process = Process {
            embedded_in: Some(Program::K3s),
            ..kubelet()
        };
        assert_eq!(
            name(bench.find(&process, true)),
            "journal k3s.service k3s-agent.service"
        );
    }
}
