//! What operators ask: the query service over the engine, and its answers as
//! plain data for whoever asks. The only place besides `ingest` that knows the wire.

pub mod answer;
pub mod convert;
mod guard;
mod near;
mod pages;
mod path;
mod service;
mod watch;

pub use service::{Query, service, service_until};
