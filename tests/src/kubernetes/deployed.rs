//! cidrift in a cluster as people install it: its images on every node, `kubectl apply -k`, real pods, and `kubectl
//! cidrift` to ask.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::binaries::Binaries;
use crate::image;
use crate::kubernetes::error::{Error, Result, io};
use crate::kubernetes::kubectl::Kubectl;
use crate::kubernetes::wanted::{Wanted, manifests};
use crate::kubernetes::{Cluster, Node};

/// Its namespace.
pub const NAMESPACE: &str = "cidrift";

/// How long its pods may take until they are ready: 2 s on an idle machine.
const ROLLOUT: &str = "--timeout=90s";

/// An installation. Dropping it removes nothing: see [`Deployed::remove`].
#[derive(Debug, Clone)]
pub struct Deployed {
    /// The administrator's kubectl.
    pub kubectl: Kubectl,
    overlay: PathBuf,
    /// Where the aggregator is asked instead of through the API server: its address, and whom to believe there.
    direct: Option<(String, PathBuf)>,
}

impl Deployed {
    /// Imports the images on every node, applies `deploy/base` with the bench's own few lines on top, and waits until
    /// all its pods are ready. The aggregator runs on the first node, with `flags` besides its own; `patches` are
    /// kustomize's, for tests that change something.
    ///
    /// # Errors
    ///
    /// Something of it cannot be built, imported, applied, or does not become ready.
    pub fn install(
        cluster: &Cluster,
        programs: &Binaries,
        flags: &[&str],
        patches: &[Value],
        progress: &dyn Fn(&str),
    ) -> Result<Self> {
        let wanted = Wanted {
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            patches: patches.to_vec(),
            ..Wanted::default()
        };
        import(cluster.nodes(), programs, image::CURRENT)?;
        progress(&format!(
            "imported {} and {} {} on every node",
            image::AGENT,
            image::AGGREGATOR,
            image::CURRENT
        ));
        let deployed = Self::new(cluster, programs, progress)?;
        deployed.change(&wanted)?;
        progress("kubectl apply -k deploy/base: applied, with the bench's own overlay");
        deployed.wait_ready()?;
        Ok(deployed)
    }

    /// Nothing yet: what [`Deployed::change`] is asked of.
    ///
    /// # Errors
    ///
    /// kubectl cannot be built.
    pub fn new(cluster: &Cluster, programs: &Binaries, progress: &dyn Fn(&str)) -> Result<Self> {
        let plugins = programs.kubectl.parent().unwrap_or(Path::new("/"));
        let kubectl = Kubectl::new(cluster, plugins, progress)?;
        let overlay = cluster.directory().join("deploy");
        Ok(Self {
            kubectl,
            overlay,
            direct: None,
        })
    }

    /// `kubectl apply -k` of these manifests, with the bench's own few lines on top. Its pods need not be ready yet.
    ///
    /// # Errors
    ///
    /// What kubectl says.
    pub fn change(&self, wanted: &Wanted) -> Result<String> {
        let manifests = wanted.manifests.clone().unwrap_or_else(|| manifests("base"));
        self.write(&wanted.kustomization(), &manifests)?;
        self.apply()
    }

    fn write(&self, wanted: &Value, manifests: &Path) -> Result<()> {
        fs::create_dir_all(&self.overlay).map_err(io(format!("make {}", self.overlay.display())))?;
        let path = self.overlay.join("kustomization.yaml");
        // kustomize takes relative paths only.
        let up = "../".repeat(self.overlay.components().count() - 1);
        let mut whole = wanted.clone();
        whole["resources"] = json!([format!(
            "{up}{}",
            manifests.display().to_string().trim_start_matches('/')
        )]);
        fs::write(&path, format!("{whole:#}\n")).map_err(io(format!("write {}", path.display())))
    }

    /// `kubectl apply -k`.
    ///
    /// # Errors
    ///
    /// What kubectl says.
    pub fn apply(&self) -> Result<String> {
        self.kubectl.run(&["apply", "-k", &self.overlay.to_string_lossy()])
    }

    /// Waits until its pods are ready.
    ///
    /// # Errors
    ///
    /// They are not in time; with the pods as kubectl shows them.
    pub fn wait_ready(&self) -> Result<()> {
        for what in ["deployment/cidrift-aggregator", "daemonset/cidrift-agent"] {
            let waited = self.kubectl.run(&["-n", NAMESPACE, "rollout", "status", what, ROLLOUT]);
            if let Err(error) = waited {
                let pods = self
                    .kubectl
                    .run(&["-n", NAMESPACE, "describe", "pods"])
                    .unwrap_or_default();
                return Err(Error::Build {
                    what: format!("{what} becomes ready: {error}"),
                    output: pods,
                });
            }
        }
        Ok(())
    }

