//! HOST06 cni-not-ready: no usable CNI configuration, a missing plugin, a runtime that says so.

use super::{Input, Judged};

pub(super) fn judge(_input: &Input<'_>, _judged: &mut Judged) {}
