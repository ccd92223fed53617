//! A long answer, read on one thread while it is parsed on another: the kernel
//! makes a dump's next piece within the reader's system call, and that takes
//! longer than parsing it.

use std::io;
use std::sync::mpsc::sync_channel;
use std::thread;

use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR};
use netlink_sys::Socket;

use super::frame::frames;
use super::socket::receive;

/// Buffers that go round, 32 KiB each: one being filled, one being parsed, two in case either is held up.
const BUFFERS: usize = 4;

/// Reads datagrams of at most `size` bytes until the answer to `sequence` ends, and has each taken
/// on this thread, in order. What `take` says of the first that it refuses is the
/// result; the rest of the answer is read all the same, so that the socket is clean.
pub(super) fn read<E>(
    socket: &Socket,
    size: usize,
    sequence: u32,
    mut take: impl FnMut(&[u8], io::Result<usize>) -> Result<bool, E>,
) -> Result<(), E> {
    thread::scope(|scope| {
        let (give, given) = sync_channel::<Vec<u8>>(BUFFERS);
        let (fill, filled) = sync_channel::<(Vec<u8>, io::Result<usize>)>(BUFFERS);
        for _ in 0..BUFFERS {
            // There is room for all of them, and both ends are here.
            let _ = give.send(vec![0; size]);
        }
        scope.spawn(move || {
            for mut buffer in given {
                let length = receive(socket, &mut buffer);
                let ended = length.as_ref().map_or(true, |length| ends(&buffer, *length, sequence));
                if fill.send((buffer, length)).is_err() || ended {
                    return;
                }
            }
        });
        let mut result = Ok(());
        for (buffer, length) in filled {
            if result.is_ok() {
                result = take(&buffer, length).map(|_| ());
            }
            // The reader is done with the last one.
            let _ = give.send(buffer);
        }
        result
    })
}

/// Whether the answer to `sequence` ends in this datagram. One that was cut may have lost its end; the kernel
/// puts NLMSG_DONE into a datagram only where it fits.
fn ends(buffer: &[u8], length: usize, sequence: u32) -> bool {
    frames(&buffer[..length.min(buffer.len())])
        .flatten()
        .any(|frame| frame.sequence == sequence && matches!(frame.kind, NLMSG_DONE | NLMSG_ERROR))
}
