//! What operators ask, as Kubernetes' authorizers know it. None of these resources exists as an object:
//! their names are there for rules of RBAC to give.

/// The API group of everything that can be asked.
pub const GROUP: &str = "cidrift.dev";

/// The ClusterRole that lets one ask everything.
pub const VIEWER: &str = "cidrift-viewer";

/// What one must be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// The resource, of [`GROUP`].
    pub resource: &'static str,
    /// The verb.
    pub verb: &'static str,
}

/// A question to the aggregator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The cluster in a few figures.
    Status,
    /// All nodes.
    Nodes,
    /// One node.
    Node,
    /// All findings.
    Findings,
    /// Findings as they come.
    WatchFindings,
    /// Where packets land.
    Path,
    /// The pool.
    Pool,
}

impl Question {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Status,
        Self::Nodes,
        Self::Node,
        Self::Findings,
        Self::WatchFindings,
        Self::Path,
        Self::Pool,
    ];

    /// What one must be allowed to do to ask it. Nodes are not told apart by name: what one's routes
    /// show always speaks of others.
    pub fn rule(self) -> Rule {
        let (resource, verb) = match self {
            Self::Status => ("status", "get"),
            Self::Nodes => ("nodes", "list"),
            Self::Node => ("nodes", "get"),
            Self::Findings => ("findings", "list"),
            Self::WatchFindings => ("findings", "watch"),
            Self::Path => ("paths", "get"),
            Self::Pool => ("pools", "get"),
        };
        Rule { resource, verb }
    }
}

/// The refusal's words: the very rule that would do, and the role that has it.
pub fn denied(user: &str, rule: Rule, reason: &str) -> String {
    let Rule { resource, verb } = rule;
    let subject = match user
        .strip_prefix("system:serviceaccount:")
        .and_then(|account| account.split_once(':'))
    {
        Some((namespace, name)) => format!("--serviceaccount={namespace}:{name}"),
        None => format!("--user={user}"),
    };
    let reason = if reason.is_empty() {
        String::new()
    } else {
        format!(" ({reason})")
    };
    format!(
        "{user:?} may not {verb} {resource} in the API group {GROUP}{reason}. A rule with apiGroups: [\"{GROUP}\"], \
         resources: [\"{resource}\"], verbs: [\"{verb}\"] allows it; the ClusterRole {VIEWER} has it: \
         kubectl create clusterrolebinding NAME --clusterrole={VIEWER} {subject}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_names_the_rule_the_role_and_the_one_who_asked() {
        let text = denied("jane", Question::WatchFindings.rule(), "RBAC: no rule");
        assert_eq!(
            text,
            "\"jane\" may not watch findings in the API group cidrift.dev (RBAC: no rule). A rule with apiGroups: \
             [\"cidrift.dev\"], resources: [\"findings\"], verbs: [\"watch\"] allows it; the ClusterRole cidrift-viewer has \
             it: kubectl create clusterrolebinding NAME --clusterrole=cidrift-viewer --user=jane"
        );
        let text = denied("system:serviceaccount:ops:bot", Question::Pool.rule(), "");
        assert!(text.ends_with("--serviceaccount=ops:bot"), "{text}");
    }

    #[test]
    fn every_question_needs_another_right() {
        let mut rules: Vec<Rule> = Question::ALL.into_iter().map(Question::rule).collect();
        rules.sort_unstable();
        rules.dedup();
        assert_eq!(rules.len(), Question::ALL.len());
    }
}
