//! HOST09 proxy-cidr-differs: kube-proxy's idea of the pod range is another one.

use super::{Input, Judged};

pub(super) fn judge(_input: &Input<'_>, _judged: &mut Judged) {}
