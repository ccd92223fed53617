//! Asks the authority, remembers for a while what it said, and decides.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::access::Rule;
use super::authority::Unavailable;
use super::binding::{self, Bound};
use super::cache::{Cache, Found, Life};
use super::certificate::Subject;
use super::throttle::{self, Throttle};
use super::times::Times;
use super::token::{Digest, Token, digest};
use super::{Authority, Credentials, NodeIdentity, Question, Refusal, ServiceAccount, Speaker, User};
use crate::metrics::{Answered, Metrics};

/// Questions to the API server at a time: after a restart 5,000 agents come within some seconds.
const ROOM: usize = 64;

/// Answers kept: agents of the largest supported cluster (15,000 nodes), rounded up; some 200 bytes each.
const AGENTS: usize = 16_384;
/// Operators, and what they may do.
const OPERATORS: usize = 4_096;

/// What is remembered of a credential or a right.
type Answers<K, V> = Mutex<Cache<K, Result<V, Refusal>>>;

/// Identity by tokens and certificates.
pub struct Checked {
    authority: Arc<dyn Authority>,
    account: ServiceAccount,
    pub(super) metrics: Arc<Metrics>,
    times: Times,
    room: Semaphore,
    throttle: Mutex<Throttle>,
    agents: Answers<Digest, Speaker>,
    operators: Answers<Digest, User>,
    rights: Answers<(Digest, Rule), ()>,
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked")
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// Who is checked; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// An agent.
    Agent,
    /// An operator.
    Operator,
}

impl Party {
    /// As a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Operator => "operator",
        }
    }
}

