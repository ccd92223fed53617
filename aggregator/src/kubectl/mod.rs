//! The operator's program: asks the aggregator, shows its answers, and says by
//! its exit code how things stand.

mod again;
mod app;
mod args;
mod client;
mod cluster;
mod connect;
mod eyes;
mod fix;
mod ground;
mod outcome;
mod output;
mod plan;
pub mod render;
mod watch;

pub use app::main;
