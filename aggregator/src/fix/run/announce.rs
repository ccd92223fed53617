//! Whether the other nodes lead to a node, and having those look again that do not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cidrift_proto::verdict::Verdict;
use kube::ResourceExt;
use kube::api::ListParams;
use tokio::time::{Instant, sleep};

use super::halt::{Halt, call};
use super::{Eyes, LOOK, Runner};
use crate::correlate::words::count;
use crate::fix::gather;
use crate::fix::ground::PodGround;
use crate::query::answer::WayAnswer;
use crate::summary::Health;

/// Daemons that hear of a Node have made their routes within this; those that have not by then do not hear of it.
const HEARD: Duration = Duration::from_secs(15);

/// Named at most, of many nodes or reasons.
const NAMED: usize = 4;

impl<E: Eyes> Runner<'_, E> {
    /// The names of all Nodes.
    pub(super) async fn names(&self) -> Result<Vec<String>, Halt> {
        let api = self.nodes();
        let mut names = Vec::new();
        let list = async |page: &ListParams| call(async || api.list_metadata(page).await).await;
        let listed = gather::pages(&ListParams::default(), list, |node| names.push(node.name_any())).await;
        listed.map_err(|error| Halt::api("list Nodes", &error))?;
        Ok(names)
    }

    /// Over once no node's packets for one of these are known to go astray. Whose do has its CNI's pod restarted, once and one
    /// after the other.
    pub(super) async fn announce(&self, nodes: &[String]) -> Result<(), Halt> {
        let all = self.names().await?;
        self.led(&all, nodes).await.map(drop)
    }

    /// The same of the node that is worked on alone: it must be known that it leads to all of these.
    pub(super) async fn reach(&self, nodes: &[String]) -> Result<(), Halt> {
        let own = [self.plan()?.node.clone()];
        match self.led(&own, nodes).await?.told(nodes) {
            Some(why) => Err(Halt::Stop(why)),
            None => Ok(()),
        }
    }

    /// What was seen at last: nobody is known to lead astray, and of some it may not be known.
    async fn led(&self, all: &[String], nodes: &[String]) -> Result<Seen, Halt> {
        let began = Instant::now();
        let mut restarted = BTreeSet::new();
        let mut last = String::new();
        loop {
            let ways = self.seen_to_lead(all, nodes).await;
            let over = began.elapsed() >= self.settings.verify;
            let Some(text) = ways.told(nodes) else { return Ok(ways) };
            // What is not known by then is not known to be wrong either: what is verified says it.
            if over && ways.astray.is_empty() {
                return Ok(ways);
            }
            if over {
                return Err(Halt::Stop(text));
            }
            let waits = format!("waits: {text}");
            if waits != last {
                self.tell(waits.clone());
                last = waits;
            }
            if began.elapsed() >= HEARD
                && let Some(node) = ways.astray.iter().find(|node| !restarted.contains(*node))
            {
                restarted.insert(node.clone());
                if let Some(pod) = self.daemon_on(node).await? {
                    self.tell(format!("{node} does not look again by itself: restarts {pod}"));
                    self.restart_daemon_of(node, &pod).await?;
                }
            }
            sleep(LOOK * 2).await;
        }
    }

    /// Which of all these nodes do not lead to each of `nodes`, and of which that is not known.
    async fn seen_to_lead(&self, all: &[String], nodes: &[String]) -> Seen {
        let mut seen = Seen::default();
        for to in nodes {
            let others: Vec<String> = all.iter().filter(|from| *from != to).cloned().collect();
            for (from, row) in self.eyes.paths(&others, to).await {
                // Only the way there: the way back is the other one's.
                match row.map(|row| row.forward) {
                    Ok(way) if way.health == Health::Healthy => {}
                    Ok(way) if way.health == Health::Findings => {
                        seen.astray.insert(from);
                    }
                    Ok(way) => {
                        seen.unknown.insert(from, unjudged(&way));
                    }
                    Err(why) => {
                        seen.unknown.insert(from, why);
                    }
                }
            }
        }
        seen.unknown.retain(|node, _| !seen.astray.contains(node));
        seen
    }

    async fn daemon_on(&self, node: &str) -> Result<Option<String>, Halt> {
        let pods = self.pods_on(node).await?;
        let daemons = pods.iter().map(gather::pod).filter(PodGround::networks);
        Ok(daemons.map(|pod| pod.key).next())
    }
}

