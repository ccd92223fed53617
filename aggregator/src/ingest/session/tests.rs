use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::HostFacts;
use cidrift_proto::finding::{Claim, Severity, Trigger};
use cidrift_proto::landing::{Discard, ForwardingEntry, Landing};
use jiff::Timestamp;

use super::*;

fn entry(prefix: &str) -> v1::ForwardingEntry {
    (&ForwardingEntry {
        prefix: prefix.parse().unwrap(),
        landing: Landing::Discard {
            how: Discard::Blackhole,
        },
        route: None,
        changed_at: Timestamp::UNIX_EPOCH,
    })
        .into()
}

fn facts() -> v1::HostFacts {
    (&HostFacts {
        observed_at: Timestamp::UNIX_EPOCH,
        kernel: "6.18.44".into(),
        ..HostFacts::default()
    })
        .into()
}

fn claim(code: Code, subject: &str) -> v1::Claim {
    (&Claim {
        code,
        subject: subject.into(),
        severity: Severity::Error,
        nodes: vec![subject.into()],
        summary: String::new(),
        affected: Vec::new(),
        affected_total: 0,
        evidence: Vec::new(),
        unseen: Vec::new(),
        cause: String::new(),
        remedy: String::new(),
        changed_at: None,
        trigger: Trigger::Host,
    })
        .into()
}

fn chunk(sequence: u64, index: u32, last: bool) -> v1::SnapshotChunk {
    v1::SnapshotChunk {
        sequence,
        index,
        last,
        entries: vec![entry(&format!("10.244.{index}.0/24"))],
        facts: (index == 0).then(facts),
        ..Default::default()
    }
}

fn delta(sequence: u64) -> v1::Delta {
    v1::Delta {
        sequence,
        upserts: vec![entry("10.244.9.0/24")],
        ..Default::default()
    }
}

fn say(session: &mut Session, message: impl Message) -> Step {
    session.message(&v1::AgentMessage {
        kind: Some(message.kind()),
    })
}

/// So that a message can be handed over as what it is.
trait Message {
    fn kind(self) -> Kind;
}

macro_rules! messages {
    ($($message:ident => $kind:ident),*) => {$(
        impl Message for v1::$message {
            fn kind(self) -> Kind {
                Kind::$kind(self)
            }
        }
    )*};
}
messages!(SnapshotChunk => Snapshot, Delta => Delta, Heartbeat => Heartbeat, Hello => Hello);

fn heartbeat(sequence: u64) -> v1::Heartbeat {
    v1::Heartbeat {
        sequence,
        ..Default::default()
    }
}

fn synced() -> Session {
    Session::new("node-a", 4, Limits::default())
}

fn lost(step: &Step) -> bool {
    matches!(step.event, Some(HostEvent::Lost { .. })) && matches!(step.answer, Answer::Resync(_))
}

#[test]
fn a_snapshot_counts_only_when_its_last_chunk_is_in() {
    let mut session = Session::new("node-a", 0, Limits::default());
    assert!(say(&mut session, chunk(7, 0, false)).event.is_none());
    let step = say(&mut session, chunk(7, 1, true));
    let Some(HostEvent::Snapshot { sequence, entries, .. }) = step.event else {
        panic!("{step:?}")
    };
    assert_eq!((sequence, entries.len(), step.answer), (7, 2, Answer::Ack(7)));
    assert_eq!(say(&mut session, delta(8)).outcome, Outcome::Applied);
}

#[test]
fn a_duplicated_delta_is_acknowledged_and_not_applied_again() {
    let mut session = synced();
    say(&mut session, delta(5));
    let step = say(&mut session, delta(5));
    assert_eq!((step.outcome, step.answer), (Outcome::Duplicate, Answer::Ack(5)));
    assert!(step.event.is_none());
}

#[test]
fn a_gap_makes_the_view_lost_until_a_snapshot_is_in() {
    let mut session = synced();
    let step = say(&mut session, delta(6));
    assert!(lost(&step), "{step:?}");
    assert_eq!(say(&mut session, delta(7)).outcome, Outcome::Ignored);
    assert_eq!(say(&mut session, chunk(7, 0, true)).outcome, Outcome::Applied);
    assert_eq!(say(&mut session, delta(8)).outcome, Outcome::Applied);
}

