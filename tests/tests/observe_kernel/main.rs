//! The observer against a real kernel, in namespaces of our own.
// Every function here is a test or a test's hand.
#![allow(clippy::unwrap_used)]

mod counted;
mod dump;
mod follow;
mod host;
mod silent;
mod storm;
mod told;
