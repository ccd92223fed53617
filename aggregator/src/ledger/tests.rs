use cidrift_proto::finding::Severity;

use super::*;

const HOLD: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_secs(30);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn claim(subject: &str, rows: &[&str], trigger: Trigger) -> Claim {
    Claim {
        code: Code::Path01,
        subject: subject.to_owned(),
        severity: Severity::Error,
        nodes: vec![subject.to_owned()],
        summary: "no route".to_owned(),
        affected: rows
            .iter()
            .map(|row| Affected {
                prefix: Some(row.parse().unwrap()),
                node: None,
                detail: String::new(),
            })
            .collect(),
        affected_total: u32::try_from(rows.len()).unwrap(),
        evidence: Vec::new(),
        unseen: Vec::new(),
        cause: String::new(),
        remedy: String::new(),
        changed_at: None,
        trigger,
    }
}

fn gone(_: &Claim, _: Option<&Affected>) -> Fate {
    Fate::Gone("it is right".to_owned())
}

fn unseen(_: &Claim, _: Option<&Affected>) -> Fate {
    Fate::Unseen("nobody can be asked".to_owned())
}

fn row() -> Group {
    Group::Row("a".to_owned())
}

fn changes(ledger: &mut Ledger, now: Timestamp) -> Vec<(String, FindingState, u32)> {
    let changes = ledger.drain(|_, _| Vec::new(), now);
    changes.iter().map(|f| (f.id.clone(), f.state, f.episode)).collect()
}

#[test]
fn a_claim_counts_when_it_has_lasted_and_not_before() {
    for (trigger, wait) in [(Trigger::Host, 1), (Trigger::ControlPlane, 30)] {
        let mut ledger = Ledger::new(HOLD, SETTLE);
        ledger.replace(row(), vec![claim("a", &["10.0.0.0/24"], trigger)], &gone, at(0));
        ledger.tick(at(wait - 1));
        assert_eq!(ledger.standing().next().unwrap().state, FindingState::Pending);
        ledger.tick(at(wait));
        assert_eq!(ledger.standing().next().unwrap().opened_at, Some(at(wait)));
    }
}

#[test]
fn nothing_resolves_a_finding_that_nobody_can_see() {
    let mut ledger = Ledger::new(HOLD, SETTLE);
    ledger.replace(row(), vec![claim("a", &["10.0.0.0/24"], Trigger::Host)], &gone, at(0));
    ledger.tick(at(1));
    ledger.replace(row(), Vec::new(), &unseen, at(2));
    let finding = ledger.standing().next().unwrap().clone();
    assert!(finding.stale && finding.claim.unseen == ["nobody can be asked"]);
    ledger.replace(row(), Vec::new(), &gone, at(3));
    assert_eq!(
        ledger.history().next().unwrap().resolution.as_deref(),
        Some("it is right")
    );
}

#[test]
fn what_is_pending_and_out_of_sight_does_not_begin_to_count() {
    let mut ledger = Ledger::new(HOLD, SETTLE);
    ledger.replace(row(), vec![claim("a", &["10.0.0.0/24"], Trigger::Host)], &gone, at(0));
    ledger.replace(row(), Vec::new(), &unseen, at(0));
    ledger.tick(at(100));
    assert_eq!(ledger.standing().next().unwrap().state, FindingState::Pending);
    ledger.replace(row(), vec![claim("a", &["10.0.0.0/24"], Trigger::Host)], &gone, at(100));
    ledger.tick(at(100));
    assert_eq!(
        ledger.standing().next().unwrap().state,
        FindingState::Pending,
        "it must last from now"
    );
}

