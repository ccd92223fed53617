//! Between the engine's plain answers and the wire, both ways.

mod node;
mod page;
mod pool;
mod status;
#[cfg(test)]
mod tests;
mod watch;

pub use node::{detail_from_wire, detail_to_wire, path_from_wire, path_to_wire, summary_from_wire, summary_to_wire};
pub use page::{row_from_wire, row_to_wire};
pub use pool::{pool_from_wire, pool_to_wire};
pub use status::{status_from_wire, status_to_wire};
pub use watch::event_from_wire;

use cidrift_proto::Malformed;
use cidrift_proto::v1;

use crate::summary::Health;

fn health_to_wire(health: Health) -> v1::Health {
    match health {
        Health::Healthy => v1::Health::Healthy,
        Health::Findings => v1::Health::Findings,
        Health::Unknown => v1::Health::Unknown,
    }
}

/// A value that this build does not know is unknown health, never good health.
fn health_from_wire(value: i32) -> Health {
    match v1::Health::try_from(value) {
        Ok(v1::Health::Healthy) => Health::Healthy,
        Ok(v1::Health::Findings) => Health::Findings,
        Ok(v1::Health::Unknown | v1::Health::Unspecified) | Err(_) => Health::Unknown,
    }
}

fn optional(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn required<'a, T>(field: &'a Option<T>, name: &'static str) -> Result<&'a T, Malformed> {
    field.as_ref().ok_or(Malformed::Missing(name))
}
