//! Datagrams to messages.

use netlink_packet_core::{NLMSG_ALIGNTO, NetlinkBuffer};

use super::decode::Undecodable;

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// `nlmsg_type`.
    pub(super) kind: u16,
    /// `nlmsg_flags`.
    pub(super) flags: u16,
    /// `nlmsg_seq`.
    pub(super) sequence: u32,
    /// What follows the header.
    pub(super) payload: &'a [u8],
}

/// The messages of a datagram. One that is cut short ends them.
pub(super) fn frames(datagram: &[u8]) -> impl Iterator<Item = Result<Frame<'_>, Undecodable>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let buffer = match NetlinkBuffer::new_checked(rest) {
            Ok(buffer) => buffer,
            Err(error) => {
                rest = &[];
                return Some(Err(Undecodable::new("netlink", error)));
            }
        };
        let length = buffer.length() as usize;
        let frame = Frame {
            kind: buffer.message_type(),
            flags: buffer.flags(),
            sequence: buffer.sequence_number(),
            payload: &rest[HEADER..length],
        };
        let aligned = length.next_multiple_of(usize::from(NLMSG_ALIGNTO));
        rest = rest.get(aligned..).unwrap_or_default();
        Some(Ok(frame))
    })
}

/// `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// The error number of an NLMSG_ERROR or NLMSG_DONE payload, positive; 0 for none.
pub(super) fn errno(payload: &[u8]) -> i32 {
    payload
        .first_chunk()
        .map_or(0, |code| i32::from_ne_bytes(*code).checked_neg().unwrap_or(0))
}
