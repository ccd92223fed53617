//! What the control plane says, from one of two sources: a snapshot file, or the
//! Kubernetes API. The only room that knows kube types; it hands on plain data.

pub mod api;
pub mod gather;
pub mod kind;
pub mod parse;
pub mod record;
pub mod snapshot;

use std::future::Future;

use tokio_util::sync::CancellationToken;

use crate::cluster::PlaneEvent;

pub use api::Kubernetes;
pub use snapshot::SnapshotFile;

/// Takes what the control plane says, the newest last. Called from a source's tasks: keep it short.
pub type Push = Box<dyn Fn(PlaneEvent) + Send + Sync>;

/// Why a source cannot even start. What goes wrong later stands in [`crate::cluster::ControlPlane::problem`].
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The directory of the snapshot file cannot be watched.
    #[error("cannot watch {directory}: {reason}; it must exist, and fs.inotify.max_user_watches must not be used up")]
    Watch {
        /// The directory.
        directory: String,
        /// Why.
        reason: String,
    },
    /// There is no way to the Kubernetes API.
    #[error("no access to the Kubernetes API: {0}; run it in the cluster, or give --kubeconfig or --cluster-state")]
    Access(String),
}

/// Somebody who knows the Nodes.
pub trait Source: Send {
    /// Pushes what there is as soon as it is there, and whatever changes; while the newest
    /// cannot be had, why not. Ends when `shutdown` is cancelled.
    fn run(self, push: Push, shutdown: CancellationToken) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// An error with all its causes, which name the socket, the certificate …
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    // kube puts paths, which have quotes already, in quotes: '"/home/jane/.kube/config"'.
    text.replace("'\"", "\"").replace("\"'", "\"")
}
