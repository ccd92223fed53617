//! A fix as text: what is left of one, how it goes, how it ended.

use super::plan::headline;
use super::text::{Ink, clean, wrap};
use super::{Look, age};
use crate::fix::plan::{Does, Step};
use crate::fix::run::{Halt, Over, Progress, Record, Work};

/// Of more nodes than that of one kind only the number is told, unless they failed.
const NAMED: usize = 20;

/// The commands that go on with a fix, and that take it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// `--resume`.
    pub resume: String,
    /// `--abort`.
    pub abort: String,
}

/// How a fix stopped.
#[derive(Debug)]
pub struct Stopped<'a> {
    /// Why.
    pub halt: &'a Halt,
    /// Whether its node is cordoned now; `None`: that was not seen.
    pub cordoned: Option<bool>,
    /// What next.
    pub again: &'a Again,
}

/// What there is to go on with, or to take back.
pub fn record(record: &Record, abort: bool, look: &Look) -> String {
    let mut out = wrap(
        "",
        "",
        &format!(
            "A fix of {} that was begun {} ago (id {}) is not finished.",
            record.by,
            age(record.begun, look.now),
            record.id
        ),
        look,
    );
    if let Some(why) = &record.stopped {
        out += &wrap("  stopped   ", "            ", why, look);
    }
    if let Some(work) = &record.work {
        let plan = &work.plan;
        out += &wrap("  node      ", "            ", &headline(plan), look);
        for (at, step) in plan.steps.iter().enumerate() {
            let mark = match at.cmp(&work.at) {
                std::cmp::Ordering::Less => "done",
                std::cmp::Ordering::Equal => "next",
                std::cmp::Ordering::Greater => "",
            };
            let head = format!("  {mark:<9} {}. ", at + 1);
            out += &wrap(&head, "               ", &short(step), look);
        }
        if abort {
            out += &wrap("  back      ", "            ", &back(work), look);
        }
    }
    let mut names: Vec<&str> = record.queue.iter().map(|next| next.node.as_str()).collect();
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    if !names.is_empty() {
        let more = if more > 0 {
            format!(", and {more} more")
        } else {
            String::new()
        };
        out += &wrap(
            "  nodes     ",
            "            ",
            &format!("{}{more}", names.join(", ")),
            look,
        );
    }
    let (shown, counted) = over(record);
    for over in shown {
        let how = over.failed.as_deref().unwrap_or("mended");
        out += &wrap("  over      ", "            ", &format!("{}: {how}", over.node), look);
    }
    if counted > 0 {
        out += &format!("  over      {counted} more: mended\n");
    }
    out
}

/// What an abort takes back of the node that is worked on.
fn back(work: &Work) -> String {
    let node = if work.swapped() {
        return "its Node was made anew: it keeps its new CIDRs, and the cordon".to_owned();
    } else if work.deleting {
        Some("its Node is made again from its saved copy where it is gone, and uncordoned")
    } else {
        work.cordoned.then_some("it is uncordoned")
    };
    let file = work.removed();
    let file = file.map(|path| format!("{path} is rendered again where it is gone"));
    match (node, file) {
        (Some(node), Some(file)) => format!("{node}; {file}"),
        (Some(node), None) => node.to_owned(),
        (None, Some(file)) => file,
        (None, None) => "nothing of it was changed that could be taken back".to_owned(),
    }
}

/// Nodes that are over and are named, all that failed among them; and how many others there are.
fn over(record: &Record) -> (Vec<&Over>, usize) {
    let few = record.over.len() <= NAMED;
    let named = record.over.iter().filter(|over| few || over.failed.is_some());
    let named: Vec<&Over> = named.collect();
    let rest = record.over.len() - named.len();
    (named, rest)
}

/// What is for the operator's own hands is said in full.
fn short(step: &Step) -> String {
    match step.does {
        Does::ByHand => step.text.clone(),
        _ => step.does.title(),
    }
}

/// One thing that happened.
pub fn progress(progress: &Progress, look: &Look) -> String {
    let time = progress
        .at
        .to_zoned(jiff::tz::TimeZone::system())
        .strftime("%H:%M:%S")
        .to_string();
    let step = progress
        .step
        .map(|(at, of)| format!("[{at}/{of}] "))
        .unwrap_or_default();
    let node = match progress.node.as_str() {
        "" => String::new(),
        node => format!("{node}  "),
    };
    // A line for each, however long: people grep them, and programs that follow too.
    format!(
        "{}  {}\n",
        Ink::Faint.paint(&time, look),
        clean(&format!("{node}{step}{}", progress.text))
    )
}

/// How it ended.
pub fn ended(record: &Record, stopped: Option<&Stopped<'_>>, look: &Look) -> String {
    let mut out = String::from("\n");
    let (shown, counted) = over(record);
    if counted > 0 {
        out += &format!("{counted} nodes  {}\n", Ink::Good.paint("mended", look));
    }
    for over in shown {
        out += &match &over.failed {
            None => format!("{}  {}\n", over.node, Ink::Good.paint("mended", look)),
            Some(why) => wrap(
                &format!("{}  {}: ", over.node, Ink::Bad.paint("not mended", look)),
                "    ",
                why,
                look,
            ),
        };
    }
    let Some(Stopped { halt, cordoned, again }) = stopped else {
        return out;
    };
    let at = match (&record.work, record.queue.first()) {
        (Some(work), _) => match work.plan.steps.get(work.at) {
            Some(step) => format!(
                "at {}, step {} of {} ({})",
                work.plan.node,
                work.at + 1,
                work.plan.steps.len(),
                step.does.title()
            ),
            None => format!("at {}, after its last step", work.plan.node),
        },
        (None, Some(next)) => format!("before {}", next.node),
        (None, None) => "at its end".to_owned(),
    };
    out += &wrap(
        &format!("{} ", Ink::Bad.paint("stopped", look)),
        "    ",
        &format!("{at}: {halt}"),
        look,
    );
    if let Some(work) = &record.work {
        let node = &work.plan.node;
        let state = match (work.cordoned, work.deleting, work.swapped()) {
            (_, true, false) => {
                format!("Node {node} may be deleted and not made again yet; all that it had is saved: go on at once")
            }
            (true, ..) if *cordoned == Some(false) => format!("{node} was cordoned by this fix, and is not now"),
            (true, ..) => format!("{node} was cordoned by this fix"),
            (false, ..) => format!("{node} was not cordoned by this fix"),
        };
        out += &wrap("    ", "    ", &state, look);
    }
    if let Halt::Lost(_) = halt {
        out += &wrap(
            "    ",
            "    ",
            "Another fix may go on with it now: this one does nothing any more.",
            look,
        );
    } else if record.unfinished() {
        // Each on one line, however long: people copy them.
        let (resume, abort) = (clean(&again.resume), clean(&again.abort));
        out += &format!("    go on      {resume}\n    take back  {abort}\n");
    }
    out
}
