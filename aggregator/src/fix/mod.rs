//! What would mend the findings, in which order, and what that costs: the plan.
//!
//! Planning is a pure function of what was observed: the [`Ground`](ground::Ground), gathered from the aggregator's
//! answers and from the API server with the operator's own rights. Only [`run`] changes anything: it carries a plan out, with
//! what it has to know after a crash on a Lease.

pub mod choose;
pub mod drain;
#[cfg(test)]
mod fixture;
pub mod gather;
pub mod ground;
pub mod migrate;
pub mod place;
pub mod plan;
pub mod planner;
pub mod run;
