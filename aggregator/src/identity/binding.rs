//! Which node a token or a certificate is bound to. Field names are those of the API server
//! (`staging/src/k8s.io/apiserver/pkg/authentication/serviceaccount`, Kubernetes 1.30 and later for the node).

use super::authority::{PodPlace, Reviewed};
use super::certificate::Subject;
use super::{NodeIdentity, Refusal, ServiceAccount, User};

/// What agents' tokens are meant for.
pub const AUDIENCE: &str = "cidrift";

const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// What nodes' certificates have as common name, before the node's.
const NODE_USER: &str = "system:node:";
/// And as organization.
const NODE_GROUP: &str = "system:nodes";

/// What an agent's token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// It says the node itself.
    Node(NodeIdentity),
    /// A pod, whose node must be looked up: a cluster older than 1.30.
    Pod {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
}

/// What the token is bound to, if it is an agent's.
pub fn of_review(reviewed: Reviewed, account: &ServiceAccount) -> Result<Bound, Refusal> {
    let (user, audiences) = known(reviewed)?;
    // A server that knows no audiences answers with none: then the token may have been meant for anybody.
    if !audiences.iter().any(|audience| audience == AUDIENCE) {
        return Err(Refusal::Audience { wanted: AUDIENCE });
    }
    if user.name != account.username() {
        return Err(Refusal::Account {
            user: user.name,
            account: account.clone(),
        });
    }
    let said = |key: &str| match user.extra.get(key).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Some(value.clone()),
        _ => None,
    };
    if let Some(name) = said(NODE_NAME) {
        return Ok(Bound::Node(NodeIdentity {
            name,
            uid: said(NODE_UID),
        }));
    }
    match (said(POD_NAME), said(POD_UID)) {
        (Some(name), Some(uid)) => Ok(Bound::Pod { name, uid }),
        _ => Err(Refusal::Unbound(
            "it is bound to no pod; use a projected volume of the agent's pod, not a token made by hand or kept in a Secret".to_owned(),
        )),
    }
}

/// The node of the pod that a token is bound to.
pub fn of_pod(name: &str, uid: &str, place: Option<PodPlace>) -> Result<NodeIdentity, Refusal> {
    let unbound = |why: String| Err(Refusal::Unbound(why));
    match place {
        None => unbound(format!("its pod {name} is gone")),
        Some(place) if place.uid != uid => unbound(format!("its pod {name} is gone; another has the name now")),
        Some(PodPlace { node: None, .. }) => unbound(format!("its pod {name} is on no node")),
        Some(PodPlace { node: Some(node), .. }) => Ok(NodeIdentity { name: node, uid: None }),
    }
}

/// The node whose certificate this is.
pub fn of_certificate(subject: &Subject) -> Result<NodeIdentity, Refusal> {
    let name = subject.name.strip_prefix(NODE_USER).filter(|name| !name.is_empty());
    match name {
        Some(name) if subject.organizations.iter().any(|group| group == NODE_GROUP) => Ok(NodeIdentity {
            name: name.to_owned(),
            uid: None,
        }),
        _ => Err(Refusal::NoNode {
            user: subject.name.clone(),
        }),
    }
}

/// Whose a token is.
pub fn known(reviewed: Reviewed) -> Result<(User, Vec<String>), Refusal> {
    match reviewed {
        Reviewed::Known { user, audiences } if !user.name.is_empty() => Ok((user, audiences)),
        Reviewed::Known { .. } => Err(Refusal::Token("it says nobody's name".to_owned())),
        Reviewed::Refused(why) if why.is_empty() => Err(Refusal::Token("it does not say why".to_owned())),
        Reviewed::Refused(why) => Err(Refusal::Token(why)),
    }
}

