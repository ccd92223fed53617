//! A procfs, read race by race: processes come and go between two reads, and most of what is theirs may be private.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::DirEntryExt;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use nix::libc;

use crate::observe::root::HostRoot;

/// More processes than this are not looked through: 500 pods, the most that kubelet is ever told to run, with a
/// hundred processes each.
const PROCESS_LIMIT: usize = 65_536;

/// A command line is read up to here. The kernel takes no single argument beyond 128 KiB (MAX_ARG_STRLEN); those of
/// Kubernetes' programs are a few KiB long.
const COMMAND_LIMIT: u64 = 128 * 1024;

/// `stat`, `comm` and `cgroup` of a process are far shorter.
const STATUS_LIMIT: u64 = 64 * 1024;

/// `/proc/stat` has a line for every CPU and one for all interrupts before `btime`.
const MACHINE_LIMIT: u64 = 1024 * 1024;

/// Ticks a second in `stat`: USER_HZ, which is 100 on every architecture that Kubernetes runs on.
const TICKS: u64 = 100;

/// One process of the listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub pid: u32,
    /// The inode of its directory: another one when the pid was given out again.
    pub inode: u64,
}

/// What `stat` says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    /// The name of its executable, cut at 15 bytes.
    pub comm: String,
    /// 'Z': it ended, and its parent has not asked for it yet.
    pub state: char,
    pub parent: u32,
    /// When it started, in ticks since the machine did.
    pub start: u64,
}

/// Whose network namespace a process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Net {
    /// This agent's.
    Ours,
    /// Another.
    Other,
    /// It may not be read; the system's own words.
    Hidden(String),
}

/// The procfs that is read.
#[derive(Debug)]
pub(super) struct Procfs {
    dir: PathBuf,
    /// It is this agent's own: it shows the agent's pid namespace.
    own: bool,
    /// This agent's pid there.
    pid: u32,
    net: Option<OsString>,
}

impl Procfs {
    /// The host's, where its root has one; this agent's own else.
    pub(super) fn of(root: &HostRoot) -> Self {
        let host = root.procfs();
        Self {
            own: host.is_none(),
            dir: host.unwrap_or_else(|| PathBuf::from("/proc")),
            pid: std::process::id(),
            net: std::fs::read_link("/proc/self/ns/net")
                .ok()
                .map(PathBuf::into_os_string),
        }
    }

    #[cfg(test)]
    pub(super) fn at(dir: impl Into<PathBuf>, own: bool, pid: u32) -> Self {
        Self {
            own,
            pid,
            dir: dir.into(),
            net: Some("net:[1]".into()),
        }
    }

    /// All processes. An error says what to do so that the host's can be seen.
    pub(super) fn list(&self) -> Result<Vec<Listed>, String> {
        let shown = self.dir.display();
        let unreadable = |error: io::Error| format!("{shown} cannot be read: {error}");
        let mut found = Vec::new();
        for entry in self.dir.read_dir().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if found.len() == PROCESS_LIMIT {
                return Err(format!(
                    "{shown} has more than {PROCESS_LIMIT} processes, which are not looked through"
                ));
            }
            found.push(Listed {
                pid,
                inode: entry.ino(),
            });
        }
        let first = self.comm(1);
        if self.own && (self.pid == 1 || matches!(&first, Ok(name) if name == "pause")) {
            return Err(
                "this agent sees only the processes of its own pod: mount the host's /proc at <host root>/proc, or let its \
                 pod have hostPID"
                    .to_owned(),
            );
        }
        // Process 1 is always there. Where it is not, or tells nothing, procfs shows everybody only his own processes.
        match first {
            Ok(_) if found.iter().any(|row| row.pid == 1) => Ok(found),
            Ok(_) => Err(format!(
                "{shown} does not show process 1: mount it without hidepid, or run the agent as root"
            )),
            Err(error) => Err(format!(
                "{shown} does not show process 1 ({error}): mount it without hidepid, or run the agent as root"
            )),
        }
    }

    /// The name of its executable, cut at 15 bytes. Reading it never waits, unlike reading its memory.
    pub(super) fn comm(&self, pid: u32) -> io::Result<String> {
        let text = text(self.read(&format!("{pid}/comm"), STATUS_LIMIT)?);
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    /// `None` when it has gone, or what it says makes no sense.
    pub(super) fn stat(&self, pid: u32) -> Option<Stat> {
        stat(&text(self.read(&format!("{pid}/stat"), STATUS_LIMIT).ok()?))
    }

    /// Its arguments, and whether there are more than are read.
    pub(super) fn arguments(&self, pid: u32) -> io::Result<(Vec<String>, bool)> {
        let bytes = self.read(&format!("{pid}/cmdline"), COMMAND_LIMIT)?;
        let cut = bytes.len() as u64 == COMMAND_LIMIT;
        Ok((arguments(&bytes), cut))
    }

    /// The base name of its executable, where it may be known.
    pub(super) fn executable(&self, pid: u32) -> Option<String> {
        let target = self.dir.join(format!("{pid}/exe")).read_link().ok()?;
        let name = target.file_name()?.to_string_lossy().into_owned();
        Some(name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned())
    }

    /// Its control group of the unified hierarchy or of systemd; the first there is, else.
    pub(super) fn group(&self, pid: u32) -> Option<String> {
        group(&text(self.read(&format!("{pid}/cgroup"), STATUS_LIMIT).ok()?))
    }

    pub(super) fn net(&self, pid: u32) -> Net {
        match (self.dir.join(format!("{pid}/ns/net")).read_link(), &self.net) {
            (Ok(link), Some(own)) if link.as_os_str() == own => Net::Ours,
            (Ok(_), Some(_)) => Net::Other,
            (Ok(_), None) => Net::Hidden("this agent's own cannot be read".to_owned()),
            (Err(error), _) => Net::Hidden(error.to_string()),
        }
    }

    /// The file system as that process sees it, where it may be looked into.
    pub(super) fn root(&self, pid: u32) -> io::Result<HostRoot> {
        let link = self.dir.join(format!("{pid}/root"));
        link.read_link()?;
        Ok(HostRoot::new(link))
    }

    /// When the machine started, in seconds since 1970.
    pub(super) fn boot(&self) -> Option<i64> {
        boot(&text(self.read("stat", MACHINE_LIMIT).ok()?))
    }

    fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.dir.join(name))?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Whether an error only says that the process has ended meanwhile.
