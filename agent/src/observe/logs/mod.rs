//! Logs of the runtime and the kubelet: sandboxes that failed or went well and how long that took, and the pod CIDR that
//! was taken over.
//!
//! Only logs of processes that run on this host are read, where these processes write them: a file (what their
//! standard error is, or what they were told), else the journal.

mod clock;
mod entry;
mod event;
mod join;
pub(in crate::observe) mod lines;
mod place;
mod quoted;
mod setups;
mod source;
mod taken;
mod tally;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use self::clock::Clock;
use self::event::{Event, Teller};
use self::join::Joiner;
use self::place::{Finder, Place};
use self::setups::{KEPT, SetupTally};
use self::source::{FileSource, JournalSource, LogError, LogSource, Query, Sink};
use self::taken::Taken;
use self::tally::{Tally, WINDOW};
use super::root::HostRoot;
use crate::view::Observed;
use crate::view::host::{Failures, KubeletCidr, Missing, Process, Program};
use crate::view::setup::Setups;

/// Where journald keeps its files.
const JOURNALS: [&str; 2] = ["/var/log/journal", "/run/log/journal"];

/// Streams of lines in one source, of which values over several lines are put together: the units of one host.
const STREAMS: usize = 16;

/// So long figures stand: nothing is told more often, and what is only counted is told once a minute.
const FIGURES: SignedDuration = SignedDuration::from_mins(1);

/// Runtimes, and what they are called where they tell something.
const RUNTIMES: [(Program, Teller); 2] = [(Program::Containerd, Teller::Containerd), (Program::Crio, Teller::Crio)];

/// Follows them.
#[derive(Debug)]
pub struct LogReader {
    root: HostRoot,
    proc: PathBuf,
    journalctl: PathBuf,
    zone: TimeZone,
    followed: Vec<Followed>,
    tally: Tally,
    taken: Taken,
    setups: SetupTally,
    /// The figures of it that stand.
    figures: Option<Observed<Setups>>,
}

/// What the logs tell.
#[derive(Debug)]
pub struct Told {
    /// Sandboxes that failed and that went well.
    pub failures: Observed<Failures>,
    /// The pod CIDR that the kubelet last took over.
    pub kubelet: Observed<KubeletCidr>,
    /// How long sandboxes took.
    pub setups: Observed<Setups>,
}

/// A source, and the lines of it that are not whole yet.
#[derive(Debug)]
struct Followed {
    key: Key,
    source: Box<dyn LogSource + Send>,
    joiners: BTreeMap<String, Joiner>,
}

/// What makes a source another one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    File(PathBuf),
    Journal(Vec<String>),
}

/// A process whose log is wanted, and where that is.
#[derive(Debug)]
struct Wanted {
    program: Program,
    kubelet: bool,
    started: Option<Timestamp>,
    place: Result<Place, Missing>,
}

/// One look at one source.
struct Reading<'a> {
    clock: &'a Clock,
    tally: &'a mut Tally,
    taken: &'a mut Taken,
    setups: &'a mut SetupTally,
    joiners: &'a mut BTreeMap<String, Joiner>,
    /// Whether the kubelet speaks here.
    kubelet: bool,
    /// Whether a runtime does.
    runtime: bool,
    /// The earliest line of this look.
    from: Option<Timestamp>,
}

impl LogReader {
    /// On the host whose `/` is at `root`.
    pub fn new(root: HostRoot) -> Self {
        let zone = clock::zone(&root);
        // The one whose numbers the processes have that are followed.
        let proc = root.procfs().unwrap_or_else(|| PathBuf::from("/proc"));
        Self {
            root,
            proc,
            journalctl: PathBuf::from("journalctl"),
            zone,
            followed: Vec::new(),
            tally: Tally::default(),
            taken: Taken::default(),
            setups: SetupTally::default(),
            figures: None,
        }
    }

