//! Which entries of a forwarding table really decide for some address of a CIDR.

use cidrift_proto::landing::ForwardingEntry;
use ipnet::IpNet;

use crate::cluster::Forwarding;

/// The entries that decide for at least one address of `cidr`, widest first: the
/// longest that covers it and those inside it, less those that longer ones cover
/// wholly. Empty: nothing in the table covers `cidr`. The flag is true when some
/// address of `cidr` is covered by no entry at all.
pub fn deciding(table: &Forwarding, cidr: IpNet) -> (Vec<&ForwardingEntry>, bool) {
    let base = table.longest(cidr);
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut found: Vec<&ForwardingEntry> = Vec::new();
    let mut covered: u128 = 0;
    // In lexicographic order an entry stands before those inside it, so a stack of
    // the entries that are still open tells which one a longer one is inside of.
    for entry in table.inside(cidr) {
        while open
            .last()
            .is_some_and(|last| !last.entry.prefix.contains(&entry.prefix))
        {
            close(&mut open, &mut found, &mut covered);
        }
        open.push(Open { entry, inner: 0 });
    }
    while !open.is_empty() {
        close(&mut open, &mut found, &mut covered);
    }
    let whole = covered == size(cidr);
    if !whole
        && let Some(base) = base
        && base.prefix != cidr
    {
        found.push(base);
    }
    found.sort_by_key(|entry| (entry.prefix.prefix_len(), entry.prefix));
    (found, !whole && base.is_none())
}

/// An entry whose insides are being walked, and how many addresses of it longer ones cover.
struct Open<'a> {
    entry: &'a ForwardingEntry,
    inner: u128,
}

fn close<'a>(open: &mut Vec<Open<'a>>, found: &mut Vec<&'a ForwardingEntry>, covered: &mut u128) {
    let Some(last) = open.pop() else { return };
    let own = size(last.entry.prefix);
    if last.inner < own {
        found.push(last.entry);
    }
    match open.last_mut() {
        Some(parent) => parent.inner = parent.inner.saturating_add(own),
        None => *covered = covered.saturating_add(own),
    }
}

/// Addresses of a prefix; `::/0` has one more than fits and saturates, which
/// compares right because its halves together saturate too.
fn size(net: IpNet) -> u128 {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    1u128.checked_shl(bits).unwrap_or(u128::MAX)
}
