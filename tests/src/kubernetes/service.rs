//! A program of the bench that can be stopped, started and restarted with
//! other arguments, and whose own words can be read.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kubernetes::error::{Error, Result, io};
use crate::kubernetes::machine::Machine;
use crate::kubernetes::tools::path_with;
use crate::netns::Netns;
use crate::process::spawn_from_keeper;

/// How long a program may take to end when asked: kubelet and containerd need well under a second.
const ENDING: Duration = Duration::from_secs(5);

/// Where a program runs.
#[derive(Debug, Clone)]
pub enum Where {
    /// In a network namespace, with the machine's own files: the control plane.
    Netns(Netns),
    /// On a node.
    Machine(Machine),
}

/// How to start it.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// "kubelet n1", for messages.
    pub name: String,
    /// Where it runs.
    pub place: Where,
    /// cidrift-lab, through which programs are started so that they die with it.
    pub lab: PathBuf,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Added to its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where its output goes, appended.
    pub log: PathBuf,
}

/// The program, running or not.
#[derive(Debug)]
pub struct Service {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    recipe: Recipe,
    child: Option<Child>,
    ended: Option<ExitStatus>,
    /// Where in the log the words of the latest start begin.
    mark: u64,
}

impl Service {
    /// Starts it.
    pub fn start(recipe: Recipe) -> Result<Self> {
        let service = Self::stopped(recipe);
        service.lock().start()?;
        Ok(service)
    }

    /// Not started yet.
    pub fn stopped(recipe: Recipe) -> Self {
        Self {
            state: Mutex::new(State {
                recipe,
                child: None,
                ended: None,
                mark: 0,
            }),
        }
    }

    /// "kubelet n1".
    pub fn name(&self) -> String {
        self.lock().recipe.name.clone()
    }

    /// Starts it again as it was. It is an error when it runs.
    pub fn start_again(&self) -> Result<()> {
        self.lock().start()
    }

    /// Asks it to end (SIGTERM), kills it when it does not within 5 s.
    pub fn stop(&self) -> Result<()> {
        self.lock().stop()
    }

    /// Kills it as a crash would.
    pub fn kill(&self) {
        self.lock().kill();
    }

    /// Stops it and starts it again.
    pub fn restart(&self) -> Result<()> {
        let mut state = self.lock();
        state.stop()?;
        state.start()
    }

    /// Stops it and starts it with other arguments.
    pub fn restart_with(&self, arguments: Vec<OsString>) -> Result<()> {
        let mut state = self.lock();
        state.stop()?;
        state.recipe.arguments = arguments;
        state.start()
    }

    /// The arguments that it runs or would run with.
    pub fn arguments(&self) -> Vec<OsString> {
        self.lock().recipe.arguments.clone()
    }

    /// Its process id outside, if it runs.
    pub fn pid(&self) -> Option<u32> {
        let mut state = self.lock();
        state.check();
        state.child.as_ref().map(Child::id)
    }

    /// How it ended by itself, if it has since its latest start.
    pub fn ended(&self) -> Option<ExitStatus> {
        let mut state = self.lock();
        state.check();
        state.ended
    }

    /// Waits until it ends by itself.
    pub fn wait_ended(&self, patience: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(self.timed_out("ends by itself", patience))
    }

    /// What it has said since its latest start.
    pub fn log(&self) -> String {
        let (path, mark) = {
            let state = self.lock();
            (state.recipe.log.clone(), state.mark)
        };
        let bytes = fs::read(path).unwrap_or_default();
        let start = usize::try_from(mark).unwrap_or(usize::MAX);
        String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
    }

    /// Where all that it ever said is.
    pub fn log_path(&self) -> PathBuf {
        self.lock().recipe.log.clone()
    }

    /// Whether it has said this since its latest start.
    pub fn log_contains(&self, text: &str) -> bool {
        self.log().contains(text)
    }

    /// Waits until it says `text`; returns the line.
    pub fn wait_log(&self, text: &str, patience: Duration) -> Result<String> {
        let start = Instant::now();
        loop {
            if let Some(line) = self.log().lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            if start.elapsed() >= patience {
                return Err(self.timed_out(&format!("says {text:?}"), patience));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// An error when it has ended by itself.
    pub fn check(&self) -> Result<()> {
        match self.ended() {
            None => Ok(()),
            Some(status) => Err(Error::Ended {
                name: format!("{} ({status})", self.name()),
                tail: self.tail(),
            }),
        }
    }

    /// The end of its log, for messages.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default();
        format!("{}:\n  {}", self.log_path().display(), tail.join("\n  "))
    }

    fn timed_out(&self, what: &str, patience: Duration) -> Error {
        Error::TimedOut {
            what: format!("{} {what}", self.name()),
            patience,
            last: self.tail(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn start(&mut self) -> Result<()> {
        self.check();
        if self.child.is_some() {
            return Err(Error::Malformed(format!("{} runs already", self.recipe.name)));
        }
        let recipe = &self.recipe;
        let output = File::options().create(true).append(true).open(&recipe.log);
        let output = output.map_err(io(format!("open {}", recipe.log.display())))?;
        self.mark = output.metadata().map_or(0, |metadata| metadata.len());
        // A process of a machine sees no parent: ours is outside its pid namespace.
        let parent = match recipe.place {
            Where::Netns(_) => std::process::id(),
            Where::Machine(_) => 0,
        };
        let own = recipe.program.parent().unwrap_or(Path::new("/"));
        let mut command = Command::new(&recipe.lab);
        command
            .args(["exec", "--parent", &parent.to_string(), "--"])
            .arg(&recipe.program)
            .args(&recipe.arguments)
            .env("PATH", path_with(&[own]))
            .envs(recipe.environment.iter().map(|(key, value)| (key, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(io("a second handle of a log"))?)
            .stderr(output);
        let child = match &recipe.place {
            Where::Netns(netns) => spawn_from_keeper(netns.clone(), command),
            Where::Machine(machine) => machine.spawn(command),
        };
        self.child = Some(child.map_err(io(format!("start {}", recipe.name)))?);
        self.ended = None;
        Ok(())
    }

    fn check(&mut self) {
        if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
            self.child = None;
            self.ended = Some(status);
        }
    }

    fn stop(&mut self) -> Result<()> {
        self.check();
        let Some(child) = &mut self.child else { return Ok(()) };
        // It fails only when it is gone already.
        let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < ENDING {
            if child.try_wait().map_err(io("wait for a program"))?.is_some() {
                self.child = None;
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.kill();
    }
}
