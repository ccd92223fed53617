//! What is asked, what is remembered, and what becomes of it when nobody can be asked.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::access::Rule;
use super::authority::{Access, PodPlace, Reviewed, Unavailable};
use super::times::Times;
use super::token::Token;
use super::*;
use crate::metrics::Metrics;

/// An API server that knows some tokens, and notes what it is asked.
#[derive(Default)]
struct Known {
    tokens: HashMap<String, Reviewed>,
    pods: HashMap<String, PodPlace>,
    rights: Mutex<Vec<(String, Rule)>>,
    down: Mutex<bool>,
    /// It takes questions and never answers.
    hangs: bool,
    /// Questions that it has not answered, and how many these were at most.
    open: Mutex<(usize, usize)>,
    asked: Mutex<Vec<String>>,
}

/// A question that is being answered.
struct Open<'a>(&'a Mutex<(usize, usize)>);

impl<'a> Open<'a> {
    fn new(open: &'a Mutex<(usize, usize)>) -> Self {
        let mut count = open.lock().unwrap();
        count.0 += 1;
        count.1 = count.1.max(count.0);
        drop(count);
        Self(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().0 -= 1;
    }
}

impl Known {
    fn note(&self, what: String) -> Result<(), Unavailable> {
        self.asked.lock().unwrap().push(what);
        match *self.down.lock().unwrap() {
            true => Err(Unavailable("connection refused".to_owned())),
            false => Ok(()),
        }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }
}

#[tonic::async_trait]
impl Authority for Known {
    async fn review(&self, token: &Token, audience: Option<&str>) -> Result<Reviewed, Unavailable> {
        self.note(format!("token for {audience:?}"))?;
        if self.hangs {
            let _open = Open::new(&self.open);
            std::future::pending::<()>().await;
        }
        let unknown = Reviewed::Refused("unknown token".to_owned());
        Ok(self.tokens.get(token.secret()).cloned().unwrap_or(unknown))
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<PodPlace>, Unavailable> {
        self.note(format!("pod {namespace}/{name}"))?;
        Ok(self.pods.get(name).cloned())
    }

    async fn allowed(&self, user: &User, rule: Rule) -> Result<Access, Unavailable> {
        self.note(format!(
            "{} {} {} {:?}",
            user.name, rule.verb, rule.resource, user.groups
        ))?;
        let allowed = self.rights.lock().unwrap().contains(&(user.name.clone(), rule));
        let reason = "RBAC".to_owned();
        Ok(Access { allowed, reason })
    }
}

const AGENT: &str = "system:serviceaccount:cidrift:cidrift-agent";

fn known(name: &str, extra: &[(&str, &str)], audience: &str) -> Reviewed {
    let extra = extra.iter().map(|(key, value)| {
        let key = format!("authentication.kubernetes.io/{key}");
        (key, vec![(*value).to_owned()])
    });
    Reviewed::Known {
        user: User {
            name: name.to_owned(),
            extra: extra.collect(),
            ..User::default()
        },
        audiences: vec![audience.to_owned()],
    }
}

/// An API server, and what asks it and takes nothing for fresh.
fn asking(authority: Known) -> (Arc<Known>, Checked) {
    let authority = Arc::new(authority);
    let asked: Arc<dyn Authority> = Arc::<Known>::clone(&authority);
    let checked = Checked::new(
        asked,
        "cidrift/cidrift-agent".parse().unwrap(),
        Arc::<Metrics>::default(),
    );
    (authority, checked)
}

/// Nothing is fresh: it is asked each time.
const ALWAYS: Times = Times {
    again: Duration::from_secs(300),
    fresh: Duration::ZERO,
    kept: Duration::from_secs(60),
    refused: Duration::ZERO,
    rights: Duration::ZERO,
    patience: Duration::from_secs(5),
};

fn with_token(token: &str) -> Credentials {
    Credentials {
        token: Some(Token::new(token)),
        ..Credentials::default()
    }
}

fn certificate(name: &str, group: &str) -> Credentials {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
    let key = rcgen::KeyPair::generate().unwrap();
    Credentials {
        certificate: Some(params.self_signed(&key).unwrap().der().to_vec()),
        ..Credentials::default()
    }
}

#[tokio::test]
async fn an_agent_is_asked_about_once_and_remembered() {
    let (authority, checked) = asking(Known {
        tokens: HashMap::from([("t".to_owned(), known(AGENT, &[("node-name", "n1")], "cidrift"))]),
        ..Known::default()
    });
    for _ in 0..3 {
        let speaker = checked.agent(&with_token("t")).await.unwrap();
        assert_eq!(speaker.node.unwrap().name, "n1");
    }
    assert_eq!(authority.asked(), ["token for Some(\"cidrift\")"]);
    for _ in 0..3 {
        let refusal = checked.agent(&with_token("other")).await.unwrap_err();
        assert_eq!(refusal, Refusal::Token("unknown token".to_owned()));
    }
    assert_eq!(authority.asked().len(), 1, "refusals are remembered too");
    assert_eq!(
        checked.agent(&Credentials::default()).await,
        Err(Refusal::NamelessAgent)
    );
    assert!(authority.asked().is_empty());
}

#[tokio::test]
async fn where_the_token_does_not_say_its_node_the_pod_does() {
    let bound = known(AGENT, &[("pod-name", "agent-x"), ("pod-uid", "p1")], "cidrift");
    let place = PodPlace {
        uid: "p1".to_owned(),
        node: Some("n1".to_owned()),
    };
    let (authority, checked) = asking(Known {
        tokens: HashMap::from([("t".to_owned(), bound)]),
        pods: HashMap::from([("agent-x".to_owned(), place)]),
        ..Known::default()
    });
    let speaker = checked.agent(&with_token("t")).await.unwrap();
    assert_eq!(speaker.node.unwrap().name, "n1");
    assert_eq!(authority.asked()[1], "pod cidrift/agent-x");
}

#[tokio::test]
async fn while_nobody_can_be_asked_what_was_good_counts_and_nothing_else_does() {
    let good = known(AGENT, &[("node-name", "n1")], "cidrift");
    let (authority, checked) = asking(Known {
        tokens: HashMap::from([("t".to_owned(), good.clone()), ("new".to_owned(), good)]),
        ..Known::default()
    });
    let checked = checked.with_times(ALWAYS);
    checked.agent(&with_token("t")).await.unwrap();
    checked.agent(&with_token("bad")).await.unwrap_err();
    authority.down(true);
    assert_eq!(checked.agent(&with_token("t")).await.unwrap().node.unwrap().name, "n1");
    for token in ["new", "bad"] {
        let refusal = checked.agent(&with_token(token)).await.unwrap_err();
        assert_eq!(
            refusal,
            Refusal::Unavailable("connection refused".to_owned()),
            "{token}"
        );
        let status = tonic::Status::from(&refusal);
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert!(status.message().contains("connection refused"), "{status}");
    }
    authority.down(false);
    checked.agent(&with_token("new")).await.unwrap();
}

#[tokio::test]
async fn what_was_revoked_is_refused_once_it_is_asked_about_again_and_does_not_come_back_when_nobody_can_be_asked() {
    let (authority, checked) = asking(Known {
        tokens: HashMap::from([(
            "t".to_owned(),
            known(AGENT, &[("pod-name", "x"), ("pod-uid", "p")], "cidrift"),
        )]),
        pods: HashMap::new(),
        ..Known::default()
    });
    let checked = checked.with_times(Times {
        refused: Duration::from_secs(60),
        ..ALWAYS
    });
    let refusal = checked.agent(&with_token("t")).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Unbound(_)), "{refusal}");
    authority.down(true);
    assert_eq!(checked.agent(&with_token("t")).await, Err(refusal));
}

