//! The labs: hosts as network namespaces, and what tests and people do with them.

pub mod netns;
pub mod require;
