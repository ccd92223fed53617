//! HOST01 cni-config-stale: a file of the host hands out addresses that the
//! Node does not have.
//!
//! A range inside the Node's CIDR is fine, however small. A CNI with one family
//! on a dual-stack Node is fine too.

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::CniConfig;
use cidrift_proto::finding::{Affected, Evidence};
use ipnet::IpNet;

use super::{Case, Judged, Ranges, Says, behind, list};

const CODE: Code = Code::Host01;

pub(super) fn judge(case: &Case<'_>, judged: &mut Judged) {
    let cni = case.input.cni;
    let problem = cni.problem.as_deref();
    match case.model.ranges {
        // Nothing on the host can be stale.
        Ranges::Node => {}
        Ranges::Agent => judged.unjudged(
            CODE,
            format!(
                "{}'s agent keeps the range, no file of the host names it",
                case.model.plugin
            ),
        ),
        Ranges::Config => {
            // The model has no Ranges::Config without a chosen file.
            let Some(config) = &cni.chosen else { return };
            let foreign = sort_out(case, &config.path, &config.ranges, judged);
            if !foreign.is_empty() {
                let says = stale_config(case, config, &foreign);
                let changed = config.modified_at.max(case.input.cni_changed_at);
                judged.claims.push(case.input.claim(CODE, says, changed));
            }
            if let Some(problem) = problem {
                judged.unjudged(CODE, problem);
            }
        }
        Ranges::SubnetEnv => subnet_env(case, judged),
    }
}

fn subnet_env(case: &Case<'_>, judged: &mut Judged) {
    let cni = case.input.cni;
    let Some(env) = &cni.flannel else {
        let reason = cni.problem.clone();
        return judged.unjudged(
            CODE,
            reason.unwrap_or_else(|| {
                "flannel's subnet.env does not exist: flanneld has not written it since the host started".to_owned()
            }),
        );
    };
    let foreign = sort_out(case, &env.path, &env.subnets, judged);
    if !foreign.is_empty() {
        let text = format!("FLANNEL_SUBNET {}", list(&env.subnets));
        let mut says = says(case, &env.path, &foreign, case.input.file_evidence(&env.path, text));
        if case.expectation.kube_subnet_manager.is_none() {
            says.unseen = vec!["whether flanneld runs with --kube-subnet-mgr (the Node's annotations)".to_owned()];
        }
        says.cause = "flanneld reads the Node's podCIDR once, when it starts. The Node got another one since, \
            and new pods still get addresses of the old one."
            .to_owned();
        says.remedy = format!(
            "Restart flanneld on this node; it writes the file anew: \
             kubectl -n kube-flannel delete pod -l app=flannel --field-selector spec.nodeName={node} \
             (k3s: systemctl restart k3s or k3s-agent). Then replace the pods that have old addresses; \
             the bridge keeps its old address (HOST02) until it is deleted.",
            node = case.input.node
        );
        judged
            .claims
            .push(case.input.claim(CODE, says, case.input.cni_changed_at));
    }
    if let Some(problem) = &cni.problem {
        judged.unjudged(CODE, problem);
    }
}

/// The ranges that none of the Node's CIDRs contains. A range of a family that
/// the Node has no CIDR of cannot be judged.
fn sort_out(case: &Case<'_>, path: &str, ranges: &[IpNet], judged: &mut Judged) -> Vec<IpNet> {
    let mut foreign = Vec::new();
    for range in ranges {
        let mut cidrs = case.cidrs_of_family(range).peekable();
        if cidrs.peek().is_none() {
            judged.unjudged(
                CODE,
                format!("{path} hands out of {range}, and the Node has no podCIDR of that family"),
            );
        } else if !cidrs.any(|cidr| cidr.contains(range)) {
            foreign.push(*range);
        }
    }
    foreign
}

fn says(case: &Case<'_>, path: &str, foreign: &[IpNet], evidence: Evidence) -> Says {
    let affected = |range: &IpNet| Affected {
        prefix: Some(*range),
        node: None,
        detail: format!("handed out by {path}, not the Node's"),
    };
    Says {
        summary: format!(
            "{path} hands out of {}, {} has {}",
            list(foreign),
            case.expectation.source,
            case.cidrs()
        ),
        affected: foreign.iter().map(affected).collect(),
        evidence: vec![case.expectation.evidence(), evidence],
        ..Says::default()
    }
}

