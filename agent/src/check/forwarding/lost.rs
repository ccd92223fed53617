//! What the kernel counted of packets that a fault loses: evidence beside the fault, never a fault of its own, since
//! every host throws packets away for good reasons too.

use cidrift_proto::finding::Evidence;

use super::Pods;
use crate::view::traffic::Traffic;

/// IPv4 that came in where it is not forwarded (`ip_error`).
pub(super) const NOT_FORWARDED_V4: &[&str] = &["IpInAddrErrors"];
/// The same of IPv6 (`ip6_forward`).
pub(super) const NOT_FORWARDED_V6: &[&str] = &["Ip6InAddrErrors"];
/// Thrown away by rp_filter.
pub(super) const REVERSE_PATH: &[&str] = &["TcpExtIPReversePathFilter"];
/// Too large for the way out, and not to be fragmented.
pub(super) const TOO_LARGE: &[&str] = &["IpFragFails", "Ip6FragFails"];

/// What these counters say, where they count anything.
pub(super) fn evidence(pods: &Pods<'_>, names: &[&str]) -> Option<Evidence> {
    let observed = &pods.input.host.traffic;
    let traffic = observed.get()?;
    let rows: Vec<String> = names
        .iter()
        .filter_map(|name| row(traffic, observed.at, name))
        .collect();
    (!rows.is_empty()).then(|| pods.input.observed_evidence(observed, rows.join(", ")))
}

/// "IpFragFails 12, 3 of them within 60 s".
fn row(traffic: &Traffic, at: jiff::Timestamp, name: &str) -> Option<String> {
    let count = *traffic.now.ip.get(name).filter(|count| **count > 0)?;
    let grown = traffic.before.as_ref().and_then(|(since, before)| {
        let grown = count.checked_sub(before.ip.get(name).copied().unwrap_or(0))?;
        Some((grown, at.duration_since(*since).as_secs()))
    });
    Some(match grown {
        None => format!("{name} {count}"),
        // Without a time: it would be another text with every reading.
        Some((0, _)) => format!("{name} {count}, none of them within the last minute"),
        Some((grown, seconds)) => format!("{name} {count}, {grown} of them within {seconds} s"),
    })
}