#[test]
fn a_row_that_nobody_can_see_stays_in_a_claim_that_goes_on() {
    let mut ledger = Ledger::new(HOLD, SETTLE);
    let both = claim("a", &["10.0.0.0/24", "10.0.1.0/24"], Trigger::Host);
    ledger.replace(row(), vec![both], &gone, at(0));
    ledger.replace(row(), vec![claim("a", &["10.0.0.0/24"], Trigger::Host)], &unseen, at(1));
    assert_eq!(ledger.standing().next().unwrap().claim.affected_total, 2);
    ledger.replace(row(), vec![claim("a", &["10.0.0.0/24"], Trigger::Host)], &gone, at(2));
    assert_eq!(ledger.standing().next().unwrap().claim.affected_total, 1);
}

#[test]
fn saying_the_same_again_is_no_change_and_a_worse_severity_is() {
    let mut ledger = Ledger::new(HOLD, SETTLE);
    let mut same = claim("a", &["10.0.0.0/24"], Trigger::Host);
    ledger.replace(row(), vec![same.clone()], &gone, at(0));
    assert_eq!(changes(&mut ledger, at(0)).len(), 1);
    same.changed_at = Some(at(5));
    ledger.replace(row(), vec![same.clone()], &gone, at(5));
    assert_eq!(changes(&mut ledger, at(5)), []);
    assert_eq!(ledger.standing().next().unwrap().updated_at, at(0));
    same.severity = Severity::Critical;
    ledger.replace(row(), vec![same], &gone, at(6));
    assert_eq!(changes(&mut ledger, at(6)).len(), 1);
}

#[test]
fn withdrawn_ones_are_told_and_leave_no_trace() {
    let mut ledger = Ledger::new(HOLD, SETTLE);
    ledger.replace(row(), vec![claim("a", &[], Trigger::Host)], &gone, at(0));
    ledger.replace(row(), Vec::new(), &gone, at(0));
    let told = changes(&mut ledger, at(0));
    assert_eq!(told, [("PATH01/a".to_owned(), FindingState::Withdrawn, 1)]);
    assert_eq!(ledger.history().count(), 0);
    assert!(!ledger.has(&row()));
}

#[test]
fn history_is_bounded_and_forgets_episodes_with_it() {
    let mut ledger = Ledger::new(HOLD, SETTLE);
    let turn = |ledger: &mut Ledger, subject: &str, second: i64| {
        let group = Group::Row(subject.to_owned());
        ledger.replace(
            group.clone(),
            vec![claim(subject, &[], Trigger::Host)],
            &gone,
            at(second),
        );
        ledger.tick(at(second + 1));
        let episode = ledger.standing().next().unwrap().episode;
        ledger.replace(group, Vec::new(), &gone, at(second + 1));
        episode
    };
    assert_eq!((turn(&mut ledger, "a", 0), turn(&mut ledger, "a", 2)), (1, 2));
    for other in 0..HISTORY {
        turn(&mut ledger, &format!("n{other}"), 10);
    }
    assert_eq!(ledger.history().count(), HISTORY);
    assert_eq!(ledger.episodes.len(), HISTORY);
    assert_eq!(turn(&mut ledger, "a", 20), 1, "its earlier episodes are forgotten");
}

#[test]
fn a_finding_is_linked_to_what_explains_it_as_long_as_that_stands() {
    let explain: Explain = |claim, stands| {
        let id = "PATH01/b".to_owned();
        Some(id)
            .filter(|id| claim.subject == "a" && stands(id))
            .into_iter()
            .collect()
    };
    let mut ledger = Ledger::new(HOLD, SETTLE);
    ledger.replace(row(), vec![claim("a", &[], Trigger::Host)], &gone, at(0));
    let other = Group::Row("b".to_owned());
    ledger.replace(other.clone(), vec![claim("b", &[], Trigger::Host)], &gone, at(0));
    ledger.drain(explain, at(0));
    assert_eq!(ledger.standing().next().unwrap().explained_by, ["PATH01/b"]);
    ledger.replace(other, Vec::new(), &gone, at(1));
    let told = ledger.drain(explain, at(1));
    assert_eq!(told.len(), 2, "the one that is over, and the one it explained");
    assert!(ledger.standing().next().unwrap().explained_by.is_empty());
}
