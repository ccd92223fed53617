//! A fix that runs beside the test: what it says is read as it comes, and it can be killed at any line.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use cidrift_lab::frozen::freeze;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::ground::Ground;

/// Between two lines of a fix: a pod that starts on a loaded machine.
const LINE: Duration = Duration::from_secs(120);

/// A `kubectl cidrift fix`. It is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
    said: Vec<String>,
}

/// How one ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; `None`: a signal.
    pub(crate) code: Option<i32>,
    /// What it wrote, with single spaces between words: lines are wrapped.
    pub(crate) said: String,
    /// What it wrote to standard error.
    pub(crate) errors: String,
}

impl Ended {
    /// That it ended so, and wrote these.
    pub(crate) fn is(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for text in texts {
            let there = self.said.contains(text) || self.errors.contains(text);
            assert!(there, "{text:?} is not said: {self:#?}");
        }
    }
}

/// A line of `-o json`.
#[derive(Debug, Clone)]
pub(crate) struct Happened {
    /// The step's number, from 1; 0: of none.
    pub(crate) step: u64,
    /// What.
    pub(crate) text: String,
}

impl Running {
    /// Starts `kubectl cidrift fix ARGUMENTS --yes`.
    pub(crate) fn start(ground: &Ground, arguments: &[&str]) -> Self {
        eprintln!("$ kubectl cidrift fix --yes {}", arguments.join(" "));
        // kubectl becomes its plugin: the process is the same.
        let mut child = Command::new("kubectl")
            .args(["cidrift", "fix", "--yes"])
            .args(arguments)
            .envs(ground.deployed.kubectl.environment())
            .env_remove("CIDRIFT_SERVER")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (told, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The test may have ended.
                let _ = told.send(line);
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        Self {
            child,
            lines,
            errors: Some(errors),
            said: Vec::new(),
        }
    }

    /// The next line; `None`: it writes no more.
    fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(LINE) {
            Ok(line) => {
                self.said.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing for {LINE:?} after {:#?}", self.said),
        }
    }

    /// Reads until something has happened that is looked for (`-o json`); `None`: it ends before.
    pub(crate) fn until(&mut self, mut wanted: impl FnMut(&Happened) -> bool) -> Option<Happened> {
        while let Some(line) = self.line() {
            if let Some(happened) = happened(&line)
                && wanted(&happened)
            {
                return Some(happened);
            }
        }
        None
    }

    /// Reads until a line has this in it.
    pub(crate) fn says(&mut self, text: &str) {
        while let Some(line) = self.line() {
            if line.contains(text) {
                return;
            }
        }
        panic!("it ended without {text:?}: {:#?}", self.said);
    }

    /// Kills it as a crash would (SIGKILL).
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::SIGINT);
    }

    /// It does nothing while this is done.
    pub(crate) fn asleep(&self, act: impl FnOnce()) {
        freeze(self.pid()).unwrap();
        act();
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits until it ends by itself.
    pub(crate) fn end(mut self) -> Ended {
        while self.line().is_some() {}
        let status: ExitStatus = self.child.wait().unwrap();
        let errors = self.errors.take().unwrap().join().unwrap();
        let words: Vec<&str> = self.said.iter().flat_map(|line| line.split_whitespace()).collect();
        Ended {
            code: status.code(),
            said: words.join(" "),
            errors,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One that runs to its end.
pub(crate) fn fix(ground: &Ground, arguments: &[&str]) -> Ended {
    Running::start(ground, arguments).end()
}

/// `None`: it is of the plan or the record, which are no events.
fn happened(line: &str) -> Option<Happened> {
    let object: Value = serde_json::from_str(line).ok()?;
    object["at"].as_str()?;
    Some(Happened {
        step: object["step"][0].as_u64().unwrap_or(0),
        text: object["text"].as_str()?.to_owned(),
    })
}
