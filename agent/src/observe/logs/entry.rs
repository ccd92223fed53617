//! One line of a log, taken apart: klog's text and JSON (kubelet), logrus' text and JSON (containerd, CRI-O, k3s).

use jiff::Timestamp;
use serde_json::Value;

use super::clock::Clock;
use super::quoted;

/// Key-value pairs that are looked at in one line. Real ones have up to a dozen.
const FIELDS: usize = 64;

/// A line, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Entry {
    /// When it was written, where it says so.
    pub(super) at: Option<Timestamp>,
    /// The message.
    pub(super) message: String,
    fields: Vec<(String, String)>,
}

impl Entry {
    /// The value of this key.
    pub(super) fn field(&self, key: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }
}

/// Takes a line apart. Several lines are one where klog writes a value over several (`err=<`).
pub(super) fn parse(line: &str, clock: &Clock) -> Option<Entry> {
    let line = line.trim_end();
    if line.starts_with('{') {
        return json(line, clock);
    }
    if let Some(entry) = klog(line, clock) {
        return Some(entry);
    }
    let logrus = logrus(line, clock)?;
    // k0s puts the lines of what it supervises into lines of its own.
    match klog(&logrus.message, clock) {
        Some(inner) => Some(inner),
        None => Some(logrus),
    }
}

/// When a line was written; cheaper than all of it.
pub(super) fn time(line: &str, clock: &Clock) -> Option<Timestamp> {
    if let Some((_, at, _)) = header(line) {
        return clock.klog(at);
    }
    parse(line, clock)?.at
}

/// `I1125 07:01:02.123456    1234 file.go:12] `: severity, time, what follows.
fn header(line: &str) -> Option<(char, &str, &str)> {
    let severity = line.chars().next().filter(|c| matches!(c, 'I' | 'W' | 'E' | 'F'))?;
    let at = line.get(1..21)?;
    let digits = at.get(..4)?.bytes().all(|byte| byte.is_ascii_digit());
    let (place, rest) = line.get(21..)?.split_once("] ")?;
    // Thread id, file and line hold no bracket or quote.
    (digits && place.len() < 256 && !place.contains('"')).then_some((severity, at, rest))
}

fn klog(line: &str, clock: &Clock) -> Option<Entry> {
    let (_, at, rest) = header(line)?;
    let (message, fields) = match quoted::take(rest) {
        Some((message, rest)) => (message, pairs(rest)),
        None => (rest.to_owned(), Vec::new()),
    };
    Some(Entry {
        at: clock.klog(at),
        message,
        fields,
    })
}

fn logrus(line: &str, clock: &Clock) -> Option<Entry> {
    if !(line.starts_with("time=") || line.starts_with("level=")) {
        return None;
    }
    let fields = pairs(line);
    let entry = Entry {
        fields,
        ..Entry::default()
    };
    Some(Entry {
        at: entry.field("time").and_then(|text| clock.rfc3339(text)),
        message: entry.field("msg")?.to_owned(),
        ..entry
    })
}

fn json(line: &str, clock: &Clock) -> Option<Entry> {
    let Value::Object(map) = serde_json::from_str(line).ok()? else {
        return None;
    };
    let message = map.get("msg")?.as_str()?.to_owned();
    let at = match (map.get("ts"), map.get("time")) {
        (Some(Value::Number(millis)), _) => millis.as_f64().and_then(|millis| clock.millis(millis)),
        (Some(Value::String(text)), _) | (_, Some(Value::String(text))) => clock.rfc3339(text),
        _ => None,
    };
    let fields = map.into_iter().take(FIELDS).map(|(key, value)| {
        let text = match value {
            Value::String(text) => text,
            // klog's reference to an object: {"name":"p","namespace":"n"}.
            Value::Object(map) => match (map.get("namespace"), map.get("name")) {
                (Some(Value::String(namespace)), Some(Value::String(name))) => format!("{namespace}/{name}"),
                _ => Value::Object(map).to_string(),
            },
            other => other.to_string(),
        };
        (key, text)
    });
    Some(Entry {
        at,
        message,
        fields: fields.collect(),
    })
}

/// `key="value" key=value key=<` and lines that follow, up to ` >`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while found.len() < FIELDS {
        let Some((key, behind)) = rest.split_once('=') else {
            break;
        };
        // A stray word in front of the key.
        let key = key.rsplit(char::is_whitespace).next().unwrap_or_default();
        let (value, behind) = value(behind);
        found.push((key.to_owned(), value));
        rest = behind.trim_start();
    }
    found
}

