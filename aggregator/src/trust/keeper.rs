//! Keeps the CAs: looks, takes the next step, publishes, renews the certificate that is served.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::authority::{Authority, AuthorityError};
use super::figures::Figures;
use super::record;
use super::rotation::{self, Policy, State};
use super::serving::Offer;
use super::store::{Publication, Store, StoreError};
use crate::http::Ready;

/// Between two looks. Another aggregator's step, or a person's wish, waits that long.
const LOOK: Duration = Duration::from_secs(60);

/// The same where a policy of seconds was chosen.
const SHORTEST: Duration = Duration::from_millis(200);

/// While it does not work: soon at first, an API server that restarts is back in seconds.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Another aggregator was faster: so often at once, then as after any failure.
const CONFLICTS: u32 = 5;

/// Keeps the CAs of one place.
#[derive(Debug)]
pub struct Keeper<S> {
    /// The place.
    pub store: S,
    /// When CAs follow each other.
    pub policy: Policy,
    /// The names that are served.
    pub names: Vec<String>,
    /// Where agents reach this aggregator, one ADDRESS:PORT a line.
    pub addresses: Option<String>,
    /// Takes the certificate.
    pub offer: Arc<Offer>,
    /// Shows it.
    pub figures: Arc<Figures>,
    /// Waits for it.
    pub ready: Ready,
}

/// What it remembers from look to look.
#[derive(Default)]
struct Memory {
    state: Option<State>,
    served: Option<Served>,
    said: Option<String>,
    published: bool,
}

/// The certificate that is served: by which CA, and when another is due.
struct Served {
    issuer: String,
    serving: (Timestamp, Timestamp),
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}; mend it, or remove it: then the CA that was used before is kept, or else a new one is made")]
    Kept(AuthorityError),
    #[error(transparent)]
    Making(AuthorityError),
    #[error("the new certificate cannot be served: {0}")]
    Unservable(String),
}

impl<S: Store> Keeper<S> {
    /// Until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut memory = Memory::default();
        let mut again = AGAIN.0;
        let mut conflicts = 0;
        loop {
            let result = self.look(&mut memory, Timestamp::now()).await;
            let pause = match result {
                Ok(()) => {
                    self.figures.over("ca", &mut memory.said);
                    (again, conflicts) = (AGAIN.0, 0);
                    self.pause()
                }
                Err(Trouble::Store(StoreError::Conflict(_))) if conflicts < CONFLICTS => {
                    conflicts += 1;
                    Duration::ZERO
                }
                Err(trouble) => {
                    let text = trouble.to_string();
                    self.figures.trouble("ca", &text, &mut memory.said);
                    if memory.served.is_none() {
                        self.ready.pending("certificate", text.clone());
                    }
                    if !memory.published {
                        self.ready.pending("trust", text);
                    }
                    self.meanwhile(&mut memory, Timestamp::now());
                    let pause = again;
                    again = (again * 2).min(AGAIN.1);
                    pause
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn pause(&self) -> Duration {
        let wanted = self.policy.rotate_after.unwrap_or(LOOK).min(self.policy.lead);
        (wanted / 4).clamp(SHORTEST, LOOK)
    }

    async fn look(&self, memory: &mut Memory, now: Timestamp) -> Result<(), Trouble> {
        let place = self.store.place();
        let loaded = self.store.load().await?;
        let kept = loaded.record.as_ref().map(|record| record::read(record, &place));
        let kept = kept.transpose().map_err(Trouble::Kept)?.flatten();
        // Removed under an aggregator that uses it. Another CA at once would be one that nobody has heard of; whoever wants
        // another asks for it, and whoever wants this one gone at once stops the aggregator first.
        let removed = match &loaded.record {
            None => memory.state.clone().filter(|state| !state.current.expired(now)),
            Some(_) => None,
        };
        let written_again = removed.is_some();
        let kept = kept.or(removed);
        let bundle = loaded.published.as_ref().map(|published| published.bundle.as_str());
        let step = rotation::step(now, kept, bundle, loaded.asked, self.policy, Authority::make);
        let step = step.map_err(Trouble::Making)?;
        if written_again || !step.happened.is_empty() {
            self.store.save(&record::write(&step.state), &loaded).await?;
            if written_again {
                self.figures.written_again(&place);
            }
            for happened in &step.happened {
                self.figures.rotated(&place, happened);
            }
        }
        self.figures.authority(step.state.current.not_after);
        let wanted = Publication {
            bundle: rotation::bundle(&step.state),
            addresses: self.addresses.clone(),
        };
        let published = match &loaded.published {
            Some(published) if published.covers(&wanted) => Ok(()),
            _ => self.store.publish(&wanted).await,
        };
        // Also where it could not be published: those who know the CA already are served.
        self.renew(memory, &step.state, now)?;
        memory.state = Some(step.state);
        published?;
        memory.published = true;
        self.ready.done("trust");
        Ok(())
    }

    /// The place cannot be read, and the certificate gets old: the CA that was known still signs.
    fn meanwhile(&self, memory: &mut Memory, now: Timestamp) {
        let Some(state) = memory.state.take() else { return };
        if !state.current.expired(now)
            && let Err(trouble) = self.renew(memory, &state, now)
        {
            self.figures.trouble("ca", &trouble.to_string(), &mut memory.said);
        }
        memory.state = Some(state);
    }

    fn renew(&self, memory: &mut Memory, state: &State, now: Timestamp) -> Result<(), Trouble> {
        let fresh = memory.served.as_ref().is_some_and(|served| {
            let (not_before, not_after) = served.serving;
            served.issuer == state.current.certificate && !super::authority::is_due(not_before, not_after, now)
        });
        if fresh {
            return Ok(());
        }
        let serving = state.current.issue(&self.names, now).map_err(Trouble::Making)?;
        let (not_before, not_after) = (serving.not_before, serving.not_after);
        self.offer.serve(serving).map_err(Trouble::Unservable)?;
        memory.served = Some(Served {
            issuer: state.current.certificate.clone(),
            serving: (not_before, not_after),
        });
        self.figures.serving(not_after, &self.store.place());
        self.ready.done("certificate");
        Ok(())
    }
}
