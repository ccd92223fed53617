//! What another `--cluster-cidr` would mean, as text.

use super::Look;
use super::text::{Grid, Ink, list, plain, wrap};
use crate::fix::migrate::Migration;

/// Sizes, conflicts, what to do in which order, and the nodes in theirs.
pub fn migration(migration: &Migration, look: &Look) -> String {
    let from = match migration.from.is_empty() {
        true => "an unknown range".to_owned(),
        false => list(&migration.from),
    };
    let mut out = wrap(
        "",
        "",
        &format!("From {from}, if it were done. Nothing has been changed."),
        look,
    );
    let mut grid = Grid::new(["RANGE", "NODE MASK", "CAPACITY", "NODES", "HEADROOM"]);
    for new in &migration.to {
        let ink = match new.headroom {
            0..100 => Ink::Bad,
            100..200 => Ink::Doubt,
            _ => Ink::Plain,
        };
        let headroom = format!("{}.{}x", new.headroom / 100, new.headroom % 100 / 10);
        grid.row([
            plain(new.range),
            plain(format!("/{}", new.node_mask)),
            plain(new.capacity),
            plain(new.needed),
            (headroom, ink),
        ]);
    }
    out += &grid.print("", look);
    out += &lines("Against it:", &migration.conflicts, Ink::Bad, look);
    out += &lines("To be thought of:", &migration.warnings, Ink::Doubt, look);
    out += "\nIn this order:\n";
    for (number, step) in migration.steps.iter().enumerate() {
        out += &wrap(&format!("  {}. ", number + 1), "     ", step, look);
    }
    if !migration.nodes.is_empty() {
        out += &format!(
            "\nNodes, one after the other; {} of them take {}:\n",
            migration.nodes.len(),
            time(migration.seconds)
        );
        let mut grid = Grid::new(["NODE", "FROM", "TO", "PODS", "BLOCKED"]);
        for node in &migration.nodes {
            grid.row([
                plain(&node.node),
                plain(list(&node.from)),
                plain(list(&node.to)),
                plain(node.pods),
                (node.blocked.join("; "), Ink::Bad),
            ]);
        }
        out += &grid.print("", look);
    }
    out + &lines("Not seen:", &migration.unseen, Ink::Doubt, look)
}

fn lines(head: &str, lines: &[String], ink: Ink, look: &Look) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut out = format!("\n{}\n", ink.paint(head, look));
    for line in lines {
        out += &wrap("  - ", "    ", line, look);
    }
    out
}

fn time(seconds: u64) -> String {
    let minutes = seconds.div_ceil(60);
    match minutes {
        0..120 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}
