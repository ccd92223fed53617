//! `/metrics`, `/livez` and `/readyz`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::metrics::Metrics;

/// What must have happened before this program does its work, and has not.
#[derive(Debug, Clone, Default)]
pub struct Ready {
    pending: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Ready {
    /// Something is still to happen, or does not hold any more.
    pub fn pending(&self, what: &'static str, why: impl Into<String>) {
        self.lock().insert(what, why.into());
    }

    /// It has happened.
    pub fn done(&self, what: &'static str) {
        self.lock().remove(what);
    }

    /// Whether it is still to happen.
    pub fn awaits(&self, what: &str) -> bool {
        self.lock().contains_key(what)
    }

    /// What `/readyz` shows.
    pub fn shown(&self) -> String {
        self.answer().1
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self) -> (StatusCode, String) {
        let pending = self.lock();
        if pending.is_empty() {
            return (StatusCode::OK, "ready\n".to_owned());
        }
        let lines: Vec<String> = pending
            .iter()
            .map(|(what, why)| format!("pending: {what}: {why}\n"))
            .collect();
        (StatusCode::SERVICE_UNAVAILABLE, lines.concat())
    }
}

/// The routes.
pub fn router(metrics: Arc<Metrics>, ready: Ready) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics).with_state(metrics))
        .route("/livez", get(async || "ok\n"))
        .route(
            "/readyz",
            get(async |State(ready): State<Ready>| ready.answer()).with_state(ready),
        )
}

async fn show_metrics(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], metrics.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_says_what_is_still_pending() {
        let ready = Ready::default();
        ready.pending("control plane", "not read yet");
        let (status, text) = ready.answer();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text, "pending: control plane: not read yet\n");
        ready.done("control plane");
        assert_eq!(ready.answer().0, StatusCode::OK);
    }
}
