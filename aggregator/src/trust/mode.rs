//! Which of the ways to a certificate was chosen, and the tasks that go it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use cidrift_proto::tls::NAME;

use super::client_ca::ClientCa;
use super::directory::Directory;
use super::figures::Figures;
use super::given::Given;
use super::keeper::Keeper;
use super::objects::Objects;
use super::rotation::Policy;
use super::serving::Offer;
use crate::cli::{Cli, Trust};
use crate::control_plane::{Kubernetes, SourceError};
use crate::http::Ready;

/// The kubelet mounts the namespace's name here.
const MOUNTED: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Why none can be gone.
#[derive(Debug, thiserror::Error)]
pub enum ModeError {
    /// Flags that do not go together, or a missing one.
    #[error("{0}")]
    Flags(String),
    /// No way to the Kubernetes API.
    #[error(transparent)]
    Access(#[from] SourceError),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] super::store::StoreError),
}

/// The way to a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// None: plaintext.
    Plaintext,
    /// A CA of its own in a directory.
    Directory(PathBuf),
    /// A CA of its own in this namespace.
    Cluster(String),
    /// Files of somebody else; the namespace where their CA is told, if it is.
    Given(Option<String>),
}

impl Mode {
    /// As the flags say. `mounted`: the namespace that this runs in.
    pub fn of(cli: &Cli, mounted: Option<&str>) -> Result<Self, ModeError> {
        let flags = |text: &str| Err(ModeError::Flags(text.to_owned()));
        let Trust {
            plaintext,
            tls_directory,
            tls_cert,
            tls_ca,
            ..
        } = &cli.trust;
        let snapshot = cli.source.cluster_state.is_some();
        let namespace = cli.trust.namespace.as_deref().or(mounted).map(str::trim);
        let namespace = namespace.filter(|name| !name.is_empty()).map(str::to_owned);
        if *plaintext {
            if !cli.listen.ip().is_loopback() && !snapshot {
                return flags(
                    "--plaintext is for a loopback --listen or for --cluster-state: everybody on the network could \
                     read and forge reports",
                );
            }
            return Ok(Self::Plaintext);
        }
        if let Some(directory) = tls_directory {
            return Ok(Self::Directory(directory.clone()));
        }
        if tls_cert.is_some() {
            return match (tls_ca.is_some(), snapshot, namespace) {
                (false, ..) => Ok(Self::Given(None)),
                (true, true, _) => flags("--tls-ca is told in a ConfigMap, which --cluster-state has no cluster for"),
                (true, false, None) => flags("--tls-ca is told in a ConfigMap: say in which --namespace"),
                (true, false, namespace) => Ok(Self::Given(namespace)),
            };
        }
        if snapshot {
            return flags(
                "with --cluster-state there is no cluster to keep a CA in: give --tls-directory DIR, --tls-cert and \
                 --tls-key, or --plaintext",
            );
        }
        match namespace {
            Some(namespace) => Ok(Self::Cluster(namespace)),
            None => flags(
                "in which namespace is the Secret with the CA? Give --namespace; or keep the CA outside of the \
                 cluster with --tls-directory DIR",
            ),
        }
    }

    /// The namespace that this runs in, as the kubelet says.
    pub fn mounted() -> Option<String> {
        std::fs::read_to_string(Path::new(MOUNTED)).ok()
    }
}

/// What the tasks need.
#[derive(Debug)]
pub struct Ground {
    /// Takes the certificate and the CAs of clients.
    pub offer: Arc<Offer>,
    /// Shows them.
    pub figures: Arc<Figures>,
    /// Waits for them.
    pub ready: Ready,
    /// Where this aggregator listens.
    pub listen: SocketAddr,
}

/// Spawns what keeps the certificate and the CAs of clients fresh. Nothing here waits for an API server.
pub async fn start(
    mode: Mode,
    cli: &Cli,
    ground: &Ground,
    tasks: &mut JoinSet<anyhow::Result<()>>,
    shutdown: &CancellationToken,
) -> Result<(), ModeError> {
    if mode == Mode::Plaintext {
        return Ok(());
    }
    let client = match &cli.source.cluster_state {
        Some(_) => None,
        None => Some(
            Kubernetes {
                kubeconfig: cli.source.kubeconfig.clone(),
            }
            .client()
            .await?,
        ),
    };
    ground.ready.pending("certificate", "not there yet");
    let lines = |one: &crate::cli::Advertised| format!("{}\n", one.socket(ground.listen.port()));
    let addresses: String = cli.trust.advertise.iter().map(lines).collect();
    let addresses = Some(addresses).filter(|text| !text.is_empty());
    let stop = shutdown.clone();
    match mode {
        Mode::Plaintext => {}
        Mode::Directory(path) => {
            let store = Directory::open(&path)?;
            let keeper = keeper(store, cli, ground, None, addresses);
            tasks.spawn(async move {
                keeper.run(stop).await;
                Ok(())
            });
        }
        Mode::Cluster(namespace) => {
            let Some(client) = client.clone() else {
                return Err(ModeError::Flags("there is no cluster to keep a CA in".to_owned()));
            };
            let store = objects(client, cli, &namespace);
            let keeper = keeper(store, cli, ground, Some(&namespace), addresses);
            tasks.spawn(async move {
                keeper.run(stop).await;
                Ok(())
            });
        }
        Mode::Given(namespace) => {
            let (Some(certificate), Some(key)) = (cli.trust.tls_cert.clone(), cli.trust.tls_key.clone()) else {
                return Err(ModeError::Flags("--tls-cert and --tls-key go together".to_owned()));
            };
            let publish = match (&cli.trust.tls_ca, namespace, &client) {
                (Some(file), Some(namespace), Some(client)) => {
                    Some((file.clone(), objects(client.clone(), cli, &namespace)))
                }
                _ => None,
            };
            let given = Given {
                certificate,
                key,
                publish,
                addresses,
                offer: Arc::clone(&ground.offer),
                figures: Arc::clone(&ground.figures),
                ready: ground.ready.clone(),
            };
            tasks.spawn(async move {
                given.run(stop).await;
                Ok(())
            });
        }
    }
    clients(cli, client, ground, tasks, shutdown);
    Ok(())
}

