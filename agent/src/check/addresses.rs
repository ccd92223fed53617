//! HOST05 addresses-low: the addresses that host-local can give out are nearly gone, leaked, or about to be given twice.

mod account;
mod leaks;
mod pace;

use std::time::Duration;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Severity};
use jiff::{SignedDuration, Timestamp};

use self::account::{Account, Patience, Sandboxes, SetUse};
use super::{Case, Judged, Ranges, Says};
use crate::view::host::{Process, Program, RangeSet, Sandbox};

const CODE: Code = Code::Host05;

/// Leaks that are worth a word: fewer are what a crash leaves once, and harmless while there is room.
const LEAKS: usize = 5;

/// Or one part in this many of the range, where that is fewer.
const LEAKED_PART: u128 = 20;

/// Addresses or pods that a summary names; the rest is counted.
const NAMED: usize = 3;

/// Everything that is wrong with a node's addresses.
struct Wrong<'a> {
    account: &'a Account<'a>,
    /// Sets with too little left.
    low: Vec<&'a SetUse<'a>>,
    leaked: bool,
    /// How long the kubelet waits for its runtime is known.
    sure: bool,
    /// `maxPods`, and sets that are smaller.
    small: Option<(u128, Vec<&'a SetUse<'a>>)>,
}

pub(super) fn judge(case: &Case<'_>, judged: &mut Judged) {
    let host = case.input.host;
    let Some((network, pool)) = pool(case, judged) else {
        return;
    };
    let Some(leases) = judged.need(CODE, &host.leases) else {
        return;
    };
    let sandboxes = judged.need(CODE, &host.sandboxes).map(|all| Sandboxes {
        all,
        at: host.sandboxes.at,
    });
    let processes = host.processes.get().map(Vec::as_slice).unwrap_or_default();
    let patience = request_timeout(processes);
    let settled = account::settled(patience);
    let mut account = Account::new(&network, &pool, leases, sandboxes, (case.input.now, settled));
    let max_pods = max_pods(processes);
    let leaked = account.sets.iter().any(|set| worth_a_word(set, account.leaked.len()));
    if account.unmatched && (leaked || !account.bare.is_empty()) {
        let reason = format!(
            "no lease of network {network} in {} is of a sandbox that the runtime knows: they may be another runtime's",
            host.leases.source
        );
        judged.unjudged(CODE, reason);
        account.leaked.clear();
        account.bare.clear();
    }
    let wrong = Wrong {
        low: account
            .sets
            .iter()
            .filter(|set| set.is_low() && !enough(set, max_pods, sandboxes))
            .collect(),
        leaked: leaked && !account.leaked.is_empty(),
        sure: patience != Patience::Unknown,
        small: max_pods.and_then(|max_pods| too_small(&account, max_pods, sandboxes)),
        account: &account,
    };
    if let Some(claim) = wrong.claim(case) {
        judged.claims.push(claim);
    }
    // What is told is removed: not where a sandbox may be set up for longer than is thought.
    judged.leaks = (wrong.leaked && wrong.sure).then(|| leaks::told(&wrong, max_pods));
}

/// The network that pods are given addresses of, and what it hands out of. `None` where host-local does not allocate,
/// or it is not known what.
pub(super) fn pool(case: &Case<'_>, judged: &mut Judged) -> Option<(String, Vec<RangeSet>)> {
    let cni = case.input.cni;
    let config = cni.chosen.as_ref()?;
    let ipam = config.ipam.as_deref();
    // flannel's plugin hands on to host-local where its file says nothing.
    if ipam != Some("host-local") && !(case.model.is_flannel() && ipam.is_none()) {
        return None;
    }
    let whole = |nets: &[ipnet::IpNet]| nets.iter().filter_map(|net| RangeSet::whole(*net)).collect();
    let pool: Vec<RangeSet> = match case.model.ranges {
        Ranges::Config => judged.need(CODE, &case.input.host.ranges)?.clone(),
        // That there is no subnet.env is HOST01's to say.
        Ranges::SubnetEnv => whole(&cni.flannel.as_ref()?.subnets),
        Ranges::Node | Ranges::Agent => whole(&case.expectation.pod_cidrs),
    };
    Some((config.network.clone(), pool))
}

