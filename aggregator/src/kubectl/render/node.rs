//! One node with everything.

mod setups;
mod traffic;

use cidrift_proto::facts::{Agrees, CniFacts, Compared, HostFacts, LinkFact};
use cidrift_proto::landing::ForwardingEntry;
use cidrift_proto::verdict::{CidrVerdict, Standing};

use super::age::{age, ago};
use super::findings::finding;
use super::text::{Grid, Ink, list, plain, wrap};
use super::{Look, nodes};
use crate::cluster::ReportState;
use crate::query::answer::NodeAnswer;
use crate::summary::{IpamReport, NodeSummary};

/// Where values begin.
const COLUMN: usize = 16;

/// The page.
pub fn node(node: &NodeAnswer, look: &Look) -> String {
    let row = &node.summary;
    let mut out = field("Node", &row.name, look);
    let (text, ink) = nodes::health(row.health);
    out += &field_in("Health", &text, ink, look);
    out += &ready(row, look);
    out += &field("UID", &row.uid, look);
    out += &field("Pod CIDRs", &list(&row.pod_cidrs), look);
    if let Some(ipam) = &node.classification {
        out += &classification(ipam, look);
    }
    out += &field("Internal IPs", &list(&row.internal_ips), look);
    out += &agent(row, look);
    match &node.facts {
        Some(facts) => out += &host(facts, look),
        None => out += &field_in("Host", "unknown: its agent has not told", Ink::Doubt, look),
    }
    out += &verdicts(&node.verdicts, look);
    if look.wide && !node.entries.is_empty() {
        out += &entries(&node.entries, look);
    }
    out.push('\n');
    if node.findings.is_empty() {
        out += "No finding stands for this node.\n";
    }
    for (at, each) in node.findings.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        out += &finding(each, look);
    }
    out
}

/// What its pods get their addresses from, and by what that is known; with all of it where much may be told.
fn classification(ipam: &IpamReport, look: &Look) -> String {
    let mut text = match ipam.authoritative {
        Some(true) => "by spec.podCIDR".to_owned(),
        Some(false) | None => format!("{}: {}", ipam.model, ipam.why),
    };
    if let Some(line) = ipam.evidence.iter().find(|line| line.decides) {
        text += &format!(" ({}: {})", line.source, line.text);
    }
    let mut out = match ipam.authoritative {
        Some(_) => field("Addresses", &text, look),
        None => field_in("Addresses", &text, Ink::Doubt, look),
    };
    if ipam.authoritative != Some(true) || look.wide {
        out += &field("", &format!("rules: {}", ipam.rules), look);
    }
    if look.wide {
        for line in ipam.evidence.iter().filter(|line| !line.decides) {
            out += &field("", &format!("also {}: {}", line.source, line.text), look);
        }
    }
    if !ipam.unseen.is_empty() && (look.wide || ipam.authoritative.is_none()) {
        out += &field("", &format!("not seen: {}", ipam.unseen.join("; ")), look);
    }
    out
}

fn ready(row: &NodeSummary, look: &Look) -> String {
    let (text, ink) = nodes::ready(row);
    if row.not_ready.is_empty() {
        return field_in("Ready", &text, ink, look);
    }
    field("Ready", &format!("{text}: {}", row.not_ready), look)
}

fn agent(row: &NodeSummary, look: &Look) -> String {
    let (word, ink) = match row.report {
        ReportState::Live => ("live", Ink::Plain),
        ReportState::Syncing => ("syncing: its view is not whole yet", Ink::Doubt),
        ReportState::Silent => ("silent", Ink::Doubt),
        ReportState::Never => ("never heard of", Ink::Doubt),
    };
    let mut text = word.to_owned();
    if let Some(at) = row.last_report {
        text += &format!(", last heard {} ago", age(at, look.now));
    }
    if !row.agent_version.is_empty() {
        text += &format!(", version {}", row.agent_version);
    }
    let mut out = field_in("Agent", &text, ink, look);
    if !row.report_problem.is_empty() {
        out += &field("  problem", &row.report_problem, look);
    }
    out
}

fn field(name: &str, value: &str, look: &Look) -> String {
    let value = if value.is_empty() { "-" } else { value };
    wrap(&format!("{name:<COLUMN$}"), &" ".repeat(COLUMN), value, look)
}

