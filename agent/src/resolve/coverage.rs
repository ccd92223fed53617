//! What a forwarding table says of one prefix.

use cidrift_proto::landing::ForwardingEntry;
use ipnet::IpNet;

/// The entries that decide for the addresses of one prefix.
#[derive(Debug, Clone)]
pub struct Coverage<'a> {
    /// The longest entry at or above the prefix.
    pub base: Option<&'a ForwardingEntry>,
    /// The entries for parts of it, in order, longer ones after those that they lie in.
    pub inside: Vec<&'a ForwardingEntry>,
    /// True when `inside` leaves no address of the prefix to `base`.
    pub shadowed: bool,
}

impl<'a> Coverage<'a> {
    pub(crate) fn new(
        prefix: IpNet,
        base: Option<&'a ForwardingEntry>,
        inside: impl Iterator<Item = &'a ForwardingEntry>,
    ) -> Self {
        let inside: Vec<_> = inside.collect();
        let shadowed = fills(prefix, inside.iter().map(|entry| entry.prefix));
        Self { base, inside, shadowed }
    }

    /// Every entry that decides for some address of the prefix, the base first.
    pub fn deciding(&self) -> impl Iterator<Item = &'a ForwardingEntry> + '_ {
        let base = self.base.filter(|_| !self.shadowed);
        base.into_iter().chain(self.inside.iter().copied())
    }
}

/// True when `parts`, all properly inside `whole` and in order, leave nothing of it.
fn fills(whole: IpNet, parts: impl Iterator<Item = IpNet>) -> bool {
    let mut outer: Option<IpNet> = None;
    let mut filled: u128 = 0;
    for part in parts {
        if outer.is_some_and(|outer| super::flow::contains(outer, part)) {
            continue;
        }
        outer = Some(part);
        // The share of `whole`, in units of 2^-128 of it: the whole is 2^128, which overflows.
        let deeper = u32::from(part.prefix_len().saturating_sub(whole.prefix_len()).clamp(1, 128));
        let Some(sum) = filled.checked_add(1 << (128 - deeper)) else {
            return true;
        };
        filled = sum;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(whole: &str, parts: &[&str]) -> bool {
        fills(whole.parse().unwrap(), parts.iter().map(|part| part.parse().unwrap()))
    }

    #[test]
    fn two_halves_leave_nothing_of_a_prefix() {
        assert!(filled("10.0.0.0/24", &["10.0.0.0/25", "10.0.0.128/25"]));
        assert!(filled("::/0", &["::/1", "8000::/1"]));
        assert!(filled(
            "10.0.0.0/24",
            &["10.0.0.0/25", "10.0.0.3/32", "10.0.0.128/26", "10.0.0.192/26"]
        ));
    }

    #[test]
    fn a_part_inside_a_part_fills_nothing_more() {
        assert!(!filled("10.0.0.0/24", &["10.0.0.0/25", "10.0.0.0/26", "10.0.0.64/26"]));
        assert!(!filled("10.0.0.0/24", &[]));
        assert!(!filled("::/0", &["::/1", "::/2"]));
    }
}