/// `maxPods`, where the kubelet was told one.
fn max_pods(processes: &[Process]) -> Option<u128> {
    kubelets(processes).find_map(|kubelet| setting(kubelet, "max-pods")?.parse().ok())
}

/// How long a kubelet waits for its runtime, where it was told that.
fn request_timeout(processes: &[Process]) -> Patience {
    let mut kubelets = kubelets(processes).peekable();
    if kubelets.peek().is_none() {
        return Patience::Unknown;
    }
    let told = kubelets.map(|kubelet| match setting(kubelet, "runtime-request-timeout") {
        // As Go writes durations ("2m0s").
        Some(text) => match text.parse::<SignedDuration>().map(Duration::try_from) {
            Ok(Ok(timeout)) => Patience::Told(timeout),
            _ => Patience::Unknown,
        },
        None if kubelet.problem.is_some() => Patience::Unknown,
        None => Patience::Usual,
    });
    told.max().unwrap_or(Patience::Unknown)
}

fn kubelets(processes: &[Process]) -> impl Iterator<Item = &Process> {
    processes.iter().filter(|process| process.program == Program::Kubelet)
}

/// By the flag's name, which fields of its file have too.
fn setting<'a>(process: &'a Process, flag: &str) -> Option<&'a str> {
    process.settings.get(flag).map(|setting| setting.value.trim())
}

/// Whether what is left is enough for every pod that the kubelet may still start: a node that is full of pods needs
/// no more addresses.
fn enough(set: &SetUse<'_>, max_pods: Option<u128>, sandboxes: Option<Sandboxes<'_>>) -> bool {
    let (Some(max_pods), Some(sandboxes)) = (max_pods, sandboxes) else {
        return false;
    };
    set.free() >= max_pods.saturating_sub(sandboxes.ready() as u128)
}

/// Pods in the host's network need no address: those that run are taken off.
fn too_small<'a>(
    account: &'a Account<'a>,
    max_pods: u128,
    sandboxes: Option<Sandboxes<'_>>,
) -> Option<(u128, Vec<&'a SetUse<'a>>)> {
    let host_network = sandboxes.map_or(0, |sandboxes| sandboxes.host_network());
    let need = max_pods.saturating_sub(host_network as u128);
    let small: Vec<&SetUse<'_>> = account.sets.iter().filter(|set| set.usable < need).collect();
    (!small.is_empty()).then_some((max_pods, small))
}

fn worth_a_word(set: &SetUse<'_>, leaked: usize) -> bool {
    leaked > 0 && (leaked >= LEAKS || leaked as u128 * LEAKED_PART >= set.usable || set.is_low())
}

