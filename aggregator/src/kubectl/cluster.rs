//! The way through the Kubernetes API: whoever may use `kubectl` there needs no other address, and no open port.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::ListParams;
use kube::client::{Body, ConfigExt, UpgradeConnectionError};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rustls::client::ResolvesClientCert;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tower::{Layer, ServiceExt, service_fn};

use super::args::Args;
use super::client::AskError;
use crate::control_plane::chain;
use crate::fix::gather::AGGREGATOR;

/// What the aggregator is to be believed by.
const TRUST: &str = "cidrift-trust";

/// gRPC.
const PORT: u16 = 7440;

/// A cluster, as the kubeconfig names it.
pub(super) struct Cluster {
    client: Client,
    config: Config,
    namespace: String,
    patience: Duration,
}

/// What a user shows to the API server, for the aggregator to hold against it.
#[derive(Default)]
pub(super) struct Credentials {
    /// "Bearer …".
    pub(super) bearer: Option<HeaderValue>,
    /// A client certificate.
    pub(super) certificate: Option<Arc<dyn ResolvesClientCert>>,
}

impl Cluster {
    /// As `--kubeconfig` and `--context` say, or the environment.
    pub(super) async fn open(args: &Args) -> Result<Self, AskError> {
        let wrong = |error: &dyn std::error::Error| AskError::Kubeconfig(chain(error));
        let kubeconfig = match &args.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let kubeconfig = kubeconfig.map_err(|error| wrong(&error))?;
        let options = KubeConfigOptions {
            context: args.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let mut config = config.map_err(|error| wrong(&error))?;
        config.connect_timeout = Some(args.timeout);
        Ok(Self {
            client: Client::try_from(config.clone()).map_err(|error| wrong(&error))?,
            config,
            namespace: args.namespace.clone(),
            patience: args.timeout,
        })
    }

    /// For the API server, as the kubeconfig's user.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The same, but every answer is handed on, also that it is too early: kube's own repetitions know no deadline of ours,
    /// and go on for minutes where a budget holds up an eviction.
    pub(super) fn impatient_client(&self) -> Result<Client, AskError> {
        let mut config = self.config.clone();
        config.default_retry = false;
        Client::try_from(config).map_err(|error| AskError::Kubeconfig(chain(&error)))
    }

    /// For messages.
    pub(super) fn name(&self) -> String {
        format!("{} by way of {}", self.namespace, self.config.cluster_url)
    }

    /// The CAs that the aggregator has published.
    pub(super) async fn bundle(&self) -> Result<Vec<u8>, AskError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let map = self
            .within("get", "configmaps", Some(TRUST), maps.get_opt(TRUST))
            .await?;
        let text = map.and_then(|map| map.data?.remove("ca.crt"));
        text.map(String::into_bytes).ok_or_else(|| {
            AskError::Missing(format!(
                "there is no ConfigMap {TRUST} with ca.crt in namespace {}: is cidrift installed there (-n), and has its \
                 aggregator started?",
                self.namespace
            ))
        })
    }

    /// A connection to the gRPC port of an aggregator's pod, a ready one if there is.
    pub(super) async fn dial(&self) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, AskError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let listed = self
            .within(
                "list",
                "pods",
                None,
                pods.list(&ListParams::default().labels(AGGREGATOR)),
            )
            .await?;
        let pod = best(&listed.items).ok_or_else(|| {
            let seen: Vec<String> = listed.items.iter().map(described).collect();
            AskError::Missing(format!(
                "no pod of the aggregator ({AGGREGATOR}) runs in namespace {}{}",
                self.namespace,
                if seen.is_empty() {
                    ": is cidrift installed there? -n names another namespace".to_owned()
                } else {
                    format!(": {}", seen.join(", "))
                }
            ))
        })?;
        let forward = pods.portforward(&pod, &[PORT]);
        let mut forward = self.within("create", "pods/portforward", Some(&pod), forward).await?;
        forward
            .take_stream(PORT)
            .ok_or_else(|| AskError::Missing(format!("the API server opened no way to port {PORT} of pod {pod}")))
    }

    /// What the kubeconfig's user shows: token, token file or exec plugin; and a client certificate.
    pub(super) async fn credentials(&self) -> Result<Credentials, AskError> {
        let wrong = |error: &dyn std::error::Error| AskError::Kubeconfig(chain(error));
        let tls = self.config.rustls_client_config().map_err(|error| wrong(&error))?;
        let certificate = tls.client_auth_cert_resolver;
        let bearer = match self.config.auth_layer().map_err(|error| wrong(&error))? {
            None => None,
            Some(layer) => {
                // The layer knows every way to a token; a service behind it sees what it adds to a request.
                let shown = service_fn(async |request: Request<Body>| {
                    let header = request.headers().get(http::header::AUTHORIZATION).cloned();
                    Ok::<_, tower::BoxError>(Response::new(header))
                });
                let asked = layer.layer(shown).oneshot(Request::new(Body::empty())).await;
                asked.map_err(|error| wrong(&*error))?.into_body()
            }
        };
        Ok(Credentials {
            bearer: bearer.filter(|value| value.as_bytes().starts_with(b"Bearer ")),
            certificate: certificate.has_certs().then_some(certificate),
        })
    }

    /// Asks the API server, and says which right is missing where that is why.
    async fn within<T>(
        &self,
        verb: &str,
        resource: &str,
        name: Option<&str>,
        asking: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, AskError> {
        let shown = name.map_or(String::new(), |name| format!(" {name}"));
        let what = format!("{verb} {resource}{shown} in namespace {}", self.namespace);
        let error = match timeout(self.patience, asking).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => {
                return Err(AskError::Api(format!(
                    "cannot {what}: the API server did not answer within {:?}; --timeout waits longer",
                    self.patience
                )));
            }
        };
        let code = match &error {
            kube::Error::Api(status) => Some(status.code),
            kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => Some(status.as_u16()),
            _ => None,
        };
        Err(match code {
            Some(403) => {
                // A port-forward is a GET that is upgraded: API servers ask for one right or the other, some for both.
                let verbs = if resource == "pods/portforward" {
                    "\"get\", \"create\"".to_owned()
                } else {
                    format!("{verb:?}")
                };
                // A pod's name is another one tomorrow.
                let names = name.filter(|_| resource == "configmaps");
                let names = names.map_or(String::new(), |name| format!(", resourceNames [{name:?}]"));
                AskError::Api(format!(
                    "you may not {what}; the Role cidrift-viewer there allows it, once it is bound to you (kubectl -n {} create \
                     rolebinding NAME --role=cidrift-viewer --user=USER), or any with this rule: apiGroups [\"\"], resources \
                     [{resource:?}]{names}, verbs [{verbs}]",
                    self.namespace
                ))
            }
            Some(401) => AskError::Api(format!(
                "cannot {what}: the API server does not know you; are the kubeconfig's credentials expired?"
            )),
            _ => AskError::Api(format!("cannot {what}: {}", chain(&error))),
        })
    }
}

