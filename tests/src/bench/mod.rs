//! What the programs cost, as ratios to what the kernel alone costs in the
//! same run: figures of different machines can then be compared.

pub mod dump;
pub mod footprint;
pub mod latency;
pub mod raw;
pub mod rss;
pub mod scale;
pub mod served;

use std::time::Duration;

use serde::Serialize;

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// Ours.
    pub value: f64,
    /// The kernel alone, where there is such a thing.
    pub beside: Option<f64>,
    /// `value / beside`.
    pub ratio: Option<f64>,
    /// "ms", "MiB".
    pub unit: &'static str,
    /// What it should be: "< 2x".
    pub aim: Option<String>,
    /// Whether it is.
    pub met: Option<bool>,
}

impl Figure {
    /// A figure without an aim.
    pub fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            what: what.into(),
            value,
            beside: None,
            ratio: None,
            unit,
            aim: None,
            met: None,
        }
    }

    /// Beside what the kernel alone takes.
    #[must_use]
    pub fn beside(mut self, beside: f64) -> Self {
        self.beside = Some(beside);
        self.ratio = Some(self.value / beside);
        self
    }

    /// Aims at a ratio below `limit`.
    #[must_use]
    pub fn aim_ratio(mut self, limit: f64) -> Self {
        self.aim = Some(format!("< {limit}x"));
        self.met = self.ratio.map(|ratio| ratio < limit);
        self
    }

    /// Aims at a value below `limit`.
    #[must_use]
    pub fn aim_value(mut self, limit: f64) -> Self {
        self.aim = Some(format!("< {limit} {}", self.unit));
        self.met = Some(self.value < limit);
        self
    }
}

/// A table for people.
pub fn table(figures: &[Figure]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["", "ours", "kernel alone", "ratio", "aim", ""]);
    for figure in figures {
        let number = |value: f64| format!("{value:.2} {}", figure.unit);
        table.add_row([
            figure.what.clone(),
            number(figure.value),
            figure.beside.map(number).unwrap_or_default(),
            figure.ratio.map(|ratio| format!("{ratio:.2}x")).unwrap_or_default(),
            figure.aim.clone().unwrap_or_default(),
            match figure.met {
                None => "",
                Some(true) => "met",
                Some(false) => "MISSED",
            }
            .to_owned(),
        ]);
    }
    table.to_string()
}

/// Milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The value below which `share` of the samples lie (nearest rank); 0 without samples.
pub(crate) fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let rank = (share * samples.len() as f64).ceil() as usize;
    samples.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let mut samples: Vec<f64> = (1..=1000).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut samples, 0.5), 500.0);
        assert_eq!(percentile(&mut samples, 0.99), 990.0);
        assert_eq!(percentile(&mut samples, 1.0), 1000.0);
        assert_eq!(percentile(&mut [], 0.99), 0.0);
    }
}
