//! What the API server's audit log says that somebody asked for.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::kubernetes::Cluster;
use crate::kubernetes::error::{Result, io};

/// A right: API group, resource (with its subresource), verb.
pub type Right = (String, String, String);

/// What a user asked for.
#[derive(Debug, Default)]
pub struct Asked {
    /// Rights that it made use of, granted or not.
    pub used: BTreeSet<Right>,
    /// Entries of what was forbidden.
    pub refused: Vec<String>,
    /// All entries: what needs no right, such as discovery, too.
    pub entries: usize,
}

/// Reads the audit log. Watches are noted when they begin (stage ResponseStarted) and when they end.
///
/// `pod`: only what a pod of this name asked, by the token that it was given. Others of the same account may have been here
/// before, and lost their rights before they ended when they were removed.
///
/// # Errors
///
/// The log cannot be read.
pub fn asked(cluster: &Cluster, user: &str, pod: Option<&str>) -> Result<Asked> {
    let path = &cluster.plane().audit_log;
    let text = std::fs::read_to_string(path).map_err(io(format!("read {}", path.display())))?;
    let mut asked = Asked::default();
    for line in text.lines() {
        // The last line may be half written.
        let Ok(entry) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        if entry["user"]["username"] != user {
            continue;
        }
        let of = &entry["user"]["extra"]["authentication.kubernetes.io/pod-name"][0];
        if pod.is_some_and(|pod| of != pod) {
            continue;
        }
        asked.entries += 1;
        if entry["responseStatus"]["code"] == 403 {
            asked.refused.push(line.to_owned());
        }
        let word = |at: &str| entry.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(resource) = entry["objectRef"]["resource"].as_str() else {
            continue;
        };
        let resource = match word("/objectRef/subresource") {
            part if part.is_empty() => resource.to_owned(),
            part => format!("{resource}/{part}"),
        };
        asked
            .used
            .insert((word("/objectRef/apiGroup"), resource, word("/verb")));
    }
    Ok(asked)
}
