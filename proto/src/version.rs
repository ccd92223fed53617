//! The version that a program tells: to people, to the other side of a stream, in its metrics.

use std::sync::OnceLock;

static TOLD: OnceLock<&'static str> = OnceLock::new();

/// This program's version: the workspace's, unless it said another one as it started.
pub fn version() -> &'static str {
    TOLD.get_or_init(|| env!("CARGO_PKG_VERSION"))
}

/// For a program that is built from these crates and is another release: says its version, first of all that it does.
///
/// # Errors
///
/// A version was asked for already; it is given back and stays.
pub fn release(version: &'static str) -> Result<(), &'static str> {
    match *TOLD.get_or_init(|| version) {
        told if told == version => Ok(()),
        told => Err(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_was_told_once_stays() {
        assert_eq!(version(), env!("CARGO_PKG_VERSION"));
        assert_eq!(release("0.0.1"), Err(env!("CARGO_PKG_VERSION")));
        assert_eq!(release(env!("CARGO_PKG_VERSION")), Ok(()));
        assert_eq!(version(), env!("CARGO_PKG_VERSION"));
    }
}
