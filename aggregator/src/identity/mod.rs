//! Who is speaking, and may they: an agent is the node that its token or certificate is bound to, an
//! operator may ask what RBAC lets him.
//!
//! [`Authority`] is who knows (the Kubernetes API: [`api`]). What is made of its answers are plain rules
//! ([`binding`], [`access`], [`certificate`]), what is remembered of them, and for how long, stands in [`cache`] and [`times`], and [`checked`]
//! joins them.

pub mod access;
pub mod api;
pub mod authority;
pub mod binding;
pub mod cache;
pub mod certificate;
pub mod checked;
pub mod credentials;
pub mod refusal;
pub mod throttle;
pub mod times;
pub mod token;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::sync::Arc;

use tokio::time::Instant;

pub use access::Question;
pub use authority::Authority;
pub use checked::Checked;
pub use credentials::Credentials;
pub use refusal::Refusal;

/// The node that an agent may speak for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Its name.
    pub name: String,
    /// The Node object's UID, where the token says it.
    pub uid: Option<String>,
}

/// Somebody whom the API server knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// UID, if it has one.
    pub uid: Option<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// What else the API server says of it.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The ServiceAccount that agents have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ServiceAccount {
    /// As the API server names it.
    pub fn username(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// NAMESPACE/NAME.
impl FromStr for ServiceAccount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |part: &str| !part.is_empty() && !part.contains(['/', ':']);
        match text.split_once('/') {
            Some((namespace, name)) if plain(namespace) && plain(name) => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(format!(
                "{text:?} is no NAMESPACE/NAME; \"cidrift/cidrift-agent\" is one"
            )),
        }
    }
}

/// An agent that may report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Speaker {
    /// Its node; `None`: nobody is checked, whatever it says is believed.
    pub node: Option<NodeIdentity>,
    /// When what showed it ends; `None`: it does not.
    pub until: Option<Instant>,
}

/// How it is found out who speaks.
#[derive(Debug, Clone)]
pub enum Identity {
    /// Not at all: everybody is believed.
    Believed,
    /// By tokens and certificates.
    Checked(Arc<Checked>),
}

/// What `status` and the log say where everybody is believed.
pub const BELIEVED: &str =
    "nobody is identified (--identity none): whoever reaches this address may report for any node and ask anything";

impl Identity {
    /// Who reports. Whether it may for the node that it names is [`binding::speaks_for`]'s.
    pub async fn agent(&self, credentials: &Credentials) -> Result<Speaker, Refusal> {
        match self {
            Self::Believed => Ok(Speaker::default()),
            Self::Checked(checked) => checked.agent(credentials).await,
        }
    }

    /// Ends, with why, when an agent that was let in as `own` is not that any more: its token was revoked, its pod is gone.
    /// While nobody can be asked, what was known counts.
    pub async fn doubted(&self, credentials: &Credentials, own: Option<&NodeIdentity>) -> Refusal {
        let (Self::Checked(checked), Some(own)) = (self, own) else {
            return std::future::pending().await;
        };
        let longest = checked.times().again;
        loop {
            // Agents come all together after a restart; they are not to be asked about together.
            let share = u32::try_from(RandomState::new().hash_one(()) % 512).unwrap_or(0) + 512;
            tokio::time::sleep(longest * share / 1_024).await;
            match checked.agent(credentials).await {
                Ok(speaker) if speaker.node.as_ref() == Some(own) => {}
                Ok(speaker) => {
                    return Refusal::OtherNode {
                        own: speaker.node.map(|node| node.name).unwrap_or_default(),
                        named: own.name.clone(),
                    };
                }
                Err(Refusal::Unavailable(_) | Refusal::Throttled { .. }) => {}
                Err(refusal) => return refusal,
            }
        }
    }

    /// Whether an operator may ask this.
    pub async fn operator(&self, credentials: &Credentials, question: Question) -> Result<(), Refusal> {
        match self {
            Self::Believed => Ok(()),
            Self::Checked(checked) => checked.operator(credentials, question).await,
        }
    }

    /// What is to be said where nobody is checked.
    pub fn warning(&self) -> Option<&'static str> {
        match self {
            Self::Believed => Some(BELIEVED),
            Self::Checked(_) => None,
        }
    }
}
