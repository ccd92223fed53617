//! What a test needs of the machine. A test that cannot run says what is
//! missing, and fails where `CIDRIFT_REQUIRE` (a comma list) names the need.

use std::fmt;

/// Something that a machine may or may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The right to make network namespaces.
    Netns,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Netns => "netns",
        })
    }
}

/// True when the machine has it. Otherwise says so on stderr and returns
/// false, or panics when `CIDRIFT_REQUIRE` names it.
#[must_use]
pub fn have(need: Need) -> bool {
    let missing = match need {
        Need::Netns => crate::netns::Netns::new("probe").err().map(|error| {
            format!(
                "network namespaces cannot be made ({error}); run as root, or under `unshare --user --map-root-user`"
            )
        }),
    };
    let Some(missing) = missing else { return true };
    let required = std::env::var("CIDRIFT_REQUIRE").unwrap_or_default();
    let named = required.split(',').any(|word| word.trim() == need.to_string());
    assert!(!named, "CIDRIFT_REQUIRE names {need}, but: {missing}");
    eprintln!("NOT RUN: {missing}");
    false
}