    /// Reads what is new in them.
    pub fn look(&mut self, processes: &Observed<Vec<Process>>, now: Timestamp) -> Told {
        let list = match &processes.value {
            Ok(list) => list,
            Err(missing) => {
                return Told::missing(now, &processes.source, missing);
            }
        };
        let (journals, hidden) = self.journals();
        let mut wanted = self.wanted(list, !journals.is_empty(), hidden.as_deref());
        self.follow(&wanted, &journals);
        self.read(&mut wanted, now);
        self.tally.expire(now);
        for (program, teller) in RUNTIMES {
            let mine = wanted.iter().filter(|one| one.program == program);
            // Where there are several (Docker's besides), the one that has run longest may have been asked.
            if let Some(started) = mine.filter_map(|one| one.started).min() {
                self.setups.restarted(teller, started);
            }
        }
        self.setups.expire(now);
        Told {
            failures: self.failures(&wanted, now),
            kubelet: self.kubelet(&wanted, now),
            setups: self.figures(&wanted, now),
        }
    }

    /// Where a journal is, and why that cannot be seen.
    fn journals(&self) -> (Vec<PathBuf>, Option<String>) {
        let paths = JOURNALS.iter().filter_map(|path| self.root.resolve(path.as_ref()).ok());
        match JournalSource::present(&paths.collect::<Vec<_>>()) {
            Ok(found) => (found, None),
            Err(error) => (Vec::new(), Some(format!("the journal's files: {error}"))),
        }
    }

    fn wanted(&self, processes: &[Process], journal: bool, hidden: Option<&str>) -> Vec<Wanted> {
        let finder = Finder {
            root: &self.root,
            proc: &self.proc,
            journal,
        };
        let speaks = |process: &&Process| {
            process.pid != 0 && matches!(process.program, Program::Kubelet | Program::Containerd | Program::Crio)
        };
        let places = processes.iter().filter(speaks).map(|process| Wanted {
            program: process.program,
            kubelet: process.program == Program::Kubelet,
            started: process.started_at,
            place: match (finder.find(process), hidden) {
                (Ok(Some(place)), _) => Ok(place),
                (Ok(None), Some(why)) => Err(Missing::Unreadable(why.to_owned())),
                (Ok(None), None) => Err(Missing::Absent(format!("no log of {} was found", process.program))),
                (Err(error), _) => Err(Missing::Unreadable(format!(
                    "where {} (pid {}) writes its log: {error}",
                    process.program, process.pid
                ))),
            },
        });
        places.collect()
    }

    /// Keeps the sources that are still wanted, and adds those that are new.
    fn follow(&mut self, wanted: &[Wanted], journals: &[PathBuf]) {
        let mut query = Query {
            units: Vec::new(),
            kubelet: Vec::new(),
            started: None,
        };
        let mut keys: Vec<Key> = Vec::new();
        for one in wanted {
            match &one.place {
                Ok(Place::File { open, .. }) => keys.push(Key::File(open.clone())),
                Ok(Place::Journal { units }) => {
                    query.units.extend(units.iter().cloned());
                    if one.kubelet {
                        query.kubelet.extend(units.iter().cloned());
                        query.started = query.started.max(one.started);
                    }
                }
                Err(_) => {}
            }
        }
        query.units.sort();
        query.units.dedup();
        if !query.units.is_empty() {
            keys.push(Key::Journal(query.units.clone()));
        }
        self.followed.retain(|followed| keys.contains(&followed.key));
        for key in keys {
            if self.followed.iter().any(|followed| followed.key == key) {
                continue;
            }
            let source: Box<dyn LogSource + Send> = match &key {
                Key::File(open) => Box::new(FileSource::new(open.clone())),
                Key::Journal(_) => Box::new(JournalSource::new(
                    self.journalctl.clone(),
                    journals.to_vec(),
                    self.root.base() != std::path::Path::new("/"),
                    query.clone(),
                )),
            };
            self.followed.push(Followed {
                key,
                source,
                joiners: BTreeMap::new(),
            });
        }
    }

