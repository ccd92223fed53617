//! `cidrift-lab kubernetes up|down|status`: a cluster for people, held by a
//! process in the background.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::error::{Error, Result, io};
use crate::kubernetes::pki::write;
use crate::kubernetes::place;
use crate::kubernetes::scenario::Scenario;

/// How long a cluster may take to end: most of it is its programs' own second.
const ENDING: Duration = Duration::from_secs(60);

/// What a held cluster says of itself, in `held.json` in its directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Held {
    /// The process that holds it.
    pub pid: i32,
    /// Its nodes.
    pub nodes: Vec<String>,
    /// How its pods get their addresses.
    pub cni: String,
    /// `--cluster-cidr`.
    pub cluster_cidr: String,
}

/// Starts the holder with the same arguments, shows what it says, and returns once the cluster is up.
pub fn up(lab: &Path, arguments: &[String]) -> Result<()> {
    let base = place::base();
    crate::state::make(&base).map_err(io(format!("make {}", base.display())))?;
    let output = tempfile::Builder::new().prefix("up-").suffix(".log").tempfile_in(&base);
    let output = output.map_err(io(format!("make a file in {}", base.display())))?;
    let mut reader = output.reopen().map_err(io("open the holder's log"))?;
    let writer = || -> Result<File> { output.as_file().try_clone().map_err(io("open the holder's log")) };
    let mut holder = Command::new(lab)
        .args(["kubernetes", "hold"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(writer()?)
        .stderr(writer()?)
        // Not to be ended by what is typed in this terminal.
        .process_group(0)
        .spawn()
        .map_err(io("start the holder"))?;
    let mut said = String::new();
    loop {
        let ended = holder.try_wait().map_err(io("wait for the holder"))?;
        let mut more = String::new();
        let position = reader.stream_position().unwrap_or_default();
        // Half a character at the end is read the next time.
        if reader.read_to_string(&mut more).is_err() {
            reader
                .seek(std::io::SeekFrom::Start(position))
                .map_err(io("read the holder's log"))?;
        }
        eprint!("{more}");
        said.push_str(&more);
        if said.lines().any(|line| line.starts_with("export KUBECONFIG=")) {
            return Ok(());
        }
        if let Some(status) = ended {
            return Err(Error::Ended {
                name: format!("the holder ({status})"),
                tail: "see above".to_owned(),
            });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Starts a cluster and holds it until SIGTERM or SIGINT.
pub fn hold(scenario: Scenario) -> Result<()> {
    let (stop, stopped) = channel();
    crate::stop::on_signal(move || {
        // Nobody listens when the start has failed already.
        let _ = stop.send(());
    })
    .map_err(io("listen for signals"))?;
    let cluster = Cluster::start(scenario, &|text| eprintln!("{text}"))?;
    let scenario = cluster.scenario();
    let held = Held {
        pid: std::process::id().cast_signed(),
        nodes: cluster.nodes().iter().map(|node| node.name.clone()).collect(),
        cni: scenario.cni.to_string(),
        cluster_cidr: crate::kubernetes::scenario::list(&scenario.cluster_cidr),
    };
    let text = serde_json::to_string(&held).map_err(|error| Error::Malformed(error.to_string()))?;
    write(&cluster.directory().join("held.json"), &text, 0o600)?;
    eprintln!("logs: {}", cluster.directory().join("log").display());
    eprintln!("export KUBECONFIG={}", cluster.kubeconfig().display());
    // The sender lives in the thread that waits for signals.
    let _ = stopped.recv();
    Ok(())
}

/// Ends held clusters, or only the one named. Returns what was done, a line each.
pub fn down(only: Option<&str>) -> Result<Vec<String>> {
    let base = place::base();
    let mut done = Vec::new();
    for found in place::all(&base)? {
        let id = found
            .directory
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some(held) = held(&found.directory).filter(|_| found.alive && only.is_none_or(|only| only == id)) else {
            continue;
        };
        kill(Pid::from_raw(held.pid), Signal::SIGTERM)
            .map_err(|error| io(format!("end process {}", held.pid))(error.into()))?;
        let start = Instant::now();
        while found.directory.exists() {
            if start.elapsed() >= ENDING {
                return Err(Error::TimedOut {
                    what: format!("cluster {id} ends"),
                    patience: ENDING,
                    last: format!("process {} still holds it", held.pid),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        done.push(format!("{id} ended"));
    }
    for id in place::remove_stale(&base)? {
        done.push(format!("{id} was left by a process that is gone: removed"));
    }
    Ok(done)
}

/// A line for each cluster of this user.
pub fn status() -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for found in place::all(&place::base())? {
        let id = found
            .directory
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        lines.push(match (found.alive, held(&found.directory)) {
            (true, Some(held)) => format!(
                "{id}: {} nodes ({}), CNI {}, --cluster-cidr {}, held by process {}, KUBECONFIG={}",
                held.nodes.len(),
                held.nodes.join(" "),
                held.cni,
                held.cluster_cidr,
                held.pid,
                found.directory.join("kubeconfig").display()
            ),
            (true, None) => format!("{id}: starting, or a test's own"),
            (false, _) => format!("{id}: its process is gone; the next start or `kubernetes down` removes the rest"),
        });
    }
    Ok(lines)
}

fn held(directory: &Path) -> Option<Held> {
    serde_json::from_str(&fs::read_to_string(directory.join("held.json")).ok()?).ok()
}
