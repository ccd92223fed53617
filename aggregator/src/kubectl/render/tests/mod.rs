mod fixes;
mod plans;
pub(super) mod samples;

use cidrift_proto::catalogue::{CATALOGUE, Code};
use cidrift_proto::finding::{Finding, Severity};
use cidrift_proto::verdict::{CidrVerdict, Verdict};
use insta::assert_snapshot;
use proptest::prelude::*;

use self::samples::*;
use super::*;
use crate::cluster::ReportState;
use crate::query::answer::{PathAnswer, PathRow, PathsAnswer, WatchEvent, WayAnswer};
use crate::summary::{Health, NodeSummary};

#[test]
fn status_of_an_empty_cluster_is_unknown() {
    let mut answer = status_of(&[], &[], &["no control-plane state has been read yet"]);
    answer.status.control_plane_source = String::new();
    answer.status.control_plane_problem = Some("nodes.yaml: line 3: mapping expected".into());
    answer.status.control_plane_at = None;
    let text = narrow(status(&answer, &[], &[], &TABLE));
    assert!(!text.contains("healthy"));
    assert_snapshot!(text);
}

#[test]
fn status_of_three_healthy_nodes() {
    let nodes = cluster(&names(3));
    assert_snapshot!(narrow(status(&status_of(&nodes, &[], &[]), &[], &nodes, &TABLE)));
}

#[test]
fn status_says_that_nobody_is_identified() {
    let mut answer = status_of(&cluster(&names(1)), &[], &[]);
    assert!(!status(&answer, &[], &[], &TABLE).contains("trust"));
    answer.identity_warning = Some("nobody is identified".into());
    let text = narrow(status(&answer, &[], &[], &TABLE));
    assert!(text.contains("\n  trust         nobody is identified\n"), "{text}");
}

#[test]
fn status_shows_what_is_not_seen() {
    let mut nodes = cluster(&names(3));
    for verdict in &mut nodes[2].verdicts {
        verdict.verdict = Verdict::Unknown {
            reason: "its agent does not report".into(),
        };
        verdict.landings.clear();
    }
    nodes[2].summary = summary("node-c", 2, &nodes[2].verdicts);
    let answer = status_of(&nodes, &[], &["node-c: its agent has been silent for 3m"]);
    let text = narrow(status(&answer, &[], &nodes, &TABLE));
    assert!(!text.contains("healthy"));
    assert_snapshot!(text);
}

#[test]
fn status_does_not_say_that_nothing_is_wrong_beside_what_is_pending_or_broken() {
    let word = |broken: u64, findings: &[Finding]| {
        let mut answer = status_of(
            &cluster(&names(3)),
            findings,
            &["PATH01/node-a: seen, but not for long enough to count"],
        );
        answer.status.pairs.broken = broken;
        let text = status(&answer, findings, &[], &TABLE);
        text.lines()
            .find_map(|line| line.strip_prefix("Health          "))
            .unwrap()
            .to_owned()
    };
    let pending_only = word(1, &[pending()]);
    assert!(
        pending_only.contains("something looks wrong, but has not lasted long enough"),
        "{pending_only}"
    );
    assert!(word(1, &[]).contains("some ways are broken"));
    let mut info = pending();
    info.claim.severity = Severity::Info;
    assert!(
        word(0, &[info]).contains("nothing is known to be wrong"),
        "information is nothing wrong"
    );
}

#[test]
fn status_with_each_kind_of_verdict_and_findings() {
    let nodes = every_verdict();
    let findings = [route_missing(), pending()];
    let answer = status_of(&nodes, &findings, &["node-i: its agent does not report"]);
    assert_snapshot!(narrow(status(&answer, &findings, &nodes, &TABLE)));
}

#[test]
fn status_of_twelve_nodes_with_long_names_fits() {
    let names: Vec<String> = (0..12)
        .map(|n| format!("ip-10-0-131-{n}.eu-central-1.compute.internal"))
        .collect();
    let nodes = cluster(&names);
    assert_snapshot!(narrow(status(&status_of(&nodes, &[], &[]), &[], &nodes, &TABLE)));
}

