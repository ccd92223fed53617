//! The aggregator's command line. Every flag can come from the environment too.

use std::time::Duration;

/// "1s", "500ms", "2m".
pub fn duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}; \"30s\" is one"))?;
    Duration::try_from(signed).map_err(|_| "a duration cannot be negative".to_owned())
}
