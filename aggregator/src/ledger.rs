//! Gives claims a life: the same claim seen again is the same finding; it counts
//! once it has lasted; it is resolved by evidence only, never by silence.

mod fate;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Finding, FindingState, Trigger};
use jiff::Timestamp;

pub use fate::Fate;

/// Resolved findings kept: at one page of a terminal (40 lines) each day's worth for weeks,
/// and at some 4 KiB a finding less than 10 MiB.
pub const HISTORY: usize = 2_048;

/// Who makes a set of claims: all of them are handed in together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// What one source node's routes show (PATH…).
    Row(String),
    /// What one agent says of its host (HOST…).
    Host(String),
    /// What concerns one Node by itself, as the control plane has it (POOL02, POOL08 … of it) or by its host's interfaces.
    Node(String),
    /// What concerns the pool and the Nodes together.
    Pool,
    /// Objects of CNI allocators.
    Delegates,
    /// Nodes that come and go.
    Churn,
    /// A node that was reborn.
    Reborn(String),
    /// A node whose agent is silent.
    Silent(String),
    /// A node whose token was shown by an agent that named another.
    Refused(String),
    /// A node that several agents report for.
    Rivals(String),
}

/// Says which findings explain a claim, given which ids stand.
pub type Explain = fn(&Claim, &dyn Fn(&str) -> bool) -> Vec<String>;

/// Findings that stand and those that are over.
#[derive(Debug)]
pub struct Ledger {
    hold: Duration,
    settle: Duration,
    standing: BTreeMap<String, Entry>,
    groups: BTreeMap<Group, BTreeSet<String>>,
    ended: VecDeque<Arc<Finding>>,
    /// The last episode of every id that stands or is in `ended`.
    episodes: HashMap<String, u32>,
    /// Changes not yet handed out.
    changes: Vec<String>,
    over: Vec<Arc<Finding>>,
    /// Pending findings by when they will have lasted long enough.
    due: BTreeSet<(Timestamp, String)>,
    /// Standing findings that others may explain.
    linked: BTreeSet<String>,
    /// An id began or ceased to stand since changes were handed out: what explains others may have changed.
    moved: bool,
}

#[derive(Debug)]
struct Entry {
    finding: Arc<Finding>,
    /// Since when it has been seen without interruption, for the reason it has now.
    held_since: Timestamp,
    /// Its place in [`Ledger::due`].
    due: Option<Timestamp>,
}

impl Ledger {
    /// An empty one. A claim whose host changed last counts after `hold`, one whose control plane did after `settle`.
    pub fn new(hold: Duration, settle: Duration) -> Self {
        Self {
            hold,
            settle,
            standing: BTreeMap::new(),
            groups: BTreeMap::new(),
            ended: VecDeque::new(),
            episodes: HashMap::new(),
            changes: Vec::new(),
            over: Vec::new(),
            due: BTreeSet::new(),
            linked: BTreeSet::new(),
            moved: false,
        }
    }

    /// Findings that stand, by id.
    pub fn standing(&self) -> impl Iterator<Item = &Arc<Finding>> {
        self.standing.values().map(|entry| &entry.finding)
    }

    /// Whether a finding of this id stands.
    pub fn stands(&self, id: &str) -> bool {
        self.standing.contains_key(id)
    }

    /// Whether this group has findings that stand.
    pub fn has(&self, group: &Group) -> bool {
        self.groups.contains_key(group)
    }

