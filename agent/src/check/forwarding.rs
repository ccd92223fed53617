//! HOST07 forwarding-off: the host does not forward pod traffic.

use super::{Input, Judged};

pub(super) fn judge(_input: &Input<'_>, _judged: &mut Judged) {}
