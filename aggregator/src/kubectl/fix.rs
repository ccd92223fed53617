//! `kubectl cidrift fix`: shows a plan, and carries it out.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::path::Path;

use futures::future::select_all;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::again::again;
use super::app::Failure;
use super::args::{Args, FixArgs};
use super::eyes::Watching;
use super::outcome::Outcome;
use super::output::Output;
use super::plan::{also, named, now, target, unfinished, wish};
use super::render::{self, Look, Stopped};
use crate::fix::plan::{API_VERSION, NodePlan, Plan};
use crate::fix::planner::{self, Wish};
use crate::fix::run::{
    Halt, Held, Holder, LEASE, LeaseError, Planned, Progress, Record, Runner, Settings, Standing, Want, look,
};

pub(super) async fn run<W: Write>(args: &Args, wanted: &FixArgs, output: &mut Output<W>) -> Result<Outcome, Failure> {
    let masks = &wanted.masks;
    if wanted.migrate.is_empty()
        && masks
            .node_cidr_mask_size_ipv4
            .or(masks.node_cidr_mask_size_ipv6)
            .is_some()
    {
        return Err(Failure::Masks);
    }
    let eyes = Watching::open(args).await?;
    let client = eyes.cluster().impatient_client()?;
    let goes = wanted.resume || wanted.abort;
    let mut left = Vec::new();
    let want = if goes {
        let record = look(&client, &args.namespace, wanted.abort).await?;
        let record = record.ok_or(LeaseError::Nothing)?;
        let text = |look: &Look| render::record(&record, wanted.abort, look);
        let line = Line::of("Record", &record);
        if wanted.yes {
            output.event(&line, text)?;
        } else {
            output.answer(&line, text)?;
        }
        if wanted.abort { Want::Back } else { Want::Go }
    } else {
        let (stands, told) = unfinished(&client, &args.namespace).await;
        output.say(&told)?;
        let (mut plan, record) = planned(&eyes, wanted, stands.as_ref()).await?;
        also(args, &mut plan, told);
        let text = |look: &Look| render::plan(&plan, wanted.yes, look);
        // What follows is a line each.
        if wanted.yes {
            output.event(&plan, text)?;
        } else {
            output.answer(&plan, text)?;
        }
        let blocked = plan.nodes.iter().filter(|node| !node.blocked.is_empty());
        left.extend(blocked.map(|node| format!("{} was left out: {}", node.node, node.blocked.join("; "))));
        if record.queue.is_empty() {
            let left = plan.nodes.len() + plan.by_hand.len();
            output.say(match (plan.nodes.is_empty(), left) {
                (_, 0) => "",
                (true, _) => "\nA fix can do nothing about it.",
                (false, _) => "\nNo node may be begun as things are.",
            })?;
            return Ok(if left > 0 { Outcome::Findings } else { Outcome::Fine });
        }
        Want::New(Box::new(record))
    };
    if !wanted.yes {
        output.say("\nNothing was done. --yes acts.")?;
        return Ok(Outcome::Fine);
    }
    let cancel = CancellationToken::new();
    let interrupted = interrupted(cancel.clone(), !outlives());
    let output = RefCell::new(output);
    let tell = |progress: &Progress| {
        // Whoever reads may go away: what was begun is not left for that.
        let _ = output
            .borrow_mut()
            .event(&Line::of("Progress", progress), |look| render::progress(progress, look));
    };
    let acted = act(args, wanted, &eyes, want, &cancel, &tell);
    tokio::pin!(interrupted);
    let ended = tokio::select! {
        biased;
        ended = acted => ended?,
        never = &mut interrupted => match never {},
    };
    let (record, cordoned, ended) = ended;
    let again = again(args, wanted);
    let stopped = ended.as_ref().err().map(|halt| Stopped {
        halt,
        cordoned,
        again: &again,
    });
    output.borrow_mut().event(&Line::of("Record", &record), |look| {
        render::ended(&record, stopped.as_ref(), look)
    })?;
    for line in &left {
        output.borrow_mut().say(line)?;
    }
    Ok(match ended {
        Ok(()) if wanted.abort || (record.failures() == 0 && left.is_empty()) => Outcome::Fine,
        _ => Outcome::Findings,
    })
}

/// One of many answers, by what it is: a plan says that itself.
#[derive(Serialize)]
struct Line<'a, T> {
    kind: &'static str,
    #[serde(flatten)]
    of: &'a T,
}

impl<'a, T> Line<'a, T> {
    fn of(kind: &'static str, of: &'a T) -> Self {
        Self { kind, of }
    }
}

