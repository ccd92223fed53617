//! Where packets between two nodes land.

use cidrift_proto::verdict::{CidrVerdict, Standing};

use super::Look;
use super::age::age;
use super::node::ink;
use super::text::{Grid, Ink, plain, wrap};
use crate::query::answer::{PathAnswer, PathRow, PathsAnswer, WayAnswer};
use crate::summary::Health;

/// Both ways; of a node to itself there is only one.
pub fn path(path: &PathAnswer, look: &Look) -> String {
    let mut out = way(&path.from, &path.to, &path.forward, look);
    // Pods of one node may lie in different CIDRs of it: then there are two ways after all.
    if path.from == path.to && path.forward == path.backward {
        return out;
    }
    out.push('\n');
    out += &way(&path.to, &path.from, &path.backward, look);
    out
}

fn way(from: &str, to: &str, verdicts: &[CidrVerdict], look: &Look) -> String {
    let mut out = wrap("", "  ", &format!("{from} -> {to}"), look);
    if verdicts.is_empty() {
        out += "  unknown: no pod CIDR of the receiver is known\n";
    }
    for verdict in verdicts {
        let text = verdict.verdict.to_string();
        let line = wrap("  ", "    ", &format!("{}: {text}", verdict.cidr), look);
        out += &line.replacen(&text, &ink(verdict).paint(&text, look), 1);
        for entry in &verdict.landings {
            out += &wrap("    ", "      ", &format!("{}: {}", entry.prefix, entry.landing), look);
            if let Some(route) = entry.route {
                let metric = match route.metric {
                    0 => String::new(),
                    metric => format!(" metric {metric}"),
                };
                let since = age(entry.changed_at, look.now);
                out += &format!(
                    "      by route {} table {}{metric} proto {}, for {since}\n",
                    route.prefix, route.table, route.protocol
                );
            }
        }
        if let Some(at) = verdict.observed_at {
            out += &format!("      seen {} ago\n", age(at, look.now));
        }
    }
    out
}

/// Those that do not reach one node, or are not known to.
pub fn paths(paths: &PathsAnswer, look: &Look) -> String {
    let wrong: Vec<&PathRow> = paths
        .rows
        .iter()
        .filter(|row| row.health() != Health::Healthy)
        .collect();
    let (to, all) = (&paths.to, paths.rows.len());
    let head = match (all, wrong.len()) {
        (0, _) => format!("unknown: there is no other node than {to}"),
        (_, 0) => format!("Every other node reaches {to}, and is reached by it: {all} in all."),
        (_, some) => {
            format!("{some} of {all} other nodes do not reach {to}, or are not reached by it, or that is not known:")
        }
    };
    let mut out = wrap("", "", &head, look);
    if wrong.is_empty() {
        return out;
    }
    let mut grid = Grid::new(["NODE", &format!("TO {to}"), "AND BACK"]);
    for row in wrong {
        grid.row([plain(&row.from), one(&row.forward), one(&row.backward)]);
    }
    out += &grid.print("", look);
    out
}

/// One direction in a few words: the worst of it.
fn one(way: &WayAnswer) -> (String, Ink) {
    let broken = |verdict: &&CidrVerdict| verdict.verdict.standing() == Standing::Broken;
    let first = way.wrong.iter().find(broken).or(way.wrong.first());
    match (first, way.health) {
        (Some(verdict), _) => {
            let more = match way.wrong.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            (format!("{}: {}{more}", verdict.cidr, verdict.verdict), ink(verdict))
        }
        (None, Health::Healthy) => ("delivered".to_owned(), Ink::Good),
        (None, _) => ("unknown: no pod CIDR of the receiver is known".to_owned(), Ink::Doubt),
    }
}