/// Nodes that are not seen to lead to others.
#[derive(Debug, Default)]
struct Seen {
    /// Whose packets are known not to arrive.
    astray: BTreeSet<String>,
    /// Of whose that is not known, and why.
    unknown: BTreeMap<String, String>,
}

impl Seen {
    /// In words: what is not known is not said to be wrong. `None`: all of them lead there.
    fn told(&self, nodes: &[String]) -> Option<String> {
        let to = nodes.join(", ");
        let mut texts = Vec::new();
        if !self.astray.is_empty() {
            let names = some(self.astray.iter().map(String::as_str));
            texts.push(format!("packets of {names} do not reach {to}"));
        }
        // Nodes by the hundred have one reason.
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (node, why) in &self.unknown {
            reasons.entry(why).or_default().push(node);
        }
        let reasons = reasons.into_iter().map(|(why, of)| (some(of.into_iter()), why));
        let mut reasons = reasons.map(|(of, why)| format!("whether packets of {of} reach {to} is not known: {why}"));
        texts.extend(reasons.by_ref().take(NAMED));
        match reasons.count() {
            0 => {}
            more => texts.push(format!(
                "and the same of others, for {} more",
                count(more, "reason", "reasons")
            )),
        }
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}

/// The first ones of many names, and how many more there are.
fn some<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let first = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Why a way could not be judged.
fn unjudged(way: &WayAnswer) -> String {
    let reason = way.wrong.iter().find_map(|row| match &row.verdict {
        Verdict::Unknown { reason } | Verdict::Opaque { reason } => Some(reason.clone()),
        _ => None,
    });
    reason.unwrap_or_else(|| "nothing is told of that way".to_owned())
}

#[cfg(test)]
mod tests {
    use cidrift_proto::verdict::CidrVerdict;

    use super::*;

    fn seen(astray: &[&str], unknown: &[(&str, &str)]) -> Option<String> {
        let unknown = unknown
            .iter()
            .map(|(node, why)| ((*node).to_owned(), (*why).to_owned()));
        let seen = Seen {
            astray: astray.iter().map(|node| (*node).to_owned()).collect(),
            unknown: unknown.collect(),
        };
        seen.told(&["n2".to_owned()])
    }

    #[test]
    fn of_a_node_whose_way_is_not_known_it_is_not_said_that_it_is_wrong() {
        assert_eq!(seen(&[], &[]), None);
        let why = "whether packets of n1, n3 reach n2 is not known: its agent is quiet";
        let quiet = [("n1", "its agent is quiet"), ("n3", "its agent is quiet")];
        assert_eq!(seen(&[], &quiet).as_deref(), Some(why));
        let both = format!("packets of n4 do not reach n2; {why}");
        assert_eq!(seen(&["n4"], &quiet), Some(both));
    }

    #[test]
    fn of_many_the_first_ones_are_named() {
        let names: Vec<String> = (1..=9).map(|n| format!("w{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let why = "packets of w1, w2, w3, w4 and 5 more do not reach n2";
        assert_eq!(seen(&names, &[]).as_deref(), Some(why));
        let each: Vec<(&str, &str)> = names.iter().map(|&name| (name, name)).collect();
        let text = seen(&[], &each).unwrap();
        assert!(text.ends_with("; and the same of others, for 5 reasons more"), "{text}");
    }

    #[test]
    fn why_a_way_is_not_known_is_what_is_told_of_it() {
        let way = |wrong| WayAnswer {
            health: Health::Unknown,
            wrong,
        };
        assert_eq!(unjudged(&way(Vec::new())), "nothing is told of that way");
        let verdict = |verdict| CidrVerdict {
            source: "n1".to_owned(),
            owner: "n2".to_owned(),
            cidr: "10.244.2.0/24".parse().unwrap(),
            verdict,
            landings: Vec::new(),
            observed_at: None,
        };
        let reason = "no report for 40 s".to_owned();
        let rows = vec![verdict(Verdict::Idle), verdict(Verdict::Unknown { reason })];
        assert_eq!(unjudged(&way(rows)), "no report for 40 s");
    }
}
