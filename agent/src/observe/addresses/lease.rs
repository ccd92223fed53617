//! host-local's leases: `DIRECTORY/NETWORK/ADDRESS`, each a file that names the sandbox that has the address.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::view::host::Lease;

/// The address that a file gives out by its name. host-local's own `lock` and `last_reserved_ip.0`, and whatever
/// else lies there, give out none: it looks for the names of addresses only.
pub(super) fn address(name: &OsStr) -> Option<IpAddr> {
    name.to_str()?.parse().ok()
}

/// Reads a lease. The address is taken as soon as the file exists, whatever it holds.
pub(super) fn lease(
    network: &str,
    directory: &Arc<str>,
    address: IpAddr,
    content: &[u8],
    given_at: Option<Timestamp>,
) -> Lease {
    Lease {
        network: network.to_owned(),
        directory: Arc::clone(directory),
        address,
        container: container(content).unwrap_or_default().to_owned(),
        given_at,
    }
}

/// `ID\r\nINTERFACE`; before version 0.8 of the plugins the id alone. `None` where nobody is named: the file is about to
/// be written, or a crash cut it short, or something else wrote it.
pub(crate) fn container(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok()?;
    let id = text.lines().next()?.trim();
    is_id(id).then_some(id)
}

/// What libcni takes for a container id.
pub(crate) fn is_id(text: &str) -> bool {
    let mut letters = text.bytes();
    letters.next().is_some_and(|letter| letter.is_ascii_alphanumeric())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || b"_.-".contains(&letter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_of_a_lease_are_read() {
        assert_eq!(container(b"3f2ab1\r\neth0"), Some("3f2ab1"));
        assert_eq!(container(b"3f2ab1"), Some("3f2ab1"));
        assert_eq!(container(b"3f2ab1\n"), Some("3f2ab1"));
        assert_eq!(container(b"default-web.0\r\neth0"), Some("default-web.0"));
    }

    #[test]
    fn a_file_cut_short_or_of_rubbish_names_nobody() {
        for content in [
            &b""[..],
            b"\r\neth0",
            b"\0\0\0\0",
            b"\xff\xfe",
            b"-x\r\neth0",
            b"{\"a\": 1}",
        ] {
            assert_eq!(container(content), None, "{content:?}");
        }
    }

    #[test]
    fn only_names_of_addresses_are_leases() {
        for (name, expected) in [
            ("10.244.1.7", Some("10.244.1.7")),
            ("fd00:1::7", Some("fd00:1::7")),
            ("lock", None),
            ("last_reserved_ip.0", None),
            (".10.244.1.7.swp", None),
            ("10.244.1.7~", None),
        ] {
            let address = address(OsStr::new(name)).map(|address| address.to_string());
            assert_eq!(address.as_deref(), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_content_never_panics(content: Vec<u8>) {
            let _ = container(&content);
        }

        #[test]
        fn what_host_local_writes_is_read_back(id in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,80}", interface in "[a-z0-9]{1,15}") {
            let content = format!("{id}\r\n{interface}");
            prop_assert_eq!(container(content.as_bytes()), Some(id.as_str()));
            prop_assert_eq!(container(id.as_bytes()), Some(id.as_str()));
        }
    }
}
