//! One line of Prometheus' text format, as far as a number of a series can be found in it.

use std::borrow::Cow;

/// Labels that are looked at; series that are wanted have two.
const LABELS: usize = 64;

/// A series and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample<'a> {
    /// The series' name.
    pub(super) name: &'a str,
    labels: Vec<(&'a str, Cow<'a, str>)>,
    /// Its value: any float, infinite ones and NaN among them.
    pub(super) value: f64,
}

/// It is no line of that format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotMetrics;

impl<'a> Sample<'a> {
    /// Reads a line; `None`: a comment, or nothing.
    pub(super) fn read(line: &'a str) -> Result<Option<Self>, NotMetrics> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let (name, mut rest) = name(line, true).ok_or(NotMetrics)?;
        let mut labels = Vec::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = take_labels(inner, &mut labels)?;
        }
        // A time and an exemplar may follow.
        let value = rest.split_ascii_whitespace().next().ok_or(NotMetrics)?;
        Ok(Some(Self {
            name,
            labels,
            value: value.parse().map_err(|_| NotMetrics)?,
        }))
    }

    /// The value of a label.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        let mut labels = self.labels.iter();
        labels
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_ref())
    }
}

/// A name at the beginning, and what follows it.
fn name(text: &str, colons: bool) -> Option<(&str, &str)> {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || colons && byte == b':';
    let end = text
        .bytes()
        .position(|byte| !letter(byte) && !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    name.bytes()
        .next()
        .is_some_and(letter)
        .then(|| (name, rest.trim_start()))
}

/// `a="b",c="d"}`; what stands behind it.
fn take_labels<'a>(mut text: &'a str, labels: &mut Vec<(&'a str, Cow<'a, str>)>) -> Result<&'a str, NotMetrics> {
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix('}') {
            return Ok(rest);
        }
        let (key, rest) = name(text, false).ok_or(NotMetrics)?;
        let rest = rest.strip_prefix('=').ok_or(NotMetrics)?.trim_start();
        let (value, rest) = quoted(rest.strip_prefix('"').ok_or(NotMetrics)?)?;
        if labels.len() < LABELS {
            labels.push((key, value));
        }
        text = rest.trim_start();
        text = match text.strip_prefix(',') {
            Some(rest) => rest,
            None if text.starts_with('}') => text,
            None => return Err(NotMetrics),
        };
    }
}

/// Up to the closing quote; `\\`, `\"` and `\n` stand for what they stand for.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), NotMetrics> {
    let end = text.find(['"', '\\']).ok_or(NotMetrics)?;
    if text[end..].starts_with('"') {
        return Ok((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut said = text[..end].to_owned();
    let mut chars = text[end..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Cow::Owned(said), &text[end + at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => said.push('\n'),
                Some((_, other)) => said.push(other),
                None => return Err(NotMetrics),
            },
            other => said.push(other),
        }
    }
    Err(NotMetrics)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(line: &str) -> Sample<'_> {
        Sample::read(line).unwrap().unwrap()
    }

    #[test]
    fn a_series_with_labels_and_one_without_are_read() {
        let one = sample("http_requests_total{method=\"post\", path=\"C:\\\\a\\\"b\\n\",} 1027 1395066363000");
        assert_eq!((one.name, one.value), ("http_requests_total", 1027.0));
        assert_eq!(one.label("method"), Some("post"));
        assert_eq!(one.label("path"), Some("C:\\a\"b\n"));
        assert_eq!(one.label("none"), None);
        assert_eq!(sample("process_cpu_seconds_total 11.68").value, 11.68);
        assert!(sample("x{quantile=\"0.5\"} NaN").value.is_nan());
        assert_eq!(sample("x{} +Inf").value, f64::INFINITY);
        assert_eq!(sample("a:b 1.5e-05 # {trace_id=\"x\"} 1").value, 1.5e-5);
    }

    #[test]
    fn comments_are_nothing_and_everything_else_is_no_metric() {
        for line in ["", "  ", "# HELP x y", "#"] {
            assert_eq!(Sample::read(line), Ok(None), "{line}");
        }
        for line in [
            "<html>",
            "404 page not found",
            "x",
            "x y",
            "x{",
            "x{a} 1",
            "x{a=b} 1",
            "x{a=\"b\" 1",
            "x{a=\"b\\",
            "x{a=\"b\"c=\"d\"} 1",
            "ä 1",
        ] {
            assert_eq!(Sample::read(line), Err(NotMetrics), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(line in "[a-z]{0,3}(\\{|)([a-z]{0,2}=?\"?[\\\\n\"ä,} ]{0,3}){0,5}(\\}|)[ 0-9eENaInf+.-]{0,12}") {
            let _ = Sample::read(&line);
        }

        #[test]
        fn any_line_is_too(line in "\\PC{0,200}") {
            let _ = Sample::read(&line);
        }

        #[test]
        fn what_was_written_reads_back(name in "[a-z_:][a-z0-9_:]{0,20}", value in "\\PC{0,20}", number in any::<f64>()) {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let line = format!("{name}{{le=\"0.5\",v=\"{escaped}\"}} {number}");
            let sample = sample(&line);
            prop_assert_eq!(sample.name, name.as_str());
            prop_assert_eq!((sample.label("le"), sample.label("v")), (Some("0.5"), Some(value.as_str())));
            prop_assert_eq!(sample.value.to_bits(), number.to_bits());
        }
    }
}
