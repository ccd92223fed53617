//! What kubelets and kube-controller-manager say of themselves, asked through the API server's proxy.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::Client;

use super::Shared;
use super::follow::{Trouble, trouble};
use super::keep::{watched, words};
use crate::cluster::PlaneEvent;
use crate::cluster::objects::{KubeletWord, Resource, Watched};
use crate::control_plane::record::kubelet;

/// Each is asked this often at most: what they count is for trends, and a kubelet's text has some 100 KB.
const EACH: Duration = Duration::from_secs(60);

/// So many kubelets are asked at a time.
const AT_ONCE: usize = 8;

/// Configuration changes only when a kubelet starts anew: it is asked for in every tenth round, 10 min.
const CONFIG: u32 = 10;

/// An answer takes no longer than this: kubelets collect their metrics in well below a second.
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

/// Asks kubelets.
pub(super) async fn kubelets(shared: &Shared) {
    let mut ticks = tokio::time::interval(EACH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut known: BTreeMap<String, KubeletWord> = BTreeMap::new();
    let mut round = 0u32;
    loop {
        ticks.tick().await;
        let mut names: Vec<String> = shared.nodes().iter().cloned().collect();
        if names.is_empty() {
            // Nodes are not listed yet: soon they are.
            ticks.reset_after(super::AGAIN);
            continue;
        }
        known.retain(|name, _| names.binary_search(name).is_ok());
        let (mut metrics, mut configz) = (Round::default(), Round::default());
        // What one kubelet may not be asked, none may: the others are not tried in vain.
        let first = names.remove(0);
        let rest = {
            let word = ask(shared, &first, round, &mut known, &mut metrics, &mut configz).await;
            told(shared, &first, word);
            if metrics.refused.is_some() && (configz.refused.is_some() || !configz.answered) {
                Vec::new()
            } else {
                names
            }
        };
        let mut answers = futures::stream::iter(rest)
            .map(|name| {
                let mut word = known.get(&name).cloned().unwrap_or_default();
                let want = wants(round, &word);
                let skip = (metrics.refused.is_some(), configz.refused.is_some());
                async move {
                    let metrics = if skip.0 {
                        None
                    } else {
                        Some(ask_metrics(shared, &name, &mut word).await)
                    };
                    let config = if skip.1 || !want {
                        None
                    } else {
                        Some(ask_config(shared, &name, &mut word).await)
                    };
                    (name, word, metrics, config)
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        for (name, word, said_metrics, said_config) in answers.drain(..) {
            let any = [
                said_metrics.and_then(|said| metrics.note(said)),
                said_config.and_then(|said| configz.note(said)),
            ];
            if any.iter().any(Option::is_some) {
                known.insert(name.clone(), word.clone());
                told(shared, &name, Some(word));
            }
        }
        metrics.end(Resource::KubeletMetrics, shared);
        configz.end(Resource::KubeletConfigz, shared);
        round = round.wrapping_add(1);
    }
}

fn wants(round: u32, word: &KubeletWord) -> bool {
    round.is_multiple_of(CONFIG) || word.runtime_endpoint.is_none()
}

fn told(shared: &Shared, name: &str, word: Option<KubeletWord>) {
    if let Some(word) = word {
        (shared.push)(PlaneEvent::Kubelet(name.to_owned(), Box::new(word)));
    }
}

async fn ask(
    shared: &Shared,
    name: &str,
    round: u32,
    known: &mut BTreeMap<String, KubeletWord>,
    metrics: &mut Round,
    configz: &mut Round,
) -> Option<KubeletWord> {
    let mut word = known.get(name).cloned().unwrap_or_default();
    let mut any = metrics.note(ask_metrics(shared, name, &mut word).await).is_some();
    if wants(round, &word) {
        any |= configz.note(ask_config(shared, name, &mut word).await).is_some();
    }
    any.then(|| {
        known.insert(name.to_owned(), word.clone());
        word
    })
}

async fn ask_metrics(shared: &Shared, name: &str, word: &mut KubeletWord) -> Result<(), Trouble> {
    let text = get(&shared.client, format!("/api/v1/nodes/{name}/proxy/metrics")).await?;
    kubelet::metrics(&text, word);
    word.asked_at = Some(Timestamp::now());
    Ok(())
}

async fn ask_config(shared: &Shared, name: &str, word: &mut KubeletWord) -> Result<(), Trouble> {
    let text = get(&shared.client, format!("/api/v1/nodes/{name}/proxy/configz")).await?;
    kubelet::config(&text, word).map_err(Trouble::Broken)?;
    word.asked_at = Some(Timestamp::now());
    Ok(())
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
                pools.extend(kubelet::pools(&text, &key, Timestamp::now()));
            }
        }
        if round.answered {
            (shared.push)(PlaneEvent::PoolMetrics(pools));
        }
        round.end(Resource::ManagerMetrics, shared);
    }
}
