//! `[Section]`, `Key=value`: what systemd's configuration and glib's key files have in common.

/// The settings of one file, in order: section, key, value.
pub(super) fn parse(bytes: &[u8]) -> Vec<(String, String, String)> {
    let text = String::from_utf8_lossy(bytes);
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            found.push((section.clone(), key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

/// The last value of a key in a section; glib and systemd both let the last one win.
pub(super) fn last<'a>(settings: &'a [(String, String, String)], section: &str, key: &str) -> Option<&'a str> {
    let mut found = settings.iter().rev();
    let (_, _, value) = found.find(|(at, name, _)| at == section && name == key)?;
    Some(value)
}

/// A boolean as systemd's `parse_boolean` and glib read it; `None`: it is none.
pub(super) fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_what_is_no_setting_are_passed_over_and_the_last_value_wins() {
        let text = b"a=1\n# b=2\n;c=3\n[Network]\n a = yes \nrubbish\na=no\n[Other]\na=maybe\n";
        let settings = parse(text);
        assert_eq!(last(&settings, "Network", "a"), Some("no"));
        assert_eq!(last(&settings, "", "a"), Some("1"));
        assert_eq!(last(&settings, "Network", "b"), None);
        assert_eq!(boolean("Yes"), Some(true));
        assert_eq!(boolean("keep"), None);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read(section in "[A-Za-z]{1,8}", key in "[A-Za-z-]{1,12}", value in "[a-z0-9:/.]{0,12}") {
            let settings = parse(format!("[{section}]\n{key}={value}\n").as_bytes());
            proptest::prop_assert_eq!(last(&settings, &section, &key), Some(value.as_str()));
        }
    }
}