#[test]
fn a_dual_stack_cluster_has_a_matrix_for_each_family() {
    let mut nodes = cluster(&names(2));
    for (i, node) in nodes.iter_mut().enumerate() {
        let name = node.summary.name.clone();
        node.summary
            .pod_cidrs
            .push(format!("fd00:10:244:{i}::/64").parse().unwrap());
        for (j, owner) in names(2).iter().enumerate() {
            let how = if i == j { Verdict::Local } else { Verdict::Delivered };
            node.verdicts
                .push(verdict(&name, owner, &format!("fd00:10:244:{j}::/64"), how, bridge()));
        }
    }
    assert_snapshot!(narrow(status(&status_of(&nodes, &[], &[]), &[], &nodes, &TABLE)));
}

#[test]
fn nodes_in_rows() {
    let mut rows: Vec<NodeSummary> = every_verdict().into_iter().map(|node| node.summary).collect();
    rows.truncate(4);
    rows[0].findings = vec!["PATH01/node-a".into(), "PATH07/node-b".into(), "PATH01/node-b".into()];
    rows[1].ready = false;
    rows[2].report = ReportState::Silent;
    rows[2].last_report = Some(ago(200));
    rows[2].health = Health::Unknown;
    rows[3].in_control_plane = false;
    rows[3].pod_cidrs.clear();
    rows[3].report = ReportState::Syncing;
    rows[3].health = Health::Unknown;
    assert_snapshot!("nodes_table", narrow(nodes(&rows, &TABLE)));
    assert_snapshot!("nodes_wide", nodes(&rows, &WIDE));
    assert_snapshot!("nodes_none", nodes(&[], &TABLE));
}

#[test]
fn one_node_with_everything() {
    let mut answer = every_verdict().swap_remove(0);
    answer.facts = Some(facts());
    answer.findings = vec![route_missing()];
    assert_snapshot!("node_table", narrow(node(&answer, &TABLE)));
    assert_snapshot!("node_wide", node(&answer, &WIDE));
}

#[test]
fn a_node_that_nobody_reports_for_is_unknown() {
    let mut answer = cluster(&names(1)).swap_remove(0);
    answer.summary.report = ReportState::Never;
    answer.summary.last_report = None;
    answer.summary.agent_version = String::new();
    answer.summary.health = Health::Unknown;
    answer.verdicts.clear();
    let text = narrow(node(&answer, &TABLE));
    assert!(!text.contains("healthy"));
    assert_snapshot!(text);
}

#[test]
fn findings_read_like_a_compilers_errors() {
    let all = [route_missing(), pending(), resolved()];
    assert_snapshot!(narrow(findings(&all, Health::Findings, &[], &TABLE)));
}

#[test]
fn a_finding_about_many_things_shows_some_and_counts_the_rest() {
    let mut finding = route_missing();
    let row = finding.claim.affected[0].clone();
    finding.claim.affected = vec![row; 64];
    finding.claim.affected_total = 5000;
    let evidence = finding.claim.evidence[0].clone();
    finding.claim.evidence = vec![evidence; 20];
    finding.claim.nodes = names(20);
    assert_snapshot!(narrow(super::finding(&finding, &TABLE)));
    assert!(super::finding(&finding, &WIDE).contains("… and 4936 more\n"));
}

#[test]
fn no_finding_is_not_health_where_not_everything_was_seen() {
    let healthy = findings(&[], Health::Healthy, &[], &TABLE);
    assert_eq!(healthy, "No finding is open.\n");
    let unknown = findings(&[], Health::Unknown, &["node-c does not report".into()], &TABLE);
    assert_snapshot!(narrow(unknown));
}

#[test]
fn a_watch_is_a_line_for_each_change() {
    let finding = |finding| WatchEvent::Finding {
        finding: Box::new(finding),
    };
    let text: String = [
        finding(pending()),
        WatchEvent::Synced,
        finding(route_missing()),
        WatchEvent::Lagged { missed: 12 },
        finding(resolved()),
    ]
    .iter()
    .map(|each| event(each, &TABLE))
    .collect();
    assert_snapshot!(text);
}

