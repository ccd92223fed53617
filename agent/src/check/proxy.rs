//! HOST09 proxy-cidr-differs: kube-proxy's idea of the pod range is another one.
//!
//! In mode ClusterCIDR, the default, it masquerades what comes to a Service from outside the range that it was told,
//! family by family: without a range of a family it masquerades nothing of it. In mode NodeCIDR it takes the Node's
//! CIDRs as it starts and exits when they change; one that runs on has not heard of it. Other modes know no ranges.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Evidence};
use ipnet::IpNet;
use jiff::SignedDuration;

use super::{Expectation, Input, Judged, Says, list, preconditions};

use crate::view::host::{KubeletCidr, Process, Program, Setting};

const CODE: Code = Code::Host09;

/// kube-proxy hears of a change of its Node within seconds and exits; it may then wait as long as this for a podCIDR
/// (`podCIDRsTimeout` in its node.go). One that has not exited by then will not.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

pub(super) fn judge(input: &Input<'_>, judged: &mut Judged) {
    let Some(processes) = judged.need(CODE, &input.host.processes) else {
        return;
    };
    // A manifest is not in effect.
    let running = processes
        .iter()
        .filter(|process| process.program == Program::Proxy && process.pid != 0);
    for proxy in running {
        judge_one(input, judged, proxy);
    }
}

fn judge_one(input: &Input<'_>, judged: &mut Judged, proxy: &Process) {
    if let Some(why) = &proxy.problem {
        judged.unjudged(CODE, format!("{}: {why}", name(proxy)));
        return;
    }
    let mode = proxy
        .settings
        .get("detect-local-mode")
        .map_or("", |mode| mode.value.as_str());
    match mode {
        "" | "ClusterCIDR" => by_cluster_cidr(input, judged, proxy),
        "NodeCIDR" => by_node_cidr(input, judged, proxy),
        _ => {}
    }
}

fn by_cluster_cidr(input: &Input<'_>, judged: &mut Judged, proxy: &Process) {
    let Some(setting) = proxy
        .settings
        .get("cluster-cidr")
        .filter(|setting| !setting.value.is_empty())
    else {
        return;
    };
    let ranges: Result<Vec<IpNet>, _> = setting.value.split(',').map(|range| range.trim().parse()).collect();
    let Ok(ranges) = ranges else {
        judged.unjudged(
            CODE,
            format!("{}: clusterCIDR {:?} is no range", name(proxy), setting.value),
        );
        return;
    };
    let outside = |expectation: &Expectation| -> Vec<IpNet> {
        let cidrs = expectation.pod_cidrs.iter();
        cidrs
            .copied()
            .filter(|cidr| range_of(&ranges, cidr).is_some_and(|range| !range.contains(cidr)))
            .collect()
    };
    // Where nothing differs it does not matter whether the Node's CIDRs mean anything to this host's CNI.
    if input
        .expectation
        .is_some_and(|expectation| expectation.node_known && outside(expectation).is_empty())
    {
        return;
    }
    let expectation = match preconditions(input) {
        Ok((expectation, _)) => expectation,
        Err(why) => {
            judged.unjudged(CODE, why);
            return;
        }
    };
    let outside = outside(expectation);
    let says = Says {
        summary: format!(
            "kube-proxy takes {} for the pods' range; {} of the Node lies outside",
            setting.value,
            list(&outside)
        ),
        affected: outside.iter().map(affected).collect(),
        evidence: vec![expectation.evidence(), told(input, proxy, "clusterCIDR", setting)],
        cause: cause(proxy, setting),
        remedy: remedy(input, proxy, setting),
        ..Says::default()
    };
    judged.claims.push(input.claim(CODE, says, proxy.started_at));
}

/// The range that kube-proxy holds addresses of a CIDR's family against: the first that it was told.
fn range_of<'a>(ranges: &'a [IpNet], cidr: &IpNet) -> Option<&'a IpNet> {
    ranges
        .iter()
        .find(|range| range.addr().is_ipv4() == cidr.addr().is_ipv4())
}