/// Whether an agent of `own` may report for the node that it names.
pub fn speaks_for(own: &NodeIdentity, named: &str) -> Result<(), Refusal> {
    if own.name == named {
        return Ok(());
    }
    Err(Refusal::OtherNode {
        own: own.name.clone(),
        named: named.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> ServiceAccount {
        "cidrift/cidrift-agent".parse().unwrap()
    }

    fn agent(extra: &[(&str, &[&str])]) -> Reviewed {
        let extra = extra.iter().map(|(key, values)| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            ((*key).to_owned(), values)
        });
        Reviewed::Known {
            user: User {
                name: "system:serviceaccount:cidrift:cidrift-agent".into(),
                extra: extra.collect(),
                ..User::default()
            },
            audiences: vec![AUDIENCE.into()],
        }
    }

    const POD: [(&str, &[&str]); 2] = [(POD_NAME, &["agent-x"]), (POD_UID, &["p1"])];

    #[test]
    fn a_token_that_says_its_node_is_bound_to_it() {
        let said: &[(&str, &[&str])] = &[(NODE_NAME, &["n1"]), (NODE_UID, &["u1"]), POD[0], POD[1]];
        let node = NodeIdentity {
            name: "n1".into(),
            uid: Some("u1".into()),
        };
        assert_eq!(of_review(agent(said), &account()), Ok(Bound::Node(node)));
    }

    #[test]
    fn without_its_node_the_pod_is_to_be_looked_up_and_must_be_the_same() {
        let bound = of_review(agent(&POD), &account()).unwrap();
        let (name, uid) = ("agent-x", "p1");
        assert_eq!(
            bound,
            Bound::Pod {
                name: name.into(),
                uid: uid.into()
            }
        );
        let place = |uid: &str, node: Option<&str>| {
            Some(PodPlace {
                uid: uid.into(),
                node: node.map(str::to_owned),
            })
        };
        assert_eq!(of_pod(name, uid, place("p1", Some("n1"))).unwrap().name, "n1");
        for (place, why) in [
            (None, "is gone"),
            (place("p2", Some("n1")), "another has the name now"),
            (place("p1", None), "on no node"),
        ] {
            let text = of_pod(name, uid, place).unwrap_err().to_string();
            assert!(text.contains(why), "{text}");
        }
    }

    #[test]
    fn what_is_not_bound_to_one_node_is_refused() {
        for extra in [
            &[][..],
            &[POD[0]],
            &[POD[1]],
            &[(NODE_NAME, &[]), POD[0]],
            &[(NODE_NAME, &["n1", "n2"])],
            &[(NODE_NAME, &[""])],
        ] {
            let refusal = of_review(agent(extra), &account()).unwrap_err();
            assert!(matches!(refusal, Refusal::Unbound(_)), "{extra:?}: {refusal}");
        }
    }

    #[test]
    fn another_account_or_audience_is_refused_with_what_is_asked_for() {
        let other = Reviewed::Known {
            user: User {
                name: "system:serviceaccount:default:cidrift-agent".into(),
                ..User::default()
            },
            audiences: vec![AUDIENCE.into()],
        };
        let text = of_review(other, &account()).unwrap_err().to_string();
        assert!(
            text.contains("default:cidrift-agent") && text.contains("cidrift/cidrift-agent"),
            "{text}"
        );
        let Reviewed::Known { user, .. } = agent(&[(NODE_NAME, &["n1"])]) else {
            unreachable!()
        };
        let audiences = vec!["https://kubernetes.default.svc".to_owned()];
        let refusal = of_review(Reviewed::Known { user, audiences }, &account()).unwrap_err();
        assert_eq!(refusal, Refusal::Audience { wanted: AUDIENCE });
    }

    #[test]
    fn what_the_api_server_does_not_take_is_refused_in_its_words() {
        let refusal = of_review(Reviewed::Refused("token has expired".into()), &account()).unwrap_err();
        assert!(refusal.to_string().contains("token has expired"));
        assert!(of_review(Reviewed::Refused(String::new()), &account()).is_err());
        let nobody = Reviewed::Known {
            user: User::default(),
            audiences: vec![AUDIENCE.into()],
        };
        assert!(matches!(of_review(nobody, &account()), Err(Refusal::Token(_))));
    }

    #[test]
    fn a_certificate_is_a_nodes_by_name_and_organization() {
        let subject = |name: &str, organization: &str| Subject {
            name: name.into(),
            organizations: vec!["other".into(), organization.into()],
            ends: None,
        };
        assert_eq!(
            of_certificate(&subject("system:node:n1", "system:nodes")).unwrap().name,
            "n1"
        );
        for (name, organization) in [
            ("system:node:n1", "ops"),
            ("system:node:", "system:nodes"),
            ("n1", "system:nodes"),
        ] {
            assert!(
                of_certificate(&subject(name, organization)).is_err(),
                "{name} {organization}"
            );
        }
    }

    #[test]
    fn an_agent_speaks_for_its_own_node_only() {
        let own = NodeIdentity {
            name: "n1".into(),
            uid: None,
        };
        assert_eq!(speaks_for(&own, "n1"), Ok(()));
        let text = speaks_for(&own, "n2").unwrap_err().to_string();
        assert!(text.contains("\"n1\"") && text.contains("\"n2\""), "{text}");
    }
}
