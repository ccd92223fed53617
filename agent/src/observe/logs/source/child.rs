//! A program that is run for its output, and never for longer or more than it may: then it is killed.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Between two looks at a pipe that is empty: far less than the program's start takes.
const PAUSE: Duration = Duration::from_millis(2);

/// What it may say about itself.
const COMPLAINT: usize = 512;

/// A killed program is gone at once, unless the kernel holds it (a disk that hangs): then it is left to itself.
const REAP: Duration = Duration::from_millis(500);

/// How long it may run and how much it may say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) time: Duration,
    pub(super) bytes: usize,
}

/// How it ended.
#[derive(Debug)]
pub(super) enum End {
    /// By itself; with what it said about that.
    Itself(ExitStatus, String),
    /// It took too long.
    TooLong,
    /// It said too much.
    TooMuch,
}

/// Runs it; hands on its output as it comes.
pub(super) fn run(command: &mut Command, limits: Limits, each: &mut dyn FnMut(&[u8])) -> io::Result<End> {
    let ends = Instant::now() + limits.time;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // What it starts itself dies with it.
        .process_group(0)
        .spawn()?;
    let (Some(mut output), Some(mut errors)) = (child.stdout.take(), child.stderr.take()) else {
        kill(&mut child);
        return Err(io::Error::other("its output is not piped"));
    };
    let mut complaint = Vec::new();
    let told = never_wait(&output)
        .and_then(|()| never_wait(&errors))
        .and_then(|()| drain(&mut output, &mut errors, &mut complaint, limits, ends, each));
    let whole = match told {
        Ok(None) => reaped(&mut child, ends),
        Ok(Some(end)) => {
            kill(&mut child);
            return Ok(end);
        }
        Err(error) => {
            kill(&mut child);
            return Err(error);
        }
    };
    Ok(match whole {
        Some(status) => {
            listen(&mut errors, &mut complaint);
            let complaint = String::from_utf8_lossy(&complaint);
            End::Itself(status, complaint.lines().next().unwrap_or_default().trim().to_owned())
        }
        None => {
            kill(&mut child);
            End::TooLong
        }
    })
}

/// Reads until the output ends; `Some` where it must be stopped before.
fn drain(
    output: &mut impl Read,
    errors: &mut impl Read,
    complaint: &mut Vec<u8>,
    limits: Limits,
    ends: Instant,
    each: &mut dyn FnMut(&[u8]),
) -> io::Result<Option<End>> {
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0_usize;
    loop {
        match output.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(count) => {
                total = total.saturating_add(count);
                each(&buffer[..count]);
                if total > limits.bytes {
                    return Ok(Some(End::TooMuch));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                listen(errors, complaint);
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
        }
        if Instant::now() >= ends {
            return Ok(Some(End::TooLong));
        }
    }
}

/// Takes what it says about itself, so that it never waits for somebody to read it.
fn listen(errors: &mut impl Read, complaint: &mut Vec<u8>) {
    let mut buffer = [0; 512];
    while let Ok(count) = errors.read(&mut buffer) {
        if count == 0 {
            return;
        }
        let room = COMPLAINT - complaint.len();
        complaint.extend_from_slice(&buffer[..count.min(room)]);
    }
}

fn never_wait(pipe: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(pipe.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(pipe.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

fn reaped(child: &mut Child, ends: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < ends => std::thread::sleep(PAUSE),
            Ok(None) | Err(_) => return None,
        }
    }
}

fn kill(child: &mut Child) {
    if let Ok(id) = i32::try_from(child.id()) {
        // It leads a group of its own and is not reaped yet: nobody else has that number.
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
    let _ = reaped(child, Instant::now() + REAP);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limits: Limits) -> (End, usize, Duration) {
        let started = Instant::now();
        let mut total = 0;
        let end = run(Command::new("sh").args(["-c", script]), limits, &mut |bytes| {
            total += bytes.len()
        })
        .unwrap();
        (end, total, started.elapsed())
    }

    const SMALL: Limits = Limits {
        time: Duration::from_millis(700),
        bytes: 1 << 20,
    };

    #[test]
    fn what_ends_by_itself_is_read_whole_with_its_complaint() {
        let (end, total, _) = shell("echo one; echo two; echo bad luck >&2; exit 3", SMALL);
        let End::Itself(status, complaint) = end else {
            panic!("{end:?}");
        };
        assert_eq!((status.code(), complaint.as_str(), total), (Some(3), "bad luck", 8));
    }

    #[test]
    fn what_hangs_is_killed_with_what_it_started() {
        let (end, total, took) = shell("echo one; sleep 60 & sleep 60", SMALL);
        assert!(matches!(end, End::TooLong), "{end:?}");
        assert_eq!(total, 4);
        assert!(took < Duration::from_secs(10), "{took:?}");
        let (end, _, took) = shell("exec >&-; sleep 60", SMALL);
        assert!(matches!(end, End::TooLong), "{end:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }

    #[test]
    fn what_floods_is_killed() {
        let (end, total, _) = shell("yes", SMALL);
        assert!(matches!(end, End::TooMuch), "{end:?}");
        assert!(total <= SMALL.bytes + (64 << 10), "{total}");
    }

    #[test]
    fn complaints_without_end_do_not_stop_it() {
        let (end, total, _) = shell(
            "yes complaint | head -c 1000000 >&2; echo done",
            Limits {
                time: Duration::from_secs(20),
                ..SMALL
            },
        );
        assert!(matches!(end, End::Itself(..)), "{end:?}");
        assert_eq!(total, 5);
    }
}