#[tokio::test]
async fn a_stream_rests_on_a_token_until_that_ends() {
    let ends = Timestamp::now().as_second() + 100;
    let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{ends}}}"#)));
    let (_, checked) = asking(Known {
        tokens: HashMap::from([(token.clone(), known(AGENT, &[("node-name", "n1")], "cidrift"))]),
        ..Known::default()
    });
    for _ in 0..2 {
        let until = checked.agent(&with_token(&token)).await.unwrap().until.unwrap();
        let left = until.duration_since(Instant::now());
        assert!(
            left > Duration::from_secs(90) && left <= Duration::from_secs(100),
            "{left:?}"
        );
    }
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_is_not_waited_for_and_not_asked_by_all_at_once() {
    let (authority, checked) = asking(Known {
        hangs: true,
        ..Known::default()
    });
    let checked = Arc::new(checked.with_times(Times {
        patience: Duration::from_millis(500),
        ..Times::default()
    }));
    // More than are asked about at a time.
    let all = (0..200).map(|n| {
        let checked = Arc::clone(&checked);
        tokio::spawn(async move { checked.agent(&with_token(&format!("t{n}"))).await })
    });
    for refusal in futures::future::join_all(all).await {
        let refusal = refusal.unwrap().unwrap_err();
        assert!(refusal.to_string().contains("did not answer within 500ms"), "{refusal}");
    }
    assert_eq!(*authority.open.lock().unwrap(), (0, 64));
}

