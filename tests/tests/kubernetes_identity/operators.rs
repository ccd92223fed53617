//! Operators: what RBAC lets them ask, and for how long.

use std::time::{Duration, Instant};

use cidrift_lab::require::{Need, have};
use cidrift_proto::v1::finding_event::Kind;
use serde_json::json;
use tonic::Code;

use crate::aggregator::Running;
use crate::rights::{self, assert_used};
use crate::world::{self, AGENT, account, agent_pod, token};

/// A watch is looked at again every minute; half as much again for a busy machine.
const LOOKED_AT: Duration = Duration::from_secs(90);

#[test]
fn an_operator_is_answered_what_rbac_lets_him_ask_for_as_long_as_it_does() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = world::start();
    account(&cluster, world::NAMESPACE, "jane");
    let pod = agent_pod(&cluster, "agent-1", "n1");
    let aggregator = Running::start(&cluster);

    let status = aggregator.status(None).unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert!(status.message().contains("authorization: Bearer TOKEN"), "{status}");
    let agents = token(&cluster, AGENT, &["cidrift"], Some(&pod));
    let status = aggregator.status(Some(&agents)).unwrap_err();
    assert_eq!(
        status.code(),
        Code::Unauthenticated,
        "an agent's token asks nothing: {status}"
    );

    let jane = token(&cluster, "jane", &[], None);
    let denied = aggregator.status(Some(&jane)).unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");
    for part in [
        "apiGroups: [\"cidrift.dev\"], resources: [\"status\"], verbs: [\"get\"]",
        "--clusterrole=cidrift-viewer --serviceaccount=cidrift:jane",
    ] {
        assert!(denied.message().contains(part), "{denied}");
    }
    let subject = json!({"kind": "ServiceAccount", "namespace": world::NAMESPACE, "name": "jane"});
    rights::bind(&cluster, "clusterrolebindings", "cidrift-viewer", &subject);
    aggregator.until("she is let in", || aggregator.status(Some(&jane)).is_ok());
    let answer = aggregator.status(Some(&jane)).unwrap();
    assert_eq!((answer.nodes, answer.identity_warning.as_str()), (2, ""));
    aggregator.pool(Some(&jane)).unwrap();
    assert_eq!(aggregator.node("n1", &jane).unwrap().summary.unwrap().name, "n1");
    aggregator.findings(&jane).unwrap();

    // Answers are remembered: twenty questions of one kind are one to the API server, or two where 10 s passed.
    let count = |what: &str| rights::asked(&cluster).iter().filter(|asked| *asked == what).count();
    let before = (count("create tokenreviews"), count("create subjectaccessreviews"));
    for _ in 0..20 {
        aggregator.status(Some(&jane)).unwrap();
    }
    assert!(count("create tokenreviews") <= before.0 + 1);
    assert!(count("create subjectaccessreviews") <= before.1 + 2);

    let mut watch = aggregator.watch(&jane).unwrap();
    let began = Instant::now();
    rights::unbind(&cluster, "cidrift-viewer");
    let end = aggregator.runtime.block_on(async {
        let mut synced = false;
        let end = async {
            loop {
                match watch.message().await {
                    Ok(Some(event)) => synced |= matches!(event.kind, Some(Kind::Synced(_))),
                    Ok(None) => panic!("it ended without a status"),
                    Err(status) => return status,
                }
            }
        };
        let end = tokio::time::timeout(LOOKED_AT, end).await.unwrap();
        assert!(synced);
        end
    });
    assert_eq!(end.code(), Code::PermissionDenied, "{end}");
    assert!(end.message().contains("verbs: [\"watch\"]"), "{end}");
    assert!(
        began.elapsed() > Duration::from_secs(50),
        "it is looked at once a minute"
    );
    assert_eq!(
        aggregator.status(Some(&jane)).unwrap_err().code(),
        Code::PermissionDenied
    );
    assert_used(&cluster, &["create tokenreviews", "create subjectaccessreviews"]);
    let metrics = aggregator.get("/metrics");
    assert!(
        metrics.contains("cidrift_aggregator_identity_refusals_total{who=\"operator\",why=\"denied\"}"),
        "{metrics}"
    );
}
