//! What agents find of kube-controller-manager on their hosts, as further words on the pod range. A host could name any
//! range: so it never settles what the pool is, it only agrees or contradicts.

use cidrift_proto::facts::{HostFacts, ProgramFact};
use jiff::Timestamp;

use super::State;
use crate::cluster::objects::{RangeWitness, Resource};
use crate::control_plane::record::flags;

/// The program that allocates node CIDRs.
const MANAGER: &str = "kube-controller-manager";

impl State {
    /// A host told its facts: what they say of ranges takes the place of what they said before.
    pub(super) fn hear_programs(&mut self, node: &str, now: Timestamp) {
        let facts = self.hosts.get(node).and_then(|host| host.facts.as_ref());
        let words = facts.map(|facts| words(node, facts)).unwrap_or_default();
        let same = match self.programs.get(node) {
            Some(before) => *before == words,
            None => words.is_empty(),
        };
        if same {
            return;
        }
        if words.is_empty() {
            self.programs.remove(node);
        } else {
            self.programs.insert(node.to_owned(), words);
        }
        self.place_programs();
        self.around_changed(now);
    }

    /// Puts the hosts' words beside what the control plane says. An instance whose pod says the same is one witness, not
    /// two.
    pub(super) fn place_programs(&mut self) {
        let around = &mut self.plane.around;
        let managers = &around.managers;
        let by_its_pod = |node: &String, word: &RangeWitness| {
            let mut here = managers.values().filter(|manager| manager.node.as_ref() == Some(node));
            here.any(|manager| manager.flags.cluster_cidr == word.ranges)
        };
        let words = self
            .programs
            .iter()
            .flat_map(|(node, words)| words.iter().map(move |word| (node, word)));
        let all: Vec<RangeWitness> = words
            .filter(|(node, word)| !by_its_pod(node, word))
            .map(|(_, word)| word.clone())
            .collect();
        if all.is_empty() {
            around.ranges.remove(&Resource::HostPrograms);
        } else {
            around.ranges.insert(Resource::HostPrograms, all);
        }
    }
}

/// Those of its programs that allocate, each as a witness.
fn words(node: &str, facts: &HostFacts) -> Vec<RangeWitness> {
    let managers = facts.programs.iter().filter(|program| program.name == MANAGER);
    managers.filter_map(|program| word(node, program)).collect()
}

fn word(node: &str, program: &ProgramFact) -> Option<RangeWitness> {
    let settings = program.settings.iter();
    let flags = flags::manager_of(settings.map(|setting| (setting.name.as_str(), setting.value.as_str())));
    let allocates = flags.allocate_node_cidrs == Some(true) && !flags.ipam_disabled;
    if flags.cluster_cidr.is_empty() || !allocates {
        return None;
    }
    let what = match (&program.embedded_in, program.pid) {
        (Some(outer), _) => format!("{MANAGER} in {outer} on {node}"),
        (None, Some(pid)) => format!("{MANAGER} on {node}, pid {pid}"),
        (None, None) => format!("manifest of {MANAGER} on {node}"),
    };
    Some(RangeWitness {
        resource: Resource::HostPrograms,
        what,
        ranges: flags.cluster_cidr,
        service_ranges: flags.service_cidr,
        mask_v4: flags.mask_v4.or(flags.mask),
        mask_v6: flags.mask_v6,
        odd: flags.odd,
    })
}
