//! Types commands as a person would: in a shell with kubectl, and on the nodes.

use std::process::Command;

use cidrift_lab::kubernetes::{Cluster, Deployed};
use serde_json::Value;

/// Somebody at a terminal.
pub(crate) struct Typist<'a> {
    cluster: &'a Cluster,
    kubectl: &'a cidrift_lab::kubernetes::kubectl::Kubectl,
    directory: tempfile::TempDir,
}

impl<'a> Typist<'a> {
    pub(crate) fn new(cluster: &'a Cluster, deployed: &'a Deployed) -> Self {
        Self {
            cluster,
            kubectl: &deployed.kubectl,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// A line for a shell; returns what it printed, and fails as it fails.
    pub(crate) fn type_line(&self, line: &str) -> String {
        eprintln!("$ {line}");
        let mut shell = Command::new("sh");
        shell
            .args(["-euc", line])
            .current_dir(self.directory.path())
            .envs(self.kubectl.environment());
        let output = shell.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {text}{wrong}");
        text
    }

    pub(crate) fn apply(&self, object: &Value) {
        let path = self.directory.path().join("object.json");
        std::fs::write(path, object.to_string()).unwrap();
        self.type_line("kubectl apply -f object.json");
    }

    /// One step of a plan, as its text says.
    pub(crate) fn step(&self, step: &Value) {
        let text = step["text"].as_str().unwrap();
        match text.strip_prefix("on ").and_then(|rest| rest.split_once(": ")) {
            Some((node, line)) => {
                eprintln!("{node}# {line}");
                let output = self
                    .cluster
                    .node(node)
                    .unwrap()
                    .run("/bin/sh", &["-euc", line])
                    .unwrap();
                assert!(output.status.success(), "{line}: {output:?}");
            }
            // What is verified is what the test looks at afterwards.
            None if step["does"]["do"] == "verify" => {}
            None => drop(self.type_line(text)),
        }
    }
}