    /// The same, as somebody else: whoever a kubeconfig says.
    #[must_use]
    pub fn by(&self, kubeconfig: PathBuf) -> Self {
        Self {
            kubectl: self.kubectl.with(kubeconfig),
            ..self.clone()
        }
    }

    /// The same, asked at `server` by whoever believes `ca`: no API server is needed on the way.
    #[must_use]
    pub fn at(&self, server: String, ca: PathBuf) -> Self {
        Self {
            direct: Some((server, ca)),
            ..self.clone()
        }
    }

    /// Runs `kubectl cidrift …` to its end, as the plugin that kubectl finds: through the API server (but see
    /// [`Deployed::at`]), as the administrator.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn cidrift(&self, arguments: &[&str]) -> Result<Output> {
        let mut all: Vec<String> = ["cidrift"]
            .iter()
            .chain(arguments)
            .map(|&word| word.to_owned())
            .collect();
        if let Some((server, ca)) = &self.direct {
            all.push(format!("--server={server}"));
            all.push(format!("--ca={}", ca.display()));
            all.push(format!("--kubeconfig={}", self.kubectl.kubeconfig().display()));
        }
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.kubectl.output(&all, &[])
    }

    /// What `kubectl cidrift … -o json` prints.
    ///
    /// # Errors
    ///
    /// It could not ask (exit code 2), or prints no JSON.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let all: Vec<&str> = arguments.iter().chain(&["-o", "json"]).copied().collect();
        let output = self.cidrift(&all)?;
        let what = || format!("kubectl cidrift {}", all.join(" "));
        if output.status.code() == Some(2) {
            return Err(Error::Build {
                what: what(),
                output: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        serde_json::from_slice(&output.stdout).map_err(|error| {
            let text = String::from_utf8_lossy(&output.stdout);
            Error::Malformed(format!("{}: {error}: {text}", what()))
        })
    }

    /// The findings that stand, by their ids.
    ///
    /// # Errors
    ///
    /// As [`Deployed::ask`]'s.
    pub fn findings(&self) -> Result<Vec<Value>> {
        let all = self.ask(&["findings"])?;
        Ok(all["findings"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until what is open is `wanted`, at least (`only`: and nothing else but information); returns the findings.
    ///
    /// # Errors
    ///
    /// That does not come about in `patience`; with what is open.
    pub fn wait_open(&self, cluster: &Cluster, wanted: &[&str], only: bool, patience: Duration) -> Result<Vec<Value>> {
        let mut last = Vec::new();
        let waited = cluster.api().wait(&format!("open: {wanted:?}"), patience, || {
            let findings = self.findings()?;
            last = findings.iter().map(|finding| id(finding).to_owned()).collect();
            let open: Vec<&str> = findings.iter().filter(|one| counts(one)).map(id).collect();
            let all = wanted.iter().all(|id| open.contains(id));
            Ok((all && (!only || open.len() == wanted.len())).then_some(findings))
        });
        waited.map_err(|error| Error::Malformed(format!("{error}; open: {last:?}")))
    }

    /// Waits until every node reports and nothing is wrong: `healthy`.
    ///
    /// # Errors
    ///
    /// That does not come about in `patience`; with the last answer.
    pub fn wait_healthy(&self, cluster: &Cluster, patience: Duration) -> Result<Value> {
        let mut last = Value::Null;
        let waited = cluster.api().wait("all is well", patience, || {
            last = self.ask(&["status"])?;
            Ok((last["health"] == "healthy" && last["nodes_reporting"] == last["nodes"]).then(|| last.clone()))
        });
        waited.map_err(|error| Error::Malformed(format!("{error}; last: {last}")))
    }

    /// `kubectl delete -k`, and waits until all of it is gone.
    ///
    /// # Errors
    ///
    /// What kubectl says.
    pub fn remove(&self) -> Result<String> {
        self.kubectl
            .run(&["delete", "-k", &self.overlay.to_string_lossy(), "--wait", ROLLOUT])
    }
}

/// Whether it is open and asks for something to be done. A real kube-controller-manager's workers race now and then, which
/// is POOL11: information, and nothing is wrong.
fn counts(finding: &Value) -> bool {
    finding["state"] == "open" && finding["severity"] != "info"
}

/// A finding's id.
pub fn id(finding: &Value) -> &str {
    finding["id"].as_str().unwrap_or_default()
}

/// Puts the images of these programs onto all nodes, with `version` as their tag.
///
/// # Errors
///
/// They cannot be made, or a node does not take them.
pub fn import(nodes: &[Node], programs: &Binaries, version: &str) -> Result<()> {
    let archives = &image::kept(programs, version)?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = nodes
            .iter()
            .map(|node| scope.spawn(move || archives.iter().try_for_each(|archive| node.import(archive))))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        // Every thread is waited for, also after a failure.
        threads.into_iter().map(join).collect::<Vec<_>>().into_iter().collect()
    })
}
