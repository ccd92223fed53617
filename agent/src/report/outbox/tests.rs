use cidrift_proto::landing::{Discard, Landing};

use super::*;

fn at() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn entry(prefix: &str) -> ForwardingEntry {
    ForwardingEntry {
        prefix: prefix.parse().unwrap(),
        landing: Landing::Discard {
            how: Discard::Blackhole,
        },
        route: None,
        changed_at: at(),
    }
}

fn facts() -> HostFacts {
    HostFacts {
        observed_at: at(),
        kernel: "6.18.44".into(),
        ..HostFacts::default()
    }
}

fn whole(entries: usize) -> Whole {
    Whole {
        entries: (0..entries)
            .map(|i| entry(&format!("10.{}.{}.0/24", i / 256, i % 256)))
            .collect(),
        facts: facts(),
        claims: Vec::new(),
        expectation: 3,
    }
}

fn change() -> Update {
    Update {
        upserts: vec![entry("10.1.0.0/24")],
        expectation: 3,
        ..Update::default()
    }
}

/// Everything that is to be sent now, as short words: "s5[0]", "s5[1]!" for the last chunk, "d6".
fn drain(outbox: &mut Outbox, entries: usize) -> Vec<String> {
    let mut words = Vec::new();
    while let Some(message) = outbox.next(|| whole(entries)) {
        words.push(match message.kind.unwrap() {
            Kind::Snapshot(chunk) => format!(
                "s{}[{}]{}",
                chunk.sequence,
                chunk.index,
                if chunk.last { "!" } else { "" }
            ),
            Kind::Delta(delta) => format!("d{}", delta.sequence),
            other => panic!("unexpected {other:?}"),
        });
    }
    words
}

#[test]
fn a_first_stream_gets_a_snapshot_and_then_numbered_deltas() {
    let mut outbox = Outbox::new(Limits::default());
    outbox.push(change());
    assert!(!outbox.backlog());
    outbox.connected(0);
    assert_eq!(drain(&mut outbox, 1), ["s1[0]!"]);
    outbox.push(change());
    assert_eq!(drain(&mut outbox, 1), ["d2"]);
    outbox.push(change());
    assert_eq!(drain(&mut outbox, 1), ["d3"]);
    assert!(!outbox.backlog());
}

#[test]
fn changes_that_have_to_wait_join_and_the_newest_state_of_each_entry_is_told() {
    let mut outbox = Outbox::new(Limits::default());
    outbox.connected(0);
    drain(&mut outbox, 1);
    let set = |prefix: &str| Update {
        upserts: vec![entry(prefix)],
        observed_at: Some(at()),
        ..Update::default()
    };
    let gone = |prefix: &str| Update {
        removed: vec![prefix.parse().unwrap()],
        facts: Some(facts()),
        expectation: 9,
        ..Update::default()
    };
    outbox.push(set("10.1.0.0/24"));
    outbox.push(set("10.2.0.0/24"));
    outbox.push(gone("10.1.0.0/24"));
    outbox.push(gone("10.3.0.0/24"));
    outbox.push(set("10.3.0.0/24"));
    outbox.push(gone("10.4.0.0/24"));
    assert_eq!(outbox.last(), 1);
    let Some(Kind::Delta(delta)) = outbox.next(|| whole(1)).unwrap().kind else {
        panic!("not a delta")
    };
    let upserts: Vec<_> = delta
        .upserts
        .iter()
        .map(|e| ForwardingEntry::try_from(e).unwrap().prefix.to_string())
        .collect();
    assert_eq!(upserts, ["10.2.0.0/24", "10.3.0.0/24"]);
    assert_eq!(delta.removed.len(), 2, "10.1 and 10.4");
    assert!(delta.facts.is_some());
    assert_eq!(
        (delta.expectation, delta.observed_at),
        (9, Some(to_wire(at()))),
        "as new as the last, as old as the first"
    );
}

#[test]
fn a_reconnect_resumes_behind_what_was_applied() {
    let mut outbox = Outbox::new(Limits::default());
    outbox.connected(0);
    drain(&mut outbox, 1);
    outbox.push(change());
    drain(&mut outbox, 1);
    outbox.push(change());
    drain(&mut outbox, 1);
    outbox.disconnected();
    outbox.push(change());
    outbox.connected(1);
    assert_eq!(drain(&mut outbox, 1), ["d2", "d3"]);
}

#[test]
fn an_aggregator_that_has_everything_gets_nothing() {
    let mut outbox = Outbox::new(Limits::default());
    outbox.connected(0);
    outbox.push(change());
    drain(&mut outbox, 1);
    outbox.disconnected();
    outbox.connected(1);
    assert!(drain(&mut outbox, 1).is_empty());
}

#[test]
fn an_aggregator_that_lost_its_memory_gets_a_snapshot() {
    let mut outbox = Outbox::new(Limits::default());
    outbox.connected(0);
    outbox.push(change());
    drain(&mut outbox, 1);
    outbox.disconnected();
    outbox.connected(0);
    assert_eq!(drain(&mut outbox, 1), ["s1[0]!"]);
}

#[test]
fn an_aggregator_ahead_of_the_agent_gets_a_snapshot() {
    let mut outbox = Outbox::new(Limits::default());
    outbox.push(change());
    outbox.connected(7);
    assert_eq!(drain(&mut outbox, 1), ["s1[0]!"]);
}

