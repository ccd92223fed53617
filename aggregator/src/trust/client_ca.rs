//! The CAs that sign client certificates: a file, or what the API server itself believes. Read again as they change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use super::figures::Figures;
use super::objects::within;
use super::serving::Offer;

/// The API server publishes the CAs of its clients here for everybody who serves beside it.
const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
const KEY: &str = "client-ca-file";

/// Between two looks, in the cluster and at a file. Such CAs change once in years, with both valid for a while.
const LOOK: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(5));

/// While it cannot be read.
const AGAIN: Duration = Duration::from_secs(5);

/// Where they stand.
#[derive(Clone)]
pub enum ClientCa {
    /// In a file (PEM).
    File(PathBuf),
    /// Where the API server publishes them.
    Cluster(Client),
}

impl ClientCa {
    fn place(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Cluster(_) => format!("ConfigMap {NAMESPACE}/{NAME}"),
        }
    }

    /// `None`: the cluster accepts no client certificates.
    async fn read(&self) -> Result<Option<Vec<u8>>, String> {
        match self {
            Self::File(path) => std::fs::read(path)
                .map(Some)
                .map_err(|error| format!("cannot read {}: {error}", path.display())),
            Self::Cluster(client) => {
                let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
                let map = within("get", &self.place(), maps.get_opt(NAME)).await;
                let map = map.map_err(|error| format!("{error}; until then client certificates are not asked for"))?;
                let text = map.and_then(|map| map.data?.remove(KEY));
                Ok(text.filter(|text| !text.trim().is_empty()).map(String::into_bytes))
            }
        }
    }

    /// Until `shutdown`. What was believed last is believed on while the new cannot be read.
    pub async fn run(self, offer: Arc<Offer>, figures: Arc<Figures>, shutdown: CancellationToken) {
        let mut before: Option<Option<Vec<u8>>> = None;
        let mut said = None;
        let look = match &self {
            Self::File(_) => LOOK.1,
            Self::Cluster(_) => LOOK.0,
        };
        loop {
            let result = match self.read().await {
                Ok(now) if before.as_ref() == Some(&now) => Ok(()),
                Ok(now) => offer
                    .clients(now.as_deref(), &self.place())
                    .map(|()| before = Some(now)),
                Err(text) => Err(text),
            };
            let pause = match result {
                Ok(()) => {
                    figures.over("client-ca", &mut said);
                    look
                }
                Err(text) => {
                    figures.trouble("client-ca", &text, &mut said);
                    AGAIN
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
