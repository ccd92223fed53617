//! One host as plain data: what `observe` fills and `resolve` and `check` read.
//! Nothing here knows netlink messages or file formats.

pub mod changes;
pub mod growth;
pub mod host;
pub mod kernel;
mod range;
pub mod routes;
pub mod setup;
mod tables;
pub mod traffic;

pub use changes::Changes;
pub use host::{Host, Missing, Observed};
pub use kernel::{FdbEntry, Kernel, Link, LinkAddress, LinkDetail, Neighbour, Rule, RuleAction, Sysctls};
pub use routes::{Hop, Hops, Nexthop, Route, RouteKind, Tables};
