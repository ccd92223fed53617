//! Where a pod may go, as its spec and Nodes' taints say it.

use k8s_openapi::api::core::v1 as core;

use crate::fix::place::{Place, Requirement, Taint, Term, Toleration};

/// As long as a Node is unschedulable.
pub(super) fn cordon() -> Taint {
    Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        value: String::new(),
        effect: "NoSchedule".to_owned(),
    }
}

pub(super) fn of(spec: &core::PodSpec) -> Place {
    let node = spec.affinity.as_ref().and_then(|all| all.node_affinity.as_ref());
    let required = node.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    Place {
        selector: spec.node_selector.clone().unwrap_or_default(),
        affinity: required.map(|required| required.node_selector_terms.iter().map(term).collect()),
        tolerations: spec.tolerations.iter().flatten().map(toleration).collect(),
    }
}

pub(super) fn taint(taint: core::Taint) -> Taint {
    Taint {
        key: taint.key,
        value: taint.value.unwrap_or_default(),
        effect: taint.effect,
    }
}

fn term(term: &core::NodeSelectorTerm) -> Term {
    let all = |some: &Option<Vec<core::NodeSelectorRequirement>>| some.iter().flatten().map(requirement).collect();
    Term {
        labels: all(&term.match_expressions),
        fields: all(&term.match_fields),
    }
}

fn requirement(one: &core::NodeSelectorRequirement) -> Requirement {
    Requirement {
        key: one.key.clone(),
        operator: one.operator.clone(),
        values: one.values.clone().unwrap_or_default(),
    }
}

fn toleration(one: &core::Toleration) -> Toleration {
    Toleration {
        key: one.key.clone().unwrap_or_default(),
        operator: one.operator.clone().unwrap_or_default(),
        value: one.value.clone().unwrap_or_default(),
        effect: one.effect.clone().unwrap_or_default(),
    }
}
