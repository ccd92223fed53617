//! Each overlay, applied for real. Kinds that this cluster does not know (cert-manager's, OpenShift's) are made known by
//! definitions that take any object: nobody acts on them here, so what their controllers would do, the test does.

use std::collections::BTreeSet;
use std::fs;

use cidrift_lab::kubernetes::Wanted;
use cidrift_lab::kubernetes::deployed::{NAMESPACE, id};
use cidrift_lab::kubernetes::wanted::manifests;
use cidrift_lab::require::{Need, have};
use cidrift_lab::route::Route;
use serde_json::{Value, json};

use crate::stage::{PATIENCE, Stage, wanted};
use crate::{constraints, removal};

fn overlay(name: &str) -> Wanted {
    Wanted {
        manifests: Some(manifests(&format!("overlays/{name}"))),
        ..wanted()
    }
}

/// `kubectl apply -f` of this object.
pub(crate) fn apply(stage: &Stage, object: &Value) {
    let path = stage.cluster().directory().join("object.json");
    fs::write(&path, object.to_string()).unwrap();
    stage.kubectl(&["apply", "-f", &path.to_string_lossy()]);
}

/// Makes a kind known that takes any object.
fn define(stage: &Stage, group: &str, version: &str, kind: &str, scope: &str) -> String {
    let plural = format!("{}s", kind.trim_end_matches('s')).to_lowercase();
    let name = format!("{plural}.{group}");
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    apply(
        stage,
        &json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": name},
            "spec": {
                "group": group,
                "scope": scope,
                "names": {"plural": plural, "kind": kind},
                "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": any}}],
            },
        }),
    );
    let definition = format!("crd/{name}");
    stage.kubectl(&["wait", "--for=condition=Established", &definition, "--timeout=30s"]);
    definition
}

/// A route of n2 goes and comes back: that is found, and nothing else of routes.
fn finds_a_route(stage: &Stage) {
    let [n2, n3] = ["n2", "n3"].map(|name| stage.cluster().node(name).unwrap());
    let cidr = stage.cluster().api().wait_cidrs("n3", PATIENCE).unwrap()[0];
    let route = Route::via(cidr, n3.addresses[0], "eth0");
    n2.ip.del_route(&route).unwrap();
    stage.open(&["PATH01/n2"]);
    n2.ip.add_route(&route).unwrap();
}

fn open(stage: &Stage) -> BTreeSet<String> {
    let findings = stage.findings().unwrap();
    let counts = |one: &&Value| one["state"] == "open" && one["severity"] != "info";
    findings.iter().filter(counts).map(|one| id(one).to_owned()).collect()
}

#[test]
fn minimal_k3s_and_openshift_see_what_they_may_and_say_what_they_may_not() {
    if !have(Need::Kubernetes) {
        return;
    }
    let stage = Stage::empty();

    // CIDRs and routes only: the rest is said to be unknown, and nothing is a false alarm.
    stage.install(&overlay("minimal"));
    let restricted = ["SEEN02/n1", "SEEN02/n2", "SEEN02/n3"];
    stage.open(&restricted);
    finds_a_route(&stage);
    let only = stage
        .cluster()
        .api()
        .wait("only what may not be seen is open", PATIENCE, || {
            Ok((open(&stage) == restricted.map(str::to_owned).into()).then_some(()))
        });
    only.unwrap_or_else(|error| panic!("{error}; {:#?}", stage.findings().unwrap()));
    let status = stage.ask(&["status"]).unwrap();
    assert_ne!(status["health"], "healthy");
    assert_eq!(status["pairs"]["broken"], 0, "{status:#}");
    assert_eq!(status["pairs"]["delivered"], 6, "{status:#}");

    stage.install(&overlay("k3s"));
    stage.healthy();

    let definition = define(
        &stage,
        "security.openshift.io",
        "v1",
        "SecurityContextConstraints",
        "Cluster",
    );
    stage.install(&overlay("openshift"));
    stage.healthy();
    constraints::fit(&stage);
    stage.remove().unwrap();
    stage.kubectl(&["delete", &definition]);
    removal::gone(&stage);
}

/// The Secret as cert-manager fills it: `ca.crt`, `tls.crt`, `tls.key`.
fn certificate(names: &[&str]) -> (String, Value) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(rcgen::DnType::CommonName, "a house's own");
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = authority.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let signed = rcgen::CertificateParams::new(names).unwrap().signed_by(&own, &issuer);
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "cidrift-aggregator-tls", "namespace": NAMESPACE},
        "stringData": {"ca.crt": ca, "tls.crt": signed.unwrap().pem(), "tls.key": own.serialize_pem()},
    });
    (ca, secret)
}

#[test]
fn a_certificate_of_cert_manager_s_is_served_and_its_authority_told() {
    if !have(Need::Kubernetes) {
        return;
    }
    let stage = Stage::empty();
    let definitions = ["Issuer", "Certificate"].map(|kind| define(&stage, "cert-manager.io", "v1", kind, "Namespaced"));
    stage.change(&overlay("cert-manager")).unwrap();
    // For the names that the overlay's Certificate asks for.
    let asked = [
        "-n",
        NAMESPACE,
        "get",
        "certificate",
        "cidrift-aggregator",
        "-o=jsonpath={.spec.dnsNames[*]}",
    ];
    let names = stage.kubectl(&asked);
    let names: Vec<&str> = names.split_whitespace().collect();
    let (ca, secret) = certificate(&names);
    apply(&stage, &secret);
    stage.wait_ready().unwrap();
    stage.healthy();
    let told = [
        "-n",
        NAMESPACE,
        "get",
        "configmap",
        "cidrift-trust",
        "-o=jsonpath={.data.ca\\.crt}",
    ];
    assert_eq!(stage.kubectl(&told).trim(), ca.trim());
    let secrets = stage.kubectl(&["-n", NAMESPACE, "get", "secrets", "-o=name"]);
    assert!(
        !secrets.contains("cidrift-aggregator-ca"),
        "no authority of its own: {secrets}"
    );
    finds_a_route(&stage);
    stage.nothing_open();
    stage.remove().unwrap();
    for definition in definitions {
        stage.kubectl(&["delete", &definition]);
    }
    removal::gone(&stage);
}
