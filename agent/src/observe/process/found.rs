//! Processes that were found, kept from look to look: a process that is known is not read again.

use std::collections::HashMap;

use jiff::Timestamp;

use super::procfs::{self, Listed, Net, Procfs, Stat};
use super::recognise;
use super::sources::Sources;
use crate::view::host::{Process, Program};

/// A process that is none of the programs is looked at again after so many looks, since it may have become one
/// meanwhile: wrappers wait for the network and then run the program in their own place. With a look every 10 s that
/// is a minute; one new to us is looked at every time until then.
const AGAIN: u32 = 6;

/// A clock that was set forward or back by more than this since a start time was computed makes it worth another
/// look. Below that lie the rounding of `btime` and what NTP does to a running clock.
const CLOCK_SECONDS: i64 = 5;

/// A running program.
#[derive(Debug)]
pub(super) struct Found {
    pub program: Program,
    pub pid: u32,
    /// The words after its name.
    pub words: Vec<String>,
    pub started_at: Option<Timestamp>,
    pub net: Net,
    /// Its control group.
    pub group: Option<String>,
    /// What of its command line could not be read.
    pub problem: Option<String>,
    stat: Stat,
    /// What it was told, and the files that say so.
    pub told: Option<(Vec<Process>, Sources)>,
}

impl Found {
    fn of(procfs: &Procfs, pid: u32, boot: Option<i64>) -> Option<Self> {
        let program = recognise::candidate(&procfs.comm(pid).ok()?)?;
        let stat = procfs.stat(pid).filter(alive)?;
        let mut problem = None;
        let words = match procfs.arguments(pid) {
            Ok((arguments, cut)) => {
                if cut {
                    problem = Some("its command line is longer than what is read of it".to_owned());
                }
                recognise::words(program, &arguments, procfs.executable(pid).as_deref())?
            }
            Err(error) if procfs::gone(&error) => return None,
            Err(error) => {
                problem = Some(format!("its command line may not be read: {error}"));
                Vec::new()
            }
        };
        Some(Self {
            program,
            pid,
            words,
            started_at: boot.and_then(|boot| procfs::started(boot, stat.start)),
            net: procfs.net(pid),
            group: procfs.group(pid),
            problem,
            stat,
            told: None,
        })
    }

    /// Whether it is still the same: not ended, not another under the same pid, and not become another program.
    fn refresh(&mut self, procfs: &Procfs) -> bool {
        let Some(stat) = procfs.stat(self.pid).filter(alive) else {
            return false;
        };
        let same = stat.start == self.stat.start && stat.comm == self.stat.comm;
        self.stat = stat;
        same
    }

    fn set_boot(&mut self, boot: i64) {
        let now = procfs::started(boot, self.stat.start);
        let second = |at: Option<Timestamp>| at.map(Timestamp::as_second);
        let close = match (second(self.started_at), second(now)) {
            (Some(was), Some(is)) => was.abs_diff(is) <= CLOCK_SECONDS.unsigned_abs(),
            (was, is) => was == is,
        };
        if !close {
            self.started_at = now;
            self.told = None;
        }
    }
}

/// Not one that has ended and waits for its parent.
fn alive(stat: &Stat) -> bool {
    !matches!(stat.state, 'Z' | 'X' | 'x')
}

#[derive(Debug)]
struct Slot {
    inode: u64,
    looks: u32,
    found: Option<Box<Found>>,
}

/// All processes, by pid.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: HashMap<u32, Slot>,
    looks: u32,
    boot: Option<i64>,
}

impl Table {
    /// Takes over who runs now.
    pub(super) fn update(&mut self, procfs: &Procfs, listed: &[Listed]) {
        let clock = self.looks.is_multiple_of(AGAIN);
        self.looks = self.looks.wrapping_add(1);
        if clock {
            self.boot = procfs.boot();
        }
        let mut old = std::mem::take(&mut self.slots);
        self.slots.reserve(listed.len());
        for row in listed {
            let known = old.remove(&row.pid).filter(|slot| slot.inode == row.inode);
            let slot = match known {
                Some(slot) => again(slot, procfs, row.pid, self.boot),
                None => Slot {
                    inode: row.inode,
                    looks: 0,
                    found: Found::of(procfs, row.pid, self.boot).map(Box::new),
                },
            };
            self.slots.insert(row.pid, slot);
        }
        if let Some(boot) = self.boot.filter(|_| clock) {
            self.found_mut().for_each(|found| found.set_boot(boot));
        }
    }

    /// The programs that run here, in no order: of those whose network namespace is known, only this agent's; of
    /// those where it is not, only where nobody is known to be the one.
    pub(super) fn ours(&mut self) -> Vec<&mut Found> {
        let key = |found: &Found| (found.pid, found.program);
        let programs: HashMap<u32, Program> = self.found().map(key).collect();
        let ours: Vec<Program> = self
            .found()
            .filter(|found| found.net == Net::Ours)
            .map(|found| found.program)
            .collect();
        self.found_mut()
            // A program that starts another has, for a moment, a child that is a copy of itself.
            .filter(|found| programs.get(&found.stat.parent) != Some(&found.program))
            .filter(|found| match found.net {
                Net::Ours => true,
                Net::Other => false,
                Net::Hidden(_) => !ours.contains(&found.program),
            })
            .collect()
    }

    fn found(&self) -> impl Iterator<Item = &Found> {
        self.slots.values().filter_map(|slot| slot.found.as_deref())
    }

    fn found_mut(&mut self) -> impl Iterator<Item = &mut Found> {
        self.slots.values_mut().filter_map(|slot| slot.found.as_deref_mut())
    }
}

fn again(mut slot: Slot, procfs: &Procfs, pid: u32, boot: Option<i64>) -> Slot {
    slot.looks = slot.looks.saturating_add(1);
    let due = match &mut slot.found {
        Some(found) => !found.refresh(procfs),
        // Not all at the same look.
        None => slot.looks <= AGAIN || slot.looks.wrapping_add(pid).is_multiple_of(AGAIN),
    };
    if due {
        slot.found = Found::of(procfs, pid, boot).map(Box::new);
    }
    slot
}
