//! Where the scheduler may put a pod: node selector, required node affinity, and tolerations of taints. What it prefers, and
//! how pods are spread, is not looked at.

use std::collections::BTreeMap;

/// Taints of this domain say how a node is now, not whom it is for.
const PASSING: &str = "node.kubernetes.io/";

/// A taint that keeps pods away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value; empty: none.
    pub value: String,
    /// "NoSchedule", "NoExecute", "PreferNoSchedule".
    pub effect: String,
}

/// What a pod puts up with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toleration {
    /// The taint's key; empty: any, where it only has to exist.
    pub key: String,
    /// "Exists", or "Equal" (empty).
    pub operator: String,
    /// The taint's value.
    pub value: String,
    /// The taint's effect; empty: any.
    pub effect: String,
}

/// What is asked of one label, or of a field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirement {
    /// The label, or the field.
    pub key: String,
    /// "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt".
    pub operator: String,
    /// What it is held against.
    pub values: Vec<String>,
}

/// Requirements of which all are to be met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Term {
    /// Of labels.
    pub labels: Vec<Requirement>,
    /// Of fields; there is one, "metadata.name".
    pub fields: Vec<Requirement>,
}

/// Where a pod may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// `spec.nodeSelector`.
    pub selector: BTreeMap<String, String>,
    /// The required node affinity, of which one term is to be met; `None`: it has none.
    pub affinity: Option<Vec<Term>>,
    /// `spec.tolerations`.
    pub tolerations: Vec<Toleration>,
}

impl Place {
    /// Whether it selects a Node.
    pub fn selects(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let selected = self.selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        let near = |terms: &Vec<Term>| terms.iter().any(|term| term.met(name, labels));
        selected && self.affinity.as_ref().is_none_or(near)
    }

    /// Whether it puts up with all taints that keep pods away.
    pub fn tolerates<'a>(&self, taints: impl IntoIterator<Item = &'a Taint>) -> bool {
        let keeps_away = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
        let mut taints = taints.into_iter().filter(keeps_away);
        taints.all(|taint| self.tolerations.iter().any(|one| one.meets(taint)))
    }
}

impl Taint {
    /// Whether it goes by itself once the node is well.
    pub fn passes(&self) -> bool {
        self.key.starts_with(PASSING)
    }
}

impl Toleration {
    fn meets(&self, taint: &Taint) -> bool {
        let exists = self.operator == "Exists";
        let equal = matches!(self.operator.as_str(), "" | "Equal") && self.value == taint.value;
        let key = self.key == taint.key && (exists || equal);
        (key || (exists && self.key.is_empty())) && (self.effect.is_empty() || self.effect == taint.effect)
    }
}

impl Term {
    /// One without requirements is met by no Node.
    fn met(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let field = |one: &Requirement| one.met((one.key == "metadata.name").then_some(name));
        let label = |one: &Requirement| one.met(labels.get(&one.key).map(String::as_str));
        let some = !self.labels.is_empty() || !self.fields.is_empty();
        some && self.labels.iter().all(label) && self.fields.iter().all(field)
    }
}

impl Requirement {
    /// What is not known of operators is not met.
    fn met(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|one| one == value);
        let number = |text: &str| text.parse::<i64>().ok();
        let held = |holds: fn(&i64, &i64) -> bool| {
            let limit = self.values.first().and_then(|text| number(text));
            let (value, limit) = (value.and_then(number), limit.filter(|_| self.values.len() == 1));
            value.zip(limit).is_some_and(|(value, limit)| holds(&value, &limit))
        };
        match self.operator.as_str() {
            "In" => value.is_some_and(listed),
            "NotIn" => !value.is_some_and(listed),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => held(i64::gt),
            "Lt" => held(i64::lt),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(key: &str, operator: &str, values: &[&str]) -> Requirement {
        Requirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: values.iter().map(|&value| value.to_owned()).collect(),
        }
    }

    fn near(labels: Vec<Requirement>, fields: Vec<Requirement>) -> Place {
        Place {
            affinity: Some(vec![Term { labels, fields }]),
            ..Place::default()
        }
    }

    #[test]
    fn operators_are_those_of_the_scheduler() {
        let labels = [("zone", "a"), ("cores", "8")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let labels = BTreeMap::from(labels);
        for (requirement, met) in [
            (asks("zone", "In", &["a", "b"]), true),
            (asks("zone", "In", &["b"]), false),
            (asks("rack", "In", &["b"]), false),
            (asks("zone", "NotIn", &["a"]), false),
            // As labels' selectors have it.
            (asks("rack", "NotIn", &["b"]), true),
            (asks("zone", "Exists", &[]), true),
            (asks("rack", "Exists", &[]), false),
            (asks("zone", "DoesNotExist", &[]), false),
            (asks("rack", "DoesNotExist", &[]), true),
            (asks("cores", "Gt", &["7"]), true),
            (asks("cores", "Gt", &["8"]), false),
            (asks("cores", "Lt", &["9"]), true),
            (asks("zone", "Gt", &["7"]), false),
            (asks("cores", "Gt", &["many"]), false),
            (asks("cores", "Gt", &["1", "2"]), false),
            (asks("cores", "Near", &["8"]), false),
        ] {
            let text = format!("{requirement:?}");
            assert_eq!(
                near(vec![requirement], Vec::new()).selects("n1", &labels),
                met,
                "{text}"
            );
        }
    }

    #[test]
    fn a_node_is_selected_by_all_of_one_term_and_by_every_label_of_the_selector() {
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let by_name = near(Vec::new(), vec![asks("metadata.name", "In", &["n1"])]);
        assert!(by_name.selects("n1", &labels) && !by_name.selects("n2", &labels));
        let both = near(
            vec![asks("zone", "In", &["a"])],
            vec![asks("metadata.name", "NotIn", &["n1"])],
        );
        assert!(both.selects("n2", &labels) && !both.selects("n1", &labels));
        assert!(!near(Vec::new(), Vec::new()).selects("n1", &labels));
        let mut either = both;
        either
            .affinity
            .iter_mut()
            .for_each(|terms| terms.extend(by_name.affinity.clone().unwrap()));
        assert!(either.selects("n1", &labels));
        either.selector = BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
        assert!(!either.selects("n1", &labels));
        assert!(Place::default().selects("n1", &labels));
    }

    #[test]
    fn a_taint_is_tolerated_by_key_value_and_effect() {
        let taint = |effect: &str| Taint {
            key: "for".to_owned(),
            value: "db".to_owned(),
            effect: effect.to_owned(),
        };
        let tolerates = |key: &str, operator: &str, value: &str, effect: &str| {
            let toleration = Toleration {
                key: key.to_owned(),
                operator: operator.to_owned(),
                value: value.to_owned(),
                effect: effect.to_owned(),
            };
            let place = Place {
                tolerations: vec![toleration],
                ..Place::default()
            };
            place.tolerates(&[taint("NoSchedule")])
        };
        assert!(!Place::default().tolerates(&[taint("NoSchedule")]));
        assert!(!Place::default().tolerates(&[taint("NoExecute")]));
        assert!(Place::default().tolerates(&[taint("PreferNoSchedule")]));
        assert!(tolerates("for", "", "db", "") && tolerates("for", "Exists", "", "NoSchedule"));
        assert!(tolerates("", "Exists", "", "") && !tolerates("", "", "db", ""));
        assert!(!tolerates("for", "Equal", "web", "") && !tolerates("for", "Exists", "", "NoExecute"));
        assert!(!tolerates("for", "Gt", "db", "") && !tolerates("other", "Exists", "", ""));
    }
}
