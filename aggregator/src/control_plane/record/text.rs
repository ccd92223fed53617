//! Small readers of values inside objects: texts, prefixes, times.

use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::Value;

/// The text at this JSON pointer; `None` where there is none, or an empty one.
pub fn at<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

/// The list at this JSON pointer; empty where there is none.
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// Prefixes of a comma- or space-separated list; what is none goes to `odd`, as written.
pub fn prefixes(text: &str, odd: &mut Vec<String>) -> Vec<IpNet> {
    let parts = text.split([',', ' ', '\t', '\n']).map(str::trim);
    let mut found = Vec::new();
    for part in parts.filter(|part| !part.is_empty()) {
        match part.parse::<IpNet>() {
            Ok(net) => found.push(net.trunc()),
            Err(_) => odd.push(clip(part, 64)),
        }
    }
    found
}

/// A prefix length of at most `most`; anything else goes to `odd`.
pub fn length(text: &str, most: u8, odd: &mut Vec<String>) -> Option<u8> {
    match text.trim().parse::<u8>() {
        Ok(length) if length <= most => Some(length),
        _ => {
            odd.push(clip(text, 64));
            None
        }
    }
}

/// The same of a JSON number or text; `null` is nothing.
pub fn length_of(value: &Value, most: u8, odd: &mut Vec<String>) -> Option<u8> {
    match value {
        Value::Null => None,
        Value::String(text) => length(text, most, odd),
        other => length(&other.to_string(), most, odd),
    }
}

/// A time as the API writes it; anything else is none.
pub fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

/// At most `most` bytes of a text, with "…" where something was left out.
pub fn clip(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most);
    format!("{}…", text.get(..end).unwrap_or_default())
}
