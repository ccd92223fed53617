//! The labs: hosts as network namespaces, and what tests and people do with them.

pub mod breaks;
pub mod dataplane;
pub mod host_files;
pub mod ip;
pub mod netns;
pub mod ping;
pub mod reach;
pub mod require;
pub mod route;
pub mod snapshot;
pub mod step;
pub mod topology;
pub mod world;
