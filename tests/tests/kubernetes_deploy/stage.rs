//! One cluster for all tests of this binary. Each installs cidrift into it and removes it again, one after another.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use cidrift_lab::binaries::{self, Binaries};
use cidrift_lab::image;
use cidrift_lab::kubernetes::deployed::{NAMESPACE, import};
use cidrift_lab::kubernetes::{Cluster, Deployed, Scenario, Wanted, shared};
use serde_json::Value;

/// What a finding may take: an idle machine needs 3 s, a loaded one a multiple.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Real kubelets take some seconds to follow the control plane.
const FLAGS: [&str; 3] = ["--hold=500ms", "--settle=3s", "--silence=6s"];

static CLUSTER: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
static TURN: Mutex<()> = Mutex::new(());

/// An installation that this test has for itself.
pub(crate) struct Stage {
    deployed: Deployed,
    pub(crate) programs: Binaries,
    cluster: Arc<Cluster>,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Stage {
    type Target = Deployed;

    fn deref(&self) -> &Deployed {
        &self.deployed
    }
}

/// The base, with the times of the bench.
pub(crate) fn wanted() -> Wanted {
    Wanted {
        flags: FLAGS.map(str::to_owned).to_vec(),
        ..Wanted::default()
    }
}

impl Stage {
    /// Installs it, with these patches of kustomize's.
    pub(crate) fn start(patches: &[Value]) -> Self {
        let stage = Self::empty();
        stage.install(&Wanted {
            patches: patches.to_vec(),
            ..wanted()
        });
        stage
    }

    /// With the images on all nodes, and nothing installed.
    pub(crate) fn empty() -> Self {
        let say = |text: &str| eprintln!("{text}");
        let programs = binaries::find(say).unwrap_or_else(|error| panic!("{error}"));
        let scenario = || Scenario {
            nodes: 3,
            ..Scenario::default()
        };
        // Held while waiting for the turn: else each would start its own.
        let cluster = shared(&CLUSTER, scenario);
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        import(cluster.nodes(), &programs, image::CURRENT).unwrap_or_else(|error| panic!("{error}"));
        let deployed = Deployed::new(&cluster, &programs, &say);
        let stage = Self {
            deployed: deployed.unwrap_or_else(|error| panic!("{error}")),
            programs,
            cluster,
            _turn: turn,
        };
        // A test that failed leaves its installation, whose agents would go on believing its authority for a while.
        if !stage
            .kubectl(&["get", "namespace", NAMESPACE, "--ignore-not-found"])
            .is_empty()
        {
            stage.change(&wanted()).unwrap_or_else(|error| panic!("{error}"));
            stage.remove().unwrap_or_else(|error| panic!("{error}"));
        }
        stage
    }

    /// Applies it, and waits until its pods are ready.
    pub(crate) fn install(&self, wanted: &Wanted) {
        let applied = self.change(wanted).and_then(|_| self.wait_ready());
        applied.unwrap_or_else(|error| panic!("{error}"));
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Waits until all is well.
    pub(crate) fn healthy(&self) {
        let waited = self.wait_healthy(&self.cluster, PATIENCE);
        waited.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits until these findings are open.
    pub(crate) fn open(&self, ids: &[&str]) -> Vec<Value> {
        let waited = self.wait_open(&self.cluster, ids, false, PATIENCE);
        waited.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits until nothing is open.
    pub(crate) fn nothing_open(&self) {
        let waited = self.wait_open(&self.cluster, &[], true, PATIENCE);
        waited.unwrap_or_else(|error| panic!("{error}"));
    }

    /// What kubectl prints.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl.run(arguments).unwrap_or_else(|error| panic!("{error}"))
    }
}
