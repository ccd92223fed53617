//! Agents: whose tokens let them in, and for which node.

use std::time::{Duration, Instant};

use cidrift_lab::require::{Need, have};
use serde_json::json;
use tonic::Code;

use crate::aggregator::Running;
use crate::forge::{self, Ends};
use crate::rights::{self, assert_used};
use crate::world::{self, AGENT, account, account_uid, agent_pod, delete_pod, pod_of, token};

#[test]
fn an_agent_is_let_in_by_the_token_of_its_own_node_and_by_no_other() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = world::start();
    account(&cluster, world::NAMESPACE, "other");
    let uid = account_uid(&cluster, world::NAMESPACE, AGENT);
    let (one, two) = (
        agent_pod(&cluster, "agent-1", "n1"),
        agent_pod(&cluster, "agent-2", "n2"),
    );
    let strange = pod_of(&cluster, "other", "strange", "n1");
    let aggregator = Running::start(&cluster);
    let refused = |what: &str, token: Option<&str>, code: Code, parts: &[&str]| {
        let status = aggregator.hello("n1", token).map(drop).unwrap_err();
        assert_eq!(status.code(), code, "{what}: {status}");
        for part in parts {
            assert!(status.message().contains(part), "{what}: {status}");
        }
    };

    refused("none", None, Code::Unauthenticated, &["--token-file", "\"cidrift\""]);
    refused(
        "nonsense",
        Some("nonsense"),
        Code::Unauthenticated,
        &["does not take the token"],
    );
    let for_the_api = token(&cluster, AGENT, &[], Some(&one));
    refused(
        "meant for the API",
        Some(&for_the_api),
        Code::Unauthenticated,
        &["audience"],
    );
    let of_another = token(&cluster, "other", &["cidrift"], Some(&strange));
    let parts = ["system:serviceaccount:cidrift:other", "cidrift/cidrift-agent"];
    refused("of another account", Some(&of_another), Code::PermissionDenied, &parts);
    let unbound = token(&cluster, AGENT, &["cidrift"], None);
    refused(
        "bound to no pod",
        Some(&unbound),
        Code::PermissionDenied,
        &["bound to no pod"],
    );
    let expired = forge::agent(&cluster, &uid, &one, Ends::Ago(Duration::from_secs(600)));
    refused("expired", Some(&expired), Code::Unauthenticated, &["expired"]);
    let gone = agent_pod(&cluster, "agent-gone", "n1");
    let revoked = token(&cluster, AGENT, &["cidrift"], Some(&gone));
    delete_pod(&cluster, &gone);
    refused(
        "of a pod that is gone",
        Some(&revoked),
        Code::Unauthenticated,
        &["does not take the token"],
    );

    let before = rights::asked(&cluster)
        .iter()
        .filter(|asked| *asked == "get pods")
        .count();
    let good = token(&cluster, AGENT, &["cidrift"], Some(&one));
    drop(aggregator.hello("n1", Some(&good)).unwrap());
    let after = rights::asked(&cluster)
        .iter()
        .filter(|asked| *asked == "get pods")
        .count();
    assert_eq!(before, after, "this token says its node itself");
    // As Kubernetes before 1.30 makes them: the pod is asked for.
    let old = forge::agent(&cluster, &uid, &two, Ends::In(Duration::from_secs(600)));
    drop(aggregator.hello("n2", Some(&old)).unwrap());
    refused(
        "the other node's",
        Some(&old),
        Code::PermissionDenied,
        &["\"n1\"", "\"n2\""],
    );

    assert_used(&cluster, &["create tokenreviews", "get pods"]);
    let metrics = aggregator.get("/metrics");
    for line in [
        "cidrift_aggregator_identity_refusals_total{who=\"agent\",why=\"other-node\"} 1",
        "cidrift_aggregator_identity_refusals_total{who=\"agent\",why=\"no-credentials\"} 1",
        "cidrift_aggregator_report_streams_ended_total{how=\"unidentified\"} 8",
        "cidrift_build_info{program=\"cidrift-aggregator\"",
    ] {
        assert!(metrics.contains(line), "{line}:\n{metrics}");
    }
    let viewer = token(&cluster, "other", &[], None);
    let subject = json!({"kind": "ServiceAccount", "namespace": world::NAMESPACE, "name": "other"});
    rights::bind(&cluster, "clusterrolebindings", "cidrift-viewer", &subject);
    aggregator.until("SEEN03 on the token's node", || {
        let findings = aggregator.findings(&viewer).unwrap_or_default();
        findings
            .iter()
            .any(|finding| finding.id == "SEEN03/n2" && finding.state == 2)
    });
}

#[test]
fn a_stream_ends_when_its_token_does_by_a_real_tokens_own_clock() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = world::start();
    let uid = account_uid(&cluster, world::NAMESPACE, AGENT);
    let pod = agent_pod(&cluster, "agent-1", "n1");
    let aggregator = Running::start(&cluster);
    let short = forge::agent(&cluster, &uid, &pod, Ends::In(Duration::from_secs(6)));
    let began = Instant::now();
    let report = aggregator.hello("n1", Some(&short)).unwrap();
    // A second stream with the same token is not asked about again, and ends with it all the same.
    let again = aggregator.hello("n1", Some(&short)).unwrap();
    let reviews = rights::asked(&cluster)
        .iter()
        .filter(|asked| *asked == "create tokenreviews")
        .count();
    assert_eq!(reviews, 1);
    let displaced = aggregator.end(report);
    assert_eq!(displaced.code(), Code::Aborted, "{displaced}");
    let end = aggregator.end(again);
    assert_eq!(end.code(), Code::Unauthenticated, "{end}");
    assert!(end.message().contains("has expired"), "{end}");
    let took = began.elapsed();
    assert!(
        took > Duration::from_secs(4) && took < Duration::from_secs(8),
        "{took:?}"
    );
}
