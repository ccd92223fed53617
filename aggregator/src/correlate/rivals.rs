//! SEEN04: several agents report for one node, and take each other's place.

use std::time::Duration;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Claim, Evidence, Trigger};
use jiff::Timestamp;

use super::routes::elapsed;
use crate::cluster::HostState;

/// So long must they have gone on. While a DaemonSet is rolled out, the old pod and the new one may both run: the old one
/// for its grace period at most, which is 30 s unless somebody chose otherwise; twice that is no rollout.
pub const LASTS: Duration = Duration::from_secs(60);

/// The claim about the node that they report for.
pub fn claim(host: &HostState, now: Timestamp) -> Option<Claim> {
    let rivalry = host.rivals.as_ref().filter(|rivalry| now < rivalry.until)?;
    if elapsed(rivalry.since, rivalry.at) < LASTS {
        return None;
    }
    let (name, who) = (&host.node, &rivalry.who);
    Some(Claim {
        code: Code::Seen04,
        subject: name.clone(),
        severity: Code::Seen04.entry().severity,
        nodes: vec![name.clone()],
        summary: format!("several agents report for {name} and take each other's place"),
        affected: Vec::new(),
        affected_total: 0,
        evidence: vec![Evidence {
            source: "aggregator".to_owned(),
            text: format!("{who}, in turn since {}", rivalry.since),
            observed_at: Some(rivalry.at),
            stale: false,
        }],
        unseen: vec![format!(
            "what the host of {name} sees: what is heard may be another host's, so nothing of it is judged"
        )],
        cause: format!(
            "Two hosts run an agent with the same --node-name, an agent outside of Kubernetes runs beside the DaemonSet's pod, \
             or somebody else has the token of {name}'s agent."
        ),
        remedy: format!(
            "See what runs at these addresses and keep the one that is {name}'s. If no other agent should be there, the token was \
             taken: delete the agent's pod on {name}, which ends its token, and look at who could read it."
        ),
        changed_at: Some(rivalry.since),
        trigger: Trigger::Host,
    })
}
