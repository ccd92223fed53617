//! TOML configuration of container runtimes: a file, and the files that go before it.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::super::super::root::HostRoot;
use super::super::{ENTRY_LIMIT, FILE_LIMIT};

/// A file's content; `None`: there is none, it may not be read, or the runtime itself could not read it.
pub(in crate::observe) fn read(root: &HostRoot, path: &Path) -> Option<Table> {
    let (bytes, _) = root.read(path, FILE_LIMIT).ok()?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Option<Table> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// The files that a pattern of containerd's `imports` stands for, in byte order: a path, or one with `*` in its
/// last part, which is how it is written everywhere. A path that is not absolute starts at `from`.
pub(in crate::observe) fn matching(root: &HostRoot, from: &Path, pattern: &str) -> Vec<PathBuf> {
    let pattern = from.join(pattern);
    let (Some(dir), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let Some((before, after)) = name.split_once('*') else {
        return vec![pattern];
    };
    let names = root.list(dir, ENTRY_LIMIT).ok().flatten().unwrap_or_default();
    names
        .iter()
        .filter_map(|name| name.to_str())
        .filter(|name| name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after))
        .map(|name| dir.join(name))
        .collect()
}

/// A string, if it is there and not empty.
pub(in crate::observe) fn text(table: &Table, key: &str) -> Option<String> {
    let text = table.get(key)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// An absolute path. One that is not, or that holds a variable still to be filled in (microk8s' template), says nothing.
pub(in crate::observe) fn path(text: &str) -> Option<PathBuf> {
    let good = text.starts_with('/') && !text.contains(['$', '{']);
    good.then(|| PathBuf::from(text))
}

/// A list of absolute paths; what in it is none is left out.
pub(in crate::observe) fn paths(table: &Table, key: &str) -> Vec<PathBuf> {
    let list = table.get(key).and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    texts.filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "[\\[\\]a-z\"'=#\n.é{},]{0,200}") {
            if let Some(table) = parse(text.as_bytes()) {
                let _ = (paths(&table, "a"), super::text(&table, "a"));
            }
        }
    }
}
