//! Answers as text for people: plain data in, a string out, nothing else.

mod age;
mod explain;
mod findings;
mod fix;
mod matrix;
mod migration;
mod node;
mod nodes;
mod path;
mod plan;
mod pool;
mod status;
#[cfg(test)]
mod tests;
pub mod text;
mod version;

pub use age::age;
pub use explain::{catalogue, page};
pub use findings::{event, finding, findings};
pub use fix::{Again, Stopped, ended, progress, record};
pub use matrix::MATRIX;
pub use migration::migration;
pub use node::node;
pub use nodes::nodes;
pub use path::{path, paths};
pub use plan::plan;
pub use pool::pool;
pub use status::status;
pub use version::{AgentsOfVersion, agents_by_version, versions};

use jiff::Timestamp;

/// How text is to look.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Ages count from here.
    pub now: Timestamp,
    /// With ANSI colours.
    pub colour: bool,
    /// Everything, however long the lines.
    pub wide: bool,
    /// Where lines are broken unless everything is asked for.
    pub columns: usize,
}

/// The columns where nobody says how many there are, and the most that are used: longer lines read badly.
pub const WIDTH: usize = 120;

/// The least that are used: narrower tables are columns of single letters.
const LEAST: usize = 60;

impl Look {
    /// The columns to use of a terminal that has so many.
    pub fn columns(terminal: Option<usize>) -> usize {
        terminal.map_or(WIDTH, |columns| columns.clamp(LEAST, WIDTH))
    }
}
