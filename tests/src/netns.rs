//! Network namespaces, held open by file descriptor: no names in `/run/netns`,
//! nothing left behind when the process ends.

use std::fs::File;
use std::io;
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace. It lives as long as a clone of this, a process or a
/// device's peer in it does.
#[derive(Debug, Clone)]
pub struct Netns {
    name: String,
    file: Arc<File>,
}

impl Netns {
    /// Makes a new one, with its loopback still down. Needs CAP_SYS_ADMIN in
    /// the process's user namespace. `name` is for messages only.
    pub fn new(name: &str) -> io::Result<Self> {
        let make = || -> io::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        };
        let file = thread::scope(|scope| join(scope.spawn(make)))?;
        Ok(Self {
            name: name.to_owned(),
            file: Arc::new(file),
        })
    }

    /// One that exists already, by an open file of it. `name` is for messages only.
    pub(crate) fn from_file(name: &str, file: File) -> Self {
        Self {
            name: name.to_owned(),
            file: Arc::new(file),
        }
    }

    /// Its name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The descriptor, to move a device into it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Runs `work` on a thread of its own inside this namespace. Sockets made
    /// there stay in the namespace wherever they are used afterwards.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            join(scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            }))
        })
    }

    /// Runs `work` on a thread inside this namespace that may outlive the
    /// caller. Everything that it starts, sockets and threads, stays there too.
    pub fn thread<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<thread::JoinHandle<io::Result<T>>> {
        let netns = self.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            netns.enter()?;
            Ok(work())
        })
    }

    /// Moves the calling thread, and only it, into this namespace.
    pub(crate) fn enter(&self) -> io::Result<()> {
        Ok(setns(&self.file, CloneFlags::CLONE_NEWNET)?)
    }

    /// Starts a program inside this namespace: a child keeps the namespace of
    /// the thread that made it.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.run(|| command.spawn())?
    }
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::require::{Need, have};

    #[test]
    fn a_new_namespace_has_nothing_but_its_loopback() {
        if !have(Need::Netns) {
            return;
        }
        let netns = Netns::new("empty").unwrap();
        let devices = netns
            .run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap())
            .unwrap();
        let names: Vec<&str> = devices
            .lines()
            .skip(2)
            .filter_map(|l| l.split(':').next())
            .map(str::trim)
            .collect();
        assert_eq!(names, ["lo"]);
    }
}