/// Takes the Lease and goes; with whether the node where it stopped is cordoned.
async fn act(
    args: &Args,
    wanted: &FixArgs,
    eyes: &Watching<'_>,
    want: Want,
    cancel: &CancellationToken,
    tell: &dyn Fn(&Progress),
) -> Result<(Record, Option<bool>, Result<(), Halt>), Failure> {
    let client = eyes.cluster().impatient_client()?;
    let wait = |who: &str| {
        tell(&Progress {
            at: Timestamp::now(),
            node: String::new(),
            step: None,
            text: format!("waits to see whether {who} still renews Lease {LEASE}"),
        });
    };
    let taken = Held::take(&client, &args.namespace, want, &Holder::this(), &wait).await?;
    let settings = Settings {
        namespace: args.namespace.clone(),
        drain: wanted.drain_timeout,
        patience: wanted.node_timeout,
        verify: wanted.verify_timeout,
        restart: wanted.restart_command.clone(),
        after: wanted.after_command.clone(),
        window: wanted.window,
    };
    let mut runner = Runner::new(client, eyes, taken, &settings, tell);
    let ended = if wanted.abort {
        runner.abort(cancel).await
    } else {
        runner.run(cancel).await
    };
    Ok((runner.record, runner.cordoned, ended))
}

/// Plans, and holds that against a saved plan where there is one.
async fn planned(eyes: &Watching<'_>, wanted: &FixArgs, stands: Option<&Standing>) -> Result<(Plan, Record), Failure> {
    let saved = wanted.filename.as_deref().map(read).transpose()?;
    let nodes = match &saved {
        Some(saved) => saved.nodes.iter().map(|node| node.node.clone()).collect(),
        None => wanted.nodes.clone(),
    };
    let ground = eyes.look().await?;
    named(&ground, &nodes, stands)?;
    let wish = match &saved {
        // What was agreed to is in it, and the command line adds nothing.
        Some(saved) => Wish {
            nodes: nodes.into_iter().collect(),
            ..saved.wish.clone()
        },
        None => {
            let mut wish = wish(&nodes, &wanted.allow);
            if !wanted.migrate.is_empty() {
                wish.migrate = Some(target(&wanted.migrate, &wanted.masks, wanted.drain_timeout));
            }
            wish
        }
    };
    let mut plan = planner::plan(&ground, &wish);
    for old in saved.iter().flat_map(|saved| &saved.nodes) {
        let now = plan.nodes.iter().find(|now| now.node == old.node);
        held_against(old, now)?;
    }
    if let Some(saved) = &saved {
        // An empty wish would plan for all; a plan of no nodes is one for none.
        plan.nodes
            .retain(|node| saved.nodes.iter().any(|old| old.node == node.node));
    }
    let record = Record {
        id: format!("{:012x}", RandomState::new().build_hasher().finish() >> 16),
        begun: now(),
        by: Holder::this().who,
        wish,
        queue: plan
            .nodes
            .iter()
            .filter(|node| node.blocked.is_empty())
            .map(Planned::from)
            .collect(),
        work: None,
        over: Vec::new(),
        stopped: None,
    };
    Ok((plan, record))
}

/// Whether a node of a saved plan may be begun by it. One that was blocked when it was saved, and is, is left out as any other.
fn held_against(old: &NodePlan, now: Option<&NodePlan>) -> Result<(), Failure> {
    let Some(now) = now else {
        return Err(Failure::Moved(format!("nothing is planned for {} any more", old.node)));
    };
    if !now.blocked.is_empty() {
        let why = format!("{} must not be begun: {}", old.node, now.blocked.join("; "));
        return if old.blocked.is_empty() {
            Err(Failure::Blocked(why))
        } else {
            Ok(())
        };
    }
    let moved = Planned::from(old)
        .moved(now)
        .or_else(|| (old.steps != now.steps).then(|| format!("the steps of {} are others now", old.node)));
    moved.map_or(Ok(()), |moved| Err(Failure::Moved(moved)))
}

fn read(path: &Path) -> Result<Plan, Failure> {
    let wrong = |why: String| Failure::Plan(path.display().to_string(), why);
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    parsed(&text.map_err(|error| wrong(error.to_string()))?).map_err(wrong)
}

/// What a document says that it is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    api_version: String,
    kind: String,
}

/// A saved plan; `Err`: why the text is none.
fn parsed(text: &str) -> Result<Plan, String> {
    let head: Head = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    match (head.api_version.as_str(), head.kind.as_str()) {
        (API_VERSION, "Plan") => serde_saphyr::from_str(text).map_err(|error| error.to_string()),
        ("", "") => Err(format!("it does not say that it is a {API_VERSION} Plan")),
        (version, kind) => Err(format!("it is {version} {kind}, not {API_VERSION} Plan")),
    }
}