fn objects(client: Client, cli: &Cli, namespace: &str) -> Objects {
    Objects::new(client, namespace, &cli.trust.tls_secret, &cli.trust.trust_configmap)
}

fn keeper<S>(store: S, cli: &Cli, ground: &Ground, namespace: Option<&str>, addresses: Option<String>) -> Keeper<S> {
    ground.ready.pending("trust", "the CA is not told yet");
    Keeper {
        store,
        policy: Policy {
            rotate_after: cli.trust.rotate_ca_after,
            lead: cli.trust.ca_lead,
        },
        names: names(namespace),
        addresses,
        offer: Arc::clone(&ground.offer),
        figures: Arc::clone(&ground.figures),
        ready: ground.ready.clone(),
    }
}

/// The name that everybody verifies, and the Service's.
fn names(namespace: Option<&str>) -> Vec<String> {
    let service = namespace.map(|namespace| format!("{NAME}.{namespace}.svc"));
    std::iter::once(NAME.to_owned()).chain(service).collect()
}

fn clients(
    cli: &Cli,
    client: Option<Client>,
    ground: &Ground,
    tasks: &mut JoinSet<anyhow::Result<()>>,
    shutdown: &CancellationToken,
) {
    let source = match (&cli.trust.client_ca, client) {
        (Some(file), _) => ClientCa::File(file.clone()),
        (None, Some(client)) => ClientCa::Cluster(client),
        (None, None) => return,
    };
    let running = source.run(Arc::clone(&ground.offer), Arc::clone(&ground.figures), shutdown.clone());
    tasks.spawn(async move {
        running.await;
        Ok(())
    });
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn mode(flags: &[&str], mounted: Option<&str>) -> Result<Mode, String> {
        let words = ["cidrift-aggregator"].iter().chain(flags);
        Mode::of(&Cli::parse_from(words), mounted).map_err(|error| error.to_string())
    }

    #[test]
    fn each_way_is_chosen_by_its_flags() {
        assert_eq!(mode(&[], Some("cidrift\n")), Ok(Mode::Cluster("cidrift".to_owned())));
        assert_eq!(
            mode(&["--namespace", "other"], Some("cidrift")),
            Ok(Mode::Cluster("other".to_owned()))
        );
        assert_eq!(
            mode(&["--tls-directory", "/d", "--cluster-state", "/s"], None),
            Ok(Mode::Directory("/d".into()))
        );
        assert_eq!(
            mode(&["--tls-cert", "/c", "--tls-key", "/k"], None),
            Ok(Mode::Given(None))
        );
        assert_eq!(
            mode(&["--tls-cert", "/c", "--tls-key", "/k", "--tls-ca", "/a"], Some("n")),
            Ok(Mode::Given(Some("n".to_owned())))
        );
    }

    #[test]
    fn plaintext_is_for_loopback_and_labs_alone() {
        let open = mode(&["--plaintext"], Some("n")).unwrap_err();
        assert!(open.contains("loopback"), "{open}");
        let loopback = mode(&["--plaintext", "--listen", "127.0.0.1:7440"], None);
        assert_eq!(loopback, Ok(Mode::Plaintext));
        assert_eq!(
            mode(&["--plaintext", "--cluster-state", "/s"], None),
            Ok(Mode::Plaintext)
        );
    }

    #[test]
    fn a_missing_flag_is_named() {
        for (flags, says) in [
            (&["--cluster-state", "/s"][..], "--tls-directory"),
            (&["--kubeconfig", "/k"], "--namespace"),
            (
                &["--tls-cert", "/c", "--tls-key", "/k", "--tls-ca", "/a"],
                "--namespace",
            ),
        ] {
            let error = mode(flags, None).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