pub(super) fn gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// proc(5): the name stands in parentheses and may itself hold blanks and parentheses; state is field 3, the parent
/// field 4, the start field 22.
fn stat(text: &str) -> Option<Stat> {
    let (before, after) = text.rsplit_once(')')?;
    let (_, comm) = before.split_once('(')?;
    let mut fields = after.split_ascii_whitespace();
    Some(Stat {
        comm: comm.to_owned(),
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
        start: fields.nth(17)?.parse().ok()?,
    })
}

fn boot(text: &str) -> Option<i64> {
    text.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

/// When a process started whose `stat` says that many ticks, on a machine that started at `boot`.
pub(super) fn started(boot: i64, start: u64) -> Option<Timestamp> {
    let since = SignedDuration::from_millis(i64::try_from(start.checked_mul(1000 / TICKS)?).ok()?);
    Timestamp::from_second(boot).ok()?.checked_add(since).ok()
}

/// Arguments end in NUL each. A program that writes a title over them (k3s) leaves a run of NULs behind it.
fn arguments(bytes: &[u8]) -> Vec<String> {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if end == 0 {
        return Vec::new();
    }
    let words = bytes[..end].split(|byte| *byte == 0);
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn group(text: &str) -> Option<String> {
    let rows = || {
        text.lines().filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            rest.split_once(':')
        })
    };
    let named = |wanted: &str| rows().find(|(controllers, path)| *controllers == wanted && *path != "/");
    let (_, path) = named("name=systemd").or_else(|| named("")).or_else(|| rows().next())?;
    Some(path.to_owned())
}

/// Whether a control group is a container's: runtimes name it by an id of 64 hexadecimal digits
/// ("cri-containerd-ID.scope", "docker-ID.scope", plain "ID").
pub(super) fn is_container(group: &str) -> bool {
    group
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The service of systemd that a control group belongs to: "k3s.service".
pub(super) fn service(group: &str) -> Option<&str> {
    group.rsplit('/').find(|name| name.ends_with(".service"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let line = "812 (a) b (c)) S 77 812 812 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 11 0 4711 1 2\n";
        let wanted = Stat {
            comm: "a) b (c)".into(),
            state: 'S',
            parent: 77,
            start: 4711,
        };
        assert_eq!(stat(line), Some(wanted));
        assert_eq!(stat("812 (cut) S 77 812"), None);
        assert_eq!(stat(""), None);
    }

    #[test]
    fn a_process_starts_that_many_ticks_after_the_machine() {
        assert_eq!(
            boot("cpu 1 2\nintr 9 9\nbtime 1790000000\nprocesses 3\n"),
            Some(1_790_000_000)
        );
        assert_eq!(started(1_790_000_000, 250).unwrap().as_millisecond(), 1_790_000_002_500);
        assert_eq!(started(i64::MAX, 1), None);
        assert_eq!(started(0, u64::MAX), None);
    }

    #[test]
    fn a_title_written_over_the_arguments_is_one_word() {
        assert_eq!(
            arguments(b"/usr/local/bin/k3s server\0\0\0\0\0"),
            ["/usr/local/bin/k3s server"]
        );
        assert_eq!(
            arguments(b"kubelet\0--node-ip\0\0--v=2\0"),
            ["kubelet", "--node-ip", "", "--v=2"]
        );
        assert_eq!(arguments(b"\0\0"), Vec::<String>::new());
    }

    #[test]
    fn a_containers_group_is_told_from_a_services() {
        let id = "0123456789abcdef".repeat(4);
        let pod = format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope\n");
        assert!(is_container(&group(&pod).unwrap()));
        assert!(is_container(
            &group(&format!("4:memory:/\n1:name=systemd:/kubepods/pod1/{id}\n")).unwrap()
        ));
        let unit = group("12:pids:/a\n1:name=systemd:/system.slice/k3s.service\n0::/\n").unwrap();
        assert!(!is_container(&unit));
        assert_eq!(service(&unit), Some("k3s.service"));
        assert_eq!(service("/user.slice"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let shown = text(bytes.clone());
            let _ = (stat(&shown), boot(&shown), group(&shown), arguments(&bytes), is_container(&shown));
        }

        #[test]
        fn arguments_read_back(words in prop::collection::vec("[ -~]{1,20}", 1..8)) {
            let mut bytes = Vec::new();
            for word in &words {
                bytes.extend(word.as_bytes());
                bytes.push(0);
            }
            prop_assert_eq!(arguments(&bytes), words);
        }

        #[test]
        fn stat_reads_back(comm in "[ -~]{0,15}", parent: u32, start: u64) {
            let line = format!("1 ({comm}) R {parent} {} {start} 0 0", "7 ".repeat(17).trim_end());
            prop_assert_eq!(stat(&line), Some(Stat { comm, state: 'R', parent, start }));
        }
    }
}