fn value(text: &str) -> (String, &str) {
    if let Some(taken) = quoted::take(text) {
        return taken;
    }
    if let Some(block) = text.strip_prefix("<\n") {
        let (inner, behind) = block.split_once("\n >").unwrap_or((block, ""));
        let lines: Vec<&str> = inner.lines().map(|line| line.trim_start_matches('\t')).collect();
        return (lines.join("\n"), behind);
    }
    let end = match text.chars().next() {
        Some('[') => text.find(']').map(|at| at + 1),
        Some('{') => text.find('}').map(|at| at + 1),
        _ => None,
    };
    let end = end.or_else(|| text.find(char::is_whitespace)).unwrap_or(text.len());
    (text[..end].to_owned(), &text[end..])
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;

    fn clock() -> Clock {
        Clock::new("2026-11-25T07:30:00Z".parse().unwrap(), TimeZone::UTC)
    }

    fn entry(line: &str) -> Entry {
        parse(line, &clock()).unwrap()
    }

    #[test]
    fn klogs_text_is_taken_apart() {
        let line = "I1125 07:22:16.893408      18 kubelet_network.go:48] \"Updating Pod CIDR\" originalPodCIDR=\"10.244.0.0/24\" newPodCIDR=\"10.244.101.0/24,fd00::/64\" list=[\"a\",\"b\"] n=3";
        let entry = entry(line);
        assert_eq!(entry.at, Some("2026-11-25T07:22:16.893408Z".parse().unwrap()));
        assert_eq!(entry.message, "Updating Pod CIDR");
        assert_eq!(entry.field("originalPodCIDR"), Some("10.244.0.0/24"));
        assert_eq!(entry.field("newPodCIDR"), Some("10.244.101.0/24,fd00::/64"));
        assert_eq!(
            (entry.field("list"), entry.field("n")),
            (Some("[\"a\",\"b\"]"), Some("3"))
        );
        assert_eq!(time(line, &clock()), entry.at);
    }

    #[test]
    fn a_value_over_several_lines_is_one() {
        let entry = entry(
            "E1125 07:22:16.893408      18 k.go:1] \"Failed to create sandbox for pod\" err=<\n\trpc error: code = Unknown\n\tIs the agent running?\n > pod=\"ns/p\"",
        );
        assert_eq!(
            entry.field("err"),
            Some("rpc error: code = Unknown\nIs the agent running?")
        );
        assert_eq!(entry.field("pod"), Some("ns/p"));
    }

    #[test]
    fn klogs_json_is_taken_apart() {
        let entry = entry(
            r#"{"ts":1764055336893.408,"caller":"kuberuntime/kuberuntime_sandbox.go:70","msg":"Failed to create sandbox for pod","pod":{"name":"p","namespace":"ns"},"err":"rpc error: code = Unknown desc = \"x\"","v":0}"#,
        );
        assert_eq!(entry.at, Some("2025-11-25T07:22:16.893408Z".parse().unwrap()));
        assert_eq!(
            (entry.field("pod"), entry.field("err")),
            (Some("ns/p"), Some("rpc error: code = Unknown desc = \"x\""))
        );
    }

    #[test]
    fn logrus_text_and_json_are_taken_apart() {
        let text = r#"time="2026-11-25T07:22:03.301841878Z" level=error msg="RunPodSandbox for x failed, error" error="plugin type=\"bridge\" failed (add)""#;
        let json = r#"{"error":"plugin type=\"bridge\" failed (add)","level":"error","msg":"RunPodSandbox for x failed, error","time":"2026-11-25T07:22:03.301841878Z"}"#;
        for line in [text, json] {
            let entry = entry(line);
            assert_eq!(entry.at, Some("2026-11-25T07:22:03.301841878Z".parse().unwrap()));
            assert_eq!(entry.message, "RunPodSandbox for x failed, error");
            assert_eq!(entry.field("error"), Some("plugin type=\"bridge\" failed (add)"));
        }
    }

    #[test]
    fn a_supervisors_line_gives_what_it_holds() {
        let entry = entry(
            r#"time="2026-11-25 07:22:20" level=info msg="I1125 07:22:16.893408      18 k.go:48] \"Updating Pod CIDR\" originalPodCIDR=\"\" newPodCIDR=\"10.244.1.0/24\"" component=kubelet stream=stderr"#,
        );
        assert_eq!(
            (entry.message.as_str(), entry.field("newPodCIDR")),
            ("Updating Pod CIDR", Some("10.244.1.0/24"))
        );
    }

    #[test]
    fn what_is_no_log_line_is_nothing() {
        for line in [
            "",
            "panic: runtime error",
            "Improper line",
            "{\"msg\":3}",
            "{torn",
            "I1125 07:22",
            "E11",
        ] {
            assert_eq!(parse(line, &clock()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_taken_apart_without_a_panic(line in "(I1125 07:22:16.893408      18 k.go:48\\] |time=|\\{\"msg\":\"|)\\PC{0,200}") {
            let _ = parse(&line, &clock());
            let _ = time(&line, &clock());
        }

        #[test]
        fn any_bytes_are_too(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&String::from_utf8_lossy(&bytes), &clock());
        }

        #[test]
        fn klogs_values_read_back(message in "\\PC{0,40}", value in "\\PC{0,80}") {
            let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let line = format!("E0102 03:04:05.000006       7 a.go:1] {} err={} pod=\"n/p\"", quote(&message), quote(&value));
            let entry = entry(&line);
            prop_assert_eq!(&entry.message, &message);
            prop_assert_eq!(entry.field("err"), Some(value.as_str()));
            prop_assert_eq!(entry.field("pod"), Some("n/p"));
        }
    }
}