    /// Groups that have findings that stand.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.keys()
    }

    /// Sources whose rows have findings that stand.
    pub fn rows(&self) -> impl Iterator<Item = &String> {
        // Rows are the first kind in the groups' order.
        self.groups.keys().map_while(|group| match group {
            Group::Row(name) => Some(name),
            _ => None,
        })
    }

    /// Nodes of which findings of [`Group::Node`] stand.
    pub fn nodes(&self) -> impl Iterator<Item = &String> {
        let from = Group::Node(String::new());
        self.groups.range(from..).map_while(|(group, _)| match group {
            Group::Node(name) => Some(name),
            _ => None,
        })
    }

    /// Reborn nodes that have findings that stand.
    pub fn reborn(&self) -> impl Iterator<Item = &String> {
        let from = Group::Reborn(String::new());
        self.groups.range(from..).map_while(|(group, _)| match group {
            Group::Reborn(name) => Some(name),
            _ => None,
        })
    }

    /// Resolved findings, newest first.
    pub fn history(&self) -> impl Iterator<Item = &Arc<Finding>> {
        self.ended.iter().rev()
    }

    /// Takes all that a group claims now. `fate` says of a row of an earlier claim that
    /// is not claimed any more (or of the claim itself, where it has no rows) what became of it.
    pub fn replace(
        &mut self,
        group: Group,
        claims: Vec<Claim>,
        fate: &dyn Fn(&Claim, Option<&Affected>) -> Fate,
        now: Timestamp,
    ) {
        let mut left = self.groups.remove(&group).unwrap_or_default();
        let mut ids = BTreeSet::new();
        for claim in claims {
            let id = claim.id();
            left.remove(&id);
            self.claimed(&id, claim, fate, now);
            ids.insert(id);
        }
        for id in left {
            if !self.unclaimed(&id, fate, now) {
                ids.insert(id);
            }
        }
        if !ids.is_empty() {
            self.groups.insert(group, ids);
        }
    }

    fn claimed(
        &mut self,
        id: &str,
        mut claim: Claim,
        fate: &dyn Fn(&Claim, Option<&Affected>) -> Fate,
        now: Timestamp,
    ) {
        let Some(entry) = self.standing.get_mut(id) else {
            self.begin(id, claim, now);
            return;
        };
        fate::carry_over(&entry.finding.claim, &mut claim, fate);
        let before = &entry.finding;
        if before.claim.trigger != claim.trigger && before.state == FindingState::Pending {
            entry.held_since = now;
        }
        if before.stale && before.state == FindingState::Pending {
            entry.held_since = now;
        }
        let changed = before.stale || !same(&before.claim, &claim);
        let finding = Arc::make_mut(&mut entry.finding);
        finding.claim = claim;
        if changed {
            finding.stale = false;
            finding.updated_at = now;
            self.changes.push(id.to_owned());
        }
        self.schedule(id);
    }

    /// Keeps a finding's place among those that become due.
    fn schedule(&mut self, id: &str) {
        let Some(entry) = self.standing.get_mut(id) else { return };
        let finding = &entry.finding;
        let wait = match finding.claim.trigger {
            Trigger::Host => self.hold,
            Trigger::ControlPlane => self.settle,
        };
        let waits = finding.state == FindingState::Pending && !finding.stale;
        let due = waits.then(|| entry.held_since.checked_add(wait).unwrap_or(Timestamp::MAX));
        if due == entry.due {
            return;
        }
        let before = std::mem::replace(&mut entry.due, due);
        if let Some(before) = before {
            self.due.remove(&(before, id.to_owned()));
        }
        self.due.extend(due.map(|due| (due, id.to_owned())));
    }

    fn begin(&mut self, id: &str, claim: Claim, now: Timestamp) {
        let finding = Finding {
            id: id.to_owned(),
            episode: self.episodes.get(id).copied().unwrap_or(0).saturating_add(1),
            state: FindingState::Pending,
            claim,
            first_seen: now,
            opened_at: None,
            resolved_at: None,
            updated_at: now,
            resolution: None,
            explained_by: Vec::new(),
            stale: false,
        };
        let entry = Entry {
            finding: Arc::new(finding),
            held_since: now,
            due: None,
        };
        if linkable(entry.finding.claim.code) {
            self.linked.insert(id.to_owned());
        }
        self.standing.insert(id.to_owned(), entry);
        self.changes.push(id.to_owned());
        self.moved = true;
        self.schedule(id);
    }

    /// Nobody claims it any more: true when that ends it.
    fn unclaimed(&mut self, id: &str, fate: &dyn Fn(&Claim, Option<&Affected>) -> Fate, now: Timestamp) -> bool {
        let Some(entry) = self.standing.get_mut(id) else {
            return true;
        };
        let ending = fate::of_all(&entry.finding.claim, fate);
        match ending {
            fate::Ending::Over(reason) => {
                self.end(id, reason, now);
                true
            }
            fate::Ending::Stands { rows, unseen } => {
                let before = &entry.finding;
                let stale = !unseen.is_empty();
                if before.stale != stale || before.claim.affected != rows {
                    let finding = Arc::make_mut(&mut entry.finding);
                    let gone = finding.claim.affected.len().saturating_sub(rows.len());
                    let gone = u32::try_from(gone).unwrap_or(u32::MAX);
                    finding.claim.affected_total = finding.claim.affected_total.saturating_sub(gone);
                    finding.claim.affected = rows;
                    finding.stale = stale;
                    for line in unseen {
                        if !finding.claim.unseen.contains(&line)
                            && finding.claim.unseen.len() < cidrift_proto::finding::ROWS
                        {
                            finding.claim.unseen.push(line);
                        }
                    }
                    finding.updated_at = now;
                    self.changes.push(id.to_owned());
                    self.schedule(id);
                }
                false
            }
        }
    }

    fn end(&mut self, id: &str, reason: String, now: Timestamp) {
        let Some(entry) = self.standing.remove(id) else { return };
        self.moved = true;
        self.linked.remove(id);
        if let Some(due) = entry.due {
            self.due.remove(&(due, id.to_owned()));
        }
        let mut finding = Arc::unwrap_or_clone(entry.finding);
        let counted = finding.state == FindingState::Open;
        finding.state = if counted {
            FindingState::Resolved
        } else {
            FindingState::Withdrawn
        };
        finding.resolved_at = Some(now);
        finding.updated_at = now;
        finding.resolution = Some(reason);
        finding.explained_by.clear();
        let finding = Arc::new(finding);
        self.over.push(Arc::clone(&finding));
        if counted {
            self.ended.push_back(finding);
            if self.ended.len() > HISTORY
                && let Some(oldest) = self.ended.pop_front()
                && self.episodes.get(&oldest.id) == Some(&oldest.episode)
                && !self.standing.contains_key(&oldest.id)
            {
                self.episodes.remove(&oldest.id);
            }
        }
    }

    /// Lets time pass: what has lasted long enough counts.
    pub fn tick(&mut self, now: Timestamp) {
        let mut ripe = Vec::new();
        while let Some((due, _)) = self.due.first()
            && *due <= now
            && let Some((_, id)) = self.due.pop_first()
        {
            ripe.push(id);
        }
        ripe.sort_unstable();
        for id in ripe {
            let Some(entry) = self.standing.get_mut(&id) else {
                continue;
            };
            entry.due = None;
            let finding = Arc::make_mut(&mut entry.finding);
            finding.state = FindingState::Open;
            finding.opened_at = Some(now);
            finding.updated_at = now;
            self.episodes.insert(id.clone(), finding.episode);
            self.changes.push(id);
        }
    }

    /// Links findings to those that explain them, and hands out every change since the last call.
    pub fn drain(&mut self, explain: Explain, now: Timestamp) -> Vec<Arc<Finding>> {
        if self.changes.is_empty() && self.over.is_empty() {
            return Vec::new();
        }
        let standing = &self.standing;
        let differ = |id: &String| {
            let finding = &standing.get(id)?.finding;
            let ids = explain(&finding.claim, &|id| standing.contains_key(id));
            (ids != finding.explained_by).then(|| (id.clone(), ids))
        };
        let links: Vec<(String, Vec<String>)> = if std::mem::take(&mut self.moved) {
            self.linked.iter().filter_map(differ).collect()
        } else {
            let changed = self.changes.iter().filter(|id| self.linked.contains(*id));
            changed.filter_map(differ).collect()
        };
        for (id, ids) in links {
            if let Some(entry) = self.standing.get_mut(&id) {
                let finding = Arc::make_mut(&mut entry.finding);
                finding.explained_by = ids;
                finding.updated_at = now;
                self.changes.push(id);
            }
        }
        let mut out = std::mem::take(&mut self.over);
        let mut told = BTreeSet::new();
        for id in std::mem::take(&mut self.changes) {
            if let Some(entry) = self.standing.get(&id)
                && told.insert(id)
            {
                out.push(Arc::clone(&entry.finding));
            }
        }
        out
    }
}

/// Codes that others explain.
fn linkable(code: Code) -> bool {
    !matches!(code, Code::Pool12 | Code::Seen01)
}

/// Whether two claims say the same. When something was looked at again is no news.
fn same(a: &Claim, b: &Claim) -> bool {
    a.severity == b.severity
        && a.nodes == b.nodes
        && a.summary == b.summary
        && a.affected == b.affected
        && a.affected_total == b.affected_total
        && a.unseen == b.unseen
        && a.cause == b.cause
        && a.remedy == b.remedy
        && a.trigger == b.trigger
        && a.evidence.len() == b.evidence.len()
        && a.evidence
            .iter()
            .zip(&b.evidence)
            .all(|(a, b)| a.source == b.source && a.text == b.text && a.stale == b.stale)
}