/// Whether answers are remembered of a credential, which anybody can make up.
#[derive(Debug, Clone, Copy)]
enum Asks {
    /// A credential that came from there.
    Credential(Option<IpAddr>),
    /// A right of somebody who is known.
    Right,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A cache that lost an answer to a panic is a cache.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Checked {
    /// Agents run as `account`; everything else is the authority's word.
    pub fn new(authority: Arc<dyn Authority>, account: ServiceAccount, metrics: Arc<Metrics>) -> Self {
        Self {
            authority,
            account,
            metrics,
            times: Times::default(),
            room: Semaphore::new(ROOM),
            throttle: Mutex::default(),
            agents: Mutex::new(Cache::new(AGENTS)),
            operators: Mutex::new(Cache::new(OPERATORS)),
            rights: Mutex::new(Cache::new(OPERATORS)),
        }
    }

    /// Answers count for as long as this says.
    pub fn with_times(self, times: Times) -> Self {
        Self { times, ..self }
    }

    /// How long answers count.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// Whom agents run as.
    pub fn account(&self) -> &ServiceAccount {
        &self.account
    }

    /// Who reports: by its token, or else by its certificate.
    pub async fn agent(&self, credentials: &Credentials) -> Result<Speaker, Refusal> {
        match (&credentials.token, &credentials.certificate) {
            (Some(token), _) => {
                let token = token.as_ref().map_err(|why| Refusal::Malformed(why))?;
                let ask = async {
                    let answer = self.agent_of(token).await?;
                    let (life, until) = self.times.of(token.expiry(), Timestamp::now(), Instant::now());
                    Ok(self.with_life(answer.map(|node| speaker(node, until)), life))
                };
                let asks = Asks::Credential(credentials.from);
                self.remember(Party::Agent, asks, &self.agents, token.digest(), ask)
                    .await
            }
            (None, Some(certificate)) => {
                let subject = Subject::read(certificate)?;
                let node = binding::of_certificate(&subject)?;
                let (_, until) = self.times.of(subject.ends, Timestamp::now(), Instant::now());
                Ok(speaker(node, until))
            }
            (None, None) => Err(Refusal::NamelessAgent),
        }
    }

    async fn agent_of(&self, token: &Token) -> Result<Result<NodeIdentity, Refusal>, Unavailable> {
        let reviewed = self.authority.review(token, Some(binding::AUDIENCE)).await?;
        Ok(match binding::of_review(reviewed, &self.account) {
            Ok(Bound::Node(node)) => Ok(node),
            Ok(Bound::Pod { name, uid }) => {
                let place = self.authority.pod(&self.account.namespace, &name).await?;
                binding::of_pod(&name, &uid, place)
            }
            Err(refusal) => Err(refusal),
        })
    }

    /// Whether an operator may ask this.
    pub async fn operator(&self, credentials: &Credentials, question: Question) -> Result<(), Refusal> {
        let (key, user) = self.user(credentials).await?;
        let rule = question.rule();
        let ask = async {
            let access = self.authority.allowed(&user, rule).await?;
            let now = Instant::now();
            let answer = match access.allowed {
                true => Ok(()),
                false => Err(Refusal::Denied {
                    user: user.name.clone(),
                    rule,
                    reason: access.reason,
                }),
            };
            let life = Life {
                fresh: now + self.times.rights,
                ends: now + self.times.kept,
            };
            Ok(self.with_life(answer, life))
        };
        self.remember(Party::Operator, Asks::Right, &self.rights, (key, rule), ask)
            .await
    }

    /// Who asks, and what he is recognised by.
    async fn user(&self, credentials: &Credentials) -> Result<(Digest, User), Refusal> {
        match (&credentials.token, &credentials.certificate) {
            (Some(token), _) => {
                let token = token.as_ref().map_err(|why| Refusal::Malformed(why))?;
                let key = token.digest();
                let ask = async {
                    let answer = binding::known(self.authority.review(token, None).await?);
                    let (life, _) = self.times.of(token.expiry(), Timestamp::now(), Instant::now());
                    Ok(self.with_life(answer.map(|(user, _)| user), life))
                };
                let asks = Asks::Credential(credentials.from);
                let user = self.remember(Party::Operator, asks, &self.operators, key, ask).await?;
                Ok((key, user))
            }
            (None, Some(certificate)) => Ok((digest(certificate), Subject::read(certificate)?.user())),
            (None, None) => Err(Refusal::NamelessOperator),
        }
    }

    /// A refusal lives as long as refusals do.
    fn with_life<V>(&self, answer: Result<V, Refusal>, good: Life) -> (Result<V, Refusal>, Life) {
        let ends = Instant::now() + self.times.refused;
        let life = match answer {
            Ok(_) => good,
            Err(_) => Life { fresh: ends, ends },
        };
        (answer, life)
    }

    /// What is fresh, or else what the authority says, or else, where it cannot be asked, what is kept. What is not known to be
    /// good is not asked about at any pace.
    async fn remember<K, V>(
        &self,
        party: Party,
        asks: Asks,
        answers: &Answers<K, V>,
        key: K,
        ask: impl Future<Output = Result<(Result<V, Refusal>, Life), Unavailable>>,
    ) -> Result<V, Refusal>
    where
        K: Clone + Eq + Hash + Ord,
        V: Clone,
    {
        let known = lock(answers).get(&key, Instant::now());
        if let Some(Found::Fresh(answer)) = known {
            self.metrics.checked(party, Answered::Remembered, None);
            return answer;
        }
        let stranger = match asks {
            Asks::Credential(from) if !matches!(known, Some(Found::Kept(Ok(_)))) => Some(from),
            Asks::Credential(_) | Asks::Right => None,
        };
        let patience = self.times.patience;
        let mut charged = None;
        let asking = async {
            let _permit = self.room.acquire().await;
            if let Some(from) = stranger {
                // Only now: those who wait for their turn have cost nothing.
                if let Err(wait) = lock(&self.throttle).take(from, Instant::now()) {
                    return Err(Refusal::Throttled { from, wait });
                }
                charged = Some(from);
            }
            Ok(ask.await)
        };
        let asked = match timeout(patience, asking).await {
            Ok(Ok(asked)) => asked,
            Ok(Err(throttled)) => {
                self.metrics.checked(party, Answered::Throttled, None);
                return Err(throttled);
            }
            Err(_) => Err(Unavailable(format!(
                "the API server did not answer within {patience:?}"
            ))),
        };
        let came = match &asked {
            Ok((Ok(_), _)) => Some(throttle::Answer::Good),
            Ok((Err(_), _)) => None,
            Err(_) => Some(throttle::Answer::None),
        };
        if let Some((from, came)) = charged.zip(came) {
            lock(&self.throttle).settle(from, came, Instant::now());
        }
        let now = Instant::now();
        match asked {
            Ok((answer, life)) => {
                self.metrics.checked(party, Answered::Asked, None);
                lock(answers).put(key, answer.clone(), life, now);
                answer
            }
            Err(Unavailable(why)) => match lock(answers).get(&key, now) {
                Some(Found::Fresh(answer) | Found::Kept(answer)) => {
                    self.metrics.checked(party, Answered::Kept, Some(&why));
                    answer
                }
                None => {
                    self.metrics.checked(party, Answered::Unavailable, Some(&why));
                    Err(Refusal::Unavailable(why))
                }
            },
        }
    }
}

fn speaker(node: NodeIdentity, until: Instant) -> Speaker {
    Speaker {
        node: Some(node),
        until: Some(until),
    }
}
