//! An aggregator that looks at the [`Stage`].

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::Finding;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::stage::{Stage, WRITTEN};
use crate::fix::gather::{self, Answers, Objects, Views};
use crate::fix::ground::{Ground, Pods};
use crate::fix::run::{Eyes, Ways};
use crate::query::answer::{NodeAnswer, PathRow, WayAnswer};
use crate::summary::Health;

/// An aggregator that sees at once what has been mended.
pub(super) struct Seer {
    stage: Stage,
    ground: Ground,
}

impl Seer {
    /// What stands in `ground` stands until its Node has a CIDR of the pool, its CNI configuration is for that, or its flannel's
    /// pod is another one.
    pub(super) fn of(stage: &Stage, ground: Ground) -> Self {
        Self {
            stage: stage.clone(),
            ground,
        }
    }

    /// The same, of another server.
    pub(super) fn at(&self, stage: &Stage) -> Self {
        Self::of(stage, self.ground.clone())
    }

    fn standing(&self) -> Vec<Finding> {
        let mut findings = self.ground.findings.clone();
        self.stage.with(|store| {
            findings.retain(|finding| {
                let node = &finding.claim.subject;
                match finding.claim.code {
                    // Its node leaks still.
                    Code::Host05 => true,
                    Code::Path01 => store
                        .all
                        .contains_key(&format!("/api/v1/namespaces/kube-system/pods/flannel-{node}")),
                    Code::Host01 | Code::Host08 => {
                        let own = store.node(node)["spec"]["podCIDR"].clone();
                        store.all.get(&format!("{WRITTEN}/{node}")) != Some(&own)
                    }
                    _ => {
                        let own = store.all.get(&format!("/api/v1/nodes/{node}"));
                        own.is_none_or(|own| !own["spec"]["podCIDR"].as_str().unwrap().starts_with("10.244."))
                    }
                }
            });
        });
        findings
    }
}

impl Eyes for Seer {
    async fn ground(&self, _: Option<&str>) -> Result<Ground, String> {
        let (objects, listed) = self.stage.with(|store| {
            let objects = Objects {
                nodes: read(&store.list("/api/v1/nodes", "")),
                ..Objects::default()
            };
            (objects, read::<Pod>(&store.list("/api/v1/pods", "")))
        });
        let mut pods = Pods::default();
        for pod in &listed {
            pods.push(gather::pod(pod));
        }
        let views = self.ground.nodes.values().filter_map(|node| node.view.clone());
        let answers = Answers {
            findings: self.standing(),
            pool: self.ground.pool.clone(),
            views: Views {
                nodes: views.collect(),
                plain: Vec::new(),
            },
            gaps: Vec::new(),
        };
        gather::assemble(self.ground.at, &objects, pods, answers).map_err(|error| error.to_string())
    }

    async fn node(&self, name: &str) -> Result<NodeAnswer, String> {
        let view = self.ground.nodes.get(name).and_then(|node| node.view.clone());
        let mut view = view.ok_or_else(|| format!("no node {name}"))?;
        let written = self
            .stage
            .with(|store| store.all.get(&format!("{WRITTEN}/{name}")).cloned());
        let chosen = &mut view.facts.as_mut().unwrap().cni.chosen;
        match (written.as_ref().and_then(Value::as_str), chosen.as_mut()) {
            (Some(range), Some(config)) => {
                config.subnets = vec![range.parse().unwrap()];
                config.ranges = config.subnets.clone();
            }
            _ => *chosen = None,
        }
        Ok(view)
    }

    async fn findings(&self) -> Result<Vec<Finding>, String> {
        Ok(self.standing())
    }

    async fn paths(&self, from: &[String], _: &str) -> Ways {
        let right = WayAnswer {
            health: Health::Healthy,
            wrong: Vec::new(),
        };
        let row = |name: &String| {
            let (forward, backward) = (right.clone(), right.clone());
            let from = name.clone();
            (
                name.clone(),
                Ok(PathRow {
                    from,
                    forward,
                    backward,
                }),
            )
        };
        from.iter().map(row).collect()
    }
}

fn read<T: serde::de::DeserializeOwned>(objects: &[Value]) -> Vec<T> {
    let read = objects
        .iter()
        .map(|object| serde_json::from_value(object.clone()).unwrap());
    read.collect()
}
