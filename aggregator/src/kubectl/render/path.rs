//! Where packets between two nodes land.

use cidrift_proto::verdict::CidrVerdict;

use super::Look;
use super::age::age;
use super::node::ink;
use super::text::wrap;
use crate::query::answer::PathAnswer;

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