#[tokio::test]
async fn a_nodes_own_certificate_is_as_good_as_a_token() {
    let (authority, checked) = asking(Known::default());
    let speaker = checked
        .agent(&certificate("system:node:n1", "system:nodes"))
        .await
        .unwrap();
    assert_eq!(speaker.node.unwrap().name, "n1");
    let refusal = checked.agent(&certificate("jane", "system:nodes")).await.unwrap_err();
    assert!(matches!(refusal, Refusal::NoNode { .. }), "{refusal}");
    assert!(authority.asked().is_empty());
    // Who sends a token is judged by it, whatever else there is.
    let both = Credentials {
        token: Some(Token::new("bad")),
        ..certificate("system:node:n1", "system:nodes")
    };
    assert!(matches!(checked.agent(&both).await, Err(Refusal::Token(_))));
}

#[tokio::test]
async fn an_operator_is_asked_about_for_every_right_and_told_which_one_is_missing() {
    let (authority, checked) = asking(Known {
        tokens: HashMap::from([("jane's".to_owned(), known("jane", &[], "https://kubernetes"))]),
        rights: Mutex::new(vec![("jane".to_owned(), Question::Status.rule())]),
        ..Known::default()
    });
    for _ in 0..2 {
        checked.operator(&with_token("jane's"), Question::Status).await.unwrap();
        let refusal = checked
            .operator(&with_token("jane's"), Question::Pool)
            .await
            .unwrap_err();
        let text = refusal.to_string();
        assert!(
            text.contains("\"jane\" may not get pools") && text.contains("(RBAC)"),
            "{text}"
        );
        assert_eq!(tonic::Status::from(&refusal).code(), tonic::Code::PermissionDenied);
    }
    assert_eq!(
        authority.asked(),
        ["token for None", "jane get status []", "jane get pools []"],
        "one TokenReview, and one question a right"
    );
    let refusal = checked
        .operator(&Credentials::default(), Question::Status)
        .await
        .unwrap_err();
    assert_eq!(tonic::Status::from(&refusal).code(), tonic::Code::Unauthenticated);
    let basic = Credentials {
        token: Some(Err("it is none of the scheme Bearer")),
        ..Credentials::default()
    };
    assert!(matches!(
        checked.operator(&basic, Question::Status).await,
        Err(Refusal::Malformed(_))
    ));
}

#[tokio::test]
async fn an_operators_certificate_names_user_and_groups() {
    let (authority, checked) = asking(Known {
        rights: Mutex::new(vec![("jane".to_owned(), Question::Nodes.rule())]),
        ..Known::default()
    });
    checked
        .operator(&certificate("jane", "ops"), Question::Nodes)
        .await
        .unwrap();
    assert_eq!(
        authority.asked(),
        ["jane list nodes [\"ops\", \"system:authenticated\"]"]
    );
}

#[tokio::test]
async fn a_right_that_was_given_counts_while_nobody_can_be_asked_and_one_that_was_taken_does_not() {
    let (authority, checked) = asking(Known {
        tokens: HashMap::from([("jane's".to_owned(), known("jane", &[], "k"))]),
        rights: Mutex::new(vec![("jane".to_owned(), Question::Status.rule())]),
        ..Known::default()
    });
    let checked = checked.with_times(ALWAYS);
    checked.operator(&with_token("jane's"), Question::Status).await.unwrap();
    authority.down(true);
    checked.operator(&with_token("jane's"), Question::Status).await.unwrap();
    let refusal = checked
        .operator(&with_token("jane's"), Question::Pool)
        .await
        .unwrap_err();
    assert!(matches!(refusal, Refusal::Unavailable(_)), "{refusal}");
    authority.down(false);
    authority.rights.lock().unwrap().clear();
    let refusal = checked
        .operator(&with_token("jane's"), Question::Status)
        .await
        .unwrap_err();
    assert!(matches!(refusal, Refusal::Denied { .. }), "{refusal}");
    authority.down(true);
    let refusal = checked
        .operator(&with_token("jane's"), Question::Status)
        .await
        .unwrap_err();
    assert!(matches!(refusal, Refusal::Unavailable(_)), "{refusal}");
}

