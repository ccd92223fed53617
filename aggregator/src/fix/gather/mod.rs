//! Gathers the ground: objects from the API server with the operator's own rights, and what the aggregator answers.
//! The only place of the plan that knows Kubernetes' types.

mod controllers;
mod objects;
mod place;
mod quantity;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, ObjectList};
use kube::{Api, Client};

pub use self::controllers::controllers;
use self::objects::Selectors;
pub use self::objects::{AGGREGATOR, Answers, Objects, Views, assemble, pod};
use super::ground::{PodGround, Pods};
use crate::control_plane::chain;

/// Objects asked for at a time, as kubectl does: 450,000 pods are no single answer.
const PAGE: u32 = 500;

/// Who may ask for all of that.
const FIXER: &str = "the ClusterRole cidrift-fixer allows it, once it is bound to you (kubectl create clusterrolebinding NAME \
                     --clusterrole=cidrift-fixer --user=USER)";

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

/// Lists Nodes, PodDisruptionBudgets and CSINodes, and looks whether a kube-controller-manager runs.
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
            gaps.push(format!(
                "whether a kube-controller-manager runs: you may not get leases of kube-system and list those of kube-node-lease; {FIXER}"
            ));
            None
        }
        Err(error) => {
            return Err(GatherError::Api {
                what: "leases.coordination.k8s.io",
                why: chain(&error),
            });
        }
    };
    let (mut nodes, mut budgets, mut csi) = (Vec::new(), Vec::new(), Vec::new());
    let all = ListParams::default();
    each(client, "nodes", &all, |object| nodes.push(trim(object))).await?;
    each(client, "poddisruptionbudgets.policy", &all, |object| {
        budgets.push(object)
    })
    .await?;
    each(client, "csinodes.storage.k8s.io", &all, |object| csi.push(object)).await?;
    Ok(Objects {
        nodes,
        budgets,
        csi,
        controllers,
        gaps,
    })
}

/// Lists all Pods that have not ended, and finds the budgets of each.
///
/// # Errors
///
/// They cannot be listed, or a budget makes no sense.
pub async fn pods(client: &Client, objects: &Objects) -> Result<Pods, GatherError> {
    let selectors = Selectors::new(&objects.budgets)?;
    let mut pods = Pods::default();
    let mut take = |pod: Pod| {
        if let Some(pod) = selectors.living(&pod) {
            pods.push(pod);
        }
    };
    each(client, "pods", &ListParams::default(), &mut take).await?;
    Ok(pods)
}

/// The same of one node.
///
/// # Errors
///
/// As for all.
pub async fn pods_of(client: &Client, objects: &Objects, node: &str) -> Result<Vec<PodGround>, GatherError> {
    let selectors = Selectors::new(&objects.budgets)?;
    let mut pods = Vec::new();
    let here = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let mut take = |pod: Pod| pods.extend(selectors.living(&pod));
    each(client, "pods", &here, &mut take).await?;
    Ok(pods)
}

async fn each<K>(
    client: &Client,
    what: &'static str,
    parameters: &ListParams,
    take: impl FnMut(K),
) -> Result<(), GatherError>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let listed = pages(parameters, async |page| api.list(page).await, take).await;
    listed.map_err(|error| GatherError::Api {
        what,
        why: match &error {
            kube::Error::Api(status) if status.code == 403 => {
                format!("you may not: a plan needs verb \"list\" of {what} in all namespaces; {FIXER}")
            }
            _ => chain(&error),
        },
    })
}

/// Takes a list page by page, all of it as of one moment: without a resourceVersion the first page is what is written now,
/// and the others go on in that (Kubernetes API concepts).
///
/// # Errors
///
/// A page cannot be had.
pub async fn pages<K: Clone>(
    parameters: &ListParams,
    list: impl AsyncFn(&ListParams) -> Result<ObjectList<K>, kube::Error>,
    mut take: impl FnMut(K),
) -> Result<(), kube::Error> {
    let mut page = parameters.clone().limit(PAGE);
    loop {
        let listed = list(&page).await?;
        listed.items.into_iter().for_each(&mut take);
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// Without what is most of a Node and nobody here reads: images, and who wrote which field.
pub fn trim(mut node: Node) -> Node {
    node.metadata.managed_fields = None;
    if let Some(status) = &mut node.status {
        (status.images, status.volumes_attached, status.volumes_in_use) = (None, None, None);
    }
    node
}
