//! What goes wrong in real clusters, done to the bench's: how it is done, what must be found, how it is undone.

use std::time::Duration;

use ipnet::IpNet;

use crate::kubernetes::demo::POOL;
use crate::kubernetes::error::{Error, Result};
use crate::kubernetes::swap::swap;
use crate::kubernetes::{Cluster, kubeadm};
use crate::route::Route;

/// Another range than the pool's.
const OTHER: &str = "10.200.0.0/16";

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// A route to a peer is gone.
    RouteDeleted,
    /// A route leads to the wrong peer.
    RouteToWrongNode,
    /// A route swallows what it is for.
    Blackhole,
    /// The CNI configuration has another node's range.
    Conflist,
    /// More nodes than the pool has blocks.
    PoolExhausted,
    /// `--cluster-cidr` is changed under living nodes.
    ClusterCidrChanged,
    /// A Node is deleted and made again with another CIDR.
    NodeReborn,
}

/// What was done, as a person would have typed it.
#[derive(Debug, Clone)]
pub struct Step(pub String);

/// A mishap in force.
#[derive(Debug)]
pub struct Done {
    /// What was done.
    pub steps: Vec<Step>,
    mishap: Mishap,
    routes: Vec<(String, Option<Route>, Route)>,
    cidr: IpNet,
    other: IpNet,
}

impl Mishap {
    /// In the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::RouteDeleted,
        Self::RouteToWrongNode,
        Self::Blackhole,
        Self::Conflist,
        Self::PoolExhausted,
        Self::ClusterCidrChanged,
        Self::NodeReborn,
    ];

    /// Its name, and what it is.
    pub fn description(self) -> &'static str {
        match self {
            Self::RouteDeleted => "route-deleted: n2 loses its route to the pods of n3",
            Self::RouteToWrongNode => "route-to-wrong-node: n2 sends what is for the pods of n3 to n1",
            Self::Blackhole => "blackhole: n2 drops what is for the pods of n3",
            Self::Conflist => "stale-configuration: the CNI configuration of n3 has another range than its Node",
            Self::PoolExhausted => "pool-exhausted: a fifth node where the pool has four blocks",
            Self::ClusterCidrChanged => "cluster-cidr-changed: the controller manager gets another --cluster-cidr",
            Self::NodeReborn => "node-reborn: Node n3 is deleted and made again with another CIDR",
        }
    }

    /// What must be found, by id.
    pub fn expected(self) -> &'static [&'static str] {
        match self {
            Self::RouteDeleted => &["PATH01/n2"],
            Self::RouteToWrongNode => &["PATH02/n2"],
            Self::Blackhole => &["PATH04/n2"],
            Self::Conflist => &["HOST01/n3"],
            Self::PoolExhausted => &["POOL01/node-5", "POOL04/ipv4"],
            Self::ClusterCidrChanged => &["POOL02/n1", "POOL02/n2", "POOL02/n3"],
            Self::NodeReborn => &["POOL12/n3"],
        }
    }

    /// Does it.
    ///
    /// # Errors
    ///
    /// The API server or the kernel refuses, or what must follow does not in `patience`.
    pub fn apply(self, cluster: &Cluster, patience: Duration) -> Result<Done> {
        let api = cluster.api();
        let (n1, n2, n3) = (cluster.node("n1")?, cluster.node("n2")?, cluster.node("n3")?);
        let cidr = first(api.wait_cidrs("n3", patience)?, "n3")?;
        let [to_n1, to_n3] = [first(n1.addresses.clone(), "n1")?, first(n3.addresses.clone(), "n3")?];
        let route = Route::via(cidr, to_n3, "eth0");
        let other = free(cluster, patience)?;
        let mut done = Done {
            steps: Vec::new(),
            mishap: self,
            routes: Vec::new(),
            cidr,
            other,
        };
        match self {
            Self::RouteDeleted => {
                n2.ip.del_route(&route)?;
                done.step(format!("n2# ip route del {route}"));
                done.routes.push(("n2".to_owned(), None, route));
            }
            Self::RouteToWrongNode => {
                let wrong = Route::via(cidr, to_n1, "eth0");
                n2.ip.replace_route(&wrong)?;
                done.step(format!("n2# ip route replace {wrong}"));
                done.routes.push(("n2".to_owned(), Some(wrong), route));
            }
            Self::Blackhole => {
                let hole = Route::blackhole(cidr);
                n2.ip.replace_route(&hole)?;
                done.step(format!("n2# ip route replace {hole}"));
                done.routes.push(("n2".to_owned(), Some(hole), route));
            }
            Self::Conflist => {
                let directory = n3.cni_directory();
                let text = crate::kubernetes::cni::bridge(&[other]);
                crate::kubernetes::cni::write_conflist(&directory, crate::kubernetes::cni::CONFLIST, &text)?;
                done.step(format!(
                    "n3# sed -i s,{cidr},{other}, /etc/cni/net.d/{}",
                    crate::kubernetes::cni::CONFLIST
                ));
            }
            Self::PoolExhausted => {
                api.create_fake_node("node-4", &[])?;
                // Else either may be the one that waits.
                api.wait_cidrs("node-4", patience)?;
                api.create_fake_node("node-5", &[])?;
                for name in ["node-4", "node-5"] {
                    done.step(format!("kubectl create -f {name}.yaml   # a Node without a machine"));
                }
                let waits = api.wait_event("Node", "node-5", "CIDRNotAvailable", patience)?;
                done.step(format!("the allocator says: {}", waits.message.unwrap_or_default()));
            }
            Self::ClusterCidrChanged => {
                let nets = [parse(OTHER)?];
                kubeadm::record(api, &nets, &cluster.scenario().service_cidr, &[])?;
                cluster.kcm().restart(&[
                    "--allocate-node-cidrs=true".to_owned(),
                    format!("--cluster-cidr={OTHER}"),
                ])?;
                done.step(format!(
                    "kubeadm's record and kube-controller-manager: --cluster-cidr={OTHER}"
                ));
                let exit = cluster.kcm().wait_log("is out the range of cluster cidr", patience)?;
                done.step(format!("it exits: {}", exit.trim()));
            }
            Self::NodeReborn => {
                swap(cluster, "n3", &[other], patience)?;
                done.step(format!(
                    "kubectl delete node n3 && kubectl create -f n3.yaml   # podCIDR {cidr} -> {other}"
                ));
            }
        }
        Ok(done)
    }
}

