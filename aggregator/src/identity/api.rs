//! The Kubernetes API as [`Authority`]: TokenReviews, SubjectAccessReviews, and one pod at a time. The only file of this room that
//! knows Kubernetes types.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};

use super::User;
use super::access::{GROUP, Rule};
use super::authority::{Access, Authority, PodPlace, Reviewed, Unavailable};
use super::token::Token;
use crate::control_plane::chain;

/// A client of the API.
pub struct KubernetesAuthority(Client);

impl std::fmt::Debug for KubernetesAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KubernetesAuthority")
    }
}

impl KubernetesAuthority {
    /// Asks through this client.
    pub fn new(client: Client) -> Self {
        Self(client)
    }
}

/// Why it could not be asked; what this program may not do is named as the right that it lacks.
fn unavailable(what: &str, error: &kube::Error) -> Unavailable {
    Unavailable(match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!("the aggregator's own ServiceAccount may not {what}: {}", status.message)
        }
        error => format!("the API server could not be asked to {what}: {}", chain(error)),
    })
}

#[tonic::async_trait]
impl Authority for KubernetesAuthority {
    async fn review(&self, token: &Token, audience: Option<&str>) -> Result<Reviewed, Unavailable> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.secret().to_owned()),
                audiences: audience.map(|audience| vec![audience.to_owned()]),
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.0.clone());
        let answer = api.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| unavailable("create tokenreviews", &error))?;
        let status = answer.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(Reviewed::Refused(status.error.unwrap_or_default()));
        }
        let user = status.user.unwrap_or_default();
        Ok(Reviewed::Known {
            user: User {
                name: user.username.unwrap_or_default(),
                uid: user.uid,
                groups: user.groups.unwrap_or_default(),
                extra: user.extra.unwrap_or_default(),
            },
            audiences: status.audiences.unwrap_or_default(),
        })
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<PodPlace>, Unavailable> {
        let api: Api<Pod> = Api::namespaced(self.0.clone(), namespace);
        let pod = api.get_opt(name).await;
        let pod = pod.map_err(|error| unavailable(&format!("get pods in namespace {namespace}"), &error))?;
        Ok(pod.map(|pod| PodPlace {
            uid: pod.metadata.uid.unwrap_or_default(),
            node: pod.spec.and_then(|spec| spec.node_name).filter(|node| !node.is_empty()),
        }))
    }

    async fn allowed(&self, user: &User, rule: Rule) -> Result<Access, Unavailable> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: user.uid.clone(),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(GROUP.to_owned()),
                    resource: Some(rule.resource.to_owned()),
                    verb: Some(rule.verb.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.0.clone());
        let answer = api.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| unavailable("create subjectaccessreviews", &error))?;
        let status = answer.status.unwrap_or_default();
        let reason = [status.reason, status.evaluation_error];
        let reason: Vec<String> = reason.into_iter().flatten().filter(|text| !text.is_empty()).collect();
        Ok(Access {
            allowed: status.allowed && status.denied != Some(true),
            reason: reason.join("; "),
        })
    }
}
