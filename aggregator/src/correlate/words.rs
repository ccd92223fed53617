//! Words that several rules use.

use std::fmt::Display;

use super::habit::Habit;
use crate::cluster::NodeRecord;

/// "a, b and c"; "none".
pub fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match words.pop() {
        None => "none".to_owned(),
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} and {last}", words.join(", ")),
    }
}

/// "1 pod CIDR", "2 pod CIDRs".
pub fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {many}")
    }
}

/// How to make the CNI of a node program its routes anew: the least that mends them all.
pub fn restart_cni(node: &NodeRecord, habit: Option<&Habit>) -> String {
    let name = &node.name;
    if node.provider_id.as_deref().is_some_and(|id| id.starts_with("k3s://")) {
        return format!(
            "Restart k3s on {name}, which has flannel built in and leaves pods alone: \
             systemctl restart k3s-agent (k3s on a server)"
        );
    }
    let flannel = node.flannel.is_some() || habit.and_then(|habit| habit.plugin.as_deref()) == Some("flannel");
    if flannel {
        format!(
            "Restart flannel on {name}, which programs all its routes anew and leaves pods alone: \
             kubectl -n kube-flannel delete pod -l app=flannel --field-selector spec.nodeName={name}"
        )
    } else {
        format!("Restart the CNI's daemon on {name} (delete its pod there): it programs its routes anew")
    }
}
