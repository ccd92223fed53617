//! `cidrift-errand`: one change to a host, made where it is needed and then done with.
//!
//! The agent never writes to a host. Where a fix must, a short-lived Pod on that node runs this program, which is in
//! the agent's image and shares its readers, and mounts of the host only what the errand is about. Every errand may
//! be run again: what is done already is success. One line on stdout says what was done. A failure is one line on
//! stderr and, in a Pod, its termination message; the exit code is 1 then, and 2 where the command line is wrong.

mod args;
mod directory;
mod error;
mod file;
mod hold;
mod leases;
mod link;
mod render;
mod route;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use self::args::Errand;
use self::error::Error;

/// The name under which it speaks.
const NAME: &str = "cidrift-errand";

/// What the kubelet makes the container's termination message of, as a Pod has it that names no other file.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// As much of a termination message as the kubelet keeps.
const TERMINATION_LIMIT: usize = 4096;

/// What `main` does.
pub fn main() -> ExitCode {
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            if error.use_stderr() {
                last_words(Path::new(TERMINATION_LOG), &error.to_string());
            }
            error.exit();
        }
    };
    let done = run(cli.errand).and_then(|line| {
        writeln!(io::stdout(), "{NAME}: {}", one_line(&line))
            .map_err(Error::io("what was done cannot be said on stdout"))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let line = format!("{NAME}: {}\n", one_line(&error.to_string()));
            // Nobody may be listening any more: the exit code still tells.
            let _ = io::stderr().write_all(line.as_bytes());
            last_words(Path::new(TERMINATION_LOG), &line);
            ExitCode::FAILURE
        }
    }
}

/// What was done, as one line.
fn run(errand: Errand) -> Result<String, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::io("no runtime for asynchronous calls"))?;
    match errand {
        Errand::RemoveFile(args) => file::remove(&args),
        Errand::RemoveLeases(args) => leases::remove(&args),
        Errand::RemoveLink(args) => runtime.block_on(link::remove(&args)),
        Errand::RemoveRoute(args) => runtime.block_on(route::remove(&args)),
        Errand::Render(args) => runtime.block_on(render::render(&args)),
        Errand::Hold => runtime.block_on(hold::hold()),
    }
}

/// Paths of a host, and what a runtime says, may have line breaks.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    words.join(" ")
}

/// Leaves `text` where the kubelet looks for it. Outside of a Pod there is no such file, and none is made.
fn last_words(path: &Path, text: &str) {
    let end = text.floor_char_boundary(TERMINATION_LIMIT);
    if let Ok(mut file) = OpenOptions::new().write(true).truncate(true).open(path) {
        // It has been said on stderr too; there is nobody else to tell.
        let _ = file.write_all(&text.as_bytes()[..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_one_line_whatever_is_in_it() {
        assert_eq!(one_line("a: b\r\n\n  at line 1\nend "), "a: b at line 1 end");
    }

    #[test]
    fn a_termination_message_replaces_the_one_before_and_is_no_longer_than_the_kubelet_keeps() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("termination-log");
        std::fs::write(&path, "what an earlier container said, at some length").unwrap();
        last_words(&path, "cidrift-errand: no\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "cidrift-errand: no\n");
        last_words(&path, &"ä".repeat(4096));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "ä".repeat(2048));
    }

    #[test]
    fn outside_of_a_pod_no_termination_message_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("termination-log");
        last_words(&path, "cidrift-errand: no\n");
        assert!(!path.exists());
    }
}
