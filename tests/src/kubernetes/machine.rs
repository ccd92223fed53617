//! A node's machine: a network, a mount and a pid namespace of its own.
//!
//! Its `/etc`, `/run`, `/var/lib` and `/var/log` are directories of the
//! cluster, so that every program has its real paths there (`/etc/cni/net.d`,
//! `/run/containerd/containerd.sock`, `/var/lib/kubelet`), and a directory
//! outside is the host's root to whoever looks in. cgroups and devices are the
//! machine's own.
//!
//! The first process of the pid namespace does nothing but live. When it dies,
//! the kernel kills everything in the namespace, containerd's shims and pods
//! included, and the mounts go with the last of them. It dies with the lab,
//! also when that is killed: so nothing ever needs to be hunted for.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::kubernetes::error::{Result, io as tried};
use crate::netns::Netns;

/// Directories that a machine has of its own.
const OWN: [&str; 4] = ["etc", "run", "var/lib", "var/log"];

/// What of the machine's `/etc` programs need to run at all.
const ETC: [&str; 12] = [
    "alternatives",
    "ethertypes",
    "group",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "protocols",
];

/// Kernel settings that kubelet would change for the whole machine. Inside it
/// sees files that already say what it wants.
const KERNEL: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// A running machine. It ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Machine {
    netns: Netns,
    root: PathBuf,
    jobs: Arc<Jobs>,
}

#[derive(Debug)]
struct Jobs {
    sender: Option<Sender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

enum Job {
    Spawn(Command, Sender<io::Result<Child>>),
    Open(PathBuf, Sender<io::Result<File>>),
}

impl Machine {
    /// Starts one in `netns`. `root` becomes its directories' home; `lab` is
    /// the cidrift-lab program.
    pub fn start(netns: &Netns, root: &Path, lab: &Path) -> Result<Self> {
        prepare(root)?;
        let (jobs, inbox) = channel();
        let (ready, started) = channel();
        let (netns, root, lab) = (netns.clone(), root.to_owned(), lab.to_owned());
        let (thread_netns, thread_root) = (netns.clone(), root.clone());
        let thread = std::thread::Builder::new()
            .name(format!("machine {}", netns.name()))
            .spawn(move || {
                let init = match enter(&thread_netns, &thread_root, &lab) {
                    Ok(init) => init,
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                let _ = ready.send(Ok(()));
                for job in inbox {
                    // Nobody waits for the answer only when the cluster is ending.
                    match job {
                        Job::Spawn(mut command, answer) => drop(answer.send(command.spawn())),
                        Job::Open(path, answer) => drop(answer.send(File::open(path))),
                    }
                }
                end(init);
            })
            .map_err(tried("start a thread"))?;
        let name = netns.name().to_owned();
        let machine = Self {
            netns,
            root,
            jobs: Arc::new(Jobs {
                sender: Some(jobs),
                thread: Some(thread),
            }),
        };
        let gone = |_| Err(io::Error::other("its thread is gone"));
        started
            .recv()
            .unwrap_or_else(gone)
            .map_err(tried(format!("machine {name}")))?;
        Ok(machine)
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Its root as seen from outside: `etc/cni/net.d` below it is the machine's.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Starts a program on it. The child's id is the one outside.
    pub fn spawn(&self, command: Command) -> io::Result<Child> {
        self.ask(|answer| Job::Spawn(command, answer))
    }

    /// Opens a file as its programs see it, mounts included.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        self.ask(|answer| Job::Open(path.to_owned(), answer))
    }

    fn ask<T>(&self, job: impl FnOnce(Sender<io::Result<T>>) -> Job) -> io::Result<T> {
        let gone = || io::Error::other(format!("machine {} is gone", self.netns.name()));
        let (answer, answered) = channel();
        let sender = self.jobs.sender.as_ref().ok_or_else(gone)?;
        sender.send(job(answer)).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // It only panics if the standard library does; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

/// Makes the directories and files that will be laid over the machine's.
fn prepare(root: &Path) -> Result<()> {
    for directory in OWN {
        crate::kubernetes::place::make(&root.join(directory))?;
    }
    for name in ETC {
        let from = Path::new("/etc").join(name);
        if from.exists() {
            copy(&from, &root.join("etc").join(name)).map_err(tried(format!("copy {}", from.display())))?;
        }
    }
    let kernel = root.join("kernel");
    for (key, value) in KERNEL {
        let path = kernel.join(key);
        crate::kubernetes::place::make(path.parent().unwrap_or(&kernel))?;
        fs::write(&path, format!("{value}\n")).map_err(tried(format!("write {}", path.display())))?;
    }
    Ok(())
}

/// A file, a link or a directory of such.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(from)?.file_type();
    if kind.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)
    } else if kind.is_dir() {
        fs::create_dir_all(to)?;
        fs::read_dir(from)?.try_for_each(|entry| {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))
        })
    } else {
        fs::copy(from, to).map(drop)
    }
}

