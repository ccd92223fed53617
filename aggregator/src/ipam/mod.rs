//! Address management: whose word counts on a node, what the pool is, and what is left of it.
//!
//! [`mod@classify`] says what allocates a node's pod addresses (reference G), `signs` what shows
//! it and [`report`] all of that in words; [`witness`] says what the pool is, of everybody who
//! names one (reference H), and [`arithmetic`] what is left of it. Pure, like `correlate`.

pub mod arithmetic;
pub mod classify;
pub mod report;
mod signs;
#[cfg(test)]
mod tests;
pub mod witness;

pub use classify::{Ipam, classify};
pub use report::Classification;
