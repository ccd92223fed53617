//! The observer against a real kernel, in namespaces of our own.
// Every function here is a test or a test's hand.
#![allow(clippy::unwrap_used, dead_code)]

mod dump;
mod host;
