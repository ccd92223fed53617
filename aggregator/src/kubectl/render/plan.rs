//! A plan as text.

use ipnet::IpNet;

use super::Look;
use super::text::{Ink, command, list, wrap};
use crate::fix::plan::{ByHand, Does, NodePlan, Plan, Release};

/// Pods named of one node.
const PODS: usize = 8;

/// Every node's plan, then what has no steps. `acts`: it is begun at once.
pub fn plan(plan: &Plan, acts: bool, look: &Look) -> String {
    let mut out = String::new();
    if plan.is_empty() {
        out += "Nothing that is open needs a step.\n";
    } else {
        out += &wrap("", "", &summary(plan, acts), look);
    }
    for (number, node) in plan.nodes.iter().enumerate() {
        out.push('\n');
        out += &one(number + 1, node, look);
    }
    if !plan.release.is_empty() {
        out += "\nCIDRs that could go back to the pool:\n";
        plan.release.iter().for_each(|row| out += &release(row, look));
    }
    if !plan.by_hand.is_empty() {
        out += "\nNot by a step of a node:\n";
        plan.by_hand.iter().for_each(|row| out += &by_hand(row, look));
    }
    if !plan.unseen.is_empty() {
        out += "\nNot seen while planning, so that there may be more:\n";
        for gap in &plan.unseen {
            out += &wrap("  - ", "    ", gap, look);
        }
    }
    out
}

fn summary(plan: &Plan, acts: bool) -> String {
    let blocked = plan.nodes.iter().filter(|node| !node.blocked.is_empty()).count();
    let nodes = match plan.nodes.len() {
        0 => "No node has steps".to_owned(),
        1 => "One node has steps".to_owned(),
        more => format!("{more} nodes have steps, one after the other, never two at a time"),
    };
    let blocked = match blocked {
        0 => String::new(),
        1 => "; one of them must not be begun as things are".to_owned(),
        more => format!("; {more} of them must not be begun as things are"),
    };
    let what = match &plan.wish.migrate {
        Some(_) => ("one thing is in the way", "things are in the way"),
        None => ("one finding has none", "findings have none"),
    };
    let hand = match plan.by_hand.len() {
        0 => String::new(),
        1 => format!("; {}", what.0),
        more => format!("; {more} {}", what.1),
    };
    let now = if acts {
        String::new()
    } else {
        format!(
            " Nothing has been changed. As of {:.0}: plan again before each node.",
            plan.made_at
        )
    };
    format!("{nodes}{blocked}{hand}.{now}")
}

/// A node, how it is mended, and what becomes of its CIDRs.
pub(super) fn headline(node: &NodePlan) -> String {
    let head = format!("{}: {}", node.node, node.method);
    let named = |nets: &[IpNet], none: &str| match nets {
        [] => none.to_owned(),
        nets => list(nets),
    };
    if node.from == node.to {
        return match node.to.as_slice() {
            [] => head,
            same => format!("{head}, {}", list(same)),
        };
    }
    format!(
        "{head}, {} -> {}",
        named(&node.from, "no CIDR"),
        named(&node.to, "what kube-controller-manager gives it")
    )
}

fn one(number: usize, node: &NodePlan, look: &Look) -> String {
    let head = format!("{number}. {}", headline(node));
    let mut out = format!("{}\n", Ink::Good.paint(&super::text::clean(&head), look));
    if !node.mends.is_empty() {
        out += &wrap("   mends       ", "               ", &node.mends.join(", "), look);
    }
    for why in &node.blocked {
        let label = Ink::Bad.paint("blocked", look);
        out += &wrap(&format!("   {label}     "), "               ", why, look);
    }
    for (at, step) in node.steps.iter().enumerate() {
        let label = format!("   {:<11} {}. ", if at == 0 { "steps" } else { "" }, at + 1);
        let prose = matches!(
            step.does,
            Does::Announce { .. } | Does::ByHand | Does::Controllers | Does::Verify
        );
        let broken = if prose { wrap } else { command };
        out += &broken(&label, "                    ", &step.text, look);
    }
    let pods = &node.interrupts.pods;
    if !pods.is_empty() {
        let mut text = pods.iter().take(PODS).cloned().collect::<Vec<_>>().join(", ");
        if pods.len() > PODS && !look.wide {
            text += &format!(" and {} more (-o wide)", pods.len() - PODS);
        } else {
            text = pods.join(", ");
        }
        out += &wrap("   interrupts  ", "               ", &text, look);
    }
    for line in &node.interrupts.budgets {
        out += &wrap("   budget      ", "               ", line, look);
    }
    for (at, line) in node.verify.iter().enumerate() {
        let label = if at == 0 { "   verify      " } else { "               " };
        out += &wrap(&format!("{label}- "), "                 ", line, look);
    }
    for line in &node.risks {
        out += &wrap("   risk        ", "               ", line, look);
    }
    out
}

fn release(row: &Release, look: &Look) -> String {
    wrap(
        &format!("  {}  ", row.node),
        "    ",
        &format!("{}: {}\n  {}", list(&row.cidrs), row.why, row.text),
        look,
    )
}

fn by_hand(row: &ByHand, look: &Look) -> String {
    let head = format!("  {}  ", Ink::Doubt.paint(&row.finding, look));
    let why = wrap(&head, "    ", &row.why, look);
    match row.remedy.as_str() {
        "" => why,
        remedy => why + &wrap("    ", "    ", remedy, look),
    }
}
