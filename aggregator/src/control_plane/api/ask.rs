//! What kube-controller-manager says of itself, asked through the API server's proxy.

use std::time::Duration;

use jiff::Timestamp;
use kube::Client;

use super::Shared;
use super::follow::{Trouble, trouble};
use super::keep::{watched, words};
use crate::cluster::PlaneEvent;
use crate::cluster::objects::{Resource, Watched};
use crate::control_plane::record::metrics;

/// Each is asked this often: what they count changes with Nodes, and matters where it does so for long.
const EACH: Duration = Duration::from_secs(60);

/// An answer takes no longer than this: metrics are collected in well below a second.
const ANSWER: Duration = Duration::from_secs(20);

/// The port of kube-controller-manager (`--secure-port`).
const MANAGER_PORT: u16 = 10257;

async fn get(client: &Client, path: String) -> Result<String, Trouble> {
    let request = http::Request::get(path).body(Vec::new());
    let request = request.map_err(|error| Trouble::Broken(error.to_string()))?;
    match tokio::time::timeout(ANSWER, client.request_text(request)).await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(trouble(error)),
        Err(_) => Err(Trouble::Broken(format!("no answer within {} s", ANSWER.as_secs()))),
    }
}

/// How one endpoint fares in a round.
#[derive(Debug, Default)]
struct Round {
    answered: bool,
    refused: Option<String>,
    failed: Option<String>,
}

impl Round {
    fn note<T>(&mut self, result: Result<T, Trouble>) -> Option<T> {
        match result {
            Ok(value) => {
                self.answered = true;
                return Some(value);
            }
            Err(Trouble::Refused(why)) => self.refused = Some(why),
            Err(other) => self.failed = Some(words(&other)),
        }
        None
    }

    fn end(self, resource: Resource, shared: &Shared) {
        let trouble = match (self.answered, self.refused, self.failed) {
            (true, ..) => return (shared.push)(PlaneEvent::Watch(resource, Watched::Live(Timestamp::now()))),
            (_, Some(why), _) => Trouble::Refused(why),
            (_, _, Some(why)) => Trouble::Broken(why),
            (false, None, None) => return,
        };
        if let Some(watched) = watched(&trouble) {
            (shared.push)(PlaneEvent::Watch(resource, watched));
        }
    }
}

/// Asks all instances of kube-controller-manager that run as pods.
pub(super) async fn managers(shared: &Shared) {
    let mut ticks = tokio::time::interval(EACH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        ticks.tick().await;
        let names = shared.gathered().managers();
        if names.is_empty() {
            if std::mem::take(&mut told) {
                (shared.push)(PlaneEvent::PoolMetrics(Vec::new()));
                (shared.push)(PlaneEvent::Watch(Resource::ManagerMetrics, Watched::Absent));
            }
            // Pods may not be listed yet; where there is none, this costs nothing.
            ticks.reset_after(super::AGAIN);
            continue;
        }
        told = true;
        let (mut round, mut pools) = (Round::default(), Vec::new());
        for key in names {
            let Some((namespace, pod)) = key.split_once('/') else {
                continue;
            };
            let path = format!("/api/v1/namespaces/{namespace}/pods/https:{pod}:{MANAGER_PORT}/proxy/metrics");
            if let Some(text) = round.note(get(&shared.client, path).await) {
                pools.extend(metrics::pools(&text, &key, Timestamp::now()));
            }
        }
        if round.answered {
            (shared.push)(PlaneEvent::PoolMetrics(pools));
        }
        round.end(Resource::ManagerMetrics, shared);
    }
}
