//! Hosts, agents, aggregator and a subscriber together: every break is found
//! where it is and resolves, and what the programs cannot see they do not claim.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use cidrift_lab::binaries::Binaries;
use cidrift_lab::breaks::Break;
use cidrift_lab::dataplane::peer_steps;
use cidrift_lab::lab::{Lab, PATIENCE};
use cidrift_lab::require::{Need, have};
use cidrift_lab::step::{Step, Verb};
use cidrift_lab::subscriber::Board;
use cidrift_lab::topology::{Dataplane, Plan};
use cidrift_lab::{binaries, client, drill, host_files};
use cidrift_proto::finding::{Finding, FindingState};

/// One lab at a time: four programs each, and CI has two cores.
static TURN: Mutex<()> = Mutex::new(());

struct Fixture {
    lab: Lab,
    _directory: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

fn lab(dataplane: Dataplane) -> Fixture {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan {
        hosts: 3,
        dataplane,
        dual_stack: false,
    };
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    let binaries = BINARIES.get_or_init(|| binaries::find(|text| eprintln!("{text}")).unwrap());
    let mut lab = Lab::start(plan, binaries.clone(), directory.path()).unwrap();
    lab.wait_until_well().unwrap();
    Fixture {
        lab,
        _directory: directory,
        _turn: turn,
    }
}

/// Waits until `id` stands and `is` so.
fn wait_for(lab: &Lab, id: &str, is: impl Fn(&Finding) -> bool) -> bool {
    let found = |board: &Board| board.standing.get(id).filter(|finding| is(finding)).map(|_| ());
    lab.subscriber.wait(PATIENCE, found).is_some()
}

fn is_open(finding: &Finding) -> bool {
    finding.state == FindingState::Open
}

fn every_break_is_found(dataplane: Dataplane) {
    let mut fixture = lab(dataplane);
    let mut faults = Vec::new();
    for which in Break::ALL.into_iter().filter(|which| which.applies_to(dataplane)) {
        let outcome = drill::run(&mut fixture.lab, which).unwrap();
        faults.extend(
            outcome
                .faults
                .into_iter()
                .map(|fault| format!("{}: {fault}", which.name())),
        );
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn on_vxlan_every_break_is_found_on_the_right_node_and_resolves() {
    if !have(Need::Netns) {
        return;
    }
    every_break_is_found(Dataplane::Vxlan);
}

#[test]
fn on_host_gw_every_break_is_found_on_the_right_node_and_resolves() {
    if !have(Need::Netns) {
        return;
    }
    every_break_is_found(Dataplane::HostGw);
}

#[test]
fn a_restarted_aggregator_finds_again_what_is_still_broken_and_nothing_else() {
    if !have(Need::Netns) {
        return;
    }
    let mut fixture = lab(Dataplane::Vxlan);
    let lab = &mut fixture.lab;
    let plan = Break::Blackhole.plan(&lab.world).unwrap();
    lab.world.apply_all(&plan.steps).unwrap();
    assert!(wait_for(lab, "PATH04/h1", is_open));

    lab.programs.aggregator.kill();
    let unsynced = |board: &Board| (!board.synced).then_some(());
    assert!(lab.subscriber.wait(PATIENCE, unsynced).is_some());
    lab.programs.restart_aggregator(&lab.world).unwrap();
    let again = |board: &Board| {
        let finding = board.standing.get("PATH04/h1")?;
        (board.synced && is_open(finding)).then_some(())
    };
    assert!(lab.subscriber.wait(PATIENCE, again).is_some());

    lab.world.apply_all(&plan.undo).unwrap();
    lab.wait_until_well().unwrap();
}

#[test]
fn findings_of_a_silent_agent_are_stale_and_stand_until_it_says_otherwise() {
    if !have(Need::Netns) {
        return;
    }
    let mut fixture = lab(Dataplane::Vxlan);
    let lab = &mut fixture.lab;
    let plan = Break::Blackhole.plan(&lab.world).unwrap();
    lab.world.apply_all(&plan.steps).unwrap();
    assert!(wait_for(lab, "PATH04/h1", is_open));

    lab.programs.agents.get_mut("h1").unwrap().kill();
    assert!(wait_for(lab, "SEEN01/h1", is_open));
    assert!(wait_for(lab, "PATH04/h1", |finding| is_open(finding) && finding.stale));
    let status = client::status(&lab.world.topology.underlay, &lab.world.ca()).unwrap();
    assert!(status.unknown > 0, "what h1 does not report is unknown: {status:?}");

    // Nobody sees that it is mended: it must not resolve.
    lab.world.apply_all(&plan.undo).unwrap();
    let gone = |board: &Board| (!board.standing.contains_key("PATH04/h1")).then_some(());
    assert!(lab.subscriber.wait(Duration::from_secs(1), gone).is_none());

    lab.programs.start_agent(&lab.world, "h1").unwrap();
    lab.wait_until_well().unwrap();
}

#[test]
fn a_torn_snapshot_file_keeps_the_last_good_nodes_and_says_so() {
    if !have(Need::Netns) {
        return;
    }
    let mut fixture = lab(Dataplane::HostGw);
    let lab = &mut fixture.lab;
    let path = lab.world.cluster_state();
    let whole = std::fs::read_to_string(&path).unwrap();
    let torn = whole.get(..whole.len() / 2).unwrap();
    std::fs::write(&path, format!("{torn}\n  - {{")).unwrap();
    let underlay = lab.world.topology.underlay.clone();
    let told = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        !client::status(&underlay, &lab.world.ca())
            .unwrap()
            .control_plane_problem
            .is_empty()
    });
    assert!(told, "the aggregator does not say that the file is torn");
    let status = client::status(&underlay, &lab.world.ca()).unwrap();
    assert_eq!(status.nodes, 3, "{status:?}");
    assert_ne!(status.health, cidrift_proto::v1::Health::Healthy as i32, "{status:?}");

    lab.world.snapshot.write(&path).unwrap();
    lab.wait_until_well().unwrap();
}

/// Changes as a healthy cluster makes them all day.
fn harmless(lab: &mut Lab) {
    let dataplane = lab.world.topology.plan.dataplane;
    let identities: Vec<_> = lab
        .world
        .topology
        .hosts
        .iter()
        .map(|host| host.identity.clone())
        .collect();
    for host in &identities {
        // The CNI's daemon starts again and programs everything that is there already.
        for peer in identities.iter().filter(|peer| peer.number != host.number) {
            lab.world.apply_all(&peer_steps(dataplane, &host.name, peer)).unwrap();
        }
        lab.world.apply_all(&host_files::of(host, dataplane)).unwrap();
    }
    // The last pod of a node ends: its bridge is left without a carrier.
    let port = |number: u8| format!("veth{number}");
    for number in [1, 2] {
        lab.world.apply(&Step::on("h3", Verb::Down(port(number)))).unwrap();
    }
    for number in [1, 2] {
        lab.world.apply(&Step::on("h3", Verb::Up(port(number)))).unwrap();
    }
    // A Node becomes NotReady and Ready again.
    let mut node = lab.world.snapshot.nodes.get("h2").unwrap().clone();
    for ready in [false, true] {
        node.ready = ready;
        lab.world.apply(&Step::PutNode(node.clone())).unwrap();
    }
}

#[test]
fn nothing_counts_as_wrong_while_a_cluster_lives_its_life_and_the_programs_come_and_go() {
    if !have(Need::Netns) {
        return;
    }
    for dataplane in [Dataplane::Vxlan, Dataplane::HostGw] {
        let mut fixture = lab(dataplane);
        let lab = &mut fixture.lab;
        for _ in 0..5 {
            harmless(lab);
        }
        lab.wait_until_well().unwrap();
        for host in ["h1", "h2", "h3"] {
            lab.programs.agents.get_mut(host).unwrap().kill();
            lab.programs.start_agent(&lab.world, host).unwrap();
            lab.wait_until_well().unwrap();
        }
        lab.programs.aggregator.kill();
        lab.programs.restart_aggregator(&lab.world).unwrap();
        harmless(lab);
        lab.wait_until_well().unwrap();
        let counted: Vec<String> = lab.subscriber.look(|board| {
            let opened = board.log.iter().filter(|seen| is_open(&seen.finding));
            opened
                .map(|seen| format!("{}: {}", seen.finding.id, seen.finding.claim.summary))
                .collect()
        });
        assert!(counted.is_empty(), "{dataplane}: {}", counted.join("\n"));
    }
}