#[test]
fn a_path_is_shown_both_ways() {
    let nodes = every_verdict();
    let forward = vec![nodes[0].verdicts[2].clone()];
    let backward = vec![nodes[2].verdicts[0].clone()];
    let answer = PathAnswer {
        from: "node-a".into(),
        to: "node-c".into(),
        health: PathAnswer::judge(&forward, &backward),
        forward,
        backward,
    };
    assert_eq!(answer.health, Health::Findings);
    assert_snapshot!(narrow(path(&answer, &TABLE)));
}

#[test]
fn a_path_of_a_node_to_itself_is_shown_once() {
    let verdicts = every_verdict()[0].verdicts[..2].to_vec();
    let shown = |forward: &[CidrVerdict], backward: &[CidrVerdict]| {
        let answer = PathAnswer {
            from: "node-a".into(),
            to: "node-a".into(),
            health: PathAnswer::judge(forward, backward),
            forward: forward.to_vec(),
            backward: backward.to_vec(),
        };
        path(&answer, &TABLE).matches("node-a -> node-a").count()
    };
    assert_eq!(shown(&verdicts, &verdicts), 1);
    assert_eq!(shown(&[], &[]), 1);
    // Asked for by addresses in two of its CIDRs.
    assert_eq!(shown(&verdicts[..1], &verdicts[1..]), 2);
}

#[test]
fn a_way_without_a_verdict_is_unknown() {
    let nodes = cluster(&names(2));
    let one_way = PathAnswer::judge(&nodes[0].verdicts, &[]);
    assert_eq!(one_way, Health::Unknown);
    assert_eq!(
        PathAnswer::judge(&nodes[0].verdicts, &nodes[1].verdicts),
        Health::Healthy
    );
    let answer = PathAnswer {
        from: "node-a".into(),
        to: "node-b".into(),
        forward: Vec::new(),
        backward: Vec::new(),
        health: Health::Unknown,
    };
    assert_snapshot!(narrow(path(&answer, &TABLE)));
}

#[test]
fn of_all_ways_to_a_node_those_are_shown_that_are_not_right() {
    let nodes = every_verdict();
    let row = |from: &str, forward: &[CidrVerdict], backward: &[CidrVerdict]| PathRow {
        from: from.to_owned(),
        forward: WayAnswer::of(forward.to_vec()),
        backward: WayAnswer::of(backward.to_vec()),
    };
    let right = &cluster(&names(2))[0].verdicts;
    let rows = vec![
        row("node-a", &nodes[0].verdicts[2..], &nodes[2].verdicts[..1]),
        row("node-b", right, right),
        row("node-d", &[], right),
    ];
    let mut answer = PathsAnswer {
        to: "node-c".into(),
        health: Health::Findings,
        rows,
    };
    assert_snapshot!("paths_wrong", narrow(paths(&answer, &TABLE)));
    answer.rows.retain(|row| row.from == "node-b");
    assert_snapshot!("paths_right", narrow(paths(&answer, &TABLE)));
    answer.rows.clear();
    assert!(paths(&answer, &TABLE).starts_with("unknown: "));
}

#[test]
fn the_pool_known_and_unknown() {
    assert_snapshot!("pool_known", narrow(pool(&a_pool(), &TABLE)));
    let mut unknown = a_pool();
    unknown.ranges.clear();
    unknown.service_ranges.clear();
    unknown.unknown = Some("no --cluster-cidr was given".into());
    for node in &mut unknown.nodes {
        node.in_pool = None;
    }
    assert_snapshot!("pool_unknown", narrow(pool(&unknown, &TABLE)));
}

#[test]
fn the_catalogue_and_a_page_of_it() {
    assert_snapshot!("catalogue", narrow(catalogue(&TABLE)));
    assert_snapshot!("page", page(Code::Pool02.entry(), &TABLE));
}

