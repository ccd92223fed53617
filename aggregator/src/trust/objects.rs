//! CAs in the cluster: a Secret keeps them, a ConfigMap tells everybody whom to trust and where to report.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::timeout;

use super::record::{KEYS, Record};
use super::store::{Loaded, Publication, Store, StoreError};

/// Set to "now" by a person who wants another CA.
pub const ROTATE: &str = "cidrift.dev/rotate";

/// One question to the API server may take this long; a healthy one needs milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The two objects.
#[derive(Clone)]
pub struct Objects {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
    namespace: String,
    secret: String,
    map: String,
}

impl Objects {
    /// In this namespace, under these names.
    pub fn new(client: Client, namespace: &str, secret: &str, map: &str) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            maps: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            map: map.to_owned(),
        }
    }

    fn secret_place(&self) -> String {
        format!("Secret {}/{}", self.namespace, self.secret)
    }

    fn map_place(&self) -> String {
        format!("ConfigMap {}/{}", self.namespace, self.map)
    }

    /// What is published now.
    pub async fn published(&self) -> Result<Option<Publication>, StoreError> {
        let map = within("get", &self.map_place(), self.maps.get_opt(&self.map)).await?;
        Ok(map.and_then(|map| {
            let mut data = map.data.unwrap_or_default();
            Some(Publication {
                bundle: data.remove("ca.crt")?,
                addresses: data.remove("addresses"),
            })
        }))
    }

    fn metadata(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some(BTreeMap::from([(
                "app.kubernetes.io/part-of".to_owned(),
                "cidrift".to_owned(),
            )])),
            ..ObjectMeta::default()
        }
    }
}

impl Store for Objects {
    fn place(&self) -> String {
        self.secret_place()
    }

    async fn load(&self) -> Result<Loaded, StoreError> {
        let place = self.secret_place();
        let secret = within("get", &place, self.secrets.get_opt(&self.secret)).await?;
        let published = self.published().await?;
        let Some(secret) = secret else {
            return Ok(Loaded {
                published,
                ..Loaded::default()
            });
        };
        let mut record = Record::new();
        for (key, ByteString(bytes)) in secret.data.unwrap_or_default() {
            if KEYS.contains(&key.as_str()) {
                let text = String::from_utf8(bytes)
                    .map_err(|_| StoreError::Failed(format!("{place}: {key} is no text, PEM was expected")))?;
                record.insert(key, text);
            }
        }
        let annotations = secret.metadata.annotations.unwrap_or_default();
        Ok(Loaded {
            record: Some(record),
            version: secret.metadata.resource_version,
            published,
            asked: annotations.get(ROTATE).is_some_and(|value| value == "now"),
        })
    }

    async fn save(&self, record: &Record, loaded: &Loaded) -> Result<(), StoreError> {
        let how = PostParams::default();
        let place = self.secret_place();
        let bytes = |(key, value): (&String, &String)| (key.clone(), ByteString(value.clone().into_bytes()));
        let data: BTreeMap<String, ByteString> = record.iter().map(bytes).collect();
        let Some(version) = &loaded.version else {
            let secret = Secret {
                metadata: self.metadata(&self.secret),
                data: Some(data),
                type_: Some("Opaque".to_owned()),
                ..Secret::default()
            };
            let create = self.secrets.create(&how, &secret);
            return within("create", &place, create).await.map(drop);
        };
        // Whatever else is in it (labels, keys of others) stays as it is.
        let secret = within("get", &place, self.secrets.get_opt(&self.secret)).await?;
        let mut secret = secret.ok_or_else(|| StoreError::Conflict(place.clone()))?;
        let kept = secret.data.get_or_insert_default();
        kept.retain(|key, _| !KEYS.contains(&key.as_str()));
        kept.extend(data);
        if loaded.asked
            && let Some(annotations) = &mut secret.metadata.annotations
        {
            annotations.remove(ROTATE);
        }
        // The version that was decided upon, not the one just read: who was faster wins.
        secret.metadata.resource_version = Some(version.clone());
        let replace = self.secrets.replace(&self.secret, &how, &secret);
        within("update", &place, replace).await.map(drop)
    }

    async fn publish(&self, publication: &Publication) -> Result<(), StoreError> {
        let how = PostParams::default();
        let place = self.map_place();
        let mut data = BTreeMap::from([("ca.crt".to_owned(), publication.bundle.clone())]);
        if let Some(addresses) = &publication.addresses {
            data.insert("addresses".to_owned(), addresses.clone());
        }
        let there = within("get", &place, self.maps.get_opt(&self.map)).await?;
        let Some(mut map) = there else {
            let map = ConfigMap {
                metadata: self.metadata(&self.map),
                data: Some(data),
                ..ConfigMap::default()
            };
            let create = self.maps.create(&how, &map);
            return within("create", &place, create).await.map(drop);
        };
        map.data.get_or_insert_default().extend(data);
        let replace = self.maps.replace(&self.map, &how, &map);
        within("update", &place, replace).await.map(drop)
    }
}

/// Asks within [`PATIENCE`]; says what was to be done, and which right is missing.
pub(super) async fn within<T>(
    verb: &str,
    place: &str,
    asking: impl Future<Output = kube::Result<T>>,
) -> Result<T, StoreError> {
    let error = match timeout(PATIENCE, asking).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error,
        Err(_) => {
            return Err(StoreError::Failed(format!(
                "cannot {verb} {place}: the API server did not answer within {PATIENCE:?}"
            )));
        }
    };
    Err(match &error {
        kube::Error::Api(status) if status.code == 409 => StoreError::Conflict(place.to_owned()),
        kube::Error::Api(status) if status.code == 403 => StoreError::Failed(format!(
            "may not {verb} {place}: {}; a Role must allow it",
            status.message
        )),
        kube::Error::Api(status) if status.code == 404 && verb == "create" => StoreError::Failed(format!(
            "cannot create {place}: {}; does the namespace exist?",
            status.message
        )),
        error => StoreError::Failed(format!("cannot {verb} {place}: {}", crate::control_plane::chain(error))),
    })
}