#[test]
fn a_heartbeat_finds_a_gap_on_a_quiet_stream() {
    let mut session = synced();
    assert_eq!(say(&mut session, heartbeat(4)).answer, Answer::Ack(4));
    assert!(lost(&say(&mut session, heartbeat(5))));
}

#[test]
fn an_agent_that_counts_back_is_asked_for_a_snapshot() {
    assert!(lost(&say(&mut synced(), heartbeat(3))));
}

#[test]
fn an_overdue_snapshot_is_asked_for_again() {
    let mut session = synced();
    say(&mut session, delta(6));
    assert_eq!(say(&mut session, heartbeat(6)).answer, Answer::None);
    assert!(matches!(say(&mut session, heartbeat(6)).answer, Answer::Resync(_)));
    assert_eq!(say(&mut session, heartbeat(6)).answer, Answer::None);
}

#[test]
fn chunks_out_of_order_make_the_snapshot_start_anew() {
    let mut session = Session::new("node-a", 0, Limits::default());
    say(&mut session, chunk(7, 0, false));
    assert!(lost(&say(&mut session, chunk(7, 2, true))));
    assert_eq!(say(&mut session, chunk(7, 3, true)).outcome, Outcome::Ignored);
    say(&mut session, chunk(8, 0, false));
    assert!(
        lost(&say(&mut session, chunk(7, 1, true))),
        "a chunk of another snapshot"
    );
    say(&mut session, chunk(9, 0, false));
    assert_eq!(say(&mut session, chunk(9, 1, true)).outcome, Outcome::Applied);
}

#[test]
fn a_delta_in_the_middle_of_a_snapshot_is_a_gap() {
    let mut session = synced();
    say(&mut session, chunk(7, 0, false));
    assert!(lost(&say(&mut session, delta(8))));
}

#[test]
fn a_heartbeat_finds_a_snapshot_whose_end_was_lost() {
    let mut session = synced();
    say(&mut session, chunk(7, 0, false));
    assert!(lost(&say(&mut session, heartbeat(7))));
}

#[test]
fn one_bad_prefix_makes_the_whole_message_refused() {
    for bad in [
        v1::Prefix {
            address: vec![10, 0, 0],
            length: 8,
        },
        v1::Prefix {
            address: vec![10, 0, 0, 0],
            length: 33,
        },
        v1::Prefix {
            address: vec![10, 0, 0, 1],
            length: 8,
        },
    ] {
        let mut session = synced();
        let mut message = delta(5);
        message.removed.push(bad.clone());
        let step = say(&mut session, message);
        assert!(lost(&step), "{step:?}");
        assert_eq!(session.applied(), 4);

        let mut session = synced();
        let mut message = delta(5);
        message.upserts.push(v1::ForwardingEntry {
            prefix: Some(bad),
            ..entry("10.0.0.0/8")
        });
        assert_eq!(say(&mut session, message).outcome, Outcome::Refused);
    }
}

#[test]
fn an_unknown_landing_is_refused_with_a_reason_that_names_it() {
    let mut message = delta(5);
    message.upserts[0].landing.as_mut().unwrap().kind = 99;
    let Answer::Resync(reason) = say(&mut synced(), message).answer else {
        panic!("not asked for a snapshot")
    };
    assert_eq!(reason, "delta 5 refused: landing.kind: unknown value 99");
}

#[test]
fn an_agent_that_goes_on_sending_nonsense_is_closed() {
    let mut session = synced();
    let mut nonsense = delta(5);
    nonsense.upserts[0].prefix = None;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(say(&mut session, nonsense.clone()).answer);
        say(&mut session, chunk(4, 0, true));
    }
    assert!(answers[..3].iter().all(|a| matches!(a, Answer::Resync(_))));
    assert_eq!(
        answers[3],
        Answer::Close("delta 5 refused: entry.prefix: missing".into())
    );
}

