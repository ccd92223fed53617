//! SEEN03: an agent with one node's token reports as another.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Evidence, Trigger};

use crate::cluster::Refusals;

/// The claim about the node whose token was shown.
pub fn claim(name: &str, refusals: &Refusals) -> Claim {
    let named = &refusals.last.named;
    let from = refusals
        .last
        .from
        .map_or_else(|| "an unknown address".to_owned(), |from| from.to_string());
    Claim {
        code: Code::Seen03,
        subject: name.to_owned(),
        severity: Code::Seen03.entry().severity,
        nodes: vec![name.to_owned()],
        summary: format!("an agent with the token of {name} reports as {named} and is refused"),
        affected: vec![Affected {
            prefix: None,
            node: Some(named.clone()),
            detail: "named by the agent; nothing that it said of it was taken".to_owned(),
        }],
        affected_total: 1,
        evidence: vec![Evidence {
            source: "aggregator".to_owned(),
            text: format!(
                "a report stream from {from} showed what is bound to node {name} and said in Hello that it is {named}, since {}",
                refusals.since
            ),
            observed_at: Some(refusals.at),
            stale: false,
        }],
        unseen: vec![format!(
            "what the host of that agent sees: neither {name} nor {named} is told by it"
        )],
        cause: format!(
            "The agent's --node-name is not the name of its Node (a host that was cloned, a name written by hand), or somebody else has \
             the token of {name}'s agent."
        ),
        remedy: format!(
            "See what runs at {from} and give it --node-name from spec.nodeName. If no agent should be there, the token was taken: delete \
             the agent's pod on {name}, which ends its token, and look at who could read it."
        ),
        changed_at: Some(refusals.since),
        trigger: Trigger::Host,
    }
}
