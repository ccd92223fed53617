use super::yaml;
use crate::control_plane::record::event::{About, Event, Said, joined, said};

/// As kube-controller-manager 1.36 writes it: of type Normal, with the node's name for a UID.
const NOT_AVAILABLE: &str = r#"
metadata: {name: node-c.18a1, namespace: default}
involvedObject: {kind: Node, name: node-c, uid: node-c}
reason: CIDRNotAvailable
message: "Node node-c status is now: CIDRNotAvailable"
source: {component: cidrAllocator}
type: Normal
count: 12
firstTimestamp: "2026-11-23T10:00:00Z"
lastTimestamp: "2026-11-23T10:05:00Z"
eventTime: null
reportingComponent: cidrAllocator
reportingInstance: ""
"#;

#[test]
fn the_allocators_events_are_known_by_reason_whatever_their_type() {
    for kind in ["Normal", "Warning"] {
        let event: Event = yaml(&NOT_AVAILABLE.replace("type: Normal", &format!("type: {kind}")));
        let Some(Said::Node(node, uid, About::NotAvailable, told)) = said(&event) else {
            panic!("{kind}")
        };
        assert_eq!((node.as_str(), uid.as_str()), ("node-c", "node-c"));
        assert_eq!((told.count, told.component.as_str()), (12, "cidrAllocator"));
        assert_eq!(told.last.unwrap().duration_since(told.first.unwrap()).as_secs(), 300);
    }
    let route = NOT_AVAILABLE.replace("reason: CIDRNotAvailable", "reason: FailedToCreateRoute");
    assert!(matches!(
        said(&yaml(&route)),
        Some(Said::Node(_, _, About::RouteFailed, _))
    ));
    let failed = NOT_AVAILABLE.replace("reason: CIDRNotAvailable", "reason: CIDRAssignmentFailed");
    assert!(matches!(
        said(&yaml(&failed)),
        Some(Said::Node(_, _, About::AssignmentFailed, _))
    ));
    let other = NOT_AVAILABLE.replace("reason: CIDRNotAvailable", "reason: NodeReady");
    assert_eq!(said(&yaml(&other)), None);
}

#[test]
fn a_sandbox_failure_names_its_node_in_both_versions_of_events() {
    let core = r#"
metadata: {name: web-1.18a2, namespace: shop}
involvedObject: {kind: Pod, namespace: shop, name: web-1, uid: u-1}
reason: FailedCreatePodSandBox
message: "(combined from similar events): Failed to create pod sandbox: rpc error: no IP addresses available"
source: {component: kubelet, host: node-a}
type: Warning
firstTimestamp: "2026-11-23T10:00:00Z"
lastTimestamp: "2026-11-23T10:01:00Z"
count: 3
"#;
    let Some(Said::Sandbox(node, pod, uid, told)) = said(&yaml(core)) else {
        panic!()
    };
    assert_eq!(
        (node.as_deref(), pod.as_str(), uid.as_str(), told.count),
        (Some("node-a"), "shop/web-1", "u-1", 3)
    );
    let newer = r#"
metadata: {name: web-1.18a2, namespace: shop}
regarding: {kind: Pod, namespace: shop, name: web-1, uid: u-1}
reason: FailedCreatePodSandBox
note: "Failed to create pod sandbox"
reportingController: kubelet
reportingInstance: node-a
eventTime: "2026-11-23T10:00:00.000000Z"
series: {count: 9, lastObservedTime: "2026-11-23T10:02:00.500000Z"}
"#;
    let Some(Said::Sandbox(node, _, _, told)) = said(&yaml(newer)) else {
        panic!()
    };
    assert_eq!(
        (node.as_deref(), told.count, told.component.as_str()),
        (Some("node-a"), 9, "kubelet")
    );
    assert_eq!(told.last, "2026-11-23T10:02:00.5Z".parse().ok());
}

#[test]
fn several_events_of_one_reason_are_one_with_the_newest_words() {
    let told = |message: &str, minute: u32, count: u32| {
        let text = NOT_AVAILABLE
            .replace("10:05:00", &format!("10:{minute:02}:00"))
            .replace("count: 12", &format!("count: {count}"))
            .replace("Node node-c status", message);
        match said(&yaml(&text)) {
            Some(Said::Node(_, _, _, told)) => told,
            other => panic!("{other:?}"),
        }
    };
    let all = [told("newest", 50, 2), told("older", 20, 3)];
    let joined = joined(&all).unwrap();
    assert!(joined.message.starts_with("newest"));
    assert_eq!((joined.count, joined.last), (5, all[0].last));
}
