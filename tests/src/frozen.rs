//! Programs that hang: they are there and do nothing.

use std::time::{Duration, Instant};
use std::{fs, io};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A thread that runs stops at the end of its time slice.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stops a program (SIGSTOP) and returns once each of its threads stands still: `kill` returns before that, and a thread on
/// another processor may answer once more. SIGCONT has it go on.
///
/// # Errors
///
/// There is no such process, or it does not stop.
pub fn freeze(pid: Pid) -> io::Result<()> {
    kill(pid, Signal::SIGSTOP)?;
    let began = Instant::now();
    while !still(pid)? {
        if began.elapsed() >= PATIENCE {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("process {pid} does not stop"),
            ));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether all its threads are stopped (proc_pid_stat(5): T).
fn still(pid: Pid) -> io::Result<bool> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = match fs::read_to_string(task?.path().join("stat")) {
            Ok(stat) => stat,
            // It has ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        // The name before may have blanks and brackets of its own.
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        if state != Some('T') {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_is_frozen_says_nothing_more_until_it_goes_on() {
        let mut child = Command::new("yes").stdout(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut some = [0; 1024];
        out.read_exact(&mut some).unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        assert!(!still(pid).unwrap(), "it runs");
        freeze(pid).unwrap();
        assert!(still(pid).unwrap());
        kill(pid, Signal::SIGCONT).unwrap();
        // More than a pipe holds.
        let mut more = vec![0; 1 << 20];
        out.read_exact(&mut more).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(freeze(pid).is_err(), "it is gone");
    }
}
