//! Every source against every pod CIDR, for few nodes.

use std::collections::{BTreeMap, BTreeSet};

use cidrift_proto::verdict::{CidrVerdict, Verdict};
use ipnet::IpNet;

use super::Look;
use super::text::{Grid, Ink, list, plain, wrap};
use crate::query::answer::NodeAnswer;

/// With more nodes there is no matrix: twelve columns are what a line holds.
pub const MATRIX: usize = 12;

/// One matrix for each family in use; empty where there is nothing to show.
pub(super) fn matrix(nodes: &[NodeAnswer], look: &Look) -> String {
    let mut out = String::new();
    let mut used = BTreeSet::new();
    for v6 in [false, true] {
        let family = |cidr: &IpNet| matches!(cidr, IpNet::V6(_)) == v6;
        let mut columns: Vec<(&str, IpNet)> = nodes
            .iter()
            .flat_map(|node| &node.verdicts)
            .map(|verdict| (verdict.owner.as_str(), verdict.cidr))
            .filter(|(_, cidr)| family(cidr))
            .collect();
        columns.sort_unstable();
        columns.dedup();
        if columns.is_empty() || columns.len() > MATRIX {
            continue;
        }
        out.push('\n');
        out += &one(nodes, &columns, &family, &mut used, look);
    }
    if !used.is_empty() {
        let legend: Vec<&str> = used.into_iter().collect();
        let legend = format!("Rows send, columns are whose pod CIDR it is. {}", legend.join(", "));
        out += &wrap("", "", &legend, look);
    }
    out
}

fn one(
    nodes: &[NodeAnswer],
    columns: &[(&str, IpNet)],
    family: &impl Fn(&IpNet) -> bool,
    used: &mut BTreeSet<&'static str>,
    look: &Look,
) -> String {
    let number: BTreeMap<&str, Vec<usize>> =
        columns
            .iter()
            .enumerate()
            .fold(BTreeMap::new(), |mut map, (at, column)| {
                map.entry(column.0).or_insert_with(Vec::new).push(at + 1);
                map
            });
    let mut legend = Grid::new(["#", "FROM", "POD CIDR"]);
    let mut whole = Grid::new(["#", "FROM", "POD CIDR"]);
    let mut numbered = Grid::new(["FROM"]);
    for at in 1..=columns.len() {
        whole.column(&format!("TO {at}"));
        numbered.column(&format!("TO {at}"));
    }
    // In the order of the columns, so that each node's own cell lies on the diagonal.
    let mut rows: Vec<&NodeAnswer> = nodes.iter().collect();
    rows.sort_by(|a, b| a.summary.name.cmp(&b.summary.name));
    for node in rows {
        let name = node.summary.name.as_str();
        let own: Vec<IpNet> = node.summary.pod_cidrs.iter().copied().filter(|c| family(c)).collect();
        let numbers = number.get(name).map(|n| list(n)).unwrap_or_default();
        let cells: Vec<_> = columns
            .iter()
            .map(|(owner, cidr)| {
                let verdict = node
                    .verdicts
                    .iter()
                    .find(|verdict| verdict.owner == *owner && verdict.cidr == *cidr);
                cell(verdict, &number, used)
            })
            .collect();
        let head = [plain(&numbers), plain(name), plain(list(&own))];
        // A node without a pod CIDR of this family has no number: its name stands in.
        let short = plain(if numbers.is_empty() { name } else { &numbers });
        legend.row(head.clone());
        numbered.row([short].into_iter().chain(cells.clone()));
        whole.row(head.into_iter().chain(cells));
    }
    if look.wide || whole.width() <= look.columns {
        whole.print("", look)
    } else {
        format!("{}\n{}", legend.print("", look), numbered.print("", look))
    }
}

fn cell(
    verdict: Option<&CidrVerdict>,
    number: &BTreeMap<&str, Vec<usize>>,
    used: &mut BTreeSet<&'static str>,
) -> (String, Ink) {
    let (text, legend, ink) = match verdict.map(|verdict| &verdict.verdict) {
        Some(Verdict::Delivered) => ("ok", "ok: delivered", Ink::Good),
        Some(Verdict::Local) => ("self", "self: its own", Ink::Good),
        Some(Verdict::Idle) => ("idle", "idle: its own, no pod there yet", Ink::Plain),
        Some(Verdict::Misdelivered { to }) => {
            used.insert("!N: misdelivered to N");
            let to = number.get(to.as_str()).and_then(|numbers| numbers.first());
            return (to.map_or("!?".to_owned(), |n| format!("!{n}")), Ink::Bad);
        }
        Some(Verdict::Blackholed { .. }) => ("drop", "drop: blackholed", Ink::Bad),
        Some(Verdict::NoRoute { .. }) => ("none", "none: no route", Ink::Bad),
        Some(Verdict::Loop { .. }) => ("loop", "loop: passed round", Ink::Bad),
        Some(Verdict::LeavesCluster { .. }) => ("out", "out: leaves the cluster", Ink::Bad),
        Some(Verdict::Opaque { .. }) => ("opaq", "opaq: not in the FIB", Ink::Doubt),
        Some(Verdict::Unknown { .. }) | None => ("?", "?: unknown", Ink::Doubt),
    };
    used.insert(legend);
    (text.to_owned(), ink)
}