    /// Reads them; a place that cannot be read becomes the reason.
    fn read(&mut self, wanted: &mut [Wanted], now: Timestamp) {
        let clock = Clock::new(now, self.zone.clone());
        for followed in &mut self.followed {
            let here = |one: &&mut Wanted| one.place.as_ref().is_ok_and(|place| followed.key.is(place));
            let kubelet = wanted.iter_mut().filter(here).any(|one| one.kubelet);
            let runtime = wanted.iter_mut().filter(here).any(|one| !one.kubelet);
            let mut reading = Reading {
                clock: &clock,
                tally: &mut self.tally,
                taken: &mut self.taken,
                setups: &mut self.setups,
                joiners: &mut followed.joiners,
                kubelet,
                runtime,
                from: None,
            };
            let result = followed.source.read(now, &mut reading);
            if let Some(from) = reading.from {
                let window = now.saturating_sub(WINDOW).unwrap_or(Timestamp::MIN);
                self.tally.begins(from.max(window).min(now));
                if runtime {
                    // Of the journal only kubelet's own lines are older than the window.
                    let journal = matches!(followed.key, Key::Journal(_));
                    let from = if journal { from.max(window) } else { from };
                    self.setups.begins(from.min(now));
                }
            }
            if let Err(error) = result {
                for one in wanted.iter_mut().filter(here) {
                    one.place = Err(missing(&followed.key, &error));
                }
            }
        }
    }

    fn failures(&self, wanted: &[Wanted], now: Timestamp) -> Observed<Failures> {
        let read: Vec<&Place> = wanted.iter().filter_map(|one| one.place.as_ref().ok()).collect();
        if read.is_empty() {
            let missing = wanted.iter().filter_map(|one| one.place.as_ref().err());
            let worst = missing.max_by_key(|missing| matches!(missing, Missing::Unreadable(_)));
            let none = || Missing::Absent("neither a kubelet nor a runtime was found".to_owned());
            return Observed::missing(now, "logs", worst.cloned().unwrap_or_else(none));
        }
        Observed::seen(now, names(&read), self.tally.failures(now))
    }

    /// The figures stand for a while: what they are evidence of would be told anew with every pod otherwise.
    fn figures(&mut self, wanted: &[Wanted], now: Timestamp) -> Observed<Setups> {
        let fresh = |told: &&Observed<Setups>| {
            let age = now.duration_since(told.at);
            told.get().is_some() && (SignedDuration::ZERO..FIGURES).contains(&age)
        };
        if let Some(told) = self.figures.as_ref().filter(fresh) {
            return told.clone();
        }
        let new = self.setups(wanted, now);
        self.figures = Some(new.clone());
        new
    }

    /// Only a runtime's own log tells when it was asked.
    fn setups(&self, wanted: &[Wanted], now: Timestamp) -> Observed<Setups> {
        let runtimes: Vec<&Wanted> = wanted.iter().filter(|one| !one.kubelet).collect();
        let read: Vec<&Place> = runtimes.iter().filter_map(|one| one.place.as_ref().ok()).collect();
        if read.is_empty() {
            let missing = runtimes.iter().filter_map(|one| one.place.as_ref().err());
            let worst = missing.max_by_key(|missing| matches!(missing, Missing::Unreadable(_)));
            let none = || Missing::Absent("no runtime was found".to_owned());
            return Observed::missing(now, "the runtime's log", worst.cloned().unwrap_or_else(none));
        }
        let silent = || Missing::Absent("the runtime's log tells of no sandbox that was asked for".to_owned());
        Observed {
            at: now,
            source: names(&read),
            value: self.setups.setups(now).ok_or_else(silent),
        }
    }

    fn kubelet(&self, wanted: &[Wanted], now: Timestamp) -> Observed<KubeletCidr> {
        // Where there are two (one is just taking the other's place), the younger one.
        let kubelet = wanted.iter().filter(|one| one.kubelet).max_by_key(|one| one.started);
        let Some(kubelet) = kubelet else {
            let none = Missing::Absent("no kubelet was found".to_owned());
            return Observed::missing(now, "the kubelet's log", none);
        };
        match &kubelet.place {
            Err(missing) => Observed::missing(now, "the kubelet's log", missing.clone()),
            Ok(place) => Observed {
                at: now,
                source: names(&[place]),
                value: self.taken.cidr(kubelet.started),
            },
        }
    }
}

