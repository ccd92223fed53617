//! HOST10 rule-diverts: a policy rule or a more specific route takes pod traffic elsewhere.

use super::{Case, Judged};

pub(super) fn judge(_case: &Case<'_>, _judged: &mut Judged) {}
