//! One connection to a runtime's socket, and how long a call over it may take.

use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Response, Status};
use tower::service_fn;

/// How long one call may take. Runtimes answer these from memory, in milliseconds; crictl gives them 2 s.
const CALL: Duration = Duration::from_secs(4);

/// How much of a runtime's error text is kept; whole ones, ids and ranges included, have a few hundred bytes.
const TEXT_LIMIT: usize = 2048;

/// Why a runtime did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CriError {
    /// The socket.
    #[error("the socket cannot be opened: {0}")]
    Open(io::Error),
    /// Nothing came.
    #[error("it did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// Whoever listens lives in another network: a container, another host of a lab.
    #[error("process {pid}, which listens there, is in another network namespace: it is not this host's runtime")]
    Foreign {
        /// Its id.
        pid: i32,
    },
    /// It answers, but not as a runtime for Kubernetes.
    #[error("it does not serve CRI v1: {0}")]
    NoCri(String),
    /// The connection.
    #[error("the connection broke: {0}")]
    Connection(String),
    /// Its own answer.
    #[error("{call} failed: {code}: {message}")]
    Answer {
        /// The call.
        call: &'static str,
        /// gRPC's code.
        code: Code,
        /// Its words.
        message: String,
    },
}

impl CriError {
    /// The thing asked for is gone.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Answer {
                code: Code::NotFound,
                ..
            }
        )
    }

    /// Whether the next call needs a new connection.
    pub(crate) fn breaks_connection(&self) -> bool {
        !matches!(self, Self::Answer { .. })
    }
}

/// Connects to the socket at `path`. A connection that breaks is not made again: whoever looks next does that.
pub(crate) async fn connect(path: &Path, deadline: Instant) -> Result<Channel, CriError> {
    let stream = within(deadline, UnixStream::connect(path))
        .await?
        .map_err(CriError::Open)?;
    if let Some(pid) = foreign(&stream) {
        return Err(CriError::Foreign { pid });
    }
    let once = Mutex::new(Some(TokioIo::new(stream)));
    let connector = service_fn(move |_: Uri| {
        let stream = once.lock().ok().and_then(|mut stream| stream.take());
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    // The authority that gRPC sends; CRI-O refuses the socket's path as one.
    let endpoint = Endpoint::from_static("http://localhost");
    within(deadline, endpoint.connect_with_connector(connector))
        .await?
        .map_err(|error| CriError::Connection(with_cause(&error)))
}

/// What the call `asked` comes to.
pub(crate) async fn answer<T>(
    call: &'static str,
    deadline: Instant,
    asked: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CriError> {
    match within(deadline, asked).await? {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(refused(call, &status)),
    }
}

/// Waits, for as long as one call may take and not beyond the look's `deadline`.
async fn within<T>(deadline: Instant, what: impl Future<Output = T>) -> Result<T, CriError> {
    let start = Instant::now();
    let end = deadline.min(start + CALL);
    let waited = end.saturating_duration_since(start);
    timeout_at(end, what).await.map_err(|_| CriError::Silent(waited))
}

fn refused(call: &'static str, status: &Status) -> CriError {
    if std::error::Error::source(status).is_some() {
        // tonic made this one up, of an error below it.
        return CriError::Connection(with_cause(status));
    }
    let message = cut(status.message());
    match status.code() {
        Code::Unimplemented => CriError::NoCri(message),
        code => CriError::Answer { call, code, message },
    }
}

/// An error and what it is made of; tonic's own words are no more than "transport error".
fn with_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cut(&cause.to_string())
}

/// The beginning of a text that somebody else wrote.
pub(super) fn cut(text: &str) -> String {
    let text = text.trim();
    let end = text.floor_char_boundary(TEXT_LIMIT);
    text[..end].to_owned()
}

/// The process that listens, where it is in another network namespace than this thread. A pid namespace that this
/// agent does not see into (id 0), or a procfs that may not be read, leaves it open.
fn foreign(stream: &UnixStream) -> Option<i32> {
    let pid = stream.peer_cred().ok()?.pid().filter(|pid| *pid > 0)?;
    // Process ids are those of this agent's own pid namespace, hence its own /proc, not the host's root's.
    let namespace = |path: String| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    let theirs = namespace(format!("/proc/{pid}/ns/net")).ok()?;
    let ours = namespace("/proc/thread-self/ns/net".to_owned()).ok()?;
    (theirs != ours).then_some(pid)
}
