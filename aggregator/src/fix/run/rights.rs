//! What the operator may do: asked before a node is begun, for a refusal half way may leave it without its Node.

use std::collections::BTreeSet;
use std::fmt;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::Api;
use kube::api::PostParams;

use super::errand::AGENTS;
use super::halt::{Halt, call};
use super::node::NODE_LEASES;
use super::{Eyes, Runner, Settings, on_host};
use crate::fix::plan::{Does, NodePlan};

/// Questions at a time.
const AT_ONCE: usize = 8;

/// One verb on one resource, in words of RBAC.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
    /// Empty: in all, or it has none.
    namespace: String,
    /// Empty: whatever its name.
    name: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        for (mark, part) in [('/', self.subresource), ('.', self.group)] {
            if !part.is_empty() {
                write!(f, "{mark}{part}")?;
            }
        }
        if !self.namespace.is_empty() {
            write!(f, " in {}", self.namespace)?;
        }
        Ok(())
    }
}

impl From<Right> for ResourceAttributes {
    fn from(right: Right) -> Self {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            verb: some(right.verb),
            group: some(right.group),
            resource: some(right.resource),
            subresource: some(right.subresource),
            namespace: some(&right.namespace),
            name: some(&right.name),
            ..Self::default()
        }
    }
}

impl<E: Eyes> Runner<'_, E> {
    /// Whether the operator may do all that the steps of a plan do.
    pub(super) async fn entitled(&self, plan: &NodePlan) -> Result<(), Halt> {
        let all = stream::iter(needed(plan, self.settings));
        let asked = all.map(|right| async move { Ok::<_, Halt>((self.may(&right).await?, right)) });
        let answers: Vec<(Option<String>, Right)> = asked.buffered(AT_ONCE).try_collect().await?;
        let missing = answers.into_iter().filter_map(|(refusal, right)| {
            let why = refusal?;
            Some(if why.is_empty() {
                right.to_string()
            } else {
                format!("{right} ({why})")
            })
        });
        let missing: Vec<String> = missing.collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Halt::Stop(format!(
            "{} needs rights that you do not have: {}; ClusterRole and Role cidrift-fixer are all that it takes; nothing is done without them",
            plan.node,
            missing.join(", ")
        )))
    }

    /// `None`: he may; else why not, where that is said.
    async fn may(&self, right: &Right) -> Result<Option<String>, Halt> {
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(right.clone().into()),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let what = format!("ask whether you may {right}");
        let answer = call(async || api.create(&PostParams::default(), &review).await).await;
        let answer = answer.map_err(|error| Halt::api(&what, &error))?;
        let none = || Halt::Stop(format!("cannot {what}: the API server does not say"));
        Ok(refused(&answer.status.ok_or_else(none)?))
    }
}

fn refused(status: &SubjectAccessReviewStatus) -> Option<String> {
    let why = status.evaluation_error.as_ref().or(status.reason.as_ref());
    (!status.allowed).then(|| why.cloned().unwrap_or_default())
}

/// What the steps of a plan ask for, beside what making the plan has shown.
fn needed(plan: &NodePlan, settings: &Settings) -> BTreeSet<Right> {
    let steps = plan.steps.iter().map(|step| &step.does);
    let mut rights: BTreeSet<Right> = steps.flat_map(|does| of(does, &plan.node)).collect();
    let errands = plan.steps.iter().any(|step| on_host(&step.does));
    if errands || plan.probes() {
        let pods = ["get", "create", "delete"].map(|verb| Right {
            namespace: settings.namespace.clone(),
            ..right(verb, "pods")
        });
        rights.extend(pods);
        rights.insert(Right {
            group: "apps",
            namespace: settings.namespace.clone(),
            name: AGENTS.to_owned(),
            ..right("get", "daemonsets")
        });
    }
    rights
}

