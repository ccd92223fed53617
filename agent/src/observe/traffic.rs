//! Counters of this network namespace: of its devices from `net/dev`, of its IP from `net/snmp`, `net/netstat` and
//! `net/snmp6`. What a device counts there is what `IFLA_STATS64` says of it (`dev_get_stats` makes both).
//!
//! They are read once a minute: they change with every packet, and nothing rests on them alone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use cidrift_proto::facts::Direction;
use jiff::Timestamp;

use super::root::{HostRoot, ReadError};
use crate::view::Observed;
use crate::view::host::Missing;
use crate::view::traffic::{Counts, DeviceCounts, Traffic};

/// The files of the namespace that the *reading thread* is in, wherever the host's `/` is.
const NET: &str = "/proc/thread-self/net";

/// Looks from one reading to the next: with one in 10 s, a minute.
const EVERY: u32 = 6;

/// `net/dev` has some 120 bytes a device; this is more than 30,000 of them.
const LIMIT: u64 = 4 * 1024 * 1024;

/// Numbers that `net/dev` has of a device.
const COLUMNS: usize = 16;

/// The counters that grow where a host loses pods' packets, or forwards them, as nstat(8) names them: a group of the
/// file, and a name in it.
const COUNTERS: [&str; 16] = [
    // Forwarded.
    "IpForwDatagrams",
    "Ip6OutForwDatagrams",
    // ip_error: nowhere to send it (InNoRoutes), or forwarding is off where it came in (InAddrErrors).
    "IpExtInNoRoutes",
    "IpInAddrErrors",
    "Ip6InNoRoutes",
    "Ip6InAddrErrors",
    "IpOutNoRoutes",
    "Ip6OutNoRoutes",
    // ip_rcv_finish: rp_filter threw it away.
    "TcpExtIPReversePathFilter",
    // ip_forward, ip6_forward: too large for the way out, and not to be fragmented.
    "IpFragFails",
    "Ip6FragFails",
    "Ip6InTooBigErrors",
    // Out of memory, or a filter.
    "IpInDiscards",
    "IpOutDiscards",
    "Ip6InDiscards",
    "Ip6OutDiscards",
];

/// Reads them.
#[derive(Debug)]
pub struct TrafficReader {
    net: PathBuf,
    looks: u32,
    last: Option<Observed<Traffic>>,
}

impl TrafficReader {
    /// Of the namespace of whoever looks.
    pub fn new() -> Self {
        Self::at(PathBuf::from(NET))
    }

    fn at(net: PathBuf) -> Self {
        Self {
            net,
            looks: 0,
            last: None,
        }
    }

    /// The last reading, made now where it is due.
    pub fn look(&mut self, now: Timestamp) -> Observed<Traffic> {
        let due = self.looks.is_multiple_of(EVERY);
        self.looks = self.looks.wrapping_add(1);
        if let (false, Some(last)) = (due, &self.last) {
            return last.clone();
        }
        let before = self.last.take().and_then(|last| Some((last.at, last.value.ok()?.now)));
        let observed = match self.read() {
            Ok(counts) => Observed::seen(now, NET, Traffic { now: counts, before }),
            Err(why) => Observed::missing(now, NET, Missing::Unreadable(why)),
        };
        self.last = Some(observed.clone());
        observed
    }

    fn read(&self) -> Result<Counts, String> {
        let devices = self.file("dev")?.ok_or("dev: No such file")?;
        let mut counts = Counts {
            devices: parse_devices(&devices)?,
            ip: BTreeMap::new(),
        };
        for name in ["snmp", "netstat"] {
            if let Some(text) = self.file(name)? {
                parse_groups(&text, &mut counts.ip);
            }
        }
        // Not there without IPv6.
        if let Some(text) = self.file("snmp6")? {
            parse_lines(&text, &mut counts.ip);
        }
        Ok(counts)
    }

    fn file(&self, name: &str) -> Result<Option<String>, String> {
        match HostRoot::new("/").read(&Path::new(&self.net).join(name), LIMIT) {
            Ok((bytes, _)) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{name}: {error}")),
        }
    }
}

impl Default for TrafficReader {
    fn default() -> Self {
        Self::new()
    }
}

/// `net/dev`: two lines of headings, then a device a line: eight numbers of what came in (bytes, packets, errs, drop,
/// fifo, frame, compressed, multicast), and as many of what went out.
fn parse_devices(text: &str) -> Result<BTreeMap<String, DeviceCounts>, String> {
    let mut devices = BTreeMap::new();
    for line in text.lines().skip(2) {
        // A name may hold a colon itself (an alias); numbers do not.
        let row = line.rsplit_once(':').and_then(|(name, rest)| {
            let numbers: Vec<u64> = rest
                .split_ascii_whitespace()
                .map(|number| number.parse().ok())
                .collect::<Option<_>>()
                .filter(|numbers: &Vec<u64>| numbers.len() >= COLUMNS)?;
            let direction = |at: usize| -> Option<Direction> {
                Some(Direction {
                    bytes: *numbers.get(at)?,
                    packets: *numbers.get(at + 1)?,
                    errors: *numbers.get(at + 2)?,
                    dropped: *numbers.get(at + 3)?,
                })
            };
            let counts = DeviceCounts {
                received: direction(0)?,
                sent: direction(8)?,
            };
            Some((name.trim().to_owned(), counts))
        });
        let (name, counts) = row.ok_or_else(|| format!("dev: not a device's counters: {line:?}"))?;
        devices.insert(name, counts);
    }
    Ok(devices)
}