#[tokio::test]
async fn where_nobody_is_checked_that_is_said() {
    let identity = Identity::Believed;
    assert_eq!(identity.agent(&Credentials::default()).await, Ok(Speaker::default()));
    assert_eq!(identity.operator(&Credentials::default(), Question::Pool).await, Ok(()));
    assert!(identity.warning().unwrap().contains("--identity none"));
}

fn from(address: &str, token: &str) -> Credentials {
    Credentials {
        from: Some(address.parse().unwrap()),
        ..with_token(token)
    }
}

#[tokio::test]
async fn whoever_makes_up_tokens_is_not_asked_about_each_and_slows_neither_others_nor_what_is_known_to_be_good() {
    let good = known(AGENT, &[("node-name", "n1")], "cidrift");
    let tokens = ["t", "new"].map(|token| (token.to_owned(), good.clone()));
    let (authority, checked) = asking(Known {
        tokens: HashMap::from(tokens),
        ..Known::default()
    });
    let checked = checked.with_times(Times {
        refused: Duration::from_secs(10),
        ..ALWAYS
    });
    checked.agent(&from("10.0.0.1", "t")).await.unwrap();
    authority.asked();
    let mut throttled = None;
    for n in 0..2_000 {
        let refusal = checked
            .agent(&from("10.0.0.1", &format!("made-up-{n}")))
            .await
            .unwrap_err();
        throttled = Some(refusal)
            .filter(|refusal| matches!(refusal, Refusal::Throttled { .. }))
            .or(throttled);
    }
    let asked = authority.asked().len();
    assert!((256..300).contains(&asked), "{asked}");
    let status = tonic::Status::from(&throttled.unwrap());
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert!(
        status
            .message()
            .contains("too many tokens from 10.0.0.1 were refused a moment ago; try again in 1 s"),
        "{status}"
    );
    let metrics = checked.metrics.text();
    let counted = format!(
        "identity_checks_total{{who=\"agent\",answer=\"throttled\"}} {}",
        2_000 - asked
    );
    assert!(metrics.contains(&counted), "{metrics}");
    // An agent that was let in comes back, an operator of that address is as little heard, others are as ever.
    checked.agent(&from("10.0.0.1", "t")).await.unwrap();
    assert_eq!(authority.asked().len(), 1, "it is asked about again and not slowed");
    let refusal = checked
        .operator(&from("10.0.0.1", "jane's"), Question::Status)
        .await
        .unwrap_err();
    assert!(matches!(refusal, Refusal::Throttled { .. }), "{refusal}");
    checked.agent(&from("10.0.0.2", "new")).await.unwrap();
    // What was not looked at was not judged: in its time it is.
    tokio::time::sleep(Duration::from_secs(1)).await;
    checked.agent(&from("10.0.0.1", "new")).await.unwrap();
}

#[tokio::test]
async fn a_fleet_behind_one_address_that_comes_back_at_once_is_let_in_as_a_whole() {
    let good = known(AGENT, &[("node-name", "n1")], "cidrift");
    let tokens = (0..2_000).map(|n| (format!("t{n}"), good.clone()));
    let (authority, checked) = asking(Known {
        tokens: tokens.collect(),
        ..Known::default()
    });
    let checked = Arc::new(checked);
    let all = (0..2_000).map(|n| {
        let checked = Arc::clone(&checked);
        tokio::spawn(async move { checked.agent(&from("10.0.0.1", &format!("t{n}"))).await })
    });
    for speaker in futures::future::join_all(all).await {
        speaker.unwrap().unwrap();
    }
    assert_eq!(authority.asked().len(), 2_000);
}
