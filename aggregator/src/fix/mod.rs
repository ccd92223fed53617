//! What would mend the findings, in which order, and what that costs: the plan.
//!
//! Planning is a pure function of what was observed: the [`Ground`](ground::Ground), gathered from the aggregator's
//! answers and from the API server with the operator's own rights. Nothing here changes anything.

pub mod choose;
pub mod drain;
pub mod gather;
pub mod ground;
pub mod migrate;
pub mod plan;
pub mod planner;
