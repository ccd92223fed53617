//! SAND01 sandbox-failures: sandboxes fail, as the host's own logs tell it.

use super::{Input, Judged};

pub(super) fn judge(_input: &Input<'_>, _judged: &mut Judged) {}
