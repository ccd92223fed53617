//! Types commands as a person would: in a shell with kubectl, and on the nodes.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use crate::kubernetes::error::{Error, Result, io};
use crate::kubernetes::kubectl::Kubectl;
use crate::kubernetes::{Cluster, Deployed};

/// Somebody at a terminal, in a directory of their own.
#[derive(Debug)]
pub struct Typist<'a> {
    cluster: &'a Cluster,
    kubectl: &'a Kubectl,
    directory: tempfile::TempDir,
}

impl<'a> Typist<'a> {
    /// The cluster's administrator.
    ///
    /// # Errors
    ///
    /// No directory can be made.
    pub fn new(cluster: &'a Cluster, deployed: &'a Deployed) -> Result<Self> {
        Ok(Self {
            cluster,
            kubectl: &deployed.kubectl,
            directory: tempfile::tempdir().map_err(io("make a directory"))?,
        })
    }

    /// A line for a shell here; returns what it printed.
    ///
    /// # Errors
    ///
    /// It fails; with what it printed.
    pub fn type_line(&self, line: &str) -> Result<String> {
        eprintln!("$ {line}");
        let mut shell = Command::new("sh");
        shell
            .args(["-euc", line])
            .current_dir(self.directory.path())
            .envs(self.kubectl.environment());
        printed(line, &shell.output().map_err(io("start a shell"))?)
    }

    /// A line for a shell on a node; returns what it printed.
    ///
    /// # Errors
    ///
    /// It fails; with what it printed.
    pub fn type_on(&self, node: &str, line: &str) -> Result<String> {
        eprintln!("{node}# {line}");
        let output = self.cluster.node(node)?.run("/bin/sh", &["-euc", line])?;
        printed(line, &output)
    }

    /// `kubectl apply` of an object.
    ///
    /// # Errors
    ///
    /// What kubectl says.
    pub fn apply(&self, object: &Value) -> Result<String> {
        let path = self.directory.path().join("object.json");
        fs::write(&path, object.to_string()).map_err(io(format!("write {}", path.display())))?;
        self.type_line("kubectl apply -f object.json")
    }

    /// One step of a plan (`kubectl cidrift plan -o json`), as its text says. What is to be verified is for the caller to
    /// look at, and no systemd runs on the nodes: their kubelets are started anew by the bench.
    ///
    /// # Errors
    ///
    /// The command fails, or the step has no text.
    pub fn step(&self, step: &Value) -> Result<()> {
        let malformed = || Error::Malformed(format!("a step without text: {step}"));
        let text = step["text"].as_str().ok_or_else(malformed)?;
        match text.strip_prefix("on ").and_then(|rest| rest.split_once(": ")) {
            Some((node, line)) if step["does"]["do"] == "render" => {
                eprintln!("{node}# {line}");
                self.cluster.node(node)?.kubelet.restart()
            }
            Some((node, line)) => self.type_on(node, line).map(drop),
            None if ["verify", "announce", "controllers"]
                .iter()
                .any(|does| step["does"]["do"] == *does) =>
            {
                Ok(())
            }
            None => self.type_line(text).map(drop),
        }
    }
}

fn printed(line: &str, output: &Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(Error::Build {
        what: line.to_owned(),
        output: text + &String::from_utf8_lossy(&output.stderr),
    })
}
