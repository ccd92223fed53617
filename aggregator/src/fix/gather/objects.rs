//! Kubernetes' objects as plain data.

use std::collections::BTreeMap;

use cidrift_proto::finding::Finding;
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::CSINode;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use super::GatherError;
use super::place;
use super::quantity::milli;
use crate::control_plane::record;
use crate::fix::ground::{Budget, Ground, NodeGround, Owner, PodGround, Pods, Room};
use crate::fix::run::MARK;
use crate::query::answer::NodeAnswer;
use crate::summary::PoolReport;

/// The label by which pods of the aggregator are known, as the manifests have it.
pub const AGGREGATOR: &str = "app.kubernetes.io/name=cidrift-aggregator";

/// What was listed.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Nodes.
    pub nodes: Vec<Node>,
    /// PodDisruptionBudgets.
    pub budgets: Vec<PodDisruptionBudget>,
    /// CSINodes.
    pub csi: Vec<CSINode>,
    /// Why no kube-controller-manager is thought to run; `None`: one does, or that cannot be told.
    pub controllers: Option<String>,
    /// What could not be asked, and is not needed for every plan.
    pub gaps: Vec<String>,
}

/// What the aggregator answered.
#[derive(Debug, Clone)]
pub struct Answers {
    /// Findings that stand.
    pub findings: Vec<Finding>,
    /// The pool.
    pub pool: PoolReport,
    /// Of its nodes.
    pub views: Views,
    /// What it does not see.
    pub gaps: Vec<String>,
}

/// What hosts show.
#[derive(Debug, Clone, Default)]
pub struct Views {
    /// Every node that the aggregator knows.
    pub nodes: Vec<NodeAnswer>,
    /// Pod CIDRs that one Node alone had then: entries that lead there rightly are not among those of the nodes.
    pub plain: Vec<IpNet>,
}

/// Puts both together.
///
/// # Errors
///
/// An object of the API server makes no sense: a plan that passes over a budget or a CIDR would be wrong.
pub fn assemble(at: Timestamp, objects: &Objects, pods: Pods, answers: Answers) -> Result<Ground, GatherError> {
    let mut views: BTreeMap<String, NodeAnswer> = BTreeMap::new();
    for view in answers.views.nodes {
        views.insert(view.summary.name.clone(), view);
    }
    let csi: BTreeMap<String, &CSINode> = objects.csi.iter().map(|csi| (csi.name_any(), csi)).collect();
    let mut nodes = BTreeMap::new();
    for object in &objects.nodes {
        let name = object.name_any();
        let view = views.remove(&name);
        nodes.insert(name.clone(), node(object, csi.get(&name).copied(), view)?);
    }
    Ok(Ground {
        at,
        nodes,
        strays: views,
        pods,
        budgets: objects.budgets.iter().map(budget).collect(),
        findings: answers.findings,
        pool: answers.pool,
        controllers: objects.controllers.clone(),
        gaps: answers.gaps.into_iter().chain(objects.gaps.iter().cloned()).collect(),
        plain: answers.views.plain,
    })
}

fn key(namespace: Option<String>, name: &str) -> String {
    format!("{}/{name}", namespace.unwrap_or_default())
}

fn node(object: &Node, csi: Option<&CSINode>, view: Option<NodeAnswer>) -> Result<NodeGround, GatherError> {
    let spec = object.spec.clone().unwrap_or_default();
    let status = object.status.clone().unwrap_or_default();
    let cidrs = spec.pod_cidrs.or_else(|| spec.pod_cidr.map(|cidr| vec![cidr]));
    let cidrs = cidrs.unwrap_or_default().into_iter().filter(|text| !text.is_empty());
    let parse = |text: String| {
        text.parse::<IpNet>().map_err(|_| GatherError::Odd {
            what: "node",
            name: object.name_any(),
            why: format!("its podCIDR {text:?} is none"),
        })
    };
    let addresses = status.addresses.unwrap_or_default().into_iter();
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    let conditions = status.conditions.unwrap_or_default();
    let drivers = csi.map(|csi| csi.spec.drivers.iter().map(|driver| driver.name.clone()).collect());
    Ok(NodeGround {
        uid: object.uid().unwrap_or_default(),
        cidrs: cidrs.map(parse).collect::<Result<_, _>>()?,
        addresses: internal.filter_map(|address| address.address.parse().ok()).collect(),
        unschedulable: spec.unschedulable == Some(true),
        fix: object.annotations().get(MARK).cloned(),
        ready: conditions
            .iter()
            .any(|one| one.type_ == "Ready" && one.status == "True"),
        deleting: object.metadata.deletion_timestamp.is_some(),
        finalizers: object.finalizers().to_vec(),
        labels: object.labels().clone(),
        taints: spec.taints.unwrap_or_default().into_iter().map(place::taint).collect(),
        provider: spec.provider_id.unwrap_or_default(),
        drivers: drivers.unwrap_or_default(),
        allocatable: room(status.allocatable.as_ref()),
        view,
    })
}