#[test]
fn a_prefix_both_set_and_removed_is_refused() {
    let mut message = delta(5);
    message.removed = vec![message.upserts[0].prefix.clone().unwrap()];
    assert_eq!(say(&mut synced(), message).outcome, Outcome::Refused);
}

#[test]
fn a_host_speaks_of_itself_only() {
    let claims = |claims: Vec<v1::Claim>| v1::Delta {
        claims: Some(v1::ClaimSet { claims }),
        ..delta(5)
    };
    let taken = say(&mut synced(), claims(vec![claim(Code::Host01, "node-a")]));
    assert_eq!(taken.outcome, Outcome::Applied);

    let mut naming = claim(Code::Host01, "node-a");
    naming.nodes.push("node-b".into());
    let mut long = claim(Code::Host01, "node-a");
    long.unseen = vec!["x".into(); 65];
    let mut unknown = claim(Code::Host01, "node-a");
    unknown.code = "HOST77".into();
    for bad in [
        vec![claim(Code::Host01, "node-b")],
        vec![claim(Code::Path01, "node-a")],
        vec![claim(Code::Host01, "node-a"), claim(Code::Host01, "node-a")],
        vec![claim(Code::Host01, "node-a"); 65],
        vec![naming],
        vec![long],
        vec![unknown],
    ] {
        let step = say(&mut synced(), claims(bad));
        assert_eq!(step.outcome, Outcome::Refused, "{step:?}");
    }
}

#[test]
fn a_snapshot_without_facts_is_refused() {
    let mut session = Session::new("node-a", 0, Limits::default());
    let bare = v1::SnapshotChunk {
        facts: None,
        ..chunk(1, 0, true)
    };
    assert_eq!(say(&mut session, bare).outcome, Outcome::Refused);
}

#[test]
fn a_snapshot_stays_within_its_bounds() {
    for limits in [
        Limits {
            max_entries: 2,
            ..Limits::default()
        },
        Limits {
            max_snapshot_chunks: 2,
            ..Limits::default()
        },
        Limits {
            max_snapshot_bytes: 60,
            ..Limits::default()
        },
    ] {
        let mut session = Session::new("node-a", 0, limits);
        let outcomes: Vec<_> = (0..3)
            .map(|index| say(&mut session, chunk(1, index, false)).outcome)
            .collect();
        assert!(outcomes.contains(&Outcome::Refused), "{limits:?}: {outcomes:?}");
    }
}

#[test]
fn entries_set_by_deltas_are_counted_again_by_a_snapshot_and_never_grow_without_bound() {
    let limits = Limits {
        max_entries: 3,
        ..Limits::default()
    };
    let mut session = Session::new("node-a", 4, limits);
    let answers: Vec<_> = (5..12)
        .map(|sequence| say(&mut session, delta(sequence)).answer)
        .collect();
    assert_eq!(answers[2], Answer::Ack(7));
    assert!(matches!(answers[3], Answer::Resync(_)));
    assert_eq!(answers[4], Answer::Ack(9), "the view stays good meanwhile");
    assert!(matches!(answers[6], Answer::Close(_)));

    let mut session = Session::new("node-a", 4, limits);
    for sequence in 5..200 {
        let step = say(&mut session, delta(sequence));
        if let Answer::Resync(_) = step.answer {
            assert!(step.event.is_some(), "applied all the same");
            say(&mut session, chunk(sequence, 0, true));
        }
        assert_eq!(session.applied(), sequence);
    }
}

#[test]
fn numbers_at_the_end_of_their_range_do_no_harm() {
    let mut session = Session::new("node-a", 0, Limits::default());
    say(&mut session, chunk(u64::MAX, 0, true));
    assert_eq!(say(&mut session, delta(1)).outcome, Outcome::Duplicate);
    assert!(lost(&say(&mut session, heartbeat(0))));
    say(&mut session, chunk(5, 0, true));
    assert_eq!(say(&mut session, delta(0)).outcome, Outcome::Refused);
}

#[test]
fn a_second_hello_closes_the_stream() {
    let step = say(&mut synced(), v1::Hello::default());
    assert!(matches!(step.answer, Answer::Close(_)));
}
