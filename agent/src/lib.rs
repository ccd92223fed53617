//! One host's witness: reads kernel, files and runtime, resolves where packets
//! land, checks it and reports it. `cidrift-agent` never writes to the host; what `cidrift-errand` does there, as a program
//! of its own, is in [`errand`].

pub mod app;
pub mod check;
pub mod cli;
pub mod cmd;
pub mod errand;
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