/// The pod to ask: a ready one; else one that runs, for it may say why it is not ready.
fn best(pods: &[Pod]) -> Option<String> {
    let living = || pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let ready = |pod: &&Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
    };
    let runs = |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    let pod = living().find(ready).or_else(|| living().find(runs))?;
    pod.metadata.name.clone()
}

fn described(pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or("?");
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let going = if pod.metadata.deletion_timestamp.is_some() {
        ", being deleted"
    } else {
        ""
    };
    format!("{name} is {}{going}", phase.unwrap_or("in an unknown phase"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, phase: &str, ready: &str, deleted: bool) -> Pod {
        let mut pod = serde_json::json!({
            "metadata": {"name": name},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
        });
        if deleted {
            pod["metadata"]["deletionTimestamp"] = "2026-11-25T12:00:00Z".into();
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_ready_pod_is_asked_else_one_that_runs_never_one_that_goes() {
        let all = [
            pod("going", "Running", "True", true),
            pod("starting", "Running", "False", false),
            pod("ready", "Running", "True", false),
            pod("waiting", "Pending", "False", false),
        ];
        assert_eq!(best(&all).as_deref(), Some("ready"));
        assert_eq!(best(&all[..2]).as_deref(), Some("starting"));
        assert_eq!(best(&all[3..]), None);
        assert_eq!(best(&all[..1]), None);
        assert_eq!(described(&all[0]), "going is Running, being deleted");
    }

    /// What a user with this entry of a kubeconfig shows.
    async fn shown(user: serde_json::Value) -> Result<Credentials, AskError> {
        use clap::Parser;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:1"}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "u"}}],
        });
        std::fs::write(&file, config.to_string()).unwrap();
        let args = Args::parse_from(["kubectl-cidrift", "--kubeconfig", file.to_str().unwrap(), "status"]);
        Cluster::open(&args).await?.credentials().await
    }

    #[tokio::test]
    async fn a_token_comes_from_the_kubeconfig_from_its_file_or_from_its_plugin() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "of-a-file").unwrap();
        let plugin = serde_json::json!({
            "apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "interactiveMode": "Never",
            "args": ["-c", "echo '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\
                \"status\":{\"token\":\"of-a-plugin\"}}'"],
        });
        for (user, bearer) in [
            (
                serde_json::json!({"token": "of-the-kubeconfig"}),
                "Bearer of-the-kubeconfig",
            ),
            (serde_json::json!({"tokenFile": file}), "Bearer of-a-file"),
            (serde_json::json!({"exec": plugin}), "Bearer of-a-plugin"),
        ] {
            let shown = shown(user).await.unwrap();
            assert_eq!(shown.bearer.unwrap(), bearer);
            assert!(shown.certificate.is_none());
        }
        // A name and a password are nothing that the aggregator could ask the API server about.
        let basic = shown(serde_json::json!({"username": "a", "password": "b"}))
            .await
            .unwrap();
        assert!(basic.bearer.is_none());
    }

    #[tokio::test]
    async fn a_client_certificate_is_shown_and_one_that_cannot_be_read_is_said() {
        use base64::Engine as _;
        let made = rcgen::generate_simple_self_signed(vec!["u".to_owned()]).unwrap();
        let data = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let user = serde_json::json!({
            "client-certificate-data": data(&made.cert.pem()),
            "client-key-data": data(&made.signing_key.serialize_pem()),
        });
        let credentials = shown(user).await.unwrap();
        assert!(credentials.bearer.is_none() && credentials.certificate.is_some());
        let broken = serde_json::json!({"client-certificate-data": data("?"), "client-key-data": data("?")});
        assert!(matches!(shown(broken).await, Err(AskError::Kubeconfig(_))));
        let missing = serde_json::json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1",
            "command": "/no/such/plugin", "interactiveMode": "Never"}});
        match shown(missing).await {
            Err(AskError::Kubeconfig(text)) => assert!(text.contains("exec"), "{text}"),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("there is no such plugin"),
        }
    }
}
