//! `resolve` against the kernel: random tables, rules, nexthop objects and
//! devices in namespaces of our own, seen through the agent's observer, and
//! 100,000 random lookups that `RTM_GETROUTE` must answer as `resolve` does.

// Every function here is a test or a test's hand.
#![allow(clippy::unwrap_used)]

mod judge;
mod random;
mod tables;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use cidrift_agent::resolve::{Flow, Resolver};
use cidrift_agent::view::Kernel;
use cidrift_lab::netns::Netns;
use cidrift_lab::require::{Need, have};

use judge::Class;
use random::Random;
use wire::Answer;
use world::{Picture, World};

const NAMESPACES: u64 = 50;
const STATES: u64 = 10;
const LOOKUPS: usize = 200;

/// `CIDRIFT_SEED` repeats a run; otherwise every run is another one.
fn seed() -> u64 {
    match std::env::var("CIDRIFT_SEED") {
        Ok(text) => text.parse().expect("CIDRIFT_SEED is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    }
}

/// A view, lookups and the kernel's answers, two each, given in the state of the
/// view: IPv6 adds and removes some routes from work queues of its own.
fn look_and_ask(world: &mut World, random: &mut Random) -> (Kernel, Vec<Flow>, Vec<Answer>) {
    let seed = random.next();
    for _ in 0..200 {
        let kernel = world.view();
        let random = &mut Random::new(seed);
        let flows: Vec<Flow> = world::destinations(&kernel, random, LOOKUPS)
            .into_iter()
            .map(|destination| judge::flow(random, &world.ground, destination))
            .collect();
        let questions: Vec<_> = flows.iter().flat_map(judge::questions).collect();
        let answers = world.wire.ask(&questions);
        if Picture::from(&kernel) == Picture::from(&world.view()) {
            return (kernel, flows, answers);
        }
    }
    panic!("the namespace does not come to rest");
}

/// One namespace through its states. Those with `rules` have policy rules of
/// their own, the others are as a kernel boots.
fn namespace(seed: u64, rules: bool, counts: &mut BTreeMap<Class, usize>) -> Result<(usize, usize), String> {
    let mut random = Random::new(seed);
    let netns = Netns::new("resolve").unwrap();
    let walk = || {
        let mut world = World::new(&netns, &mut random, rules);
        for state in 0..STATES {
            world.shuffle(&mut random);
            let (kernel, flows, answers) = look_and_ask(&mut world, &mut random);
            let resolver = Resolver::new(&kernel, &[]);
            for (flow, answers) in flows.iter().zip(answers.chunks(2)) {
                let decision = resolver.lookup(flow);
                match judge::compare(&kernel, flow, &decision, answers, rules) {
                    Ok(class) => *counts.entry(class).or_default() += 1,
                    Err(difference) => {
                        let all = judge::explain(&kernel, flow, &resolver);
                        return Err(format!("state {state}: {difference}\n{all}"));
                    }
                }
            }
        }
        Ok((world.taken, world.refused))
    };
    netns.run(walk).unwrap()
}

#[test]
fn resolve_agrees_with_the_kernel_on_100_000_random_lookups() {
    if !have(Need::Netns) {
        return;
    }
    let seed = seed();
    eprintln!("CIDRIFT_SEED={seed}");
    let mut counts = BTreeMap::new();
    let (mut taken, mut refused) = (0, 0);
    for number in 0..NAMESPACES {
        // Every fifth has no rules of its own: then IPv4 looks tables local and main up as one.
        let (t, r) = namespace(seed + number, number % 5 != 0, &mut counts)
            .unwrap_or_else(|difference| panic!("CIDRIFT_SEED={seed}, namespace {number}, {difference}"));
        taken += t;
        refused += r;
    }
    eprintln!("{taken} changes taken, {refused} refused; {counts:?}");
    let total: usize = counts.values().sum();
    assert_eq!(total, usize::try_from(NAMESPACES * STATES).unwrap() * LOOKUPS);
    assert!(total >= 100_000);
    // A generator that no longer reaches a case would prove nothing of it.
    assert!(
        counts.len() == 8 && counts.values().all(|count| *count >= 200),
        "{counts:?}"
    );
    assert!(refused * 3 < taken, "the kernel refuses too much of what is tried");
}
