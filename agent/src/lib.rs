//! One host's witness: reads kernel, files and runtime, resolves where packets
//! land, checks it and reports it. It never writes to the host.

pub mod check;
pub mod cmd;
pub mod observe;
pub mod report;
pub mod resolve;
pub mod view;