/// Hears Ctrl-C, SIGTERM and the end of its terminal, and has the fix end in a known state. Never ends itself.
async fn interrupted(cancel: CancellationToken, hangup: bool) -> std::convert::Infallible {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let wanted = signals
        .into_iter()
        .filter(|kind| hangup || *kind != SignalKind::hangup());
    let heard: Vec<Signal> = wanted.filter_map(|kind| signal(kind).ok()).collect();
    let heard = heard
        .into_iter()
        .map(|mut signal| Box::pin(async move { signal.recv().await }));
    let heard: Vec<_> = heard.collect();
    if !heard.is_empty() {
        select_all(heard).await;
        cancel.cancel();
    }
    std::future::pending().await
}

/// Whether this program is to outlive its terminal: nohup(1) says so, and whoever listens to SIGHUP all the same would not.
fn outlives() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is 1: the lowest bit.
    ignored.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, raise};

    use super::*;
    use crate::fix::plan::{Interrupts, Method};

    fn planned(blocked: &[&str]) -> NodePlan {
        NodePlan {
            node: "n2".to_owned(),
            uid: "u".to_owned(),
            mends: Vec::new(),
            method: Method::Swap,
            from: Vec::new(),
            to: Vec::new(),
            steps: Vec::new(),
            interrupts: Interrupts::default(),
            verify: Vec::new(),
            risks: Vec::new(),
            blocked: blocked.iter().map(|&why| why.to_owned()).collect(),
        }
    }

    #[test]
    fn a_saved_plan_that_is_blocked_is_said_to_be_blocked_and_not_to_have_moved() {
        let (free, blocked) = (planned(&[]), planned(&["n3 is not Ready"]));
        assert!(held_against(&free, Some(&free)).is_ok());
        // It is left out, as where it is named.
        assert!(held_against(&blocked, Some(&blocked)).is_ok());
        assert!(held_against(&blocked, Some(&free)).is_ok());
        let failure = held_against(&free, Some(&blocked)).unwrap_err();
        assert!(matches!(failure, Failure::Blocked(_)));
        assert_eq!(failure.to_string(), "n2 must not be begun: n3 is not Ready");
        let mut other = planned(&[]);
        other.method = Method::Rotate;
        for now in [None, Some(&other)] {
            let failure = held_against(&free, now).unwrap_err().to_string();
            assert!(failure.contains("ground has moved"), "{failure}");
        }
    }

    #[test]
    fn what_is_no_saved_plan_is_said_to_be_what_it_is() {
        let plan = Plan::new(Timestamp::UNIX_EPOCH, Wish::default());
        let text = serde_saphyr::to_string(&plan).unwrap();
        assert_eq!(parsed(&text), Ok(plan));
        for (text, why) in [
            ("apiVersion: v1\nkind: Node\nmetadata: {name: n2}", "it is v1 Node, not"),
            (
                "apiVersion: cidrift.dev/v2\nkind: Plan",
                "it is cidrift.dev/v2 Plan, not",
            ),
            ("nodes: []", "it does not say that it is a cidrift.dev/v1alpha1 Plan"),
            ("", "it does not say"),
        ] {
            let told = parsed(text).unwrap_err();
            assert!(told.contains(why), "{text:?}: {told}");
        }
        // With what nobody knows, and torn.
        let told = parsed(&format!("{text}more: 1\n")).unwrap_err();
        assert!(told.contains("more"), "{told}");
        let torn = parsed(&text[..text.len() / 2]).unwrap_err();
        assert!(torn.contains("line 6"), "{torn}");
    }

    #[tokio::test]
    async fn a_terminal_that_goes_away_ends_a_fix_as_ctrl_c_does() {
        let cancel = CancellationToken::new();
        let heard = async {
            // By now somebody listens.
            raise(Signal::SIGHUP).unwrap();
            cancel.cancelled().await;
        };
        tokio::select! {
            biased;
            never = interrupted(cancel.clone(), true) => match never {},
            () = heard => {}
        }
    }

    #[test]
    fn every_line_says_what_it_is() {
        let progress = Progress {
            at: Timestamp::UNIX_EPOCH,
            node: "n1".to_owned(),
            step: Some((1, 2)),
            text: "cordon".to_owned(),
        };
        let line = serde_json::to_string(&Line::of("Progress", &progress)).unwrap();
        assert_eq!(
            line,
            r#"{"kind":"Progress","at":"1970-01-01T00:00:00Z","node":"n1","step":[1,2],"text":"cordon"}"#
        );
    }
}