#[test]
fn what_happens_while_disconnected_does_not_grow_memory() {
    let limits = Limits {
        deltas: 8,
        bytes: 10_000,
        ..Limits::default()
    };
    let mut outbox = Outbox::new(limits);
    outbox.connected(0);
    drain(&mut outbox, 1);
    outbox.disconnected();
    for entry in whole(2_000).entries {
        outbox.push(Update {
            upserts: vec![entry],
            ..Update::default()
        });
        let (deltas, bytes) = outbox.kept();
        assert!(deltas <= 8 && bytes <= 10_000);
    }
    assert_eq!(outbox.kept(), (0, 0), "a snapshot will replace them all");
    outbox.connected(0);
    assert!(drain(&mut outbox, 1)[0].starts_with('s'));
}

#[test]
fn a_slow_aggregator_is_told_the_newest_state_and_not_every_step_to_it() {
    let limits = Limits {
        in_flight: 2,
        ..Limits::default()
    };
    let mut outbox = Outbox::new(limits);
    outbox.connected(0);
    drain(&mut outbox, 1);
    let mut words = Vec::new();
    for _ in 0..100 {
        outbox.push(change());
        words.extend(drain(&mut outbox, 1));
    }
    assert_eq!(words, ["d1", "d2"]);
    assert!(!outbox.backlog());
    assert!(
        outbox.heartbeat(at(), None).is_some(),
        "which is answered, should the acknowledgement be lost"
    );
    outbox.acked(1);
    assert_eq!(drain(&mut outbox, 1), ["d3"]);
}

#[test]
fn a_flapping_route_costs_one_delta_while_disconnected() {
    let mut outbox = Outbox::new(Limits::default());
    outbox.connected(0);
    outbox.push(change());
    drain(&mut outbox, 1);
    outbox.disconnected();
    for _ in 0..1000 {
        outbox.push(change());
    }
    assert_eq!(outbox.kept().0, 1);
    outbox.connected(1);
    assert_eq!(drain(&mut outbox, 1), ["d2"]);
}

#[test]
fn an_aggregator_that_never_acknowledges_gets_snapshots_and_memory_stays_bounded() {
    let mut outbox = Outbox::new(Limits {
        deltas: 4,
        ..Limits::default()
    });
    outbox.connected(0);
    drain(&mut outbox, 1);
    for _ in 0..5 {
        outbox.push(change());
        drain(&mut outbox, 1);
    }
    assert_eq!(outbox.kept().0, 0);
    outbox.push(change());
    assert_eq!(drain(&mut outbox, 1), ["d6"]);
}

#[test]
fn acknowledged_deltas_are_dropped() {
    let mut outbox = Outbox::new(Limits::default());
    outbox.connected(0);
    drain(&mut outbox, 1);
    for _ in 0..3 {
        outbox.push(change());
        drain(&mut outbox, 1);
    }
    outbox.acked(2);
    assert_eq!(outbox.kept().0, 1);
    outbox.acked(99);
    assert_eq!(outbox.kept(), (0, 0));
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_drops_nothing() {
    let mut outbox = Outbox::new(Limits::default());
    outbox.connected(0);
    drain(&mut outbox, 1);
    outbox.push(change());
    outbox.acked(1);
    assert_eq!(drain(&mut outbox, 1), ["d1"]);
}

#[test]
fn a_change_too_large_for_a_message_goes_as_a_snapshot() {
    let mut outbox = Outbox::new(Limits::default());
    outbox.connected(0);
    drain(&mut outbox, 1);
    outbox.push(Update {
        upserts: whole(20_000).entries,
        ..Update::default()
    });
    let words = drain(&mut outbox, 1_200);
    assert_eq!(words, ["s1[0]", "s1[1]", "s1[2]!"]);
}

#[test]
fn a_resync_in_the_middle_of_a_snapshot_starts_it_anew() {
    let mut outbox = Outbox::new(Limits::default());
    outbox.connected(0);
    outbox.next(|| whole(1_200)).unwrap();
    outbox.push(change());
    outbox.resync();
    assert_eq!(drain(&mut outbox, 600), ["s1[0]", "s1[1]!"]);
}

#[test]
fn changes_during_a_snapshot_follow_it() {
    let mut outbox = Outbox::new(Limits::default());
    outbox.connected(0);
    outbox.next(|| whole(600)).unwrap();
    outbox.push(change());
    assert_eq!(drain(&mut outbox, 9), ["s0[1]!", "d1"]);
}

#[test]
fn chunks_stay_below_the_message_bound_and_carry_every_entry_once() {
    let limits = Limits {
        message: 2_000,
        ..Limits::default()
    };
    let mut outbox = Outbox::new(limits);
    outbox.connected(0);
    let mut seen = Vec::new();
    let mut chunks = 0;
    while let Some(message) = outbox.next(|| whole(500)) {
        assert!(message.encoded_len() <= 2_010, "{} bytes", message.encoded_len());
        let Some(Kind::Snapshot(chunk)) = message.kind else {
            panic!("not a chunk")
        };
        assert_eq!(chunk.facts.is_some(), chunk.index == 0);
        chunks += 1;
        seen.extend(
            chunk
                .entries
                .iter()
                .map(|e| ForwardingEntry::try_from(e).unwrap().prefix),
        );
    }
    assert!(chunks > 5);
    let expected: Vec<_> = whole(500).entries.iter().map(|e| e.prefix).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_heartbeat_names_the_last_change_sent_and_waits_for_the_backlog() {
    let mut outbox = Outbox::new(Limits::default());
    assert!(outbox.heartbeat(at(), None).is_none());
    outbox.connected(0);
    assert!(outbox.heartbeat(at(), None).is_none());
    drain(&mut outbox, 1);
    outbox.push(change());
    assert!(outbox.heartbeat(at(), None).is_none());
    drain(&mut outbox, 1);
    let Some(Kind::Heartbeat(heartbeat)) = outbox.heartbeat(at(), None).unwrap().kind else {
        panic!("not a heartbeat")
    };
    assert_eq!(heartbeat.sequence, 1);
}
