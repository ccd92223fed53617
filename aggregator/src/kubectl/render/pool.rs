//! The pool and who has what of it.

use super::Look;
use super::text::{Grid, Ink, list, plain, wrap};
use crate::summary::PoolReport;

/// Ranges, then every node's CIDRs.
pub fn pool(pool: &PoolReport, look: &Look) -> String {
    let mut out = String::new();
    if pool.ranges.is_empty() {
        let why = pool.unknown.as_deref().unwrap_or("nobody has named it");
        out += &wrap("", "  ", &format!("The pool is unknown: {why}"), look);
    } else {
        let mut grid = Grid::new(["RANGE", "NODE MASK", "CAPACITY", "USED", "FREE", "WITNESS"]);
        for range in &pool.ranges {
            let free = match range.free {
                0 => Ink::Bad,
                // Less room than what is used: a growth by the same again does not fit.
                free if free < range.used => Ink::Doubt,
                _ => Ink::Plain,
            };
            grid.row([
                plain(range.range),
                plain(format!("/{}", range.node_mask)),
                plain(range.capacity),
                plain(range.used),
                (range.free.to_string(), free),
                plain(&range.witness),
            ]);
        }
        out += &grid.print("", look);
        if let Some(unknown) = &pool.unknown {
            out += &wrap("", "  ", &format!("Not known: {unknown}"), look);
        }
    }
    let service = match pool.service_ranges.is_empty() {
        true => "unknown".to_owned(),
        false => list(&pool.service_ranges),
    };
    out += &format!("Service range: {service}\n\n");
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
