//! Whether `spec.podCIDR` is what pods of a node get their addresses from.

use std::borrow::Cow;

use cidrift_proto::facts::HostFacts;

use super::signs;
use crate::cluster::NodeRecord;
use crate::cluster::around::Around;

/// Words that seldom have to be made up.
pub type Words = Cow<'static, str>;

/// What a node's IPAM makes of its `spec.podCIDR`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ipam {
    /// Pods get addresses of it.
    PodCidr,
    /// Another allocator decides; the field means nothing. With who that is.
    Delegated(Words),
    /// There is no data plane that an agent could see: virtual kubelets, Windows. With which.
    NoDataPlane(Words),
    /// It cannot be told; with what is missing.
    Unclear(Words),
}

impl Ipam {
    /// The model in a word or two, for a table.
    pub fn word(&self) -> &'static str {
        match self {
            Self::PodCidr => "spec.podCIDR",
            Self::Delegated(_) => "delegated",
            Self::NoDataPlane(_) => "no data plane",
            Self::Unclear(_) => "unclear",
        }
    }

    /// Whether `spec.podCIDR` decides; `None`: it cannot be told.
    pub fn authoritative(&self) -> Option<bool> {
        match self {
            Self::PodCidr => Some(true),
            Self::Delegated(_) | Self::NoDataPlane(_) => Some(false),
            Self::Unclear(_) => None,
        }
    }
}

/// Classifies one node by the first evidence that decides, in the order of reference G: the
/// CNI configuration on the host, objects and daemons of the CNI, addresses of its pods,
/// hints of the platform. Cheap: it makes up no words where a clear answer is found.
pub fn classify(node: &NodeRecord, facts: Option<&HostFacts>, around: &Around) -> Ipam {
    if let Some(none) = signs::no_data_plane(node) {
        return none;
    }
    let mut unclear = None;
    for sign in signs::ALL {
        match sign(node, facts, around) {
            None => {}
            Some(Ipam::Unclear(why)) => _ = unclear.get_or_insert(why),
            Some(clear) => return clear,
        }
    }
    Ipam::Unclear(unclear.unwrap_or(Cow::Borrowed("its CNI configuration was not seen")))
}
