//! Dump requests: a header with the family, every other field zero, as strict
//! checking demands.

use netlink_packet_core::{DefaultNla, Emitable, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer};

use super::frame::HEADER;

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_DELROUTE: u16 = 25;
pub(super) const RTM_NEWNEIGH: u16 = 28;
pub(super) const RTM_DELNEIGH: u16 = 29;
pub(super) const RTM_NEWRULE: u16 = 32;
pub(super) const RTM_DELRULE: u16 = 33;
pub(super) const RTM_NEWNETCONF: u16 = 80;
pub(super) const RTM_DELNETCONF: u16 = 81;
pub(super) const RTM_NEWNEXTHOP: u16 = 104;
pub(super) const RTM_DELNEXTHOP: u16 = 105;

const IFLA_EXT_MASK: u16 = 29;
/// Leave out IPv6's per-device statistics, the largest part of a link message and not needed.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

/// A dump to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    /// The type of the answers: `RTM_NEW…`.
    pub(super) answers: u16,
    /// Address family, `AF_UNSPEC` for all.
    pub(super) family: u8,
}

impl Request {
    pub(super) const fn new(answers: u16, family: u8) -> Self {
        Self { answers, family }
    }

    /// The bytes to send.
    pub(super) fn bytes(self, sequence: u32) -> Vec<u8> {
        let body = match self.answers {
            RTM_NEWLINK => 16,
            RTM_NEWADDR | RTM_NEWNEXTHOP => 8,
            RTM_NEWNETCONF => 4,
            _ => 12,
        };
        let mut bytes = vec![0; HEADER + body];
        bytes[HEADER] = self.family;
        if self.answers == RTM_NEWLINK {
            let mask = DefaultNla::new(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS.to_ne_bytes().to_vec());
            let start = bytes.len();
            bytes.resize(start + mask.buffer_len(), 0);
            mask.emit(&mut bytes[start..]);
        }
        let length = u32::try_from(bytes.len()).expect("a request is a few bytes");
        let mut header = NetlinkBuffer::new(&mut bytes);
        header.set_length(length);
        // RTM_GET… is RTM_NEW… + 2 in every family of messages.
        header.set_message_type(self.answers + 2);
        header.set_flags(NLM_F_REQUEST | NLM_F_DUMP);
        header.set_sequence_number(sequence);
        bytes
    }
}