impl Told {
    /// Nothing of it is known, for this reason.
    pub fn missing(at: Timestamp, source: &str, why: &Missing) -> Self {
        Self {
            failures: Observed::missing(at, source, why.clone()),
            kubelet: Observed::missing(at, source, why.clone()),
            setups: Observed::missing(at, source, why.clone()),
        }
    }
}

impl Key {
    fn is(&self, place: &Place) -> bool {
        match (self, place) {
            (Self::File(path), Place::File { open, .. }) => path == open,
            (Self::Journal(_), Place::Journal { .. }) => true,
            _ => false,
        }
    }
}

fn missing(key: &Key, error: &LogError) -> Missing {
    let text = match key {
        Key::File(path) => format!("{}: {error}", path.display()),
        Key::Journal(_) => error.to_string(),
    };
    if error.is_absent() {
        Missing::Absent(text)
    } else {
        Missing::Unreadable(text)
    }
}

/// "/var/log/kubelet.log, the journal (containerd.service)".
fn names(places: &[&Place]) -> String {
    let mut files: Vec<String> = Vec::new();
    let mut units: Vec<&str> = Vec::new();
    for place in places {
        match place {
            Place::File { name, .. } => files.push(name.clone()),
            Place::Journal { units: more } => units.extend(more.iter().map(String::as_str)),
        }
    }
    units.sort_unstable();
    units.dedup();
    if !units.is_empty() {
        files.push(format!("the journal ({})", units.join(", ")));
    }
    files.sort();
    files.dedup();
    files.join(", ")
}

impl Sink for Reading<'_> {
    fn line(&mut self, stream: &str, at: Option<Timestamp>, line: &str) {
        // When a log begins is asked of its first lines; the others cost nothing unless they tell something.
        let first = self.from.is_none() || self.kubelet && self.taken.is_new();
        if first && let Some(at) = at.or_else(|| entry::time(line, self.clock)) {
            self.from.get_or_insert(at);
            if self.kubelet {
                self.taken.read(at);
            }
        }
        if !self.joiners.contains_key(stream) {
            if self.joiners.len() >= STREAMS {
                self.joiners.clear();
            }
            self.joiners.insert(stream.to_owned(), Joiner::default());
        }
        let Some(joiner) = self.joiners.get_mut(stream) else {
            return;
        };
        let mut sums = Sums {
            tally: self.tally,
            taken: self.taken,
            setups: self.setups,
        };
        let clock = self.clock;
        joiner.push(line, event::worth, |whole| sums.tell(whole, at, clock));
    }

    fn gap(&mut self) {
        if self.kubelet {
            self.taken.gap();
        }
        if self.runtime {
            self.setups.gap();
            // What came before it is no beginning any more.
            self.from = None;
        }
    }
}

/// What lines come to.
struct Sums<'a> {
    tally: &'a mut Tally,
    taken: &'a mut Taken,
    setups: &'a mut SetupTally,
}

impl Sums<'_> {
    /// Takes in what a line tells.
    fn tell(&mut self, line: &str, at: Option<Timestamp>, clock: &Clock) {
        if !event::worth(line) {
            return;
        }
        let Some(entry) = entry::parse(line, clock) else {
            return;
        };
        let (Some(written), Some(event)) = (at.or(entry.at), event::event(&entry)) else {
            return;
        };
        // A clock that was set back, or a zone that is not the host's.
        let at = written.min(clock.now);
        let recent = clock.now.duration_since(at) <= WINDOW;
        // How long it took is by the lines' own times.
        let timed = clock.now.duration_since(at) <= KEPT;
        match event {
            Event::Asked { attempt } if timed => self.setups.started(written, attempt),
            Event::Asked { .. } => {}
            Event::Failed { attempt, text } => {
                if timed {
                    self.setups.failed(written, &attempt);
                }
                if recent {
                    self.tally.failed(at, attempt.pod, &text, attempt.by);
                }
            }
            Event::Succeeded { attempt } => {
                if timed {
                    self.setups.made(written, &attempt);
                }
                if recent {
                    self.tally.succeeded(at, &attempt.pod);
                }
            }
            Event::TookOver { before, new } => self.taken.took(at, before, new),
            Event::Refused { error } => self.taken.refused(at, &error),
        }
    }
}

#[cfg(test)]
mod tests;
