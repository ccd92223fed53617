//! HOST08 kubelet-cidr-differs: what the kubelet last took over is not what the Node says.

use super::{Input, Judged};

pub(super) fn judge(_input: &Input<'_>, _judged: &mut Judged) {}
