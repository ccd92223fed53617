//! When a CA follows another: a pure function of the time, what is kept and what is published.
//!
//! Nobody may ever meet a certificate whose CA he has not heard of. So a new CA is published first, and signs only
//! after everybody had a day to read that; the old one stays published for a week after it signed last, because an
//! aggregator elsewhere may not have noticed yet and agents read what they trust at their next connection only.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::authority::{Authority, AuthorityError, BACKDATE};

/// A CA is published this long before it signs. The kubelet brings a changed ConfigMap into pods within two
/// minutes; a day also covers people who copy it by hand.
pub const LEAD: Duration = Duration::from_secs(24 * 3600);

/// A CA stays published this long after it signed last.
pub const LINGER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Everything that is kept of the CAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Signs.
    pub current: Authority,
    /// Will sign.
    pub next: Option<Next>,
    /// Signed, and is still to be believed.
    pub previous: Vec<Previous>,
}

/// A CA that will sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// It.
    pub authority: Authority,
    /// Since when it was seen published without a break; `None`: it is not.
    pub since: Option<Timestamp>,
}

/// A CA that signs no more. Its key is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    /// PEM.
    pub certificate: String,
    /// Believed until then.
    pub until: Timestamp,
}

/// What may be chosen of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The next CA is made this long after the current one was; `None`: at 2/3 of the current one's life.
    pub rotate_after: Option<Duration>,
    /// See [`LEAD`].
    pub lead: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            rotate_after: None,
            lead: LEAD,
        }
    }
}

/// What is to be kept from now on.
#[derive(Debug)]
pub struct Step {
    /// It.
    pub state: State,
    /// What happened, for the log; empty: nothing to be kept anew.
    pub happened: Vec<String>,
}

/// One look. `published`: the bundle as it can be read now. `asked`: a person wants another CA. `make` makes one.
pub fn step(
    now: Timestamp,
    state: Option<State>,
    published: Option<&str>,
    asked: bool,
    policy: Policy,
    make: impl Fn(Timestamp) -> Result<Authority, AuthorityError>,
) -> Result<Step, AuthorityError> {
    let mut happened = Vec::new();
    let Some(mut state) = state else {
        let current = make(now)?;
        happened.push(format!("made a CA, valid until {}", current.not_after));
        return Ok(Step {
            state: State {
                current,
                next: None,
                previous: Vec::new(),
            },
            happened,
        });
    };

    let before = state.previous.len();
    state.previous.retain(|previous| previous.until > now);
    if state.previous.len() < before {
        happened.push("a CA that signs no more is not published any more".to_owned());
    }
    if state.next.as_ref().is_some_and(|next| next.authority.expired(now)) {
        state.next = None;
        happened.push("the next CA expired before it ever signed".to_owned());
    }
    if state.current.expired(now) {
        // Nobody may believe the old one: waiting would help nobody.
        let successor = match state.next.take() {
            Some(next) => next.authority,
            None => make(now)?,
        };
        happened.push(format!(
            "the CA expired at {}: another one signs at once, and whoever has not read it yet must read it first",
            state.current.not_after
        ));
        state.current = successor;
    }
    if asked && state.next.is_some() {
        happened.push("another CA was asked for, and one is under way already".to_owned());
    } else if state.next.is_none() && (asked || now >= due(&state.current, policy)) {
        let authority = make(now)?;
        happened.push(format!(
            "made the next CA; it signs {:?} after it was published",
            policy.lead
        ));
        state.next = Some(Next { authority, since: None });
    }
    follow(now, &mut state, published, policy, &mut happened);
    Ok(Step { state, happened })
}

/// Looks how long the next CA has been published, and lets it sign.
fn follow(now: Timestamp, state: &mut State, published: Option<&str>, policy: Policy, happened: &mut Vec<String>) {
    let Some(next) = &mut state.next else { return };
    let visible = published.is_some_and(|bundle| bundle.contains(next.authority.certificate.trim()));
    match next.since {
        _ if !visible => {
            if next.since.take().is_some() {
                happened.push("the next CA is not published any more: its time begins anew".to_owned());
            }
        }
        // The second: a clock that was set back.
        None => {
            next.since = Some(now);
            happened.push("the next CA is published".to_owned());
        }
        Some(since) if since > now => {
            next.since = Some(now);
            happened.push("the clock was set back: the next CA's time begins anew".to_owned());
        }
        Some(since) if later(since, policy.lead) <= now => {
            let signs = next.authority.clone();
            let old = std::mem::replace(&mut state.current, signs);
            state.next = None;
            happened.push(format!(
                "the next CA signs from now on, until {}",
                state.current.not_after
            ));
            let until = now.saturating_add(LINGER).unwrap_or(Timestamp::MAX).min(old.not_after);
            state.previous.push(Previous {
                certificate: old.certificate,
                until,
            });
        }
        Some(_) => {}
    }
}

/// When the next CA is to be made.
fn due(current: &Authority, policy: Policy) -> Timestamp {
    let life = current.not_after.duration_since(current.not_before);
    let thirds = current
        .not_before
        .saturating_add(life * 2 / 3)
        .unwrap_or(Timestamp::MAX);
    policy.rotate_after.map_or(thirds, |after| {
        thirds.min(later(current.not_before, BACKDATE.saturating_add(after)))
    })
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).map_or(Timestamp::MAX, |by| at.saturating_add(by).unwrap_or(Timestamp::MAX))
}

/// All CAs that are to be believed now, as PEM.
pub fn bundle(state: &State) -> String {
    let next = state.next.iter().map(|next| next.authority.certificate.as_str());
    let previous = state.previous.iter().map(|previous| previous.certificate.as_str());
    std::iter::once(state.current.certificate.as_str())
        .chain(next)
        .chain(previous)
        .collect()
}
