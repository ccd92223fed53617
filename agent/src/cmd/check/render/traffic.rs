//! What the kernel counted, for people.

use cidrift_proto::facts::{Direction, LinkTraffic, TrafficFact};
use comfy_table::Table;
use comfy_table::presets::NOTHING;

/// A row for each device, and the namespace's own counters in a line below.
pub(super) fn table(traffic: &TrafficFact) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["COUNTED BY", "RECEIVED", "SENT", "ERRORS", "DROPPED"]);
    for link in &traffic.links {
        let packets = |counts: Direction| format!("{} packets, {} bytes", counts.packets, counts.bytes);
        table.add_row([
            name(link),
            packets(link.received),
            packets(link.sent),
            (link.received.errors.saturating_add(link.sent.errors)).to_string(),
            (link.received.dropped.saturating_add(link.sent.dropped)).to_string(),
        ]);
    }
    let counted: Vec<String> = traffic
        .counted
        .iter()
        .map(|row| format!("{} {}", row.name, row.value))
        .collect();
    match counted.is_empty() {
        true => table.trim_fmt(),
        false => format!("{}\n this host: {}", table.trim_fmt(), counted.join(", ")),
    }
}

fn name(link: &LinkTraffic) -> String {
    match (link.name.as_str(), link.links) {
        ("", 1) => "1 port of a pod".to_owned(),
        ("", links) => format!("{links} ports of pods"),
        (name, _) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use cidrift_proto::facts::{Counted, LinkRole};
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn devices_and_pods_ports_have_a_row_each() {
        let link = |name: &str, role, links| LinkTraffic {
            name: name.into(),
            role,
            links,
            received: Direction {
                bytes: 840,
                packets: 10,
                errors: 0,
                dropped: 3,
            },
            sent: Direction {
                bytes: 84,
                packets: 1,
                errors: 2,
                dropped: 1,
            },
        };
        let traffic = TrafficFact {
            observed_at: Timestamp::UNIX_EPOCH,
            links: vec![link("cni0", LinkRole::Bridge, 1), link("", LinkRole::PodPort, 12)],
            counted: vec![Counted {
                name: "IpFragFails".into(),
                value: 4,
            }],
        };
        let text = table(&traffic);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows[1],
            "cni0 10 packets, 840 bytes 1 packets, 84 bytes 2 4"
                .split(' ')
                .collect::<Vec<_>>()
        );
        assert_eq!(rows[2][..4], ["12", "ports", "of", "pods"]);
        assert_eq!(rows[3], ["this", "host:", "IpFragFails", "4"]);
    }
}
