//! The demo: builds, starts, shows that all is well, then breaks one thing
//! after another and shows what was found.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::binaries::{self, Binaries};
use crate::breaks::Break;
use crate::control::{self, Asked, Request};
use crate::drill::{self, Outcome};
use crate::forward::{self, Forward};
use crate::held::Held;
use crate::lab::Lab;
use crate::programs::{AGGREGATOR, AGGREGATOR_HTTP, PATIENCE};
use crate::show::{self, Screen};
use crate::state;
use crate::stop;
use crate::topology::Plan;

/// What the demo is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The hosts.
    pub plan: Plan,
    /// Keep it running for people instead of breaking it.
    pub hold: bool,
    /// Only these breaks; empty: all that apply.
    pub only: Vec<Break>,
    /// The user's own id.
    pub uid: u32,
}

/// Runs it. `Ok(false)`: something was not found, or wrongly.
pub fn run(options: &Options) -> Result<bool> {
    for which in &options.only {
        if !which.applies_to(options.plan.dataplane) {
            bail!("{} does not apply to {}", which.name(), options.plan.dataplane);
        }
    }
    let start = Instant::now();
    let screen = Screen::new();
    let binaries = binaries::find(|text| screen.step(text))?;
    if options.hold {
        hold(options, binaries, &screen)?;
        return Ok(true);
    }
    let directory = tempfile::Builder::new()
        .prefix("cidrift-demo-")
        .tempdir()
        .context("make a directory for the lab's files")?;
    let cleared = directory.path().to_owned();
    stop::on_signal(move || {
        // The programs end with this process; only the files would stay.
        let _ = std::fs::remove_dir_all(&cleared);
        std::process::exit(130);
    })?;
    let mut lab = begin(options, binaries, directory.path(), &screen)?;
    let outcomes = drills(options, &mut lab, &screen)?;
    screen.say(&show::summary(&outcomes));
    let missed = outcomes.iter().filter(|outcome| !outcome.faults.is_empty()).count();
    screen.say(&format!(
        "{} of {} breaks found, on the right node, and resolved; {:.0} s in all",
        outcomes.len() - missed,
        outcomes.len(),
        start.elapsed().as_secs_f64()
    ));
    Ok(missed == 0)
}

/// Builds hosts, starts programs, waits until all is well, shows it.
fn begin(options: &Options, binaries: Binaries, directory: &Path, screen: &Screen) -> Result<Lab> {
    let Plan { hosts, dataplane, .. } = options.plan;
    screen.step(&format!("building {hosts} hosts, {dataplane}, in network namespaces"));
    let mut lab = Lab::start(options.plan, binaries, directory)?;
    let patience: Vec<String> = PATIENCE.iter().map(|(flag, value)| format!("{flag} {value}")).collect();
    screen.step(&format!(
        "started an agent in each host and an aggregator at {AGGREGATOR} (with {}: the lab is quicker than a cluster)",
        patience.join(" ")
    ));
    screen.step("waiting until every agent reports and every pair is delivered");
    lab.wait_until_well()?;
    screen.say(&show::matrix(&lab.world)?);
    Ok(lab)
}

fn drills(options: &Options, lab: &mut Lab, screen: &Screen) -> Result<Vec<Outcome>> {
    let dataplane = options.plan.dataplane;
    let chosen =
        |which: &Break| which.applies_to(dataplane) && (options.only.is_empty() || options.only.contains(which));
    let breaks: Vec<Break> = Break::ALL.into_iter().filter(chosen).collect();
    let mut outcomes = Vec::new();
    for (number, &which) in breaks.iter().enumerate() {
        screen.step(&format!(
            "break {} of {}, {}: {}",
            number + 1,
            breaks.len(),
            which.name(),
            which.description()
        ));
        let outcome = drill::run(lab, which)?;
        screen.say(&show::outcome(&outcome));
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

enum Event {
    Asked(Asked),
    Stop,
}

/// Keeps a lab running until it is told to end.
fn hold(options: &Options, binaries: Binaries, screen: &Screen) -> Result<()> {
    let directory = state::path(options.uid);
    state::make(&directory).with_context(|| format!("make {}", directory.display()))?;
    let (events, inbox) = channel();
    let asked: Sender<Event> = events.clone();
    control::listen(&state::socket(&directory), move |request| {
        // Nobody listens only when the lab is ending.
        let _ = asked.send(Event::Asked(request));
    })
    .context("open the control socket")?;
    stop::on_signal(move || {
        let _ = events.send(Event::Stop);
    })?;
    let kubectl = binaries.kubectl.clone();
    let result = begin(options, binaries, &directory, screen).and_then(|mut lab| {
        let (text, _doors) = how_to_try(&lab, &kubectl)?;
        screen.say(&text);
        let mut held = Held::default();
        for event in inbox {
            match event {
                Event::Stop => break,
                Event::Asked((request, answer)) => {
                    let down = request == Request::Down;
                    // Who asked may have gone meanwhile.
                    let _ = answer.send(held.answer(&mut lab.world, &request));
                    if down {
                        // Long enough for the answer to be written.
                        std::thread::sleep(std::time::Duration::from_millis(100));
                        break;
                    }
                }
            }
            if let Some(fallen) = lab.programs.fallen() {
                screen.say(&format!("warning: {fallen}"));
            }
        }
        screen.say("the lab ends");
        Ok(())
    });
    if let Err(error) = std::fs::remove_dir_all(&directory) {
        screen.say(&format!("{} could not be removed: {error}", directory.display()));
    }
    result
}

/// The text, and the doors that it speaks of: they are open while they are held.
fn how_to_try(lab: &Lab, kubectl: &Path) -> Result<(String, [Forward; 2])> {
    let target = |address: &str| -> Result<SocketAddr> { Ok(address.parse()?) };
    let underlay = &lab.world.topology.underlay;
    let grpc = forward::open(underlay, 7440, target(AGGREGATOR)?).context("listen on 127.0.0.1")?;
    let http = forward::open(underlay, 7441, target(AGGREGATOR_HTTP)?).context("listen on 127.0.0.1")?;
    let (grpc_address, http_address) = (grpc.address(), http.address());
    let kubectl = kubectl.display();
    let own: PathBuf = std::env::current_exe().context("own path")?;
    let own = own.display();
    let ca = lab.world.ca();
    let ca = ca.display();
    let text = format!(
        "\
The lab is up. In another terminal:
  export CIDRIFT_SERVER=https://{grpc_address} CIDRIFT_CA={ca}
  {kubectl} status
  {kubectl} findings --watch
  {kubectl} path h1 h2
  curl http://{http_address}/metrics
Break it, look, mend it:
  {own} breaks
  {own} break blackhole
  {own} mend blackhole
End it with Ctrl-C or `{own} down`."
    );
    Ok((text, [grpc, http]))
}
