//! HOST05 addresses-low: the Node's addresses are nearly given out, or given to nobody.

use super::{Case, Judged};

pub(super) fn judge(_case: &Case<'_>, _judged: &mut Judged) {}
