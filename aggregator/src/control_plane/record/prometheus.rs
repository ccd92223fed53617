//! The few lines that are wanted of a text of metrics. There is no parser among the well-kept crates
//! (prometheus-parse is of 2023 and brings three others), and a component's text has thousands of lines of which a few matter.

use std::collections::BTreeMap;

/// A sample: its labels and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

/// The samples of these names; lines that are none are passed over.
pub fn samples(text: &str, names: &[&str]) -> Vec<Sample> {
    text.lines().filter_map(|line| sample(line, names)).collect()
}

fn sample(line: &str, names: &[&str]) -> Option<Sample> {
    let end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at_checked(end)?;
    names.contains(&name).then_some(())?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    // A timestamp may follow.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    let name = name.to_owned();
    Some(Sample { name, labels, value })
}

/// Labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut found = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([' ', ',', '\t']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((found, after));
        }
        let (key, tail) = rest.split_once('=')?;
        let mut chars = tail.trim_start().strip_prefix('"')?.chars();
        let mut value = String::new();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => value.push(match chars.next()? {
                    'n' => '\n',
                    other => other,
                }),
                other => value.push(other),
            }
        }
        found.insert(key.trim().to_owned(), value);
        rest = chars.as_str();
    }
}