/// What one step asks for; errands, which are pods, are not counted.
fn of(does: &Does, node: &str) -> Vec<Right> {
    let own = |verb| Right {
        name: node.to_owned(),
        ..right(verb, "nodes")
    };
    let evict = || Right {
        subresource: "eviction",
        ..right("create", "pods")
    };
    match does {
        Does::Cordon | Does::Uncordon | Does::Assign => vec![own("patch")],
        Does::Drain => vec![evict()],
        // Of a rotation an abort asks for the same: it makes the Node again from its saved copy, with what belongs to it.
        Does::Recreate | Does::Rotate => vec![
            own("delete"),
            right("create", "nodes"),
            own("patch"),
            Right {
                group: "storage.k8s.io",
                name: node.to_owned(),
                ..right("patch", "csinodes")
            },
            Right {
                group: "coordination.k8s.io",
                namespace: NODE_LEASES.to_owned(),
                name: node.to_owned(),
                ..right("patch", "leases")
            },
        ],
        Does::RestartDaemon { .. } | Does::Reach { .. } | Does::Announce { .. } => vec![right("delete", "pods")],
        Does::ReplacePods { .. } => vec![right("delete", "pods"), evict()],
        _ => Vec::new(),
    }
}

fn right(verb: &'static str, resource: &'static str) -> Right {
    Right {
        verb,
        resource,
        ..Right::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::api::rbac::v1::PolicyRule;
    use serde_json::Value;

    use super::super::tests::plan;
    use super::*;
    use crate::fix::plan::Step;

    const FIXER: &str = include_str!("../../../../deploy/base/cluster-role-fixer.yaml");

    fn of_plan(steps: Vec<Does>) -> BTreeSet<Right> {
        let step = |does| Step {
            does,
            text: String::new(),
        };
        let plan = NodePlan {
            steps: steps.into_iter().map(step).collect(),
            ..plan()
        };
        let settings = Settings {
            namespace: "cidrift".to_owned(),
            drain: Duration::ZERO,
            patience: Duration::ZERO,
            verify: Duration::ZERO,
            restart: None,
            after: None,
            window: None,
        };
        needed(&plan, &settings)
    }

    fn granted(rule: &PolicyRule, right: &Right) -> bool {
        let resource = match right.subresource {
            "" => right.resource.to_owned(),
            sub => format!("{}/{sub}", right.resource),
        };
        let has = |all: &Option<Vec<String>>, one: &str| all.iter().flatten().any(|all| all == one);
        let names = rule
            .resource_names
            .as_ref()
            .is_none_or(|names| names.contains(&right.name));
        has(&rule.api_groups, right.group)
            && has(&rule.resources, &resource)
            && rule.verbs.iter().any(|verb| verb == right.verb)
            && names
    }

    #[test]
    fn whoever_is_bound_to_the_roles_of_a_fixer_has_all_that_any_step_needs() {
        let rules = FIXER.split("\n---\n").flat_map(|text| {
            let role: Value = serde_saphyr::from_str(text).unwrap();
            let within = role["kind"] == "Role";
            let rules: Vec<PolicyRule> = serde_json::from_value(role["rules"].clone()).unwrap();
            rules.into_iter().map(move |rule| (within, rule))
        });
        let rules: Vec<(bool, PolicyRule)> = rules.collect();
        let all = of_plan(vec![
            Does::Cordon,
            Does::Drain,
            Does::Recreate,
            Does::Rotate,
            Does::Assign,
            Does::RestartDaemon { pod: String::new() },
            Does::Announce { nodes: Vec::new() },
            Does::ReplacePods { pods: Vec::new() },
            Does::Verify,
            Does::Uncordon,
        ]);
        assert_eq!(all.len(), 11, "{all:?}");
        for right in &all {
            let mut rules = rules.iter();
            let given =
                |(within, rule): &(bool, PolicyRule)| (!within || right.namespace == "cidrift") && granted(rule, right);
            assert!(rules.any(given), "{right}");
        }
    }

    #[test]
    fn only_what_the_steps_need_is_asked_for() {
        let told = |steps| {
            let rights = of_plan(steps).into_iter().map(|right| right.to_string());
            rights.collect::<Vec<_>>().join(", ")
        };
        let daemon = Does::RestartDaemon { pod: String::new() };
        assert_eq!(told(vec![daemon, Does::Verify]), "delete pods");
        assert_eq!(
            told(vec![Does::Cordon, Does::Drain]),
            "create pods/eviction, patch nodes"
        );
    }

    #[test]
    fn whoever_has_a_node_registered_anew_may_take_that_back_as_one_who_makes_it_again() {
        let (rotates, recreates) = (of_plan(vec![Does::Rotate]), of_plan(vec![Does::Recreate]));
        assert!(rotates.iter().any(|right| right.resource == "csinodes"), "{rotates:?}");
        assert_eq!(rotates, recreates);
    }
}
