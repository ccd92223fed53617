//! A fix against the [`Stage`], from its first line to its end.

use std::cell::RefCell;
use std::time::Duration;

use cidrift_proto::catalogue::Code;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::seer::Seer;
use super::stage::Stage;
use crate::fix::fixture::{World, nets};
use crate::fix::planner::{self, Wish};
use crate::fix::run::{Halt, Held, Holder, LeaseError, Planned, Progress, Record, Runner, Settings, Want};

/// For what is not to come: whatever is to come is there at the first or second look.
const SHORT: Duration = Duration::from_millis(1200);

/// Three nodes, their server, and what is wrong with them.
pub(super) struct Play {
    pub(super) stage: Stage,
    pub(super) eyes: Seer,
    pub(super) settings: Settings,
    /// Of its next fix.
    pub(super) cancel: CancellationToken,
    /// What was said, by whichever fix.
    pub(super) said: RefCell<Vec<String>>,
    queue: Vec<Planned>,
    wish: Wish,
}

/// n2 lies outside of the pool, with a file and a bridge of that range, and a pod of web.
pub(super) fn outside() -> World {
    let mut world = World::of(3);
    world.node("n2").cidrs = nets(&["10.99.2.0/24"]);
    world.configured("n2", "10.99.2.0/24", Some("containerd template x"));
    world.bridge("n2", "10.99.2.1/24");
    world.pod("n2", "web", &[]);
    world.find(Code::Pool02, "n2", &["n2"]);
    world
}

/// n2 hands out of another range than its own, by a file that containerd rendered.
pub(super) fn stale() -> World {
    let mut world = World::of(3);
    world.configured("n2", "10.244.7.0/24", Some("containerd template x"));
    world.find(Code::Host01, "n2", &["n2"]);
    world
}

/// These nodes lack routes, which their flannel makes once it is started anew.
pub(super) fn deaf(nodes: &[&str]) -> World {
    let mut world = World::of(3);
    for node in ["n1", "n2", "n3"] {
        world.daemon(node, "flannel");
    }
    for node in nodes {
        world.find(Code::Path01, node, &[node]);
    }
    world
}

impl Play {
    /// What is planned for a world is to be done in the order of `nodes`.
    pub(super) fn of(world: World, nodes: &[&str]) -> Self {
        Self::wished(world, nodes, Wish::default())
    }

    /// The same, as it is wished.
    pub(super) fn wished(world: World, nodes: &[&str], wish: Wish) -> Self {
        let plan = planner::plan(&world.ground, &wish);
        let planned = |name: &&str| {
            let node = plan.nodes.iter().find(|node| node.node == **name).unwrap();
            assert_eq!(node.blocked, [""; 0]);
            Planned::from(node)
        };
        let queue = nodes.iter().map(planned).collect();
        let stage = Stage::of(&world);
        Self {
            eyes: Seer::of(&stage, world.ground),
            stage,
            settings: Settings {
                namespace: "cidrift".to_owned(),
                drain: SHORT,
                patience: SHORT,
                verify: SHORT,
                restart: None,
                after: None,
                window: None,
            },
            cancel: CancellationToken::new(),
            said: RefCell::default(),
            queue,
            wish,
        }
    }

    /// The same, as it is now, before another server.
    pub(super) fn again(&self) -> Self {
        let stage = self.stage.again();
        Self {
            eyes: self.eyes.at(&stage),
            stage,
            settings: self.settings.clone(),
            cancel: CancellationToken::new(),
            said: RefCell::default(),
            queue: self.queue.clone(),
            wish: self.wish.clone(),
        }
    }

    /// A fix that begins.
    pub(super) async fn fix(&self) -> (Record, Result<(), Halt>) {
        self.run(self.begin(), false).await.unwrap()
    }

    /// `--resume`.
    pub(super) async fn resume(&self) -> (Record, Result<(), Halt>) {
        self.run(Want::Go, false).await.unwrap()
    }

    /// `--abort`; whether there was anything to take back.
    pub(super) async fn abort(&self) -> bool {
        self.undone().await.is_some()
    }

    /// `--abort`; how its node is over then, `None`: there was nothing to take back.
    pub(super) async fn undone(&self) -> Option<String> {
        match self.run(Want::Go, true).await {
            Ok((record, ended)) => {
                assert_eq!((ended, record.unfinished()), (Ok(()), false));
                Some(
                    record
                        .over
                        .last()
                        .and_then(|over| over.failed.clone())
                        .unwrap_or_default(),
                )
            }
            Err(LeaseError::Nothing) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// A fix, or an abort, that ends as its process does when the server falls silent; whether it did.
    pub(super) async fn killed(&self, abort: bool) -> bool {
        let want = if abort { Want::Go } else { self.begin() };
        tokio::select! {
            biased;
            () = self.stage.fallen() => true,
            ended = self.run(want, abort) => {
                assert!(matches!(ended, Ok((_, Ok(())))), "{:?}", ended.map(|(_, ended)| ended));
                false
            }
        }
    }

    /// Why `--resume` or `--abort` does not begin.
    pub(super) async fn refused(&self, abort: bool) -> String {
        let refusal = self.run(Want::Go, abort).await.err().unwrap();
        refusal.to_string()
    }

    fn begin(&self) -> Want {
        Want::New(Box::new(Record {
            id: "f1".to_owned(),
            begun: jiff::Timestamp::UNIX_EPOCH,
            by: "me@here".to_owned(),
            wish: self.wish.clone(),
            queue: self.queue.clone(),
            work: None,
            over: Vec::new(),
            stopped: None,
        }))
    }

    async fn run(&self, want: Want, abort: bool) -> Result<(Record, Result<(), Halt>), LeaseError> {
        let taken = Held::take(&self.stage.client(), "cidrift", want, &ended(), &|_| {}).await;
        let (mut held, record) = taken?;
        held.every = Duration::from_millis(100);
        let tell = |progress: &Progress| self.said.borrow_mut().push(progress.text.clone());
        let mut runner = Runner::new(self.stage.client(), &self.eyes, (held, record), &self.settings, &tell);
        runner.crowd = Duration::from_millis(100);
        let ended = if abort {
            runner.abort(&self.cancel).await
        } else {
            runner.run(&self.cancel).await
        };
        Ok((runner.record, ended))
    }

    /// Whether that was said.
    pub(super) fn says(&self, text: &str) -> bool {
        self.said.borrow().iter().any(|said| said.contains(text))
    }

    /// A Node as it is.
    pub(super) fn node(&self, name: &str) -> Value {
        self.stage.with(|store| store.node(name).clone())
    }
}

/// A process that has ended where this one runs: its Lease may be taken at once.
fn ended() -> Holder {
    let mut holder = Holder::this();
    holder.place.as_mut().unwrap().started = 0;
    holder
}

/// Whether it stopped for this reason.
pub(super) fn stopped(ended: &Result<(), Halt>, text: &str) {
    assert!(
        matches!(ended, Err(Halt::Stop(why)) if why.contains(text)),
        "{text:?}: {ended:?}"
    );
}
