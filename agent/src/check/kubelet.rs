//! HOST08 kubelet-cidr-differs: what the kubelet last took over is not what the Node says.
//!
//! Only what the running kubelet said itself counts: where its log does not reach back that far, nothing is known.

use std::collections::BTreeSet;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::Affected;
use ipnet::IpNet;
use jiff::SignedDuration;

use super::{Expectation, Input, Judged, Says, list, model};
use crate::view::host::KubeletCidr;

const CODE: Code = Code::Host08;

/// kubelet looks at its Node every 10 s (nodeStatusUpdateFrequency), with up to half as much again of jitter, and
/// then asks the runtime, which may take a while: a minute is four tries.
const FOLLOWS: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn judge(input: &Input<'_>, judged: &mut Judged) {
    let Some(kubelet) = judged.need(CODE, &input.host.kubelet) else {
        return;
    };
    if nobody_asks(input) {
        return;
    }
    let Some(expectation) = input.expectation else {
        return judged.unjudged(
            CODE,
            "what the Node should have is not known: the control plane has not told yet",
        );
    };
    if !expectation.node_known {
        return judged.unjudged(CODE, format!("the control plane knows no Node {:?}", input.node));
    }
    let set = |cidrs: &[IpNet]| cidrs.iter().map(IpNet::trunc).collect::<BTreeSet<_>>();
    if set(&kubelet.cidrs) == set(&expectation.pod_cidrs) {
        return;
    }
    // It still has time to follow; or the Node was read before the kubelet spoke.
    let young = |since| input.now.duration_since(since) < FOLLOWS;
    if expectation.since.is_some_and(young) || expectation.since.is_none() && young(kubelet.said_at) {
        return;
    }
    let says = says(input, expectation, kubelet);
    judged.claims.push(input.claim(CODE, says, Some(kubelet.said_at)));
}

/// A CNI that takes nothing from the Node, or kube-router, whose annotation stands before the Node's field and which the
/// kubelet knows nothing of. Where there is no CNI configuration yet, the kubelet's word may be what its template
/// waits for.
fn nobody_asks(input: &Input<'_>) -> bool {
    let Some(config) = &input.cni.chosen else {
        return false;
    };
    config.bridge.as_deref() == Some("kube-bridge") || model(input.cni).is_err()
}

fn says(input: &Input<'_>, expectation: &Expectation, kubelet: &KubeletCidr) -> Says {
    let node = input.node;
    let named = |cidrs: &[IpNet]| match cidrs {
        [] => "none".to_owned(),
        cidrs => list(cidrs),
    };
    let has = named(&expectation.pod_cidrs);
    let observed = &input.host.kubelet;
    let mut evidence = vec![expectation.evidence()];
    if !kubelet.cidrs.is_empty() {
        let text = format!(
            "\"Updating Pod CIDR\" originalPodCIDR={:?} newPodCIDR={:?}, said {:.0}",
            comma(&kubelet.before),
            comma(&kubelet.cidrs),
            kubelet.said_at
        );
        evidence.push(input.observed_evidence(observed, text));
    }
    if !kubelet.before.is_empty() && kubelet.before != kubelet.cidrs {
        let text = format!(
            "the CIDR changed under the running kubelet before: from {} to {}",
            list(&kubelet.before),
            list(&kubelet.cidrs)
        );
        evidence.push(input.observed_evidence(observed, text));
    }
    if let Some(error) = &kubelet.error {
        evidence.push(input.observed_evidence(observed, format!("\"Error updating pod CIDR\" err={error:?}")));
    }
    let affected = |cidr: &IpNet| Affected {
        prefix: Some(*cidr),
        node: None,
        detail: "the Node's, not taken over by the kubelet".to_owned(),
    };
    let new = expectation
        .pod_cidrs
        .iter()
        .filter(|cidr| !kubelet.cidrs.contains(cidr));
    let (cause, remedy) = why(input, expectation, kubelet);
    Says {
        summary: match kubelet.cidrs.as_slice() {
            [] => format!(
                "the kubelet of {node} has taken over no pod CIDR, {} has {has}",
                expectation.source
            ),
            cidrs => format!(
                "the kubelet of {node} last took over {}, {} has {has}",
                list(cidrs),
                expectation.source
            ),
        },
        affected: new.map(affected).collect(),
        evidence,
        unseen: Vec::new(),
        cause,
        remedy,
    }
}

fn why(input: &Input<'_>, expectation: &Expectation, kubelet: &KubeletCidr) -> (String, String) {
    let node = input.node;
    if kubelet.error.is_some() {
        return (
            "The runtime refused the update; the kubelet repeats it every 10 s.".to_owned(),
            "Mend the runtime (journalctl -u containerd -n 100); the kubelet tries again by itself.".to_owned(),
        );
    }
    if expectation.pod_cidrs.is_empty() {
        return (
            format!("The Node {node} was made anew and has no CIDR yet; the kubelet never withdraws the one it has."),
            "Mend what keeps the Node from getting a CIDR (POOL01); the kubelet takes it over by itself.".to_owned(),
        );
    }
    (
        format!(
            "The kubelet has not seen the Node {node} as it is now: it cannot reach the API server, or it still holds a Node that was \
             deleted."
        ),
        format!(
            "On the node: journalctl -u kubelet | grep -E 'Error updating node status|Unable to register' | tail. If it can reach the API \
             server and goes on like that: systemctl restart kubelet on {node}; pods keep running through that."
        ),
    )
}

/// As kubelet writes it.
fn comma(cidrs: &[IpNet]) -> String {
    cidrs.iter().map(IpNet::to_string).collect::<Vec<_>>().join(",")
}