fn field_in(name: &str, value: &str, ink: Ink, look: &Look) -> String {
    format!("{name:<COLUMN$}{}\n", ink.paint(&super::text::clean(value), look))
}

fn host(facts: &HostFacts, look: &Look) -> String {
    let mut out = field("Kernel", &facts.kernel, look);
    out += &cni(&facts.cni, look);
    out += &programs(facts, look);
    for gap in &facts.gaps {
        out += &field("Not seen", &format!("{}: {}", gap.what, gap.why), look);
    }
    out += &field("Facts", &format!("read {} ago", age(facts.observed_at, look.now)), look);
    out += &compared(&facts.compared, look);
    out += &links(&facts.links, facts.links_omitted, look);
    out += &facts
        .traffic
        .as_ref()
        .map(|counts| traffic::table(counts, look))
        .unwrap_or_default();
    out += &facts
        .setups
        .as_ref()
        .map(|setups| setups::table(setups, look))
        .unwrap_or_default();
    out
}

/// The runtime and the programs of Kubernetes, with what they were told where much may be told.
fn programs(facts: &HostFacts, look: &Look) -> String {
    let mut out = String::new();
    if let Some(runtime) = &facts.runtime {
        let text = format!("{} {} at {}", runtime.name, runtime.version, runtime.socket);
        out += &field("Runtime", &text, look);
        if runtime.network_ready == Some(false) {
            let why = runtime.why.as_deref().unwrap_or("it does not say why");
            out += &field_in("", &format!("network not ready: {why}"), Ink::Bad, look);
        }
    }
    let mut name = "Programs";
    for program in &facts.programs {
        let mut text = program.name.clone();
        if let Some(outer) = &program.embedded_in {
            text += &format!(" (in {outer})");
        }
        match (program.pid, program.started_at) {
            (None, _) => text += ", a static pod's manifest",
            (Some(pid), None) => text += &format!(", pid {pid}"),
            (Some(pid), Some(at)) => text += &format!(", pid {pid}, started {} ago", age(at, look.now)),
        }
        if look.wide {
            for setting in &program.settings {
                text += &format!("; {}={} ({})", setting.name, setting.value, setting.source);
            }
        }
        if let Some(problem) = &program.problem {
            text += &format!("; not seen: {problem}");
        }
        out += &field(name, &text, look);
        name = "";
    }
    out
}

/// What was held against the Node, one row a witness.
fn compared(rows: &[Compared], look: &Look) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut grid = Grid::new(["WITNESS", "SAYS", "SOURCE", "AGREES"]);
    for row in rows {
        let agrees = match row.agrees {
            Agrees::Yes => ("yes", Ink::Good),
            Agrees::No => ("NO", Ink::Bad),
            Agrees::Unknown => ("unknown", Ink::Doubt),
            Agrees::Nothing => ("-", Ink::Plain),
        };
        grid.row(vec![
            plain(&row.what),
            plain(&row.value),
            plain(&row.source),
            (agrees.0.to_owned(), agrees.1),
        ]);
    }
    format!("\n{}", grid.print("", look))
}

fn cni(cni: &CniFacts, look: &Look) -> String {
    let mut out = String::new();
    match &cni.chosen {
        Some(config) => {
            let mut text = format!(
                "{}: network {}, plugins {}",
                config.path,
                config.network,
                config.plugins.join(" > ")
            );
            for (name, value) in [
                ("IPAM", &config.ipam),
                ("bridge", &config.bridge),
                ("made by", &config.generated_by),
            ] {
                if let Some(value) = value {
                    text += &format!(", {name} {value}");
                }
            }
            if !config.ranges.is_empty() {
                text += &format!(", ranges {}", list(&config.ranges));
            }
            if let Some(at) = config.modified_at {
                text += &format!(" (written {} ago)", age(at, look.now));
            }
            out += &field("CNI config", &text, look);
        }
        None => {
            let text = match cni.directory.is_empty() {
                true => "none".to_owned(),
                false => format!("none in {}", cni.directory),
            };
            out += &field_in("CNI config", &text, Ink::Doubt, look);
        }
    }
    if let Some(problem) = &cni.problem {
        out += &field("", problem, look);
    }
    if !cni.others.is_empty() {
        out += &field("", &format!("not used: {}", cni.others.join(", ")), look);
    }
    if let Some(flannel) = &cni.flannel {
        let text = format!(
            "{}: subnet {} of {}, mtu {}",
            flannel.path,
            list(&flannel.subnets),
            list(&flannel.networks),
            flannel.mtu
        );
        out += &field("flannel", &text, look);
    }
    out
}

