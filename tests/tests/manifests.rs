//! The manifests that people apply, held against what the README and the programs say.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use cidrift_lab::image;
use cidrift_lab::kubernetes::wanted::manifests;
use serde_json::Value;

const README: &str = include_str!("../../README.md");

/// API group, resource, name ("": all), verb.
type Right = (String, String, String, String);

/// Rights that the README's table does not have: who asks, and the aggregator's own objects.
const IDENTITY: [(&str, &str, &str, &str); 3] = [
    ("authentication.k8s.io", "tokenreviews", "", "create"),
    ("authorization.k8s.io", "subjectaccessreviews", "", "create"),
    ("", "configmaps", "extension-apiserver-authentication", "get"),
];

/// The one of the table that is left out: it reaches any port of any pod.
const LEFT_OUT: &str = "pods/proxy";

fn documents(file: &str) -> Vec<Value> {
    let path = manifests("base").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parts = text.split("\n---\n");
    parts.map(|part| serde_saphyr::from_str(part).unwrap()).collect()
}

fn words(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn rights_of(role: &Value) -> BTreeSet<Right> {
    let mut all = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let mut names = words(&rule["resourceNames"]);
        if names.is_empty() {
            names.push(String::new());
        }
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                for name in &names {
                    for verb in words(&rule["verbs"]) {
                        all.insert((group.clone(), resource.clone(), name.clone(), verb));
                    }
                }
            }
        }
    }
    all
}

fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn rights_of_the_readme(heading: &str) -> BTreeSet<Right> {
    let section = README.split(heading).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut all = BTreeSet::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (resources, names) = cells[2].split_once(" named ").unwrap_or((cells[2], ""));
        let mut names = quoted(names);
        if names.is_empty() {
            names.push(String::new());
        }
        for resource in quoted(resources) {
            for name in &names {
                for verb in quoted(cells[3]) {
                    let group = cells[1].trim_matches('`').trim_matches('"').to_owned();
                    all.insert((group, resource.clone(), name.clone(), verb));
                }
            }
        }
    }
    all
}

#[test]
fn the_aggregator_s_role_is_what_the_readme_says_and_what_identity_takes() {
    let mut wanted = rights_of_the_readme("## What the aggregator may read");
    assert!(wanted.len() > 20, "the README's table was not found");
    wanted.retain(|(_, resource, _, _)| resource != LEFT_OUT);
    let identity =
        IDENTITY.map(|(group, resource, name, verb)| (group.into(), resource.into(), name.into(), verb.into()));
    wanted.extend(identity);
    let role = &documents("cluster-role-aggregator.yaml")[0];
    assert_eq!(rights_of(role), wanted);
}

#[test]
fn the_viewer_may_ask_what_the_readme_says_and_an_agents_pod_is_looked_up_in_one_namespace_only() {
    let mut wanted = rights_of_the_readme("## Who may report, and who may ask");
    wanted.retain(|(group, _, _, _)| group == "cidrift.dev");
    assert!(wanted.len() > 6, "the README's table was not found");
    assert_eq!(rights_of(&documents("cluster-role-viewer.yaml")[0]), wanted);
    let own = rights_of(&documents("role-aggregator.yaml")[0]);
    assert!(
        own.contains(&(String::new(), "pods".into(), String::new(), "get".into())),
        "{own:?}"
    );
}

#[test]
fn the_agent_s_account_is_bound_to_nothing() {
    let mut subjects = Vec::new();
    for file in [
        "cluster-role-aggregator.yaml",
        "role-aggregator.yaml",
        "cluster-role-viewer.yaml",
        "cluster-role-fixer.yaml",
    ] {
        for document in documents(file) {
            subjects.extend(document["subjects"].as_array().cloned().unwrap_or_default());
        }
    }
    assert_eq!(subjects.len(), 2, "{subjects:?}");
    assert!(
        subjects.iter().all(|subject| subject["name"] == "cidrift-aggregator"),
        "{subjects:?}"
    );
}

#[test]
fn images_are_those_that_are_built() {
    let kustomization = &documents("kustomization.yaml")[0];
    let named: Vec<String> = kustomization["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| {
            format!(
                "{}:{}",
                image["name"].as_str().unwrap(),
                image["newTag"].as_str().unwrap()
            )
        })
        .collect();
    let built = [image::AGENT, image::AGGREGATOR].map(|name| format!("{name}:{}", image::CURRENT));
    assert_eq!(named, built);
}

/// The images for people with a registry have the programs of the lab's.
#[test]
fn the_dockerfile_builds_and_copies_every_program() {
    let dockerfile = fs::read_to_string(manifests("Dockerfile")).unwrap();
    let flat = dockerfile.replace("\\\n", " ");
    for program in ["cidrift-agent", "cidrift-errand", "cidrift-aggregator"] {
        for wanted in [format!("--bin {program} "), format!(" /src/target/release/{program} ")] {
            assert!(flat.contains(&wanted), "{wanted}");
        }
    }
}

#[test]
fn every_manifest_of_the_base_is_applied() {
    let kustomization = &documents("kustomization.yaml")[0];
    let mut named = words(&kustomization["resources"]);
    named.extend(
        kustomization["patches"]
            .as_array()
            .unwrap()
            .iter()
            .map(|patch| patch["path"].as_str().unwrap().to_owned()),
    );
    named.push("kustomization.yaml".to_owned());
    let there = fs::read_dir(manifests("base")).unwrap();
    let there: BTreeSet<PathBuf> = there.map(|entry| entry.unwrap().file_name().into()).collect();
    assert_eq!(named.into_iter().map(PathBuf::from).collect::<BTreeSet<_>>(), there);
}

#[test]
fn whatever_is_mounted_of_the_host_is_read_only() {
    let agent = &documents("agent.yaml")[0]["spec"]["template"]["spec"];
    assert!(agent["hostPID"].is_null() && agent["hostIPC"].is_null(), "{agent:#}");
    let mounts = agent["containers"][0]["volumeMounts"].as_array().unwrap();
    assert!(mounts.len() > 5);
    assert!(mounts.iter().all(|mount| mount["readOnly"] == true), "{mounts:#?}");
}