impl Wrong<'_> {
    fn claim(&self, case: &Case<'_>) -> Option<cidrift_proto::finding::Claim> {
        let account = self.account;
        let mut says = Says::default();
        let mut summary = Vec::new();
        let mut cause = Vec::new();
        let mut remedy = Vec::new();
        if !account.bare.is_empty() {
            self.bare(case, &mut says, &mut summary);
            cause.push("The leases of running pods were removed, or the network was renamed: host-local gives their addresses out again.".to_owned());
            remedy.push(
                "Replace the pods without a lease (kubectl delete pod) before others get their addresses.".to_owned(),
            );
        }
        for set in &self.low {
            summary.push(set.summary());
            says.affected.extend(set.affected());
        }
        if self.leaked {
            self.leaks(&mut says, &mut summary);
            cause.push(
                "CNI's DEL was never run for the sandboxes that are gone: a crash, a reboot, a runtime that lost its state."
                    .to_owned(),
            );
            remedy.push(self.remove_leaks());
        }
        if let Some((max_pods, small)) = &self.small {
            for set in small {
                summary.push(format!(
                    "the kubelet takes up to {max_pods} pods and {} has {} addresses",
                    set.set, set.usable
                ));
                says.affected.extend(set.affected());
            }
            cause.push("maxPods is larger than the range that pods get addresses of.".to_owned());
            remedy.push(
                "Lower maxPods of the kubelet, or give such nodes a larger pod CIDR when they are made anew."
                    .to_owned(),
            );
        }
        if summary.is_empty() {
            return None;
        }
        if !self.low.is_empty() && cause.is_empty() {
            let most = |sandboxes: Sandboxes<'_>| {
                let given: u128 = self.low.iter().map(|set| set.taken).sum();
                sandboxes.ready() as u128 * 2 >= given
            };
            let listed = account.sandboxes.filter(|_| !account.unmatched);
            let (why, what) = if listed.is_some_and(|sandboxes| !most(sandboxes)) {
                (
                    "Far more addresses are given out than pods run: pods that came and went just now, or addresses that were \
                     never released.",
                    "Wait some minutes: what nobody has then is named here as leaked.",
                )
            } else if listed.is_some() {
                (
                    "As many pods run here as the range has room for.",
                    "Move pods to other nodes, and set maxPods of the kubelet to what the range holds.",
                )
            } else {
                (
                    "Pods that run here, or leases of pods that are gone: without the runtime's list that is not known.",
                    "Compare the leases with crictl pods -q --no-trunc; move pods to other nodes if they are of running pods.",
                )
            };
            cause.push(why.to_owned());
            remedy.push(what.to_owned());
        }
        says.affected.dedup();
        says.summary = summary.join("; ");
        says.cause = cause.join(" ");
        says.remedy = remedy.join(" ");
        self.evidence(case, &mut says);
        let full = self.low.iter().any(|set| set.free() == 0);
        let mut claim = case.input.claim(CODE, says, self.changed_at());
        if full || !account.bare.is_empty() {
            claim.severity = Severity::Error;
        }
        Some(claim)
    }

    fn bare(&self, case: &Case<'_>, says: &mut Says, summary: &mut Vec<String>) {
        let bare = &self.account.bare;
        let name = |(sandbox, address): &(&Sandbox, std::net::IpAddr)| format!("{} {address}", sandbox.pod);
        summary.push(format!(
            "{} of running pods {} no lease: {}",
            count(bare.len(), "address", "addresses"),
            if bare.len() == 1 { "has" } else { "have" },
            named(bare.iter().map(name))
        ));
        says.affected.extend(bare.iter().map(|(sandbox, address)| Affected {
            prefix: Some((*address).into()),
            node: None,
            detail: format!("{} has {address} and there is no lease of it", sandbox.pod),
        }));
        for (sandbox, address) in bare.iter().take(NAMED) {
            let text = format!("{}: SANDBOX_READY, {address}", sandbox.pod);
            says.evidence
                .push(case.input.observed_evidence(&case.input.host.sandboxes, text));
        }
    }

    fn leaks(&self, says: &mut Says, summary: &mut Vec<String>) {
        let leaked = &self.account.leaked;
        summary.push(format!(
            "{} no sandbox: {}",
            count(leaked.len(), "lease is of", "leases are of"),
            named(leaked.iter().map(|lease| lease.address.to_string()))
        ));
        says.affected.extend(leaked.iter().map(|lease| {
            let given = lease.given_at.map(|at| format!(", given {at:.0}")).unwrap_or_default();
            let whose = match lease.container.as_str() {
                "" => "names no sandbox".to_owned(),
                id => format!("is of {id}, which is gone"),
            };
            Affected {
                prefix: Some(lease.address.into()),
                node: None,
                detail: format!("the lease of {} {whose}{given}", lease.address),
            }
        }));
    }

    /// Shows the files, and none where the runtime does not answer; to remove them is the reader's to do.
    fn remove_leaks(&self) -> String {
        let directory = self.account.leaked.first().map_or("", |lease| &lease.directory);
        let first = match self.sure {
            true => "",
            false => {
                "What the kubelet was told is not known here: see that its runtimeRequestTimeout is not above 2 minutes, else \
                 take more than twice that for the age of a file. "
            }
        };
        format!(
            "{first}List the files of sandboxes that are gone, on the node: cd {directory} && ids=$(crictl pods -q --no-trunc) && \
             [ -n \"$ids\" ] && for f in $(find . -type f -mmin +{} -name '*[.:]*' ! -name 'last_*'); do \
             echo \"$ids\" | grep -qxF \"$(head -n1 $f | tr -d '\\r')\" || echo $f; done. Remove those, and no other: \
             the address of a running pod would be given out twice.",
            self.account.settled.as_secs().div_ceil(60)
        )
    }

    fn evidence(&self, case: &Case<'_>, says: &mut Says) {
        let (host, account) = (case.input.host, self.account);
        for set in &account.sets {
            let text = format!(
                "network {}: {} of {} addresses of {} given",
                account.network, set.taken, set.usable, set.set
            );
            says.evidence.push(case.input.observed_evidence(&host.leases, text));
            let mut growth = case.input.lease_growth.iter();
            if let Some(growth) = growth.find(|row| row.network == account.network && row.set == *set.set) {
                let mut row = case.input.observed_evidence(&host.leases, pace::words(growth));
                row.observed_at = Some(growth.at);
                says.evidence.push(row);
            }
        }
        if let Some(sandboxes) = account.sandboxes {
            let text = format!(
                "{} sandboxes, {} of them ready, {} ready in the host's network",
                sandboxes.all.len(),
                sandboxes.ready(),
                sandboxes.host_network()
            );
            says.evidence.push(case.input.observed_evidence(&host.sandboxes, text));
        }
        let given = account.leaked.iter().filter_map(|lease| lease.given_at);
        if let (true, Some(first), Some(last)) = (self.leaked, given.clone().min(), given.max()) {
            let text = format!(
                "{} without a sandbox, given from {first:.0} to {last:.0}",
                account.leaked.len()
            );
            says.evidence.push(case.input.observed_evidence(&host.leases, text));
        }
        if let (Some((max_pods, _)), true) = (&self.small, host.processes.get().is_some()) {
            says.evidence.push(
                case.input
                    .observed_evidence(&host.processes, format!("kubelet: maxPods {max_pods}")),
            );
        }
    }

    fn changed_at(&self) -> Option<Timestamp> {
        let account = self.account;
        let bare = account.bare.iter().filter_map(|(sandbox, _)| sandbox.created_at).max();
        let leaked = account
            .leaked
            .iter()
            .filter(|_| self.leaked)
            .filter_map(|lease| lease.given_at)
            .max();
        let low = self.low.iter().filter_map(|set| set.last).max();
        bare.max(leaked).max(low)
    }
}

impl SetUse<'_> {
    fn summary(&self) -> String {
        match self.free() {
            0 => format!("all {} addresses of {} are given out", self.usable, self.set),
            free => format!(
                "{} of {} addresses of {} are given out, {free} left",
                self.taken, self.usable, self.set
            ),
        }
    }

    fn affected(&self) -> impl Iterator<Item = Affected> + '_ {
        self.set.ranges.iter().map(|range| Affected {
            prefix: Some(range.prefix()),
            node: None,
            detail: format!(
                "{} of {} addresses of {} are given out",
                self.taken, self.usable, self.set
            ),
        })
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// "a, b, c and 4 more".
fn named(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let first: Vec<String> = names.take(NAMED).collect();
    match more {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
