//! What everything here stands on: three nodes with flannel's routes between them, cidrift, and a workload that a budget
//! guards.

use std::time::Duration;

use cidrift_lab::binaries;
use cidrift_lab::kubernetes::{Cluster, Cni, Deployed, Scenario, flanneld, kubeadm};

/// What a finding may take: an idle machine needs 3 s, a loaded one a multiple.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Real kubelets take some seconds to follow the control plane.
const FLAGS: [&str; 3] = ["--hold=500ms", "--settle=3s", "--silence=6s"];

/// A cluster with all of it.
pub(crate) struct Ground {
    pub(crate) deployed: Deployed,
    pub(crate) cluster: Cluster,
}

impl Ground {
    pub(crate) fn start() -> Self {
        let say = |text: &str| eprintln!("{text}");
        let programs = binaries::find(say).unwrap();
        let scenario = Scenario {
            nodes: 3,
            cni: Cni::Template,
            ..Scenario::default()
        };
        let cluster = Cluster::start(scenario, &say).unwrap();
        let (ranges, services) = (&cluster.scenario().cluster_cidr, &cluster.scenario().service_cidr);
        kubeadm::record(cluster.api(), ranges, services, &[]).unwrap();
        flanneld::install(&cluster, &say).unwrap();
        let deployed = Deployed::install(&cluster, &programs, &FLAGS, &[], &say).unwrap();
        deployed.wait_healthy(&cluster, PATIENCE).unwrap();
        Self { deployed, cluster }
    }

    pub(crate) fn end(self) {
        self.deployed.remove().unwrap();
    }
}
