//! `hold`: nothing at all, for as long as the Pod is to have its address.

use tokio::signal::unix::{SignalKind, signal};

use super::error::Error;

/// Waits for SIGTERM or SIGINT. As a container's first process it must handle them: the kernel gives such a process no
/// signal that it does not, and the kubelet would wait for its whole grace period.
pub(super) async fn hold() -> Result<String, Error> {
    let handle = |kind| signal(kind).map_err(Error::io("a signal cannot be handled"));
    let mut terminate = handle(SignalKind::terminate())?;
    let mut interrupt = handle(SignalKind::interrupt())?;
    let told = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    Ok(format!("held until {told}"))
}
