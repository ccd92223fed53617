//! Whether a node selector selects a node, as far as the node's labels are known here.

use std::collections::BTreeSet;

use crate::cluster::NodeRecord;
use crate::cluster::objects::Requirement;

/// Three answers, since only labels that say something of IPAM are kept of a Node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selected {
    /// It is selected.
    Yes,
    /// It is not.
    No,
    /// It depends on a label that is not kept.
    Unknown,
}

/// Keys of labels that are kept: those that any Node has.
pub fn keys<'a>(nodes: impl Iterator<Item = &'a NodeRecord>) -> BTreeSet<&'a str> {
    nodes.flat_map(|node| node.labels.keys().map(String::as_str)).collect()
}

/// Any term will do, and all requirements of a term must hold; no terms select every node, a term without
/// requirements none (Kubernetes' NodeSelector).
pub fn selects(selector: &[Vec<Requirement>], node: &NodeRecord, keys: &BTreeSet<&str>) -> Selected {
    if selector.is_empty() {
        return Selected::Yes;
    }
    let terms = selector.iter().filter(|term| !term.is_empty());
    let answers: Vec<Selected> = terms.map(|term| all(term, node, keys)).collect();
    if answers.contains(&Selected::Yes) {
        Selected::Yes
    } else if answers.contains(&Selected::Unknown) {
        Selected::Unknown
    } else {
        Selected::No
    }
}

fn all(term: &[Requirement], node: &NodeRecord, keys: &BTreeSet<&str>) -> Selected {
    let answers: Vec<Selected> = term.iter().map(|requirement| holds(requirement, node, keys)).collect();
    if answers.contains(&Selected::No) {
        Selected::No
    } else if answers.contains(&Selected::Unknown) {
        Selected::Unknown
    } else {
        Selected::Yes
    }
}

fn holds(requirement: &Requirement, node: &NodeRecord, keys: &BTreeSet<&str>) -> Selected {
    let value = if requirement.field {
        // The only field that a node can be selected by.
        match requirement.key.as_str() {
            "metadata.name" => Some(node.name.as_str()),
            _ => return Selected::Unknown,
        }
    } else {
        if !keys.contains(requirement.key.as_str()) {
            return Selected::Unknown;
        }
        node.labels.get(&requirement.key).map(String::as_str)
    };
    let among = || value.is_some_and(|value| requirement.values.iter().any(|other| other == value));
    let compared = |holds: fn(i64, i64) -> bool| {
        let own = value.and_then(|value| value.parse::<i64>().ok());
        let bound = requirement.values.first().and_then(|bound| bound.parse::<i64>().ok());
        own.zip(bound).is_some_and(|(own, bound)| holds(own, bound))
    };
    let yes = match requirement.operator.as_str() {
        "In" => among(),
        "NotIn" => !among(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(|own, bound| own > bound),
        "Lt" => compared(|own, bound| own < bound),
        _ => return Selected::Unknown,
    };
    if yes { Selected::Yes } else { Selected::No }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(key: &str, operator: &str, values: &[&str]) -> Requirement {
        Requirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            field: key == "metadata.name",
        }
    }

    fn node() -> NodeRecord {
        let labels = [("zone", "a"), ("disks", "4")];
        NodeRecord {
            name: "node-a".to_owned(),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..NodeRecord::default()
        }
    }

    fn answer(selector: &[Vec<Requirement>]) -> Selected {
        selects(selector, &node(), &BTreeSet::from(["zone", "disks", "spot"]))
    }

    #[test]
    fn operators_mean_what_they_mean_in_kubernetes() {
        let cases = [
            ("zone", "In", &["a", "b"][..], Selected::Yes),
            ("zone", "In", &["b"], Selected::No),
            ("spot", "In", &["true"], Selected::No),
            ("zone", "NotIn", &["b"], Selected::Yes),
            ("zone", "NotIn", &["a"], Selected::No),
            ("spot", "NotIn", &["true"], Selected::Yes),
            ("zone", "Exists", &[], Selected::Yes),
            ("spot", "Exists", &[], Selected::No),
            ("spot", "DoesNotExist", &[], Selected::Yes),
            ("zone", "DoesNotExist", &[], Selected::No),
            ("disks", "Gt", &["3"], Selected::Yes),
            ("disks", "Gt", &["4"], Selected::No),
            ("disks", "Lt", &["5"], Selected::Yes),
            ("zone", "Gt", &["3"], Selected::No),
            ("spot", "Lt", &["3"], Selected::No),
            ("metadata.name", "In", &["node-a"], Selected::Yes),
            ("metadata.name", "NotIn", &["node-a"], Selected::No),
            ("zone", "Near", &["a"], Selected::Unknown),
            ("team", "In", &["red"], Selected::Unknown),
            ("team", "DoesNotExist", &[], Selected::Unknown),
        ];
        for (key, operator, values, expected) in cases {
            assert_eq!(
                answer(&[vec![requirement(key, operator, values)]]),
                expected,
                "{key} {operator} {values:?}"
            );
        }
    }

    #[test]
    fn terms_are_alternatives_and_requirements_add_up() {
        let (yes, no, unknown) = (
            requirement("zone", "In", &["a"]),
            requirement("zone", "In", &["b"]),
            requirement("team", "Exists", &[]),
        );
        assert_eq!(answer(&[]), Selected::Yes);
        assert_eq!(answer(&[vec![]]), Selected::No);
        assert_eq!(answer(&[vec![no.clone()], vec![yes.clone()]]), Selected::Yes);
        assert_eq!(answer(&[vec![no.clone(), unknown.clone()]]), Selected::No);
        assert_eq!(answer(&[vec![yes, unknown.clone()]]), Selected::Unknown);
        assert_eq!(answer(&[vec![no], vec![unknown]]), Selected::Unknown);
    }
}
