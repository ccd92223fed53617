//! Gathers the ground: objects from the API server with the operator's own rights, and what the aggregator answers.
//! The only place of the plan that knows Kubernetes' types.

mod controllers;
mod objects;
mod quantity;
#[cfg(test)]
mod tests;

use kube::api::ListParams;
use kube::{Api, Client};

pub use self::controllers::controllers;
pub use self::objects::{Answers, Objects, assemble, pod};
use crate::control_plane::chain;

/// Objects asked for at a time, as kubectl does: 450,000 pods are no single answer.
const PAGE: u32 = 500;

/// Why there is no ground.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The API server refuses or does not answer.
    #[error("cannot list {what}: {why}")]
    Api {
        /// The resource.
        what: &'static str,
        /// What it says.
        why: String,
    },
    /// An object makes no sense.
    #[error("{what} {name}: {why}")]
    Odd {
        /// The resource.
        what: &'static str,
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Lists Nodes, Pods, PodDisruptionBudgets and CSINodes, and looks whether a kube-controller-manager runs.
///
/// # Errors
///
/// One of them cannot be listed. There is no plan without: a budget that is not seen would be broken.
pub async fn objects(client: &Client) -> Result<Objects, GatherError> {
    let mut gaps = Vec::new();
    let controllers = match controllers(client).await {
        Ok(quiet) => quiet,
        // Whoever may not ask for that may still plan: it is said that it was not seen.
        Err(kube::Error::Api(status)) if status.code == 403 => {
            let text = "whether a kube-controller-manager runs: you may not get leases of kube-system and list those of kube-node-lease";
            gaps.push(text.to_owned());
            None
        }
        Err(error) => {
            return Err(GatherError::Api {
                what: "leases.coordination.k8s.io",
                why: chain(&error),
            });
        }
    };
    Ok(Objects {
        nodes: all(client, "nodes").await?,
        pods: all(client, "pods").await?,
        budgets: all(client, "poddisruptionbudgets.policy").await?,
        csi: all(client, "csinodes.storage.k8s.io").await?,
        controllers,
        gaps,
    })
}

async fn all<K>(client: &Client, what: &'static str) -> Result<Vec<K>, GatherError>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let mut found = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = api.list(&page).await.map_err(|error| GatherError::Api {
            what,
            why: match &error {
                kube::Error::Api(status) if status.code == 403 => {
                    format!("you may not: a plan needs verb \"list\" of {what} in all namespaces")
                }
                _ => chain(&error),
            },
        })?;
        found.extend(listed.items);
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}
