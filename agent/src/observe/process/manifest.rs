//! Static pod manifests: what kubelet would start. Beside the running process a manifest shows an edit that is not in
//! effect yet.

use std::path::Path;

use serde_json::Value;

use super::sources::Sources;
use super::told::{Told, scalar, yaml};
use crate::observe::root::HostRoot;
use crate::view::host::{Process, Program};

/// Where kubeadm and rke2 put them; a kubelet's own setting is looked at besides.
pub(super) const DIRECTORIES: &[&str] = &["/etc/kubernetes/manifests", "/var/lib/rancher/rke2/agent/pod-manifests"];

/// Programs that run as static pods and say something of pod ranges.
const PROGRAMS: &[Program] = &[Program::ControllerManager, Program::Proxy];

/// kubelet takes any file that is not hidden; only YAML and JSON can be a pod.
const ENDINGS: &[&str] = &[".yaml", ".yml", ".json"];

/// The programs that the manifests in a directory start, each as a process without a pid; an error where the
/// directory cannot be read.
pub(super) fn read(root: &HostRoot, dir: &Path, sources: &mut Sources) -> Result<Vec<Process>, String> {
    let files = sources.list(root, dir, ENDINGS)?;
    Ok(files.iter().flat_map(|file| processes(root, file, sources)).collect())
}

fn processes(root: &HostRoot, file: &Path, sources: &mut Sources) -> Vec<Process> {
    let document = match sources.read(root, file) {
        Ok(Some(text)) => yaml(&text).map_err(|error| format!("{}: {error}", file.display())),
        Ok(None) => return Vec::new(),
        Err(why) => Err(why),
    };
    match document {
        Ok(document) => programs(&document)
            .into_iter()
            .map(|(program, words)| {
                let mut told = Told::default();
                told.words(program, &words, &file.display().to_string());
                process(program, told)
            })
            .collect(),
        // What it would start shows only in its name then.
        Err(why) => {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let named = PROGRAMS.iter().filter(|program| name.contains(program.name()));
            named
                .map(|program| {
                    let mut told = Told::default();
                    told.problem(why.as_str());
                    process(*program, told)
                })
                .collect()
        }
    }
}

fn process(program: Program, told: Told) -> Process {
    Process {
        program,
        embedded_in: None,
        pid: 0,
        started_at: None,
        problem: told.problems(),
        settings: told.settings,
    }
}

/// What the pod's containers run, with the words after the program's name.
fn programs(pod: &Value) -> Vec<(Program, Vec<String>)> {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let words = |container: &Value| -> Vec<String> {
        let list = |name: &str| container.get(name).and_then(Value::as_array).into_iter().flatten();
        list("command").chain(list("args")).filter_map(scalar).collect()
    };
    containers
        .into_iter()
        .flatten()
        .filter_map(|container| started(&words(container)))
        .collect()
}

/// The program that is started directly, or by a shell's script ("exec kube-proxy --flags 1>>/var/log/…").
fn started(words: &[String]) -> Option<(Program, Vec<String>)> {
    let program = |word: &String| PROGRAMS.iter().find(|program| base(word) == program.name()).copied();
    let first = words.first()?;
    if let Some(found) = program(first) {
        return Some((found, words[1..].to_vec()));
    }
    if !matches!(base(first), "sh" | "bash" | "dash" | "ash") {
        return None;
    }
    words
        .iter()
        .skip(1)
        .filter_map(|script| shlex::split(script))
        .find_map(|inner| {
            let at = inner.iter().position(|word| program(word).is_some())?;
            let ends = |word: &&String| !matches!(word.as_str(), "&&" | "||" | "|" | ";" | "&");
            let rest = inner[at + 1..].iter().take_while(ends);
            Some((
                program(&inner[at])?,
                rest.map(|word| word.trim_end_matches(';').to_owned()).collect(),
            ))
        })
}

/// The last component of a path.
pub(super) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KUBEADM: &str = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - command:\n    - kube-controller-manager\n    \
        - --allocate-node-cidrs=true\n    - --cluster-cidr=10.244.0.0/16\n    - --authentication-kubeconfig=/x\n";

    fn look(name: &str, text: &str) -> Vec<Process> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
        read(&HostRoot::new(dir.path()), Path::new("/"), &mut Sources::default()).unwrap()
    }

    #[test]
    fn kubeadms_manifest_is_a_process_without_a_pid() {
        let found = look("kube-controller-manager.yaml", KUBEADM);
        let [process] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(
            (process.program, process.pid, &process.problem),
            (Program::ControllerManager, 0, &None)
        );
        let names: Vec<&str> = process.settings.keys().map(String::as_str).collect();
        assert_eq!(names, ["allocate-node-cidrs", "cluster-cidr"]);
        assert_eq!(process.settings["cluster-cidr"].source, "/kube-controller-manager.yaml");
    }

    #[test]
    fn a_shells_script_is_taken_apart() {
        let text = "{\"spec\":{\"containers\":[{\"command\":[\"/bin/sh\",\"-c\",\"exec kube-proxy --master=x \
            --cluster-cidr=10.4.0.0/14 1>>/var/log/kube-proxy.log 2>&1\"]}]}}";
        let found = look("p.json", text);
        assert_eq!(found[0].program, Program::Proxy);
        assert_eq!(found[0].settings["cluster-cidr"].value, "10.4.0.0/14");
    }

    #[test]
    fn a_torn_manifest_is_said_where_its_name_tells_what_it_is() {
        let found = look("kube-controller-manager.yaml", "spec: {containers: [");
        assert_eq!(found[0].program, Program::ControllerManager);
        assert!(
            found[0]
                .problem
                .as_ref()
                .unwrap()
                .starts_with("/kube-controller-manager.yaml: ")
        );
        assert_eq!(look("etcd.yaml", "spec: {containers: ["), []);
        assert_eq!(look("etcd.yaml", "spec: {containers: [{command: [etcd]}]}"), []);
    }

    proptest! {
        #[test]
        fn arbitrary_manifests_never_panic(text in "(spec|containers|command|args|kube-proxy|sh|: |[ \\[\\]{}\"'a-z\n-]){0,15}") {
            let _ = look("kube-proxy.yaml", &text);
        }
    }
}