/// `net/snmp`, `net/netstat`: two lines a group, "Ip: NAME NAME" and "Ip: 1 2". TCP's MaxConn may be -1.
fn parse_groups(text: &str, found: &mut BTreeMap<&'static str, u64>) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (Some((group, names)), Some((same, values))) = (names.split_once(':'), values.split_once(':')) else {
            return;
        };
        if group != same {
            return;
        }
        for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
            keep(&format!("{group}{name}"), value, found);
        }
    }
}

/// `net/snmp6`: a name and a number a line.
fn parse_lines(text: &str, found: &mut BTreeMap<&'static str, u64>) {
    for line in text.lines() {
        if let Some((name, value)) = line.split_once(char::is_whitespace) {
            keep(name, value.trim(), found);
        }
    }
}

fn keep(name: &str, value: &str, found: &mut BTreeMap<&'static str, u64>) {
    if let (Some(name), Ok(value)) = (COUNTERS.iter().find(|known| **known == name), value.parse()) {
        found.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEV: &str = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
        lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0\n\
        flannel.1: 10 1 2 3 0 0 0 0 20 4 5 6 0 0 7 0\n";

    fn place(dev: &str) -> (tempfile::TempDir, TrafficReader) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("dev"), dev).unwrap();
        std::fs::write(
            dir.path().join("snmp"),
            "Ip: Forwarding ForwDatagrams FragFails\nIp: 1 7 2\nTcp: MaxConn\nTcp: -1\n",
        )
        .unwrap();
        std::fs::write(
            dir.path().join("netstat"),
            "TcpExt: SyncookiesSent IPReversePathFilter\nTcpExt: 0 5\nIpExt: InNoRoutes\nIpExt: 9\n",
        )
        .unwrap();
        std::fs::write(
            dir.path().join("snmp6"),
            "Ip6InReceives                   \t1\nIp6InNoRoutes                   \t3\n",
        )
        .unwrap();
        let reader = TrafficReader::at(dir.path().to_owned());
        (dir, reader)
    }

    #[test]
    fn devices_and_the_namespaces_counters_are_read() {
        let (_dir, mut reader) = place(DEV);
        let observed = reader.look(Timestamp::UNIX_EPOCH);
        let traffic = observed.get().unwrap();
        let flannel = traffic.now.devices["flannel.1"];
        let direction = |bytes, packets, errors, dropped| Direction {
            bytes,
            packets,
            errors,
            dropped,
        };
        assert_eq!(flannel.received, direction(10, 1, 2, 3));
        assert_eq!(flannel.sent, direction(20, 4, 5, 6));
        let wanted = [
            ("Ip6InNoRoutes", 3),
            ("IpExtInNoRoutes", 9),
            ("IpForwDatagrams", 7),
            ("IpFragFails", 2),
            ("TcpExtIPReversePathFilter", 5),
        ];
        assert_eq!(traffic.now.ip, BTreeMap::from(wanted));
        assert_eq!(traffic.before, None);
    }

    #[test]
    fn a_reading_stands_for_a_minute_and_then_knows_the_one_before_it() {
        let (dir, mut reader) = place(DEV);
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = reader.look(at(0));
        std::fs::write(dir.path().join("dev"), DEV.replace("flannel.1: 10", "flannel.1: 90")).unwrap();
        for look in 1..6 {
            assert_eq!(reader.look(at(look * 10)), first);
        }
        let second = reader.look(at(60));
        let traffic = second.get().unwrap();
        assert_eq!(
            (second.at, traffic.now.devices["flannel.1"].received.bytes),
            (at(60), 90)
        );
        assert_eq!(traffic.before, Some((at(0), first.get().unwrap().now.clone())));
    }

    #[test]
    fn a_file_that_is_torn_or_missing_is_unreadable_with_its_reason() {
        let (dir, mut reader) = place(&DEV[..DEV.len() - 9]);
        let why = reader.look(Timestamp::UNIX_EPOCH).unreadable().map(str::to_owned);
        assert!(
            why.unwrap()
                .starts_with("dev: not a device's counters: \"flannel.1: 10")
        );
        std::fs::remove_file(dir.path().join("dev")).unwrap();
        let mut reader = TrafficReader::at(dir.path().to_owned());
        let observed = reader.look(Timestamp::UNIX_EPOCH);
        assert_eq!(observed.unreadable(), Some("dev: No such file"));
    }

    #[test]
    fn a_host_without_ipv6_has_the_rest() {
        let (dir, mut reader) = place(DEV);
        std::fs::remove_file(dir.path().join("snmp6")).unwrap();
        let observed = reader.look(Timestamp::UNIX_EPOCH);
        assert_eq!(observed.get().unwrap().now.ip.get("Ip6InNoRoutes"), None);
        assert_eq!(observed.get().unwrap().now.ip.len(), 4);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "([a-z.]{1,5}: ?|[0-9]{1,22}| |\n|Ip|-1){0,40}") {
            let _ = parse_devices(&text);
            let mut found = BTreeMap::new();
            parse_groups(&text, &mut found);
            parse_lines(&text, &mut found);
        }
    }
}
