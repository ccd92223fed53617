//! Why somebody is not heard, in words for who must act.

use std::net::IpAddr;
use std::time::Duration;

use tonic::{Code, Status};

use super::ServiceAccount;
use super::access::{self, Rule};

/// Why somebody is not heard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An agent showed nothing.
    #[error(
        "this agent showed neither a token nor a client certificate: give it --token-file with a projected token of the audience \"cidrift\""
    )]
    NamelessAgent,
    /// An operator showed nothing.
    #[error(
        "who is asking? Neither a token nor a client certificate came with the question. `kubectl cidrift` sends those of your kubeconfig; \
         other programs send `authorization: Bearer TOKEN` (`kubectl create token SERVICEACCOUNT` makes one) or use a client \
         certificate of the cluster's CA"
    )]
    NamelessOperator,
    /// What was sent is no token.
    #[error("the `authorization` that was sent is not usable: {0}")]
    Malformed(&'static str),
    /// The certificate names nobody.
    #[error("the client certificate names nobody: {0}")]
    Certificate(String),
    /// The API server does not take it.
    #[error("the API server does not take the token: {0}")]
    Token(String),
    /// It is not meant for this.
    #[error(
        "the token is good, but not for the audience {wanted:?}: the pod's projected volume must say `audience: {wanted}`"
    )]
    Audience {
        /// For what it should be.
        wanted: &'static str,
    },
    /// It is no agent's.
    #[error(
        "{user:?} is not whom agents run as ({account}): give the agent that ServiceAccount, or the aggregator --agent-service-account"
    )]
    Account {
        /// Whose it is.
        user: String,
        /// Whose it should be.
        account: ServiceAccount,
    },
    /// The certificate is no node's.
    #[error(
        "the client certificate of {user:?} is no node's: its common name must be system:node:NAME and its organization system:nodes"
    )]
    NoNode {
        /// Whose it is.
        user: String,
    },
    /// It is bound to no node.
    #[error("the token does not show on which node the agent runs: {0}")]
    Unbound(String),
    /// It speaks for another node.
    #[error(
        "Hello names node {named:?}, but what the agent showed is bound to node {own:?}: an agent speaks for its own node only; set its \
         --node-name from spec.nodeName"
    )]
    OtherNode {
        /// The node that it may speak for.
        own: String,
        /// The node that it named.
        named: String,
    },
    /// It may not ask that.
    #[error("{}", access::denied(.user, *.rule, .reason))]
    Denied {
        /// Who.
        user: String,
        /// What it would need.
        rule: Rule,
        /// What the authorizer says.
        reason: String,
    },
    /// Too much of what came from there was refused.
    #[error(
        "it is not looked at who this is: too many tokens from {} were refused a moment ago; try again in {} s",
        .from.map_or_else(|| "this address".to_owned(), |from| from.to_string()), .wait.as_secs() + 1
    )]
    Throttled {
        /// Where from.
        from: Option<IpAddr>,
        /// The next one is looked at after so long.
        wait: Duration,
    },
    /// It cannot be found out now.
    #[error("it cannot be checked now who this is: {0}; try again")]
    Unavailable(String),
}

impl Refusal {
    /// As a metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NamelessAgent | Self::NamelessOperator => "no-credentials",
            Self::Malformed(_) => "malformed",
            Self::Certificate(_) => "certificate",
            Self::Token(_) => "token",
            Self::Audience { .. } => "audience",
            Self::Account { .. } => "account",
            Self::NoNode { .. } => "no-node",
            Self::Unbound(_) => "unbound",
            Self::OtherNode { .. } => "other-node",
            Self::Denied { .. } => "denied",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable(_) => "unavailable",
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::NamelessAgent
            | Self::NamelessOperator
            | Self::Malformed(_)
            | Self::Certificate(_)
            | Self::Token(_)
            | Self::Audience { .. } => Code::Unauthenticated,
            Self::Account { .. }
            | Self::NoNode { .. }
            | Self::Unbound(_)
            | Self::OtherNode { .. }
            | Self::Denied { .. } => Code::PermissionDenied,
            Self::Throttled { .. } => Code::ResourceExhausted,
            Self::Unavailable(_) => Code::Unavailable,
        }
    }
}

impl From<&Refusal> for Status {
    fn from(refusal: &Refusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}
