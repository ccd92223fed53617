//! Which standing findings explain another, so that one cause is not told twice.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Claim, finding_id};

/// The ids of standing findings that explain this claim, sorted.
pub fn explained_by(claim: &Claim, stands: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut ids: Vec<String> = match claim.code {
        Code::Path07 => [Code::Path01, Code::Path02, Code::Path04, Code::Path05, Code::Path06]
            .iter()
            .map(|code| finding_id(*code, &claim.subject))
            .collect(),
        Code::Host01 | Code::Host02 | Code::Host03 | Code::Host08 => vec![finding_id(Code::Pool12, &claim.subject)],
        Code::Path01 | Code::Path02 | Code::Path03 | Code::Path05 => claim
            .affected
            .iter()
            .filter_map(|row| row.node.as_ref())
            .map(|node| finding_id(Code::Pool12, node))
            .collect(),
        _ => Vec::new(),
    };
    ids.sort();
    ids.dedup();
    ids.retain(|id| stands(id));
    ids
}
