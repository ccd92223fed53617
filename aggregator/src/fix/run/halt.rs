//! Why a fix does not go on, and which answers of the API server are no reason.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::control_plane::chain;

/// An API server that restarts is back within this; a Lease that is not renewed meanwhile has run out by then, too.
const OUTAGE: Duration = Duration::from_secs(90);

/// One try. What it asked for may come true later all the same, within the API server's own limit.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Why a fix stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// Something is not as it was planned, or a step failed.
    #[error("{0}")]
    Stop(String),
    /// The Lease is not this program's any more: nothing may be done, not even be written down.
    #[error("{0}")]
    Lost(String),
    /// The operator wanted it.
    #[error("it was interrupted")]
    Interrupted,
    /// It is not the time of day for it.
    #[error("{0}")]
    Closed(String),
    /// A step is for the operator's own hands.
    #[error("the operator must act: {0}")]
    Hand(String),
}

impl Halt {
    /// A refusal or a failure of the API server.
    pub(super) fn api(what: &str, error: &kube::Error) -> Self {
        Self::Stop(match error {
            kube::Error::Api(status) if status.code == 403 => {
                // Who may not says RBAC in these words; others refuse for reasons of their own.
                let right = match status.message.contains(" cannot ") {
                    true => " (ClusterRole and Role cidrift-fixer have what a fix needs, once they are bound to you)",
                    false => "",
                };
                format!(
                    "cannot {what}: the API server does not let you: {}{right}",
                    status.message
                )
            }
            kube::Error::Api(status) => format!("cannot {what}: {}", status.message),
            other => format!("cannot {what}: {}", chain(other)),
        })
    }
}

/// The status code of an answer; `None`: there was none.
pub(super) fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Whether the same may succeed a moment later: nobody answered, or the one who did was overloaded or starting.
pub(super) fn passing(error: &kube::Error) -> bool {
    match error {
        // What a starting API server says that has not read its own rights yet is 403: "not yet synced".
        kube::Error::Api(status) => {
            matches!(status.code, 429 | 500 | 502 | 503 | 504)
                || (status.code == 403 && status.message.contains("not yet"))
        }
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// Calls until it is answered; what the answer is, is the caller's matter.
pub(super) async fn call<T>(mut make: impl AsyncFnMut() -> Result<T, kube::Error>) -> Result<T, kube::Error> {
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(3))
        .with_total_delay(Some(OUTAGE))
        .without_max_times()
        .build();
    loop {
        // A connection that hangs is no better than one that breaks.
        let silent = || kube::Error::Service(format!("no answer within {ATTEMPT:?}").into());
        let answer = tokio::time::timeout(ATTEMPT, make()).await;
        match answer.unwrap_or_else(|_| Err(silent())) {
            Err(error) if passing(&error) => match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            },
            answer => return answer,
        }
    }
}
