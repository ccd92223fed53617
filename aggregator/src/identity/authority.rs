//! Who knows: what the API server is asked, and what it answers, as plain data.

use super::User;
use super::access::Rule;
use super::token::Token;

/// It cannot be asked now, or not by this program: why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reviewed {
    /// Good.
    Known {
        /// Whose.
        user: User,
        /// Those of the audiences asked for that it is meant for.
        audiences: Vec<String>,
    },
    /// Not good: why, in the API server's words; empty: it does not say.
    Refused(String),
}

/// Where a pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPlace {
    /// The pod's UID.
    pub uid: String,
    /// Its node; `None`: it has none yet.
    pub node: Option<String>,
}

/// Whether somebody may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// It may.
    pub allowed: bool,
    /// What the authorizer says to that.
    pub reason: String,
}

/// The Kubernetes API, as far as it knows who is who.
#[tonic::async_trait]
pub trait Authority: Send + Sync + 'static {
    /// Whose this token is (TokenReview); without an audience, the API server's own.
    async fn review(&self, token: &Token, audience: Option<&str>) -> Result<Reviewed, Unavailable>;
    /// Where a pod is; `None`: there is none of this name.
    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<PodPlace>, Unavailable>;
    /// Whether a user may do this (SubjectAccessReview).
    async fn allowed(&self, user: &User, rule: Rule) -> Result<Access, Unavailable>;
}
