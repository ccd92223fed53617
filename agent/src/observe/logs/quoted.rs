//! Strings as Go's `%q` writes them: klog and logrus quote what holds blanks so.

/// Takes one off the front: what it says, and what stands behind it. `None`: there is no quote. A string without
/// its end (a torn line) gives what is there.
pub(super) fn take(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut said = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((said, &inner[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => said.push('\n'),
                Some((_, 't')) => said.push('\t'),
                Some((_, 'r')) => said.push('\r'),
                Some((_, 'x')) => said.push(code(&mut chars, 2)),
                Some((_, 'u')) => said.push(code(&mut chars, 4)),
                Some((_, 'U')) => said.push(code(&mut chars, 8)),
                Some((_, 'a' | 'b' | 'f' | 'v')) => said.push(' '),
                Some((_, other)) => said.push(other),
                None => break,
            },
            other => said.push(other),
        }
    }
    Some((said, ""))
}

/// That many hexadecimal digits. A byte that is no character of its own (`\xff`) has none to stand for it.
fn code(chars: &mut std::str::CharIndices<'_>, digits: usize) -> char {
    let text: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
    let found = u32::from_str_radix(&text, 16).ok();
    let found = found.filter(|code| digits > 2 || *code < 0x80);
    found.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As Go's strconv.Quote does for printable text.
    pub(super) fn quote(text: &str) -> String {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("\"{escaped}\"")
    }

    #[test]
    fn escapes_are_undone_and_what_follows_is_left() {
        let (said, rest) = take(r#""a \"b\" \\ \x41\u00e4\xff\n" next"#).unwrap();
        assert_eq!((said.as_str(), rest), ("a \"b\" \\ Aä\u{fffd}\n", " next"));
        assert_eq!(take("bare"), None);
        assert_eq!(take("\"torn \\"), Some(("torn ".to_owned(), "")));
    }

    proptest! {
        #[test]
        fn what_was_quoted_reads_back(text in "\\PC{0,80}", behind in "\\PC{0,20}") {
            let line = format!("{}{behind}", quote(&text));
            let (said, rest) = take(&line).unwrap();
            prop_assert_eq!(said, text);
            prop_assert_eq!(rest, behind);
        }

        #[test]
        fn any_text_is_taken_without_a_panic(text in "\"?[\\\\xuU\"a-f0-9ä]{0,40}") {
            let _ = take(&text);
        }
    }
}
