//! HOST03 pods-outside-cidr: running pods have addresses outside the Node's pod CIDR.

use super::{Case, Judged};

pub(super) fn judge(_case: &Case<'_>, _judged: &mut Judged) {}
