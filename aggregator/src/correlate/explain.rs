//! Which standing findings explain another, so that one cause is not told twice.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Claim, finding_id};

use super::allocator;
use cidrift_proto::signature::Signature;

/// The ids of standing findings that explain this claim, sorted.
pub fn explained_by(claim: &Claim, stands: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut ids: Vec<String> = match claim.code {
        Code::Path07 => [Code::Path01, Code::Path02, Code::Path04, Code::Path05, Code::Path06]
            .iter()
            .map(|code| finding_id(*code, &claim.subject))
            .collect(),
        Code::Host01 | Code::Host02 | Code::Host03 | Code::Host08 => vec![finding_id(Code::Pool12, &claim.subject)],
        Code::Path01 | Code::Path02 | Code::Path03 | Code::Path05 => {
            let peers = claim.affected.iter().filter_map(|row| row.node.as_ref());
            let mut ids: Vec<String> = peers.map(|node| finding_id(Code::Pool12, node)).collect();
            // What takes packets away on the host itself loses them or hands them to somebody else; it removes no route.
            if matches!(claim.code, Code::Path02 | Code::Path05) {
                ids.push(finding_id(Code::Host10, &claim.subject));
            }
            ids
        }
        Code::Path04 => vec![finding_id(Code::Host10, &claim.subject)],
        // Those whose CIDR makes kube-controller-manager exit; or the ClusterCIDR that this node has none of.
        Code::Pool01 => {
            let culprits = claim.affected.iter().filter_map(|row| row.node.as_ref());
            let mut ids: Vec<String> = culprits.map(|node| finding_id(Code::Pool02, node)).collect();
            ids.push(finding_id(Code::Pool13, &claim.subject));
            // Or nothing is left, or nobody allocates.
            ids.extend(["ipv4", "ipv6", "pool"].map(|pool| finding_id(Code::Pool04, pool)));
            ids.push(finding_id(Code::Pool09, allocator::SUBJECT));
            ids
        }
        Code::Sand01 => {
            let texts = claim.evidence.iter().map(|row| Signature::of(&row.text));
            let codes = texts.flat_map(|signature| signature.explained_by());
            codes.map(|code| finding_id(*code, &claim.subject)).collect()
        }
        Code::Pool02 => vec![finding_id(Code::Pool10, "kube-controller-manager")],
        Code::Pool06 => {
            let has = claim.affected.first().and_then(|row| row.prefix);
            let missing = match has {
                Some(cidr) if cidr.addr().is_ipv4() => "ipv6",
                _ => "ipv4",
            };
            vec![finding_id(Code::Pool04, missing)]
        }
        Code::Host09 => vec![finding_id(Code::Pool10, "kube-proxy")],
        _ => Vec::new(),
    };
    let on_host = claim.code.explained_on_host().iter();
    ids.extend(on_host.map(|code| finding_id(*code, &claim.subject)));
    ids.sort();
    ids.dedup();
    ids.retain(|id| stands(id));
    ids
}
