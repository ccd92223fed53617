//! Tokens that TokenRequest does not make: signed by the cluster's own key, so that the API server takes them as it takes
//! those of another version, or finds them expired.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cidrift_lab::kubernetes::Cluster;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use crate::world::{AGENT, Bound, NAMESPACE};

/// When a token ends.
pub(crate) enum Ends {
    In(Duration),
    Ago(Duration),
}

/// An agent's token of this pod, without the node: as Kubernetes before 1.30 makes it.
pub(crate) fn agent(cluster: &Cluster, account_uid: &str, pod: &Bound, ends: Ends) -> String {
    let now = Timestamp::now().as_second();
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap();
    let ends = match ends {
        Ends::In(time) => now + seconds(time),
        Ends::Ago(time) => now - seconds(time),
    };
    let claims = json!({
        "iss": "https://kubernetes.default.svc",
        "sub": format!("system:serviceaccount:{NAMESPACE}:{AGENT}"),
        "aud": ["cidrift"],
        "iat": now - 7200, "nbf": now - 7200, "exp": ends,
        "kubernetes.io": {"namespace": NAMESPACE, "serviceaccount": {"name": AGENT, "uid": account_uid},
            "pod": {"name": pod.name, "uid": pod.uid}},
    });
    sign(cluster, &claims)
}

fn sign(cluster: &Cluster, claims: &Value) -> String {
    let pem = std::fs::read_to_string(cluster.directory().join("pki").join("sa.key")).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(body).unwrap();
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random).unwrap();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&json!({"alg": "ES256", "typ": "JWT"})), part(claims));
    let signature = key.sign(&random, text.as_bytes()).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}
