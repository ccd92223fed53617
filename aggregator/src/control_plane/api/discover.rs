//! Which of the kinds that may not be there the API server has, and at which version.

use std::collections::{BTreeMap, BTreeSet};

use kube::Client;

use super::follow::{Target, Trouble, trouble};
use crate::control_plane::kind::{Kind, Place};

/// What discovery says: where each kind is, or why that cannot be told; those that are not named do not exist.
pub(super) type Found = BTreeMap<Kind, Result<Target, Trouble>>;

/// Asks for groups, and for the resources of those that matter. Every authenticated client may.
pub(super) async fn discover(client: &Client) -> Result<Found, Trouble> {
    let listed = client.list_api_groups().await.map_err(trouble)?;
    let mut wanted: BTreeSet<&str> = BTreeSet::new();
    for kind in Kind::ALL {
        if let Place::Extension(groups, ..) = kind.place() {
            wanted.extend(groups);
        }
    }
    // Resources by group: the plural, with the path of the first version that has it.
    let mut resources: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    // A group whose own server (an aggregated API) does not answer says nothing of the others.
    let mut silent: BTreeMap<String, Trouble> = BTreeMap::new();
    for group in listed
        .groups
        .iter()
        .filter(|group| wanted.contains(group.name.as_str()))
    {
        let preferred = group.preferred_version.iter();
        let versions = preferred
            .chain(&group.versions)
            .map(|version| version.group_version.as_str());
        let mut asked = BTreeSet::new();
        for version in versions.filter(|version| asked.insert((*version).to_owned())) {
            let list = match client.list_api_group_resources(version).await.map_err(trouble) {
                Ok(list) => list,
                // It went between the two questions.
                Err(Trouble::Absent) => continue,
                Err(other) => {
                    silent.insert(group.name.clone(), other);
                    continue;
                }
            };
            for resource in list.resources {
                let found = resources.entry(group.name.clone()).or_default();
                let path = format!("/apis/{version}/{}", resource.name);
                found.entry(resource.name).or_insert(path);
            }
        }
    }
    let mut found = Found::new();
    for kind in Kind::ALL {
        let Place::Extension(groups, plural, _) = kind.place() else {
            continue;
        };
        let path = groups.iter().find_map(|group| resources.get(*group)?.get(plural));
        if let Some(path) = path {
            found.insert(kind, Ok(Target::of(path.clone())));
        } else if let Some(trouble) = groups.iter().find_map(|group| silent.get(*group)) {
            found.insert(kind, Err(trouble.clone()));
        }
    }
    Ok(found)
}

/// Where a kind is that every API server has.
pub(super) fn fixed(kind: Kind) -> Option<Target> {
    match kind.place() {
        Place::Core(plural, fields) => Some(Target {
            fields: fields.map(ToOwned::to_owned),
            ..Target::of(format!("/api/v1/{plural}"))
        }),
        Place::ConfigMap(namespace, name) => Some(Target {
            fields: Some(format!("metadata.name={name}")),
            ..Target::of(format!("/api/v1/namespaces/{namespace}/configmaps"))
        }),
        Place::Extension(..) => None,
    }
}
