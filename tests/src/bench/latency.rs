//! From a route change in the kernel to a finding at a subscriber, beside the
//! kernel's own notification of the same change.

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::raw::Listener;
use super::{Figure, ms, percentile};
use crate::binaries::Binaries;
use crate::breaks::Break;
use crate::lab::Lab;
use crate::topology::{Dataplane, Plan};

/// Far more than a change takes; a lost one ends the measurement.
const LOST: Duration = Duration::from_secs(10);

/// Deletes and restores h1's route to h2's pods, `changes` changes in all, one
/// after the other: each waits for the subscriber's event of the one before.
pub fn run(binaries: Binaries, directory: &Path, changes: usize) -> Result<Vec<Figure>> {
    let plan = Plan {
        hosts: 3,
        dataplane: Dataplane::Vxlan,
        dual_stack: false,
    };
    let mut lab = Lab::start(plan, binaries, directory)?;
    lab.wait_until_well()?;
    let drill = Break::PeerRouteDeleted
        .plan(&lab.world)
        .context("no plan for the break")?;
    let id = cidrift_proto::finding::finding_id(drill.expected.code, &drill.expected.subject);

    let (arrivals, arrived) = channel();
    let mut listener = lab.world.topology.host("h1")?.netns.run(Listener::new)??;
    // It ends with the process: nothing interrupts a blocking recv.
    std::thread::spawn(move || {
        while let Ok(at) = listener.wait() {
            if arrivals.send(at).is_err() {
                break;
            }
        }
    });

    let (mut notified, mut found) = (Vec::new(), Vec::new());
    for number in 0..changes {
        let deleting = number % 2 == 0;
        let steps = if deleting { &drill.steps } else { &drill.undo };
        let seen = lab.subscriber.look(|board| board.log.len());
        let start = Instant::now();
        lab.world.apply_all(steps)?;
        let event = lab
            .subscriber
            .wait(LOST, |board| {
                let mut later = board.log.get(seen..).unwrap_or_default().iter();
                let event = later.find(|seen| seen.finding.id == id && seen.finding.stands() == deleting)?;
                Some(event.at)
            })
            .with_context(|| format!("change {number} brought no event of {id}"))?;
        let raw = arrived.recv_timeout(LOST).context("the kernel sent no notification")?;
        notified.push(ms(raw.duration_since(start)));
        found.push(ms(event.duration_since(start)));
    }
    let mut figures = Vec::new();
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        let what = format!("route change to finding at a subscriber, {name} of {changes}");
        let figure = Figure::new(what, percentile(&mut found, share), "ms").beside(percentile(&mut notified, share));
        figures.push(if name == "p99" { figure.aim_value(20.0) } else { figure });
    }
    Ok(figures)
}
