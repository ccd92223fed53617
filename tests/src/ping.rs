//! ICMP echo, made by ourselves: proof that packets really get there.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// Between two echo requests: several fit into [`PATIENCE`], and the first may
/// be lost to neighbour discovery.
const INTERVAL: Duration = Duration::from_millis(60);
/// How long a destination has to answer. The lab's round trip is under a
/// millisecond; a machine with every core busy needs some of this.
const PATIENCE: Duration = Duration::from_millis(600);

/// Each pinger has its own identifier, so that none takes another's answer.
static IDENTIFIER: AtomicU16 = AtomicU16::new(1);

/// Sends echo requests from inside `netns` until one is answered; `None` when
/// none was within 600 ms. `ttl` hops at most: with exactly as many as the
/// direct way has, an answer also proves that there was no detour.
pub fn ping(netns: &Netns, to: IpAddr, ttl: u32) -> io::Result<Option<Duration>> {
    netns.run(|| echo(to, ttl))?
}

fn echo(to: IpAddr, ttl: u32) -> io::Result<Option<Duration>> {
    let socket = open(to, ttl)?;
    let identifier = IDENTIFIER.fetch_add(1, Ordering::Relaxed);
    let start = Instant::now();
    let mut sequence = 0;
    let mut sent = None;
    let mut buffer = [0; 1500];
    while start.elapsed() < PATIENCE {
        if sent.is_none_or(|at: Instant| at.elapsed() >= INTERVAL) {
            sequence += 1;
            sent = Some(Instant::now());
            let request = request(to, identifier, sequence);
            match socket.send_to(&request, &SocketAddr::new(to, 0).into()) {
                Ok(_) => {}
                // The host says there is no way: the same as no answer.
                Err(error) if unreachable(&error) => {}
                Err(error) => return Err(error),
            }
        }
        match (&socket).read(&mut buffer) {
            Ok(length) if answers(buffer.get(..length).unwrap_or_default(), to, identifier) => {
                return Ok(sent.map(|at| at.elapsed()));
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) if unreachable(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn open(to: IpAddr, ttl: u32) -> io::Result<Socket> {
    let socket = match to {
        IpAddr::V4(_) => {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
            socket.set_ttl_v4(ttl)?;
            socket
        }
        IpAddr::V6(_) => {
            let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
            socket.set_unicast_hops_v6(ttl)?;
            socket
        }
    };
    socket.set_read_timeout(Some(INTERVAL))?;
    Ok(socket)
}

fn unreachable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown
    )
}

/// An echo request; ICMPv6's checksum is the kernel's work.
fn request(to: IpAddr, identifier: u16, sequence: u16) -> [u8; 16] {
    let mut packet = [0; 16];
    packet[0] = if to.is_ipv4() { 8 } else { 128 };
    packet[4..6].copy_from_slice(&identifier.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    packet[8..16].copy_from_slice(b"cidrift!");
    if to.is_ipv4() {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// RFC 1071.
fn checksum(packet: &[u8]) -> u16 {
    let mut sum: u32 = packet
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Is it the echo reply to `identifier`? IPv4's raw sockets hand the IP header along.
fn answers(received: &[u8], from: IpAddr, identifier: u16) -> bool {
    let (icmp, reply) = match from {
        IpAddr::V4(from) => {
            let header = received.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
            if received.get(12..16) != Some(from.octets().as_slice()) {
                return false;
            }
            (received.get(header..).unwrap_or_default(), 0)
        }
        IpAddr::V6(_) => (received, 129),
    };
    icmp.first() == Some(&reply) && icmp.get(4..6) == Some(identifier.to_be_bytes().as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_checksum_that_adds_up() {
        let packet = request("10.244.2.2".parse().unwrap(), 0x1234, 7);
        assert_eq!(checksum(&packet), 0);
        assert_ne!(packet[2..4], [0, 0]);
    }

    #[test]
    fn an_answer_from_somebody_else_or_to_somebody_else_does_not_count() {
        let mut reply = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 244, 2, 2, 10, 244, 1, 2];
        reply.extend([0, 0, 0, 0, 0x12, 0x34, 0, 1]);
        let from = "10.244.2.2".parse().unwrap();
        assert!(answers(&reply, from, 0x1234));
        assert!(!answers(&reply, from, 0x1235));
        assert!(!answers(&reply, "10.244.3.2".parse().unwrap(), 0x1234));
        assert!(!answers(&reply[..19], from, 0x1234));
        assert!(!answers(&[], from, 0x1234));
        reply[20] = 11; // time exceeded
        assert!(!answers(&reply, from, 0x1234));
    }
}
