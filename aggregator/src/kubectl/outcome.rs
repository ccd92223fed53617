//! Exit codes.

use std::process::ExitCode;

use crate::summary::Health;

/// What the program ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Asked and answered; where the answer is a judgement, nothing of what is judged is wrong and all of it was seen.
    Fine,
    /// Findings are open.
    Findings,
    /// It could not ask, or was asked wrongly.
    NoAnswer,
    /// Nothing is known to be wrong, but not everything could be seen.
    Unknown,
}

impl From<Health> for Outcome {
    fn from(health: Health) -> Self {
        match health {
            Health::Healthy => Self::Fine,
            Health::Findings => Self::Findings,
            Health::Unknown => Self::Unknown,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Fine => 0,
            Outcome::Findings => 1,
            Outcome::NoAnswer => 2,
            Outcome::Unknown => 3,
        })
    }
}
