//! The container runtime over CRI: is it ready, and which pod sandboxes does it have.
//!
//! Only four calls are made, none of which changes anything; `proto/cri/runtime.proto` has no others. A list of
//! sandboxes is whole or it is not told: see `sandboxes`.

mod client;
pub(crate) mod connection;
mod info;
mod sandboxes;
mod socket;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use self::client::Client;
use self::connection::CriError;
use self::sandboxes::Sandboxes;
use self::socket::Candidates;
use super::root::HostRoot;
use crate::view::Observed;
use crate::view::host::{Missing, Process, Runtime, Sandbox};

/// The CRI messages and the client.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// How long all calls of one look may take together: less than the 10 s between two looks.
const LOOK: Duration = Duration::from_secs(8);

/// A socket that answered before and is gone is its runtime being restarted or down: another runtime's socket is
/// taken for the kubelet's only after this. Restarts take seconds; what takes minutes is a migration.
const GONE: Duration = Duration::from_secs(300);

/// Asks the runtime.
#[derive(Debug)]
pub struct CriReader {
    root: HostRoot,
    link: Option<Link>,
    /// The socket that answered last though no kubelet named it, and when.
    chosen: Option<(PathBuf, Timestamp)>,
    sandboxes: Sandboxes,
}

/// A connection, and what the runtime said of itself when it was made.
#[derive(Debug)]
struct Link {
    socket: PathBuf,
    client: Client,
    version: v1::VersionResponse,
}

/// Why there is nothing to tell, and of which socket.
#[derive(Debug)]
struct Nothing {
    source: String,
    why: Missing,
}

impl Nothing {
    fn new(socket: &Path, why: Missing) -> Self {
        Self {
            source: socket.display().to_string(),
            why,
        }
    }

    /// `named`: a kubelet in this host's network namespace says that it uses this socket. That the runtime behind it
    /// has no CRI is a fault then, and otherwise a sign that it is none of Kubernetes' (Docker's own containerd).
    fn from_error(socket: &Path, named: bool, error: &CriError) -> Self {
        let why = match error {
            CriError::NoCri(_) if named => Missing::Unreadable(format!("the kubelet uses it, and {error}")),
            CriError::NoCri(_) | CriError::Foreign { .. } => Missing::Absent(error.to_string()),
            _ => Missing::Unreadable(error.to_string()),
        };
        Self::new(socket, why)
    }
}

impl CriReader {
    /// On the host whose `/` is at `root`.
    pub fn new(root: HostRoot) -> Self {
        Self {
            root,
            link: None,
            chosen: None,
            sandboxes: Sandboxes::default(),
        }
    }

    /// Asks for its state and its sandboxes. It takes 8 s at most, whatever the runtime does.
    ///
    /// The sandboxes are those of the last look at which all were known, with the time of that look: while many new
    /// ones are asked for, that is older than the runtime's state.
    pub async fn look(
        &mut self,
        processes: &Observed<Vec<Process>>,
        now: Timestamp,
    ) -> (Observed<Runtime>, Observed<Vec<Sandbox>>) {
        let deadline = Instant::now() + LOOK;
        let (runtime, named) = match self.runtime(processes, now, deadline).await {
            Ok(answered) => answered,
            Err(Nothing { source, why }) => {
                return (
                    Observed::missing(now, source.clone(), why.clone()),
                    Observed::missing(now, source, why),
                );
            }
        };
        let Some(link) = &self.link else {
            // `runtime` has just left one.
            return (Observed::not_yet(), Observed::not_yet());
        };
        let source = link.socket.display().to_string();
        let sandboxes = match self.sandboxes.look(&link.client, &source, now, deadline).await {
            Ok(observed) => observed,
            Err(error) => {
                let nothing = Nothing::from_error(&link.socket, named, &error);
                if error.breaks_connection() {
                    self.link = None;
                }
                Observed::missing(now, nothing.source, nothing.why)
            }
        };
        (Observed::seen(now, source, runtime), sandboxes)
    }

    /// The runtime's state, by the connection that there is or by a new one, which is kept; and whether a kubelet
    /// names the socket.
    async fn runtime(
        &mut self,
        processes: &Observed<Vec<Process>>,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<(Runtime, bool), Nothing> {
        let candidates = self.candidates(processes, now)?;
        if let Some(link) = self.link.take()
            && candidates.sockets.contains(&link.socket)
        {
            match link.client.status(deadline).await {
                Ok(status) => {
                    let runtime = info::runtime(&link.version, &status);
                    self.keep(link, &candidates, now);
                    return Ok((runtime, candidates.named));
                }
                Err(error @ CriError::Silent(_)) => {
                    return Err(Nothing::from_error(&link.socket, candidates.named, &error));
                }
                // The runtime may have been restarted since: one new connection will tell.
                Err(_) => {}
            }
        }
        let mut absent = None;
        for socket in &candidates.sockets {
            match self.open(socket, deadline).await {
                Ok((link, runtime)) => {
                    self.keep(link, &candidates, now);
                    return Ok((runtime, candidates.named));
                }
                Err(error) => {
                    let nothing = Nothing::from_error(socket, candidates.named, &error);
                    // One that may be the kubelet's and does not answer is not passed over: the next would
                    // truthfully say that it has no pods.
                    if matches!(nothing.why, Missing::Unreadable(_)) {
                        return Err(nothing);
                    }
                    absent.get_or_insert(nothing);
                }
            }
        }
        Err(absent.unwrap_or_else(socket::none))
    }

    /// Which sockets to try.
    fn candidates(&mut self, processes: &Observed<Vec<Process>>, now: Timestamp) -> Result<Candidates, Nothing> {
        let candidates = socket::candidates(&self.root, processes)?;
        let Some((chosen, answered)) = self.chosen.as_ref().filter(|_| !candidates.named) else {
            return Ok(candidates);
        };
        if candidates.sockets.contains(chosen) {
            return Ok(Candidates {
                named: false,
                sockets: vec![chosen.clone()],
            });
        }
        if now.duration_since(*answered).unsigned_abs() < GONE {
            let why = "it answered before, and the socket is gone: the runtime is down or being restarted".to_owned();
            return Err(Nothing::new(chosen, Missing::Unreadable(why)));
        }
        self.chosen = None;
        Ok(candidates)
    }

    fn keep(&mut self, link: Link, candidates: &Candidates, now: Timestamp) {
        self.chosen = (!candidates.named).then(|| (link.socket.clone(), now));
        self.link = Some(link);
    }

    async fn open(&self, socket: &Path, deadline: Instant) -> Result<(Link, Runtime), CriError> {
        let path = self.root.resolve(socket).map_err(CriError::Open)?;
        let client = Client::connect(&path, deadline).await?;
        let version = client.version(deadline).await?;
        let status = client.status(deadline).await?;
        let runtime = info::runtime(&version, &status);
        let link = Link {
            socket: socket.to_owned(),
            client,
            version,
        };
        Ok((link, runtime))
    }
}
