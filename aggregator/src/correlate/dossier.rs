//! What is claimed of one Node by itself: the rules that need no other Node but what these share.

use std::collections::{BTreeMap, BTreeSet};

use cidrift_proto::finding::Claim;

use super::outside::Judge;
use super::without::Footing;
use super::{Scene, cluster_cidr, fields, outside, overlap, raced, sandbox, without};

/// The rules, with what they share made once.
#[derive(Debug)]
pub struct Dossiers<'a> {
    scene: &'a Scene<'a>,
    judges: Vec<Judge<'a>>,
    keys: BTreeSet<&'a str>,
    footing: &'a Footing,
}

impl<'a> Dossiers<'a> {
    /// For this scene, and what claims of nodes without a CIDR rest on in it.
    pub fn new(scene: &'a Scene<'a>, footing: &'a Footing) -> Self {
        Self {
            scene,
            footing,
            judges: outside::judges(scene),
            keys: cluster_cidr::keys(scene),
        }
    }

    /// What is claimed of this Node; nothing where there is none of this name.
    pub fn of(&self, name: &str) -> Vec<Claim> {
        let Some(node) = self.scene.node(name) else {
            return Vec::new();
        };
        let scene = self.scene;
        let mut claims = overlap::of_host(scene, name);
        claims.extend(outside::claim(scene, node, &self.judges));
        claims.extend(fields::claim(scene, node));
        claims.extend(raced::claim(scene, node));
        claims.extend(cluster_cidr::claim(scene, node, &self.keys));
        claims.extend(sandbox::claim(scene, node));
        claims.extend(without::claim(scene, node, self.footing));
        claims
    }

    /// What is claimed of those of these Nodes of which something is.
    pub fn of_each<'n>(&self, names: impl Iterator<Item = &'n String>) -> BTreeMap<String, Vec<Claim>> {
        let all = names.map(|name| (name, self.of(name)));
        let told = all.filter(|(_, claims)| !claims.is_empty());
        told.map(|(name, claims)| (name.clone(), claims)).collect()
    }
}
