//! The aggregator's CA, rotated by the words of the README under real pods; and its Secret, removed.

use std::fs;
use std::path::PathBuf;

use cidrift_lab::kubernetes::deployed::NAMESPACE;
use cidrift_lab::kubernetes::kubectl::workspace;
use serde_json::Value;

use crate::life::{aggregator, all_report, figure};
use crate::stage::{PATIENCE, Stage};
use crate::watching::watching;

/// As the README has it.
const ROTATE: &str = "kubectl -n cidrift annotate secret cidrift-aggregator-ca cidrift.dev/rotate=now";

const BEGAN: &str = "cidrift_aggregator_report_streams_began_total";

fn secret(stage: &Stage) -> Option<Value> {
    let words = ["-n", NAMESPACE, "get", "secret", "cidrift-aggregator-ca", "-o=json"];
    serde_json::from_str(&stage.kubectl.run(&words).ok()?).ok()
}

/// How many CAs are believed, by this text.
fn count(bundle: &str) -> usize {
    bundle.matches("BEGIN CERTIFICATE").count()
}

/// What each node's agent has mounted, as its kubelet keeps it.
fn mounted(stage: &Stage) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for node in stage.cluster().nodes() {
        let pods = fs::read_dir(node.kubelet_directory().join("pods")).unwrap().flatten();
        let map = "volumes/kubernetes.io~configmap/trust/ca.crt";
        all.extend(pods.map(|pod| pod.path().join(map)).filter(|path| path.exists()));
    }
    all
}

pub(crate) fn rotated(stage: &Stage) {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    assert!(readme.contains(ROTATE));
    let api = stage.cluster().api();
    let old = secret(stage).unwrap()["data"]["ca.crt"].clone();
    let (node, pod) = aggregator(stage);
    let began = figure(stage, &node, BEGAN);
    let ((), seen) = watching(stage, || {
        let words: Vec<&str> = ROTATE.split_whitespace().skip(1).collect();
        stage.kubectl(&words);
        let signs = api.wait("the next CA signs", PATIENCE, || {
            let secret = secret(stage).unwrap_or_default();
            Ok((secret["data"]["ca.crt"] != old && secret["data"]["previous.crt"] == old).then_some(secret))
        });
        let secret = signs.unwrap();
        assert!(
            secret["metadata"]["annotations"]["cidrift.dev/rotate"].is_null(),
            "{secret:#}"
        );
        // A kubelet looks at a pod anew when it changes, and every minute and a half at the latest.
        stage.kubectl(&["-n", NAMESPACE, "annotate", "pods", "--all", "rotated=yes"]);
        let told = api.wait("kubelets have told both CAs", PATIENCE, || {
            let all = mounted(stage);
            let both = all
                .iter()
                .all(|path| fs::read_to_string(path).is_ok_and(|text| count(&text) == 2));
            Ok((both && all.len() == 3).then_some(()))
        });
        told.unwrap();
    });
    assert!(seen.open.is_empty() && seen.why.is_empty(), "nobody noticed: {seen:?}");
    assert_eq!(figure(stage, &node, BEGAN), began, "streams that stand live on");

    // Everybody connects anew, to who has a certificate of the new one.
    let ((), seen) = watching(stage, || {
        stage.kubectl(&["-n", NAMESPACE, "delete", "pod", &pod]);
        stage.wait_ready().unwrap();
        all_report(stage);
    });
    assert!(seen.open.is_empty(), "{seen:?}");
}

/// Under running pods, by whoever tidies up.
pub(crate) fn secret_removed(stage: &Stage) {
    let old = secret(stage).unwrap()["data"]["ca.crt"].clone();
    let (node, _) = aggregator(stage);
    let began = figure(stage, &node, BEGAN);
    let ((), seen) = watching(stage, || {
        stage.kubectl(&["-n", NAMESPACE, "delete", "secret", "cidrift-aggregator-ca"]);
        let again = stage.cluster().api().wait("it is there again", PATIENCE, || {
            Ok(secret(stage).map(|secret| secret["data"]["ca.crt"].clone()))
        });
        assert_eq!(again.unwrap(), old, "the CA that everybody believes");
    });
    assert!(seen.open.is_empty() && seen.why.is_empty(), "nobody noticed: {seen:?}");
    assert_eq!(figure(stage, &node, BEGAN), began, "streams that stand live on");
}
