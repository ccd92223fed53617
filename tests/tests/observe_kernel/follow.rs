//! A watcher beside a fresh dump.

use std::collections::BTreeSet;
use std::time::Duration;

use cidrift_agent::observe::netlink::{Options, Watcher};
use cidrift_agent::view::{Changes, Kernel};
use ipnet::IpNet;
use tokio::runtime;
use tokio::time::{Instant, timeout};

use crate::host::{Host, inside};

/// Only events and what they cause: the periodic dump would mend everything.
pub(crate) fn events_only() -> Options {
    Options {
        full_dump_every: Duration::from_secs(3600),
        ..Options::default()
    }
}

impl Host {
    pub(crate) async fn watch(&self) -> Watcher {
        self.watch_with(events_only()).await
    }

    pub(crate) async fn watch_with(&self, options: Options) -> Watcher {
        inside(&self.netns, || {
            runtime::Handle::current().block_on(Watcher::start(options))
        })
        .unwrap()
    }

    /// Follows until the view is what a fresh dump says, and hands back all
    /// changes on the way. Fails with the differences after 20 seconds.
    pub(crate) async fn follow(&self, watcher: &mut Watcher) -> Changes {
        let mut all = Changes::none(watcher.verified_at());
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            while let Ok(changes) = timeout(Duration::from_millis(50), watcher.changed()).await {
                let changes = changes.unwrap();
                all.prefixes.extend(changes.prefixes);
                all.wide |= changes.wide;
                all.links |= changes.links;
                if Instant::now() > deadline {
                    break;
                }
            }
            let differences = differences(watcher.kernel(), &self.look().await.kernel);
            if differences.is_empty() {
                return all;
            }
            assert!(Instant::now() < deadline, "still different: {differences:#?}");
        }
    }
}

/// In words, what differs between a kept view and a dump.
pub(crate) fn differences(kept: &Kernel, dumped: &Kernel) -> Vec<String> {
    let mut found = Vec::new();
    for (table, prefix) in kept.routes.differences(&dumped.routes) {
        found.push(format!(
            "route {prefix} of table {table}: kept {:?}, dumped {:?}",
            kept.routes.at(table, &prefix),
            dumped.routes.at(table, &prefix)
        ));
    }
    let indices: BTreeSet<u32> = kept.links.keys().chain(dumped.links.keys()).copied().collect();
    for index in indices {
        if kept.links.get(&index) != dumped.links.get(&index) {
            found.push(format!(
                "link: kept {:?}, dumped {:?}",
                kept.links.get(&index),
                dumped.links.get(&index)
            ));
        }
    }
    let mut compare = |what: &str, same: bool, kept: String, dumped: String| {
        if !same {
            found.push(format!("{what}: kept {kept}, dumped {dumped}"));
        }
    };
    macro_rules! compare {
        ($($field:ident),*) => {$(
            compare(
                stringify!($field),
                kept.$field == dumped.$field,
                format!("{:?}", kept.$field),
                format!("{:?}", dumped.$field),
            );
        )*};
    }
    compare!(rules, nexthops, neighbours, fdb, sysctls);
    found
}

/// The prefixes, for comparing.
pub(crate) fn nets<const N: usize>(texts: [&str; N]) -> BTreeSet<IpNet> {
    texts.into_iter().map(|text| text.parse().unwrap()).collect()
}
