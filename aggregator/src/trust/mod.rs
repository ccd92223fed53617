//! How agents and operators know that this is the aggregator, and how it hears who they are.
//!
//! [`rotation`] is the rule, without I/O or clock; [`authority`] the cryptography; [`store`] where CAs are kept and
//! published, [`keeper`] what goes on there; [`given`] the way without a CA of one's own; [`serving`] what a handshake
//! is done with, and [`acceptor`] does it.

pub mod acceptor;
pub mod authority;
pub mod client_ca;
pub mod directory;
pub mod figures;
pub mod given;
pub mod keeper;
pub mod mode;
pub mod objects;
pub mod record;
pub mod rotation;
pub mod serving;
pub mod store;

#[cfg(test)]
mod tests;