/// Makes the machine and moves this thread into it, for good.
fn enter(netns: &Netns, root: &Path, lab: &Path) -> io::Result<(Child, u32)> {
    netns.enter()?;
    let mut child = Command::new(lab)
        .args(["exec", "--parent", &std::process::id().to_string(), "--"])
        .arg(lab)
        .arg("machine")
        .arg(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.as_mut() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let Ok(pid) = line.trim().parse::<u32>() else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(io::Error::other("it did not start; see above"));
    };
    let namespaces = ["mnt", "pid"].map(|kind| File::open(format!("/proc/{pid}/ns/{kind}")));
    let [mounts, pids] = namespaces;
    let (mounts, pids) = (mounts?, pids?);
    // A thread that shares its working directory with others may not change its mounts.
    unshare(CloneFlags::CLONE_FS)?;
    setns(&mounts, CloneFlags::CLONE_NEWNS)?;
    setns(&pids, CloneFlags::CLONE_NEWPID)?;
    Ok((child, pid))
}

/// Ends a machine and waits until nothing of it is left: the kernel lets the
/// first process of a pid namespace go only after all others.
fn end((mut outer, init): (Child, u32)) {
    // Both fail only when it is gone already.
    let _ = kill(Pid::from_raw(init.cast_signed()), Signal::SIGKILL);
    let _ = outer.wait();
}

/// The outer process of a machine: makes the namespaces, starts the inner one
/// ([`init`]), says its id on stdout and waits. `cidrift-lab machine` is this.
pub fn outer(root: &Path, lab: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)?;
    let none: Option<&Path> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    for directory in OWN {
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(
            Some(&root.join(directory)),
            &Path::new("/").join(directory),
            none,
            bind,
            none,
        )?;
    }
    let mut init = Command::new(lab)
        .arg("machine-init")
        .arg(root)
        // Its end of file is how the inner process hears that this one died.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(stdout) = init.stdout.as_mut() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.trim() == "ready" {
        println!("{}", init.id());
        io::stdout().flush()?;
    }
    // Waiting closes the pipe unless it is held.
    let held = init.stdin.take();
    let ended = init.wait().map(drop);
    drop(held);
    ended
}

/// The first process of a machine's pid namespace: mounts `/proc`, takes in
/// orphans, and ends with its parent. `cidrift-lab machine-init` is this.
pub fn init(root: &Path) -> io::Result<()> {
    let none: Option<&Path> = None;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none)?;
    for (key, _) in KERNEL {
        let target = Path::new("/proc/sys").join(key);
        if target.exists() {
            mount(
                Some(&root.join("kernel").join(key)),
                &target,
                none,
                MsFlags::MS_BIND,
                none,
            )?;
        }
    }
    std::thread::spawn(|| {
        // Nothing is ever written: this returns when the other end is gone.
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    println!("ready");
    io::stdout().flush()?;
    loop {
        if waitpid(None, None).is_err() {
            // No children now; orphans may come.
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
}
