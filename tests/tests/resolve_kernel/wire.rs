//! Many rtnetlink requests at once on a plain socket: a test asks some
//! hundred thousand times, so waiting for each answer would take minutes.

use std::collections::HashMap;

use netlink_packet_core::{DefaultNla, Emitable, NLM_F_ACK, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Answers to this many requests fit the default receive buffer.
const BATCH: usize = 32;
const NLMSG_ERROR: u16 = 2;
const HEADER: usize = 16;

/// One request without its netlink header.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        Self {
            kind,
            flags,
            body: header.to_vec(),
        }
    }

    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) {
        let attribute = DefaultNla::new(kind, value.to_vec());
        let at = self.body.len();
        self.body.resize(at + attribute.buffer_len(), 0);
        attribute.emit(&mut self.body[at..]);
    }

    /// Adds bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.body.extend(bytes);
    }

    /// Adds another request's body.
    pub(crate) fn append(&mut self, other: &Self) {
        self.raw(&other.body);
    }

    pub(crate) fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// The same body in another message.
    pub(crate) fn as_kind(&self, kind: u16, flags: u16) -> Self {
        let body = self.body.clone();
        Self { kind, flags, body }
    }

    pub(crate) fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    pub(crate) fn put_text(&mut self, kind: u16, value: &str) {
        self.put(kind, &[value.as_bytes(), &[0]].concat());
    }
}

/// The kernel's answer: an errno, or the message that it sent, if any.
pub(crate) type Answer = Result<Option<Vec<u8>>, i32>;

/// A socket in the namespace of the thread that opens it.
pub(crate) struct Wire {
    socket: Socket,
    sequence: u32,
}

impl Wire {
    pub(crate) fn open() -> Self {
        let socket = Socket::new(NETLINK_ROUTE).unwrap();
        socket.connect(&SocketAddr::new(0, 0)).unwrap();
        socket.set_cap_ack(true).unwrap();
        Self { socket, sequence: 0 }
    }

    /// Sends all and returns the answers in the same order.
    pub(crate) fn ask(&mut self, requests: &[Request]) -> Vec<Answer> {
        requests.chunks(BATCH).flat_map(|batch| self.batch(batch)).collect()
    }

    fn batch(&mut self, batch: &[Request]) -> Vec<Answer> {
        let first = self.sequence + 1;
        let mut bytes = Vec::new();
        for request in batch {
            self.sequence += 1;
            let length = u32::try_from(HEADER + request.body.len()).unwrap();
            bytes.extend(length.to_ne_bytes());
            bytes.extend(request.kind.to_ne_bytes());
            bytes.extend((request.flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
            bytes.extend(self.sequence.to_ne_bytes());
            bytes.extend(0_u32.to_ne_bytes());
            bytes.extend(&request.body);
        }
        self.socket.send(&bytes, 0).unwrap();

        let mut messages = HashMap::new();
        let mut answers = HashMap::new();
        while answers.len() < batch.len() {
            let (datagram, _) = self.socket.recv_from_full().unwrap();
            let mut rest = datagram.as_slice();
            while rest.len() >= HEADER {
                let length = usize::try_from(u32::from_ne_bytes(rest[..4].try_into().unwrap())).unwrap();
                let kind = u16::from_ne_bytes(rest[4..6].try_into().unwrap());
                let sequence = u32::from_ne_bytes(rest[8..12].try_into().unwrap());
                let payload = &rest[HEADER..length];
                if kind == NLMSG_ERROR {
                    let code = i32::from_ne_bytes(payload[..4].try_into().unwrap());
                    answers.insert(sequence, code);
                } else {
                    messages.insert(sequence, payload.to_vec());
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
        (first..=self.sequence)
            .map(|sequence| match answers[&sequence] {
                0 => Ok(messages.remove(&sequence)),
                code => Err(-code),
            })
            .collect()
    }
}
