//! Netlink payloads to plain data. An attribute that is unknown or that cannot
//! be read is counted and left out; only a message whose meaning would be
//! wrong without it is refused.

pub(super) mod address;
pub(super) mod link;
pub(super) mod neighbour;
pub(super) mod netconf;
pub(super) mod nexthop;
pub(super) mod route;
pub(super) mod rule;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

use netlink_packet_core::{DecodeError, NlaBuffer, NlasIterator};

pub(super) const AF_UNSPEC: u8 = 0;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_BRIDGE: u8 = 7;
pub(super) const AF_INET6: u8 = 10;

/// What was met while decoding and is not modelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// Attributes beyond those that this build knows of.
    pub(super) unknown_attributes: u64,
    /// Attributes that could not be read and that nothing depends on.
    pub(super) bad_attributes: u64,
    /// Link kinds that the netlink crate has no name for.
    pub(super) unknown_link_kinds: u64,
}

/// A message that cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} message: {why}")]
pub(super) struct Undecodable {
    /// "route", "link" …
    pub(super) message: &'static str,
    /// What was wrong.
    pub(super) why: String,
}

impl Undecodable {
    pub(super) fn new(message: &'static str, why: impl ToString) -> Self {
        Self {
            message,
            why: why.to_string(),
        }
    }
}

/// The attributes that follow a header of `header` bytes. An attribute cut
/// short makes the whole message undecodable: what follows it is lost.
fn attributes<'a>(
    message: &'static str,
    payload: &'a [u8],
    header: usize,
) -> impl Iterator<Item = Result<NlaBuffer<&'a [u8]>, Undecodable>> {
    NlasIterator::new(payload.get(header..).unwrap_or_default())
        .map(move |attribute| attribute.map_err(|error| Undecodable::new(message, error)))
}

/// Turns a value's error into the message's.
fn need<T>(message: &'static str, value: Result<T, DecodeError>) -> Result<T, Undecodable> {
    value.map_err(|error| Undecodable::new(message, error))
}
