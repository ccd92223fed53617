//! SEEN02 agent-restricted: something that is there may not be read.

use super::{Input, Judged};

pub(super) fn judge(_input: &Input<'_>, _judged: &mut Judged) {}