/// Only kubelet's own word that its Node's CIDR changed under it shows a change and its time: that this agent was
/// told of a CIDR late says nothing.
fn by_node_cidr(input: &Input<'_>, judged: &mut Judged, proxy: &Process) {
    let (Some(mode), Some(kubelet), Some(started)) = (
        proxy.settings.get("detect-local-mode"),
        input.host.kubelet.get(),
        proxy.started_at,
    ) else {
        return;
    };
    if kubelet.before.is_empty() || same(&kubelet.before, &kubelet.cidrs) {
        return;
    }
    let ran_on = started < kubelet.said_at && input.now.duration_since(kubelet.said_at) > PATIENCE;
    if !ran_on {
        return;
    }
    let Ok((expectation, _)) = preconditions(input) else {
        return;
    };
    if !same(&kubelet.cidrs, &expectation.pod_cidrs) {
        return;
    }
    let changed = format!(
        "Updating Pod CIDR: {} became {}",
        list(&kubelet.before),
        list(&kubelet.cidrs)
    );
    let says = Says {
        summary: format!(
            "kube-proxy runs since before the Node's {} became {}, and takes the CIDR from when it started",
            list(&kubelet.before),
            list(&kubelet.cidrs)
        ),
        affected: kubelet.cidrs.iter().map(affected).collect(),
        evidence: vec![
            expectation.evidence(),
            heard(input, kubelet, changed),
            told(input, proxy, "detectLocalMode", mode),
            input.observed_evidence(&input.host.processes, format!("{} started at {started}", name(proxy))),
        ],
        cause:
            "The Node got another CIDR; kube-proxy in NodeCIDR mode exits when it hears of that, and this one has not."
                .to_owned(),
        remedy: restart(input, proxy),
        ..Says::default()
    };
    judged.claims.push(input.claim(CODE, says, Some(kubelet.said_at)));
}

fn same(a: &[IpNet], b: &[IpNet]) -> bool {
    let sorted = |nets: &[IpNet]| {
        let mut nets: Vec<IpNet> = nets.iter().map(IpNet::trunc).collect();
        nets.sort();
        nets
    };
    sorted(a) == sorted(b)
}

fn affected(cidr: &IpNet) -> Affected {
    Affected {
        prefix: Some(*cidr),
        node: None,
        detail: format!("pods of {cidr} reach Services under the node's address"),
    }
}

fn name(proxy: &Process) -> String {
    match proxy.embedded_in {
        Some(program) => format!("kube-proxy in {program} (pid {})", proxy.pid),
        None => format!("kube-proxy (pid {})", proxy.pid),
    }
}

fn told(input: &Input<'_>, proxy: &Process, field: &str, setting: &Setting) -> Evidence {
    let text = format!("{}: {field} {} ({})", name(proxy), setting.value, setting.source);
    input.observed_evidence(&input.host.processes, text)
}

fn heard(input: &Input<'_>, kubelet: &KubeletCidr, text: String) -> Evidence {
    Evidence {
        observed_at: Some(kubelet.said_at),
        ..input.observed_evidence(&input.host.kubelet, text)
    }
}

fn cause(proxy: &Process, setting: &Setting) -> String {
    match proxy.embedded_in {
        Some(program) => format!("{program} was told another range ({}) than the control plane assigns from.", setting.source),
        None => "The pool was changed and kube-proxy's configuration was not, or the Node's CIDR is not of the pool (POOL02).".to_owned(),
    }
}

fn remedy(input: &Input<'_>, proxy: &Process, setting: &Setting) -> String {
    match proxy.embedded_in {
        Some(program) => format!(
            "Correct the cluster CIDR of {program} ({}), the same on every server, then restart it.",
            setting.source
        ),
        None if setting.source.ends_with("in its container") => format!(
            "Correct clusterCIDR: kubectl edit cm -n kube-system kube-proxy; then {}",
            restart(input, proxy)
        ),
        None => format!(
            "Correct the cluster CIDR of kube-proxy ({}), then {}",
            setting.source,
            restart(input, proxy)
        ),
    }
}

fn restart(input: &Input<'_>, proxy: &Process) -> String {
    match proxy.embedded_in {
        Some(program) => format!("restart {program} on {}.", input.node),
        None => format!(
            "restart kube-proxy on {0}: kubectl delete pod -n kube-system -l k8s-app=kube-proxy --field-selector spec.nodeName={0}, or \
             its service where it is no pod.",
            input.node
        ),
    }
}
