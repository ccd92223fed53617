//! A subscribed socket, read without waiting or waited for.

use std::io;

use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use nix::libc;

use super::{ObserveError, socket};

/// What reading brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Post<'a> {
    /// A whole datagram.
    Datagram(&'a [u8]),
    /// One that was longer than the buffer; the next of its length will fit.
    Cut,
    /// The kernel dropped messages (`ENOBUFS`). It says so before it hands out
    /// what is still queued.
    Overrun,
    /// Nothing is queued.
    Empty,
}

/// The socket with its buffer.
pub(super) struct Mailbox {
    socket: TokioSocket,
    buffer: Vec<u8>,
    /// What waiting brought, if nobody took it yet.
    waited: Option<io::Result<()>>,
}

impl Mailbox {
    pub(super) fn new(groups: &[u32], receive_buffer: usize) -> Result<Self, ObserveError> {
        Ok(Self {
            socket: socket::for_events(groups, receive_buffer)?,
            buffer: Vec::with_capacity(socket::DATAGRAM),
            waited: None,
        })
    }

    /// Waits until there is something to take. Cancel-safe.
    pub(super) async fn wait(&mut self) {
        if self.waited.is_none() {
            self.buffer.clear();
            self.waited = Some(self.socket.recv(&mut self.buffer).await);
        }
    }

    /// Takes the next datagram, without waiting.
    pub(super) fn next(&mut self) -> Result<Post<'_>, ObserveError> {
        let read = match self.waited.take() {
            // How long it really was is not told here: a full buffer may have cut it.
            Some(Ok(())) if self.buffer.len() == self.buffer.capacity() => Ok(self.buffer.len() * 2),
            Some(Ok(())) => Ok(self.buffer.len()),
            Some(Err(error)) => Err(error),
            None => {
                self.buffer.clear();
                self.socket.socket_ref().recv(&mut self.buffer, libc::MSG_TRUNC)
            }
        };
        match read {
            Ok(length) if length > self.buffer.len() => {
                self.buffer.clear();
                self.buffer.reserve(length);
                Ok(Post::Cut)
            }
            Ok(_) => Ok(Post::Datagram(&self.buffer)),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Post::Overrun),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(Post::Empty)
            }
            Err(error) => Err(ObserveError::socket("receive")(error)),
        }
    }
}