impl Done {
    fn step(&mut self, text: String) {
        self.steps.push(Step(text));
    }

    /// Undoes it; returns what was done for that.
    ///
    /// # Errors
    ///
    /// As [`Mishap::apply`]'s.
    pub fn undo(self, cluster: &Cluster, patience: Duration) -> Result<Vec<Step>> {
        let api = cluster.api();
        let mut steps = Vec::new();
        for (node, wrong, right) in &self.routes {
            let ip = &cluster.node(node)?.ip;
            if let Some(wrong) = wrong {
                ip.del_route(wrong)?;
            }
            ip.add_route(right)?;
            steps.push(Step(format!("{node}# ip route replace {right}")));
        }
        match self.mishap {
            Mishap::RouteDeleted | Mishap::RouteToWrongNode | Mishap::Blackhole => {}
            Mishap::Conflist => {
                cluster.sync_bridge_of("n3")?;
                steps.push(Step(format!(
                    "n3# sed -i s,{},{}, the same file",
                    self.other, self.cidr
                )));
            }
            Mishap::PoolExhausted => {
                for name in ["node-4", "node-5"] {
                    api.delete_node(name)?;
                    steps.push(Step(format!("kubectl delete node {name}")));
                }
            }
            Mishap::ClusterCidrChanged => {
                let scenario = cluster.scenario();
                kubeadm::record(api, &scenario.cluster_cidr, &scenario.service_cidr, &[])?;
                cluster.kcm().restart(&scenario.kcm())?;
                steps.push(Step(format!("both again: --cluster-cidr={POOL}")));
            }
            Mishap::NodeReborn => {
                swap(cluster, "n3", &[self.cidr], patience)?;
                steps.push(Step(format!("the same once more, with podCIDR {}", self.cidr)));
            }
        }
        Ok(steps)
    }
}

/// A block of the demo's pool that no Node has.
///
/// # Errors
///
/// A Node has no CIDR in `patience`, or all blocks are taken.
pub fn free(cluster: &Cluster, patience: Duration) -> Result<IpNet> {
    let mut used = Vec::new();
    for node in cluster.nodes() {
        used.extend(cluster.api().wait_cidrs(&node.name, patience)?);
    }
    let pool: ipnet::Ipv4Net = POOL
        .parse()
        .map_err(|error| Error::Malformed(format!("{POOL}: {error}")))?;
    let mut blocks = pool
        .subnets(24)
        .map_err(|error| Error::Malformed(format!("{POOL}: {error}")))?
        .map(IpNet::V4);
    let free = blocks.find(|block| !used.contains(block));
    free.ok_or_else(|| Error::Malformed(format!("{POOL} has no block left")))
}

fn first<T>(all: Vec<T>, whose: &str) -> Result<T> {
    let none = || Error::Malformed(format!("{whose} has none"));
    all.into_iter().next().ok_or_else(none)
}

fn parse(text: &str) -> Result<IpNet> {
    text.parse()
        .map_err(|error| Error::Malformed(format!("{text}: {error}")))
}
