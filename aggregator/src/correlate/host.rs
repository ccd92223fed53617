//! HOST claims: made by the agents, passed through. A host can speak of itself only.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Claim, ROWS};

use crate::cluster::HostState;

/// The host's own claims as they enter the ledger.
pub fn claims(host: &HostState) -> Vec<Claim> {
    let mut claims: Vec<Claim> = host
        .claims
        .iter()
        .filter(|claim| owned(claim.code))
        .map(|claim| {
            let mut claim = claim.clone();
            claim.subject.clone_from(&host.node);
            claim.nodes = vec![host.node.clone()];
            claim.affected.truncate(ROWS);
            claim.evidence.truncate(ROWS);
            claim.unseen.truncate(ROWS);
            claim
        })
        .collect();
    claims.sort_by_key(|claim| claim.code);
    claims.dedup_by_key(|claim| claim.code);
    claims
}

/// Codes that an agent may speak of: those that it decides, and what its logs tell of failing sandboxes, which is joined
/// with what the control plane sees.
pub fn spoken(code: Code) -> bool {
    owned(code) || code == Code::Sand01
}

/// Codes that an agent decides.
pub fn owned(code: Code) -> bool {
    matches!(
        code,
        Code::Host01
            | Code::Host02
            | Code::Host03
            | Code::Host04
            | Code::Host05
            | Code::Host06
            | Code::Host07
            | Code::Host08
            | Code::Host09
            | Code::Host10
            | Code::Host11
            | Code::Seen02
    )
}
