//! What a host's kernel counted on the way of pods' packets.

use cidrift_proto::facts::{Direction, LinkTraffic, TrafficFact};

use super::super::Look;
use super::super::age::age;
use super::super::text::{Grid, Ink, plain, wrap};

/// A row for each device, and the host's own counters below. Losses stand out; they are no finding, since every host
/// throws packets away for good reasons too.
pub(super) fn table(traffic: &TrafficFact, look: &Look) -> String {
    let mut grid = Grid::new(["COUNTED BY", "RECEIVED", "SENT", "ERRORS", "DROPPED"]);
    for link in &traffic.links {
        let packets = |counts: Direction| format!("{} packets, {} bytes", counts.packets, counts.bytes);
        let lost = |received: u64, sent: u64| {
            let sum = received.saturating_add(sent);
            (sum.to_string(), if sum == 0 { Ink::Plain } else { Ink::Doubt })
        };
        grid.row(vec![
            plain(name(link)),
            plain(packets(link.received)),
            plain(packets(link.sent)),
            lost(link.received.errors, link.sent.errors),
            lost(link.received.dropped, link.sent.dropped),
        ]);
    }
    let mut text: Vec<String> = traffic
        .counted
        .iter()
        .map(|row| format!("{} {}", row.name, row.value))
        .collect();
    text.push(format!("read {} ago", age(traffic.observed_at, look.now)));
    format!(
        "\n{}{}",
        grid.print("", look),
        wrap("counted: ", "  ", &text.join(", "), look)
    )
}

fn name(link: &LinkTraffic) -> String {
    match (link.name.as_str(), link.links) {
        ("", 1) => "1 port of a pod".to_owned(),
        ("", links) => format!("{links} ports of pods"),
        (name, _) => name.to_owned(),
    }
}