/// Whom budgets select, by their namespace and with their names. One without a selector selects nobody, an empty one
/// everybody (policy/v1).
#[derive(Debug, Default)]
pub(super) struct Selectors(BTreeMap<String, Vec<(String, Selector)>>);

impl Selectors {
    /// Of these budgets.
    pub(super) fn new(budgets: &[PodDisruptionBudget]) -> Result<Self, GatherError> {
        let mut all = Self::default();
        for object in budgets {
            let Some(selector) = object.spec.as_ref().and_then(|spec| spec.selector.clone()) else {
                continue;
            };
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            let selector = Selector::try_from(selector).map_err(|error| GatherError::Odd {
                what: "poddisruptionbudget",
                name: format!("{namespace}/{name}"),
                why: error.to_string(),
            })?;
            all.0.entry(namespace).or_default().push((name, selector));
        }
        Ok(all)
    }

    /// A pod with the budgets that select it; `None`: it has ended.
    pub(super) fn living(&self, object: &Pod) -> Option<PodGround> {
        let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return None;
        }
        let namespace = object.namespace().unwrap_or_default();
        let there = self.0.get(&namespace).into_iter().flatten();
        let selecting = there.filter(|(_, selector)| selector.matches(object.labels()));
        Some(PodGround {
            budgets: selecting.map(|(name, _)| format!("{namespace}/{name}")).collect(),
            ..pod(object)
        })
    }
}

/// A pod, without the budgets that select it.
pub fn pod(object: &Pod) -> PodGround {
    let spec = object.spec.clone().unwrap_or_default();
    let owners = object.owner_references().iter();
    let mut controller = owners
        .filter(|owner| owner.controller == Some(true))
        .map(|owner| Owner {
            kind: owner.kind.clone(),
            name: owner.name.clone(),
        });
    let mirror = object.annotations().contains_key("kubernetes.io/config.mirror");
    let status = object.status.as_ref();
    let addresses = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    let place = place::of(&spec);
    PodGround {
        key: key(object.namespace(), &object.name_any()),
        owner: controller.next().or_else(|| {
            mirror.then(|| Owner {
                kind: "Node".to_owned(),
                name: spec.node_name.clone().unwrap_or_default(),
            })
        }),
        host_network: spec.host_network == Some(true),
        deleting: object.metadata.deletion_timestamp.is_some(),
        scratch: volumes.iter().any(|volume| volume.empty_dir.is_some()),
        addresses: addresses.filter_map(|address| address.ip.parse().ok()).collect(),
        requests: requests(&spec),
        budgets: Vec::new(),
        returns: place.tolerates([&place::cordon()]),
        aggregator: aggregator(object),
        place,
        daemon: daemon(object, &spec),
        node: spec.node_name,
    }
}

fn aggregator(object: &Pod) -> bool {
    let (key, name) = AGGREGATOR.split_once('=').unwrap_or_default();
    object.labels().get(key).is_some_and(|value| value == name)
}

/// The kind of CNI daemon that it is, told as the aggregator tells it.
fn daemon(object: &Pod, spec: &PodSpec) -> Option<String> {
    if spec.host_network != Some(true) {
        return None;
    }
    let value = serde_json::to_value(object).ok()?;
    let pod: record::pod::Pod = serde_json::from_value(value).ok()?;
    record::daemon::record(&pod).map(|daemon| daemon.kind)
}

/// What the scheduler counts: the containers together, or the largest init container where that is more.
fn requests(spec: &PodSpec) -> Room {
    let of = |resources: &Option<ResourceRequirements>| {
        let resources = resources.as_ref().and_then(|all| all.requests.as_ref());
        Room {
            pods: 0,
            ..room(resources)
        }
    };
    let sum = spec
        .containers
        .iter()
        .fold(Room::default(), |sum, one| sum.and(of(&one.resources)));
    let first = spec.init_containers.iter().flatten().map(|one| of(&one.resources));
    let most = first.fold(sum, |most, one| Room {
        cpu: most.cpu.max(one.cpu),
        memory: most.memory.max(one.memory),
        pods: 0,
    });
    Room { pods: 1, ..most }
}

fn room(all: Option<&BTreeMap<String, Quantity>>) -> Room {
    let of = |name: &str| {
        let quantity = all.and_then(|all| all.get(name));
        quantity.and_then(|quantity| milli(&quantity.0)).unwrap_or(0)
    };
    Room {
        cpu: of("cpu"),
        memory: of("memory").div_ceil(1000),
        pods: of("pods") / 1000,
    }
}

fn budget(object: &PodDisruptionBudget) -> (String, Budget) {
    let status = object.status.clone().unwrap_or_default();
    let seen = status.observed_generation.is_some() && status.observed_generation == object.metadata.generation;
    let budget = Budget {
        allowed: status.disruptions_allowed,
        desired: status.desired_healthy,
        healthy: status.current_healthy,
        expected: status.expected_pods,
        current: seen,
    };
    (key(object.namespace(), &object.name_any()), budget)
}
