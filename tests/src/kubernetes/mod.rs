//! A real Kubernetes on one machine, for tests and for people: etcd,
//! kube-apiserver, kube-controller-manager, kube-scheduler, and nodes with
//! their own containerd and kubelet, whose pods really run.
//!
//! Nothing of it touches the machine's own network: the control plane is in a
//! network namespace with the segment that joins the nodes (172.30.0.0/24),
//! each node is a machine of its own (see [`machine`]), and one door on
//! 127.0.0.1 leads to the API server. Many clusters run side by side. It needs
//! root, Debian's packages and Go; what is missing is said.
//!
//! ```no_run
//! use std::time::Duration;
//! use cidrift_lab::kubernetes::{Cluster, Scenario};
//!
//! # fn main() -> Result<(), cidrift_lab::kubernetes::Error> {
//! // In a test, first: if !have(Need::Kubernetes) { return; }
//! let cluster = Cluster::start(Scenario::default(), &|text| eprintln!("{text}"))?;
//! let api = cluster.api();
//! // A real pod, and its address out of its Node's CIDR.
//! api.create_pod("web", Some("n1"))?;
//! let addresses = api.wait_running("web", Duration::from_secs(30))?;
//! let cidrs = api.wait_cidrs("n1", Duration::from_secs(5))?;
//! assert!(cidrs[0].contains(&addresses[0]));
//! // Its network namespace, to ping from; the node's own, to look at routes.
//! let n1 = cluster.node("n1")?;
//! let _pod = n1.pod_netns("default", "web")?;
//! // The operator changes --cluster-cidr: the real controller manager exits.
//! cluster.kcm().restart(&["--allocate-node-cidrs=true".into(), "--cluster-cidr=10.100.0.0/16".into()])?;
//! cluster.kcm().wait_log("is out the range of cluster cidr", Duration::from_secs(30))?;
//! cluster.kcm().wait_ended(Duration::from_secs(30))?;
//! // A Node dies, and its kubelet comes back.
//! n1.kubelet.stop()?;
//! api.delete_node("n1")?;
//! n1.kubelet.start_again()?;
//! // Anything else through kube's own client.
//! let client = api.client();
//! let version = api.block_on(client.apiserver_version());
//! # let _ = version;
//! # Ok(())
//! # }   // Processes, mounts, namespaces and cgroups are gone here.
//! ```
//!
//! Programs of ours are started with [`Cluster::start_program`] (beside the
//! control plane) and [`Node::start_program`] (on a node, where paths are
//! those of a real host); [`Node::root`] is the host's root seen from outside,
//! [`Cluster::kubeconfig`] leads in through 127.0.0.1.

pub mod audit;
pub mod client;
pub mod cluster;
pub mod cni;
pub mod control_plane;
pub mod demo;
pub mod deployed;
pub mod error;
pub mod flanneld;
pub mod image;
pub mod kubeadm;
pub mod kubectl;
pub mod leftovers;
pub mod machine;
pub mod mishap;
pub mod node;
pub mod optional;
pub mod pki;
pub mod place;
pub mod proxy;
pub mod scenario;
pub mod service;
pub mod swap;
pub mod tools;
pub mod typed;
pub mod up;
pub mod wanted;

pub use client::Api;
pub use cluster::{Cluster, shared};
pub use deployed::Deployed;
pub use error::{Error, Result};
pub use node::Node;
pub use scenario::{Backend, Cni, Containerd, Scenario};
pub use service::Service;
pub use typed::Typist;
pub use wanted::Wanted;
