//! Who runs which version.

use std::collections::BTreeMap;

use serde::Serialize;

use super::text::clean;
use crate::cluster::ReportState;
use crate::summary::NodeSummary;

/// Agents of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentsOfVersion {
    /// The version.
    pub version: String,
    /// How many report.
    pub reporting: usize,
    /// How many did, and are silent now.
    pub silent: usize,
}

/// The agents that have ever reported, by their versions.
pub fn agents_by_version(nodes: &[NodeSummary]) -> Vec<AgentsOfVersion> {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for node in nodes.iter().filter(|node| !node.agent_version.is_empty()) {
        let (reporting, silent) = counts.entry(&node.agent_version).or_default();
        match node.report {
            ReportState::Live | ReportState::Syncing => *reporting += 1,
            ReportState::Silent | ReportState::Never => *silent += 1,
        }
    }
    let counts = counts.into_iter();
    counts
        .map(|(version, (reporting, silent))| AgentsOfVersion {
            version: version.to_owned(),
            reporting,
            silent,
        })
        .collect()
}

/// A line for each program, and for each version of agents.
pub fn versions(client: &str, aggregator: Option<&str>, agents: Option<&[AgentsOfVersion]>) -> String {
    let mut out = format!("kubectl-cidrift {client}\n");
    if let Some(aggregator) = aggregator {
        out += &format!("aggregator {}\n", clean(aggregator));
    }
    match agents {
        None => {}
        Some([]) => out += "agents: none has reported\n",
        Some(agents) => {
            for of in agents {
                let silent = match of.silent {
                    0 => String::new(),
                    silent => format!(", {silent} silent"),
                };
                out += &format!("agents {}: {} reporting{silent}\n", clean(&of.version), of.reporting);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(version: &str, report: ReportState) -> NodeSummary {
        let mut node = super::super::tests::samples::summary("node-a", 0, &[]);
        node.agent_version = version.to_owned();
        node.report = report;
        node
    }

    #[test]
    fn agents_are_counted_by_version_and_those_never_heard_of_not_at_all() {
        let nodes = [
            node("0.1.0", ReportState::Live),
            node("0.1.0", ReportState::Silent),
            node("0.2.0", ReportState::Syncing),
            node("", ReportState::Never),
        ];
        let text = versions("0.2.0", Some("0.2.0"), Some(&agents_by_version(&nodes)));
        assert_eq!(
            text,
            "kubectl-cidrift 0.2.0\naggregator 0.2.0\nagents 0.1.0: 1 reporting, 1 silent\nagents 0.2.0: 1 reporting\n"
        );
        assert!(versions("0.2.0", Some("0.2.0"), Some(&[])).contains("none has reported"));
        assert_eq!(versions("0.2.0", None, None), "kubectl-cidrift 0.2.0\n");
    }
}
