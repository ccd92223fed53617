//! Who may report and who may ask, against a real kube-apiserver: tokens of every wrong and right kind, rights that come and
//! go, an API server that goes away. The aggregator is the whole one, with no more rights than the README gives it.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

mod agents;
mod aggregator;
mod forge;
mod operators;
mod outage;
mod rights;
mod world;
