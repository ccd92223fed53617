//! A fix as text: what is left of it, how it goes, how it ended.

use insta::assert_snapshot;
use jiff::ToSpan;

use super::plans::full;
use super::samples::{NOW, TABLE, narrow};
use crate::fix::plan::Does;
use crate::fix::planner::Wish;
use crate::fix::run::{Halt, Over, Planned, Progress, Record, Work};
use crate::kubectl::render::{Again, Stopped, ended, progress, record};

fn again() -> Again {
    Again {
        resume: "kubectl cidrift fix --resume --yes".to_owned(),
        abort: "kubectl cidrift fix --abort --yes".to_owned(),
    }
}

/// As it is told where the node is seen to be cordoned, or not.
fn told(halt: &Halt, cordoned: Option<bool>) -> String {
    let stop = Stopped {
        halt,
        cordoned,
        again: &again(),
    };
    ended(&stopped(), Some(&stop), &TABLE)
}

fn stopped() -> Record {
    let plan = full().nodes.remove(1);
    Record {
        id: "0123456789ab".to_owned(),
        begun: NOW - 90.minutes(),
        by: "me@laptop".to_owned(),
        wish: Wish::default(),
        queue: vec![Planned::from(&plan), Planned::from(&full().nodes[0])],
        work: Some(Work {
            plan,
            at: 1,
            cordoned: true,
            saved: Box::default(),
            made: None,
            deleting: false,
            told: false,
            stood: Vec::new(),
        }),
        over: vec![
            Over {
                node: "worker-8".to_owned(),
                failed: None,
            },
            Over {
                node: "worker-9".to_owned(),
                failed: Some("no pod in place of kube-system/flannel-x becomes ready".to_owned()),
            },
        ],
        stopped: Some("the drain of worker-3 has not ended within 5m".to_owned()),
    }
}

#[test]
fn what_is_left_says_where_it_stopped_and_what_taking_it_back_would_do() {
    assert_snapshot!("fix_left", narrow(record(&stopped(), false, &TABLE)));
    let back = |change: fn(&mut Work)| {
        let mut left = stopped();
        left.work.iter_mut().for_each(change);
        record(&left, true, &TABLE)
    };
    assert!(back(|_| {}).contains("it is uncordoned"));
    assert!(back(|work| work.deleting = true).contains("from its saved copy"));
    let text = back(|work| {
        work.deleting = true;
        work.made = Some("new".to_owned());
    });
    assert!(text.contains("it keeps its new CIDRs, and the cordon"), "{text}");
    let same = back(|work| work.plan.from = work.plan.to.clone());
    assert!(same.contains("worker-3: swap, 10.244.255.0/24\n"), "{same}");
    let hand = back(|work| {
        work.plan.steps[0].does = Does::ByHand;
        work.plan.steps[0].text = "on worker-3: write it".to_owned();
    });
    assert!(hand.contains("1. on worker-3: write it\n"), "{hand}");
    assert!(back(|work| work.cordoned = false).contains("nothing of it was changed"));
    let file = |work: &mut Work| {
        work.cordoned = false;
        work.plan.steps[1].does = Does::RemoveFile {
            path: "/etc/cni/net.d/x.conflist".to_owned(),
            containing: String::new(),
        };
    };
    let text = back(file);
    assert!(
        text.contains("back      /etc/cni/net.d/x.conflist is rendered again where it is gone"),
        "{text}"
    );
}

#[test]
fn it_ends_with_what_became_of_every_node_and_how_to_go_on() {
    let why = Halt::Stop("the drain of worker-3 has not ended within 5m".to_owned());
    assert_snapshot!("fix_stopped", narrow(told(&why, Some(true))));
    let lost = Halt::Lost("Lease cidrift-fix is held by you@there (pid 7) now".to_owned());
    let text = told(&lost, None);
    assert!(
        text.contains("Another fix may go on") && !text.contains("--resume"),
        "{text}"
    );
    assert!(told(&why, Some(false)).contains("worker-3 was cordoned by this fix, and is not now\n"));
    let done = Record {
        work: None,
        queue: Vec::new(),
        over: vec![stopped().over.remove(0)],
        ..stopped()
    };
    assert_eq!(ended(&done, None, &TABLE), "\nworker-8  mended\n");
}

#[test]
fn what_happens_is_a_line_that_no_host_can_break() {
    let happened = Progress {
        at: NOW,
        node: "worker-3".to_owned(),
        step: Some((2, 4)),
        text: "waits for default/web\u{1b}[31m to end".to_owned(),
    };
    let text = progress(&happened, &TABLE);
    assert!(
        text.ends_with("  worker-3  [2/4] waits for default/web\u{fffd}[31m to end\n"),
        "{text:?}"
    );
    let whole = Progress {
        node: String::new(),
        step: None,
        text: "waits".to_owned(),
        ..happened
    };
    assert!(progress(&whole, &TABLE).ends_with("  waits\n"));
}
