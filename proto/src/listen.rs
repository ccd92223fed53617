//! Listening where both families reach it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that wait to be taken, as tokio has it by default.
const BACKLOG: i32 = 1024;

/// Listens on `address`. `[::]` means every address of either family, whatever `net.ipv6.bindv6only` says; where the
/// kernel has no IPv6 (`ipv6.disable=1`), every IPv4 address.
///
/// # Errors
///
/// The kernel's: the port is taken, or the address is not this host's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    either(address, bind).and_then(TcpListener::from_std)
}

fn either<T>(address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let any = address.is_ipv6() && address.ip().is_unspecified();
    match bind(address) {
        Err(error) if any && without_ipv6(&error) => {
            bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
        }
        bound => bound,
    }
}

/// Without the family there are no sockets (EAFNOSUPPORT); with it and no address at all, none can be bound (EADDRNOTAVAIL).
fn without_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // As std and tokio do: what is left of connections of the one before does not hinder the next.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn tried(address: &str, error: i32) -> (Vec<String>, bool) {
        let tried = RefCell::new(Vec::new());
        let bound = either(address.parse().unwrap(), |address| {
            tried.borrow_mut().push(address.to_string());
            match address.is_ipv6() {
                true => Err(io::Error::from_raw_os_error(error)),
                false => Ok(()),
            }
        });
        (tried.into_inner(), bound.is_ok())
    }

    #[test]
    fn without_ipv6_every_address_is_every_ipv4_address_and_nothing_else_is() {
        let both = ["[::]:7440".to_owned(), "0.0.0.0:7440".to_owned()].to_vec();
        assert_eq!(tried("[::]:7440", 97), (both.clone(), true), "EAFNOSUPPORT");
        assert_eq!(tried("[::]:7440", 99), (both, true), "EADDRNOTAVAIL");
        // The port is taken: that is said of the address that was asked for.
        assert_eq!(
            tried("[::]:7440", 98),
            (vec!["[::]:7440".to_owned()], false),
            "EADDRINUSE"
        );
        assert_eq!(tried("[fd00::1]:7440", 97), (vec!["[fd00::1]:7440".to_owned()], false));
        assert_eq!(tried("10.0.0.1:7440", 97), (vec!["10.0.0.1:7440".to_owned()], true));
    }
}
