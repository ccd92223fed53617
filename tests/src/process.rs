//! Programs inside namespaces, which never outlive the lab: not even when it is killed.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

use crate::netns::Netns;

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` in `netns`, its output into the file `log`, which is
    /// appended to. `lab` is the cidrift-lab program, see [`exec`].
    pub fn start(netns: &Netns, lab: &Path, program: &Path, arguments: &[OsString], log: &Path) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(lab);
        command
            .arg("exec")
            .arg("--parent")
            .arg(std::process::id().to_string())
            .arg("--")
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = spawn_from_keeper(netns.clone(), command)?;
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        Ok(Self {
            name: format!("{name} in {}", netns.name()),
            child,
            log: log.to_owned(),
        })
    }

    /// "cidrift-agent in h1".
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of its log, for messages.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
        format!("{}:\n  {}", self.log.display(), tail.join("\n  "))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM) and waits; `None` when it has not within `patience`.
    pub fn terminate(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(None)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Replaces this process by `program`, having asked the kernel to kill it when
/// its parent dies. `cidrift-lab exec` is this: a child can ask only for
/// itself, and the request survives exec. Returns only on failure.
pub fn exec(parent: i32, program: &Path, arguments: &[OsString]) -> io::Error {
    if let Err(error) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL) {
        return error.into();
    }
    if getppid().as_raw() != parent {
        return io::Error::other("the lab is gone already");
    }
    Command::new(program).args(arguments).exec()
}

type Job = (Netns, Command, Sender<io::Result<Child>>);

/// Starts every child from one thread that lives as long as the lab: to the
/// kernel the parent whose death counts is a thread.
pub(crate) fn spawn_from_keeper(netns: Netns, command: Command) -> io::Result<Child> {
    static KEEPER: OnceLock<Sender<Job>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (jobs, inbox) = channel::<Job>();
        std::thread::spawn(move || {
            for (netns, mut command, answer) in inbox {
                let child = netns.enter().and_then(|()| command.spawn());
                // Nobody waits for the answer only when the lab is ending.
                let _ = answer.send(child);
            }
        });
        jobs
    });
    let (answer, child) = channel();
    let gone = |_| io::Error::other("the thread that starts programs is gone");
    keeper
        .send((netns, command, answer))
        .map_err(|_| gone(std::sync::mpsc::RecvError))?;
    child.recv().map_err(gone)?
}