fn stale_config(case: &Case<'_>, config: &CniConfig, foreign: &[IpNet]) -> Says {
    let path = &config.path;
    let ipam = config.ipam.as_ref().map(|ipam| format!("{ipam} ")).unwrap_or_default();
    let mut text = format!(
        "network {}, plugin {}, {ipam}ranges {}",
        config.network,
        case.model.plugin,
        list(&config.ranges)
    );
    if let Some(at) = config.modified_at {
        text += &format!(", written {at:.0}");
    }
    let mut says = says(case, path, foreign, case.input.file_evidence(path, text));
    let others = &case.input.cni.others;
    if !others.is_empty() {
        let text = format!(
            "the runtime uses the first file in byte order; also there: {}",
            list(others)
        );
        says.evidence
            .push(case.input.file_evidence(&case.input.cni.directory, text));
    }
    if is_kube_router(config) && !case.expectation.source.contains("annotation") {
        says.unseen =
            vec!["the annotation kube-router.io/pod-cidrs, which kube-router takes before spec.podCIDRs".to_owned()];
    }
    let (cause, remedy) = why(case, config, foreign);
    (says.cause, says.remedy) = (
        cause,
        format!(
            "{remedy} Then replace the pods that have addresses of {}.",
            list(foreign)
        ),
    );
    says
}

/// Nobody else names its bridge so.
fn is_kube_router(config: &CniConfig) -> bool {
    config.bridge.as_deref() == Some("kube-bridge")
}

/// Cause and remedy, by who wrote the file.
fn why(case: &Case<'_>, config: &CniConfig, foreign: &[IpNet]) -> (String, String) {
    let (path, node) = (&config.path, case.input.node);
    let generated = config.generated_by.as_deref().unwrap_or_default();
    if generated.starts_with(crate::observe::cni::CONTAINERD_TEMPLATE) {
        let certain = generated.len() > crate::observe::cni::CONTAINERD_TEMPLATE.len();
        let doubt = if certain {
            ""
        } else {
            ", where it has one (its configuration was not readable)"
        };
        return (
            format!(
                "containerd renders this file from its conf_template{doubt} only while no CNI configuration loads. \
                 It keeps the file when the Node gets another podCIDR."
            ),
            format!(
                "On the node: rm {path} && systemctl restart kubelet; the kubelet pushes the podCIDR when it starts and containerd renders the file anew."
            ),
        );
    }
    if generated.starts_with(crate::observe::cni::MULTUS_DELEGATE) {
        return (
            format!(
                "This network is what {generated} hands pods to; a copy inside Multus' file is not refreshed by the CNI that wrote the original."
            ),
            format!(
                "Restart the Multus pod of {node} so that it writes its file anew; correct the delegate's own file first, if there is one."
            ),
        );
    }
    if is_kube_router(config) {
        let kept = config.ranges.iter().any(|range| !foreign.contains(range));
        let cause = if kept {
            "kube-router only adds the Node's CIDR to the ranges; the one from before stays, and host-local hands out of both."
        } else {
            "kube-router has not written the Node's CIDR into the file."
        };
        return (
            cause.to_owned(),
            format!(
                "Take {} out of the ipam block of {path}, then restart the kube-router pod of {node}.",
                list(foreign)
            ),
        );
    }
    if config.network == "kindnet" {
        return (
            "kindnetd writes this file when the Node's podCIDR changes; it has not done so.".to_owned(),
            format!(
                "Restart kindnetd on this node: kubectl -n kube-system delete pod -l app=kindnet --field-selector spec.nodeName={node}."
            ),
        );
    }
    // The file of another installer (podman, containerd's package, a CNI used before) that sorts first.
    if let Some(other) = behind(case.input.cni) {
        return (
            format!(
                "The runtime takes the first file, {path}: it was written for another podCIDR, or is not meant for pods at all and hides {other}."
            ),
            format!(
                "If {other} is the one meant for pods, move {path} out of the directory. Else put {} into its ipam block.",
                case.cidrs()
            ),
        );
    }
    (
        "The file was written for another podCIDR and nothing refreshes it.".to_owned(),
        format!(
            "Put {} into the ipam block of {path}, or let what installed it write it anew.",
            case.cidrs()
        ),
    )
}
