//! Messages of an agent to plain data: whole, or not at all.

use std::collections::HashSet;

use cidrift_proto::facts::HostFacts;
use cidrift_proto::finding::{Claim, ROWS};
use cidrift_proto::landing::ForwardingEntry;
use cidrift_proto::prefix::prefix_from_wire;
use cidrift_proto::time::from_wire;
use cidrift_proto::{Malformed, v1};
use ipnet::IpNet;

use crate::cluster::HostEvent;

/// Why a message is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It does not say what its type promises.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The first chunk of a snapshot has no facts.
    #[error("the first chunk of a snapshot carries no facts")]
    NoFacts,
    /// A delta without a number.
    #[error("deltas are numbered from 1, this one has 0")]
    Unnumbered,
    /// A prefix is both set and removed.
    #[error("{0} is both set and removed")]
    Contradiction(IpNet),
    /// A claim that a host may not make.
    #[error("claim {code} about {subject:?}: {why}")]
    Claim {
        /// Its code.
        code: String,
        /// Its subject, shortened.
        subject: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Too many claims.
    #[error("{count} claims, {max} are allowed")]
    TooManyClaims {
        /// How many came.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// A snapshot larger than allowed.
    #[error("a snapshot of more than {max} {unit}")]
    TooLarge {
        /// The bound.
        max: usize,
        /// Of what.
        unit: &'static str,
    },
}

/// A delta, checked; its number is left to the session.
pub(super) fn delta(node: &str, max_claims: usize, wire: &v1::Delta) -> Result<HostEvent, Refused> {
    if wire.sequence == 0 {
        return Err(Refused::Unnumbered);
    }
    let upserts = entries(&wire.upserts)?;
    let removed = wire
        .removed
        .iter()
        .map(|prefix| prefix_from_wire(prefix, "delta.removed"))
        .collect::<Result<Vec<IpNet>, _>>()?;
    if !upserts.is_empty() && !removed.is_empty() {
        let gone: HashSet<IpNet> = removed.iter().copied().collect();
        if let Some(entry) = upserts.iter().find(|entry| gone.contains(&entry.prefix)) {
            return Err(Refused::Contradiction(entry.prefix));
        }
    }
    Ok(HostEvent::Delta {
        sequence: wire.sequence,
        expectation: wire.expectation,
        upserts,
        removed,
        facts: wire.facts.as_ref().map(HostFacts::try_from).transpose()?,
        claims: wire
            .claims
            .as_ref()
            .map(|set| claims(node, max_claims, &set.claims))
            .transpose()?,
        observed_at: wire.observed_at.and_then(from_wire),
    })
}

pub(super) fn entries(wire: &[v1::ForwardingEntry]) -> Result<Vec<ForwardingEntry>, Malformed> {
    wire.iter().map(ForwardingEntry::try_from).collect()
}

/// Claims of a host: about itself only, each once, in its own codes.
pub(super) fn claims(node: &str, max: usize, wire: &[v1::Claim]) -> Result<Vec<Claim>, Refused> {
    if wire.len() > max {
        return Err(Refused::TooManyClaims { count: wire.len(), max });
    }
    let claims = wire.iter().map(Claim::try_from).collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::new();
    for claim in &claims {
        let why = if !crate::correlate::host::spoken(claim.code) {
            "an agent makes HOST claims, SAND01 and SEEN02 only"
        } else if claim.subject != node || claim.nodes.iter().any(|named| named != node) {
            "a host speaks of itself only"
        } else if !seen.insert(claim.code) {
            "it comes twice"
        } else if [claim.affected.len(), claim.evidence.len(), claim.unseen.len()]
            .iter()
            .any(|&rows| rows > ROWS)
        {
            "it has more rows than a claim may have"
        } else {
            continue;
        };
        return Err(Refused::Claim {
            code: claim.code.to_string(),
            subject: claim.subject.chars().take(64).collect(),
            why,
        });
    }
    Ok(claims)
}
