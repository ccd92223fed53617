//! Plans as text.

use insta::assert_snapshot;

use super::samples::{NOW, TABLE, WIDE, narrow};
use crate::fix::plan::{ByHand, Does, Interrupts, Method, NodePlan, Plan, Release, Step};
use crate::fix::planner::Wish;
use crate::kubectl::render::plan;

fn step(does: Does, text: &str) -> Step {
    Step {
        does,
        text: text.to_owned(),
    }
}

fn empty() -> Plan {
    Plan::new(NOW, Wish::default())
}

pub(super) fn full() -> Plan {
    let swap = NodePlan {
        node: "worker-3".to_owned(),
        uid: "u".to_owned(),
        mends: vec!["POOL02/worker-3".to_owned(), "SAND01/worker-3".to_owned()],
        method: Method::Swap,
        from: vec!["10.99.2.0/24".parse().unwrap()],
        to: vec!["10.244.255.0/24".parse().unwrap()],
        steps: vec![
            step(Does::Cordon, "kubectl cordon worker-3"),
            step(Does::Drain, "kubectl drain worker-3 --ignore-daemonsets"),
            step(Does::Verify, "verify, as below"),
            step(Does::Uncordon, "kubectl uncordon worker-3"),
        ],
        interrupts: Interrupts {
            pods: (0..11).map(|n| format!("default/web-7f78bcbfc5-{n}")).collect(),
            budgets: vec!["default/web: 11 of its pods are here, 1 may go now".to_owned()],
        },
        verify: vec!["nothing leads to 10.99.2.0/24 any more".to_owned()],
        risks: vec!["what is in emptyDirs is lost".to_owned()],
        blocked: vec!["worker-4 is unschedulable: never two nodes at a time".to_owned()],
    };
    let restart = NodePlan {
        node: "worker-1".to_owned(),
        method: Method::Restart,
        from: swap.to.clone(),
        mends: vec!["PATH01/worker-1".to_owned()],
        blocked: Vec::new(),
        risks: Vec::new(),
        interrupts: Interrupts::default(),
        ..swap.clone()
    };
    Plan {
        nodes: vec![restart, swap],
        by_hand: vec![ByHand {
            finding: "HOST08/worker-2".to_owned(),
            nodes: vec!["worker-2".to_owned()],
            why: "its Node has no CIDR: the kubelet follows by itself once it has one".to_owned(),
            remedy: "Mend what keeps the Node from getting a CIDR (POOL01)".to_owned(),
        }],
        release: vec![Release {
            node: "worker-9".to_owned(),
            cidrs: vec!["10.244.9.0/24".parse().unwrap()],
            why: "no pod is on it that a drain would evict".to_owned(),
            text: "kubectl drain worker-9 --ignore-daemonsets && kubectl delete node worker-9".to_owned(),
        }],
        unseen: vec!["worker-7: its agent has never reported".to_owned()],
        ..empty()
    }
}

#[test]
fn a_plan_says_what_is_done_to_whom_and_for_what() {
    assert_snapshot!("plan_table", narrow(plan(&full(), false, &TABLE)));
    let wide = plan(&full(), false, &WIDE);
    assert!(wide.contains("default/web-7f78bcbfc5-10"), "{wide}");
}

#[test]
fn nothing_to_mend_is_said_and_so_is_what_was_not_seen() {
    assert_snapshot!("plan_empty", narrow(plan(&empty(), false, &TABLE)));
    let mut blind = empty();
    blind.unseen = vec!["worker-7: its agent has never reported".to_owned()];
    assert_snapshot!("plan_blind", narrow(plan(&blind, false, &TABLE)));
}

#[test]
fn what_is_begun_at_once_is_not_said_to_be_unchanged() {
    let text = plan(&full(), true, &TABLE);
    assert!(
        !text.contains("Nothing has been changed") && !text.contains("plan again before"),
        "{text}"
    );
    assert!(text.starts_with("2 nodes have steps"), "{text}");
}

#[test]
fn of_a_migration_no_finding_is_spoken_of() {
    let mut moved = empty();
    moved.wish.migrate = Some(crate::fix::migrate::Target {
        ranges: vec!["10.250.0.0/16".parse().unwrap()],
        mask_v4: Some(8),
        mask_v6: None,
        per_node: std::time::Duration::from_secs(300),
    });
    moved.by_hand = vec![ByHand {
        finding: "--cluster-cidr".to_owned(),
        nodes: vec!["worker-1".to_owned()],
        why: "a node's /8 is wider than 10.250.0.0/16".to_owned(),
        remedy: String::new(),
    }];
    assert_snapshot!("plan_migrate", narrow(plan(&moved, false, &TABLE)));
}

#[test]
fn a_long_command_is_broken_so_that_a_shell_reads_it_as_one() {
    let mut long = full();
    long.nodes.truncate(1);
    let words = |word: &str| vec![word; 30].join(" ");
    let jq = format!(
        "kubectl get node worker-1 -o json | jq '{}' > worker-1.json",
        words(".status")
    );
    let noted = format!("ip link delete cni0   # {}", words("anew"));
    long.nodes[0].steps = vec![
        step(Does::Recreate, &jq),
        step(Does::Drain, &words("--selector=app")),
        step(Does::Uncordon, &noted),
        step(Does::ByHand, &words("write it")),
    ];
    assert_snapshot!("plan_long", narrow(plan(&long, false, &TABLE)));
    let wide = plan(&long, false, &WIDE);
    assert!(wide.contains(&jq), "{wide}");
}

#[test]
fn a_migration_shows_sizes_conflicts_order_and_nodes() {
    use crate::fix::migrate::{Migration, Moved, NewRange};
    let answer = Migration {
        from: vec!["10.244.0.0/16".parse().unwrap()],
        to: vec![NewRange {
            range: "10.100.0.0/22".parse().unwrap(),
            node_mask: 24,
            capacity: 4,
            needed: 3,
            headroom: 133,
        }],
        contains_old: false,
        conflicts: vec!["10.100.0.0/22 overlaps 10.100.0.1/24 of docker0 on worker-2".to_owned()],
        warnings: vec!["10.100.0.0/22 has 4 blocks of /24 for 3 nodes".to_owned()],
        steps: vec!["do not start it yet".to_owned(), "swap the nodes below".to_owned()],
        nodes: vec![Moved {
            node: "worker-1".to_owned(),
            from: vec!["10.244.1.0/24".parse().unwrap()],
            to: vec!["10.100.3.0/24".parse().unwrap()],
            pods: 7,
            blocked: vec!["pod default/bare has no controller".to_owned()],
        }],
        seconds: 7_500,
        unseen: vec!["interfaces of worker-3".to_owned()],
    };
    assert_snapshot!("migration", narrow(crate::kubectl::render::migration(&answer, &TABLE)));
}
