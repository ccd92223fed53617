//! The pool and who has what of it.

use super::Look;
use super::text::{Grid, Ink, list, plain, wrap};
use crate::summary::{PoolRange, PoolReport, PoolWitness};

/// Ranges, who named them, then every node's CIDRs.
pub fn pool(pool: &PoolReport, look: &Look) -> String {
    let mut out = String::new();
    if pool.ranges.is_empty() {
        let why = pool.unknown.as_deref().unwrap_or("nobody has named it");
        out += &wrap("", "  ", &format!("The pool is unknown: {why}"), look);
    } else {
        out += &ranges(&pool.ranges, look);
        if let Some(unknown) = &pool.unknown {
            out += &wrap("", "  ", &format!("Not known: {unknown}"), look);
        }
    }
    for range in &pool.ranges {
        for line in notes(range) {
            out += &wrap("", "  ", &line, look);
        }
    }
    let service = match pool.service_ranges.is_empty() {
        true => "unknown".to_owned(),
        false => list(&pool.service_ranges),
    };
    out += &format!("Service range: {service}\n");
    if !pool.growth.is_empty() {
        out += &wrap("", "  ", &format!("Growth: {}", pool.growth), look);
    }
    out.push('\n');
    out += &witnesses(&pool.witnesses, look);
    if pool.nodes.is_empty() {
        return out + "No node has a pod CIDR.\n";
    }
    let mut grid = Grid::new(["NODE", "POD CIDR", "IN POOL", "OVERLAPS"]);
    for node in &pool.nodes {
        let in_pool = match node.in_pool {
            Some(true) => plain("yes"),
            Some(false) => ("no".to_owned(), Ink::Bad),
            None => ("unknown".to_owned(), Ink::Doubt),
        };
        let overlaps = (node.overlaps.join(", "), Ink::Bad);
        grid.row([plain(&node.node), plain(node.cidr), in_pool, overlaps]);
    }
    out + &grid.print("", look)
}

fn ranges(ranges: &[PoolRange], look: &Look) -> String {
    let mut grid = Grid::new([
        "RANGE",
        "NODE MASK",
        "CAPACITY",
        "USED",
        "LEAKED",
        "FREE",
        "HEADROOM",
        "FULL IN",
        "WITNESS",
    ]);
    for range in ranges {
        let free = match range.free {
            0 => Ink::Bad,
            // Less room than what is used: a growth by the same again does not fit.
            free if free < range.used => Ink::Doubt,
            _ => Ink::Plain,
        };
        let leaked = match range.leaked {
            None => ("unknown".to_owned(), Ink::Doubt),
            Some(0) => plain(0),
            Some(leaked) => (leaked.to_string(), Ink::Bad),
        };
        grid.row([
            plain(range.range),
            plain(format!(
                "/{}{}",
                range.node_mask,
                if range.mask_stated { "" } else { "?" }
            )),
            plain(range.capacity),
            plain(range.used),
            leaked,
            (range.free.to_string(), free),
            plain(
                range
                    .headroom
                    .map(|percent| format!("{}.{}x", percent / 100, percent % 100 / 10))
                    .unwrap_or_default(),
            ),
            plain(range.full_in_days.map(|days| format!("{days}d")).unwrap_or_default()),
            plain(&range.witness),
        ]);
    }
    grid.print("", look)
}

/// What the figures of a range leave out.
fn notes(range: &PoolRange) -> Vec<String> {
    let mut notes = Vec::new();
    let blocks = |number: u64| match number {
        1 => "1 block".to_owned(),
        more => format!("{more} blocks"),
    };
    let (of, mask) = (range.range, range.node_mask);
    if range.service > 0 {
        notes.push(format!("{of}: the service range takes {}", blocks(range.service)));
    }
    if range.partial > 0 {
        let partial = blocks(range.partial);
        notes.push(format!("{of}: CIDRs longer than /{mask} hold {partial} in part only"));
    }
    if range.left_over > 0 {
        let left_over = blocks(range.left_over);
        notes.push(format!(
            "{of}: pods still have addresses in {left_over} that no Node has"
        ));
    }
    if !range.mask_stated {
        notes.push(format!(
            "{of}: nobody states the node mask; /{mask} is what most nodes have, or the default"
        ));
    }
    notes
}

/// All of them where much may be told or one disagrees; else nothing, for all say the same.
fn witnesses(witnesses: &[PoolWitness], look: &Look) -> String {
    let disagrees = witnesses.iter().any(|witness| witness.stance == "disagrees");
    if witnesses.is_empty() || !(look.wide || disagrees) {
        return String::new();
    }
    let mut grid = Grid::new(["WITNESS", "RANGES", "WORD", "WHY"]);
    for witness in witnesses {
        let ink = match witness.stance.as_str() {
            "disagrees" => Ink::Bad,
            _ => Ink::Plain,
        };
        let ranges = match witness.ranges.is_empty() {
            true => "none".to_owned(),
            false => list(&witness.ranges),
        };
        grid.row([
            plain(&witness.who),
            plain(ranges),
            (witness.stance.clone(), ink),
            plain(&witness.why),
        ]);
    }
    grid.print("", look) + "\n"
}
