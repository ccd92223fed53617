//! Kubernetes' quantities ("100m", "1Gi"), as far as CPU, memory and counts are written in them.

/// In thousandths, rounded up; saturating. `None`: it is no quantity.
pub(super) fn milli(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+' || c == '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    // "1e3" is a number with an exponent, "1E" is one of exa.
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']).filter(|rest| !rest.is_empty()) {
        let power: i32 = exponent.parse().ok()?;
        return scaled(number, 10f64.powi(power.clamp(-30, 30)));
    }
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        _ => return None,
    };
    scaled(number, factor)
}

// Requests are compared with what is free: a rounding of one in 2^53 does not matter, and casts of floats saturate.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn scaled(number: &str, factor: f64) -> Option<u64> {
    let value: f64 = number.parse().ok()?;
    (value.is_finite() && value >= 0.0).then(|| (value * factor * 1000.0).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, thousandths) in [
            ("100m", Some(100)),
            ("2", Some(2000)),
            ("0.5", Some(500)),
            ("1Ki", Some(1_024_000)),
            ("128Mi", Some(134_217_728_000)),
            ("1e3", Some(1_000_000)),
            ("1E", Some(u64::MAX)),
            ("110", Some(110_000)),
            ("1n", Some(1)),
            ("", None),
            ("abc", None),
            ("1Zi", None),
            ("-1", None),
        ] {
            let read = milli(text);
            match thousandths {
                // 10^18 in thousandths is beyond what fits.
                Some(u64::MAX) => assert!(read.is_some_and(|value| value > 1 << 60), "{text}"),
                _ => assert_eq!(read, thousandths, "{text}"),
            }
        }
    }
}
