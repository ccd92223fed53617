//! HOST11 routes-at-risk: a network manager may remove what the CNI makes.

use super::{Input, Judged};

pub(super) fn judge(_input: &Input<'_>, _judged: &mut Judged) {}