/// Commands are for copying and may be longer than a line.
#[test]
fn every_pages_prose_fits() {
    for entry in CATALOGUE {
        let commands: Vec<&str> = entry
            .look
            .iter()
            .chain(entry.remedy)
            .filter_map(|step| step.command)
            .flat_map(str::lines)
            .collect();
        for line in page(entry, &TABLE).lines() {
            assert!(
                line.chars().count() <= WIDTH || commands.contains(&line.trim()),
                "{}: {line}",
                entry.code
            );
        }
    }
}

#[test]
fn colours_only_where_they_are_wanted() {
    let nodes = every_verdict();
    let findings = [route_missing(), pending()];
    let answer = status_of(&nodes, &findings, &[]);
    let colour = Look { colour: true, ..TABLE };
    let plain = status(&answer, &findings, &nodes, &TABLE) + &super::findings(&findings, Health::Findings, &[], &TABLE);
    let coloured =
        status(&answer, &findings, &nodes, &colour) + &super::findings(&findings, Health::Findings, &[], &colour);
    assert!(!plain.contains('\x1b'));
    assert!(coloured.contains("\x1b["));
    let mut stripped = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        stripped += before;
        rest = after.split_once('m').map_or("", |(_, text)| text);
    }
    stripped += rest;
    let trimmed: Vec<&str> = stripped.lines().map(str::trim_end).collect();
    assert_eq!(trimmed, plain.lines().collect::<Vec<_>>());
}

/// What programs read: fields are added, never renamed.
#[test]
fn machine_output_is_stable() {
    let mut answer = cluster(&names(2)).swap_remove(0);
    answer.facts = Some(facts());
    answer.findings = vec![route_missing()];
    insta::assert_json_snapshot!("machine_node", answer);
    insta::assert_json_snapshot!("machine_status", status_of(&[], &[], &["nothing was read"]));
    insta::assert_json_snapshot!("machine_pool", a_pool());
    insta::assert_json_snapshot!(
        "machine_watch",
        [
            WatchEvent::Finding {
                finding: Box::new(pending())
            },
            WatchEvent::Synced,
            WatchEvent::Lagged { missed: 3 }
        ]
    );
    insta::assert_json_snapshot!("machine_verdicts", every_verdict()[0].verdicts);
}

proptest! {
    /// Breaking lines loses no word and adds none, and only a word that is too long makes a line too long.
    #[test]
    fn wrapped_text_is_the_same_text(words in prop::collection::vec("[a-z.]{1,40}", 0..60)) {
        let text = words.join(" ");
        let wrapped = text::wrap("   = help: ", "           ", &text, &TABLE);
        let read: Vec<&str> = wrapped.split_whitespace().skip(2).collect();
        prop_assert_eq!(read, words);
        for line in wrapped.lines() {
            prop_assert!(line.chars().count() <= WIDTH, "{}", line);
        }
    }

    /// Whatever hosts and clusters say, it can be shown.
    #[test]
    fn any_words_can_be_shown(word in "\\PC{0,200}|[\\x00-\\x1f]{0,9}", seconds in -10_i64..10_000_000_000) {
        let mut finding = route_missing();
        finding.claim.summary.clone_from(&word);
        finding.claim.subject.clone_from(&word);
        finding.claim.remedy.clone_from(&word);
        finding.claim.evidence[0].text.clone_from(&word);
        finding.claim.nodes = vec![word.clone(), word.clone()];
        let look = Look { now: finding.first_seen + jiff::SignedDuration::from_secs(seconds), ..TABLE };
        let mut nodes = every_verdict();
        nodes[1].summary.name.clone_from(&word);
        nodes[2].verdicts[0].owner.clone_from(&word);
        let answer = status_of(&nodes, std::slice::from_ref(&finding), &[&word]);
        let shown = status(&answer, std::slice::from_ref(&finding), &nodes, &look)
            + &super::finding(&finding, &look)
            + &event(&WatchEvent::Finding { finding: Box::new(finding) }, &look)
            + &node(&nodes[1], &look);
        prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{:?}", shown);
    }
}