fn links(links: &[LinkFact], omitted: u32, look: &Look) -> String {
    if links.is_empty() {
        return String::new();
    }
    let mut grid = Grid::new(["LINK", "KIND", "ROLE", "STATE", "MTU", "ADDRESSES"]);
    if look.wide {
        grid.column("LLADDR");
        grid.column("VXLAN");
    }
    for link in links {
        let role = serde_json::to_value(link.role).ok();
        let role = role.as_ref().and_then(|role| role.as_str()).unwrap_or("-");
        let (state, ink) = match (link.up, link.carrier) {
            (true, true) => ("up", Ink::Plain),
            (true, false) => ("no carrier", Ink::Doubt),
            (false, _) => ("down", Ink::Doubt),
        };
        let mut row = vec![
            plain(&link.name),
            plain(&link.kind),
            plain(role),
            (state.to_owned(), ink),
            plain(link.mtu),
            plain(list(&link.addresses)),
        ];
        if look.wide {
            row.push(plain(link.lladdr.map(|mac| mac.to_string()).unwrap_or_default()));
            row.push(plain(link.vxlan.map_or(String::new(), |vxlan| {
                format!("vni {} port {}", vxlan.vni, vxlan.port)
            })));
        }
        grid.row(row);
    }
    let mut out = format!("\n{}", grid.print("", look));
    if omitted > 0 {
        out += &format!("and {omitted} more links, pods' own ports among them\n");
    }
    out
}

pub(super) fn ink(verdict: &CidrVerdict) -> Ink {
    match verdict.verdict.standing() {
        Standing::Delivered => Ink::Good,
        Standing::Broken => Ink::Bad,
        Standing::Unknown => Ink::Doubt,
        Standing::Idle => Ink::Plain,
    }
}

fn verdicts(verdicts: &[CidrVerdict], look: &Look) -> String {
    if verdicts.is_empty() {
        return "\nNo pod CIDR is known that its packets could go to.\n".to_owned();
    }
    let mut grid = Grid::new(["TO", "POD CIDR", "VERDICT", "LANDING"]);
    if look.wide {
        grid.column("SEEN");
    }
    for verdict in verdicts {
        let mut row = vec![
            plain(&verdict.owner),
            plain(verdict.cidr),
            (verdict.verdict.to_string(), ink(verdict)),
            plain(landings(verdict)),
        ];
        if look.wide {
            row.push(plain(ago(verdict.observed_at, look.now)));
        }
        grid.row(row);
    }
    format!("\n{}", grid.print("", look))
}

/// Parts of a CIDR that land elsewhere are named by their prefix.
pub(super) fn landings(verdict: &CidrVerdict) -> String {
    verdict
        .landings
        .iter()
        .map(
            |entry| match entry.prefix == verdict.cidr || verdict.landings.len() == 1 {
                true => entry.landing.to_string(),
                false => format!("{} {}", entry.prefix, entry.landing),
            },
        )
        .collect::<Vec<_>>()
        .join("; ")
}

fn entries(entries: &[ForwardingEntry], look: &Look) -> String {
    let mut grid = Grid::new(["PREFIX", "LANDING", "ROUTE", "TABLE", "METRIC", "PROTO", "SINCE"]);
    for entry in entries {
        let route = entry.route.map_or(Default::default(), |route| {
            [
                route.prefix.to_string(),
                route.table.to_string(),
                route.metric.to_string(),
                route.protocol.to_string(),
            ]
        });
        let cells = [plain(entry.prefix), plain(&entry.landing)]
            .into_iter()
            .chain(route.map(plain))
            .chain([plain(age(entry.changed_at, look.now))]);
        grid.row(cells);
    }
    format!("\n{}", grid.print("", look))
}
