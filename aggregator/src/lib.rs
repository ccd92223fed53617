//! All hosts: joins what the agents see with what the control plane says, and
//! answers operators.

pub mod app;
pub mod cli;
pub mod cluster;
pub mod control_plane;
pub mod correlate;
pub mod engine;
pub mod fix;
mod folded;
pub mod http;
pub mod identity;
pub mod ingest;
pub mod ipam;
pub mod kubectl;
pub mod ledger;
pub mod logging;
pub mod metrics;
pub mod netmap;
pub mod program;
pub mod query;
pub mod summary;
pub mod trust;
