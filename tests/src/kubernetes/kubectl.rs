//! The real kubectl: what people type is what tests run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::kubernetes::error::{Error, Result, io};
use crate::kubernetes::tools::{self, path_with};
use crate::kubernetes::{Cluster, optional};

/// The workspace's directory.
pub fn workspace() -> &'static Path {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_root.parent().unwrap_or(crate_root)
}

/// kubectl with a kubeconfig.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    plugins: PathBuf,
    path: OsString,
}

impl Kubectl {
    /// The administrator's. `plugins` is where `kubectl-cidrift` is, for `kubectl cidrift`.
    ///
    /// # Errors
    ///
    /// It cannot be built.
    pub fn new(cluster: &Cluster, plugins: &Path, progress: &dyn Fn(&str)) -> Result<Self> {
        let program = tools::build(&optional::KUBECTL, progress)?.path("kubectl")?;
        Ok(Self {
            program,
            kubeconfig: cluster.kubeconfig(),
            plugins: plugins.to_owned(),
            path: path_with(&[plugins]),
        })
    }

    /// Who it is.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The line that lets a shell find it and its plugin.
    pub fn how_to_call(&self) -> String {
        let own = self.program.parent().unwrap_or(Path::new("/"));
        format!("export PATH={}:{}:$PATH", own.display(), self.plugins.display())
    }

    /// The same for the user of another kubeconfig.
    #[must_use]
    pub fn with(&self, kubeconfig: PathBuf) -> Self {
        Self {
            kubeconfig,
            ..self.clone()
        }
    }

    /// What makes a shell find it, its plugin and the cluster.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let own = self.program.parent().unwrap_or(Path::new("/"));
        let mut path = own.as_os_str().to_owned();
        path.push(":");
        path.push(&self.path);
        vec![("KUBECONFIG", self.kubeconfig.clone().into()), ("PATH", path)]
    }

    /// Runs it to its end, whatever that is, in the directory that has `deploy`: as people do.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn output(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(workspace())
            .env("KUBECONFIG", &self.kubeconfig)
            .env("PATH", &self.path)
            .env_remove("CIDRIFT_SERVER")
            .envs(environment.iter().copied())
            .stdin(Stdio::null());
        command.output().map_err(io(format!("kubectl {}", arguments.join(" "))))
    }

    /// Runs it; returns what it printed.
    ///
    /// # Errors
    ///
    /// It fails; with what it said.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments, &[])?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(Error::Build {
            what: format!("kubectl {}", arguments.join(" ")),
            output: text(&output.stdout) + &text(&output.stderr),
        })
    }
}
