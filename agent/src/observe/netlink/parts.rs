//! The parts of the kernel's state that are dumped separately.

use std::fmt;

/// A part of the kernel's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Part {
    /// Links and their addresses.
    Links,
    /// Routes of every table, both families.
    Routes,
    /// Policy rules, both families.
    Rules,
    /// Nexthop objects.
    Nexthops,
    /// Neighbours.
    Neighbours,
    /// VXLAN forwarding databases.
    Fdb,
    /// Sysctls, as RTM_GETNETCONF tells them.
    Sysctls,
}

impl Part {
    pub(super) const ALL: [Self; 7] = [
        Self::Links,
        Self::Routes,
        Self::Rules,
        Self::Nexthops,
        Self::Neighbours,
        Self::Fdb,
        Self::Sysctls,
    ];
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Links => "links and addresses",
            Self::Routes => "routes",
            Self::Rules => "rules",
            Self::Nexthops => "nexthop objects",
            Self::Neighbours => "neighbours",
            Self::Fdb => "VXLAN forwarding databases",
            Self::Sysctls => "sysctls",
        })
    }
}

/// A set of parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Parts(u8);

impl Parts {
    pub(super) const NONE: Self = Self(0);
    pub(super) const ALL: Self = Self::of(&Part::ALL);

    pub(super) const fn of(parts: &[Part]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < parts.len() {
            bits |= 1 << parts[index] as u8;
            index += 1;
        }
        Self(bits)
    }

    pub(super) fn has(self, part: Part) -> bool {
        self.0 & Self::of(&[part]).0 != 0
    }

    pub(super) fn add(&mut self, more: Self) {
        self.0 |= more.0;
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::NONE
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}
