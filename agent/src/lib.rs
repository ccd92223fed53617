//! One host's witness: reads kernel, files and runtime, resolves where packets
//! land, checks it and reports it. It never writes to the host.

pub mod app;
pub mod check;
pub mod cli;
pub mod cmd;
pub mod facts;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod observe;
pub mod program;
pub mod report;
pub mod resolve;
pub mod view;
pub mod witness;
