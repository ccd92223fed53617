//! Sentences broken into lines.

/// Breaks text at blanks so that no line has more than `width` columns, unless a word has. Line breaks in the text stay.
/// The first line begins with `head`, the others with `rest`.
pub(super) fn wrap(head: &str, rest: &str, text: &str, width: usize) -> String {
    let mut lines = Vec::new();
    let mut line = head.to_owned();
    for (at, part) in text.lines().enumerate() {
        if at > 0 {
            lines.push(std::mem::replace(&mut line, rest.to_owned()));
        }
        let mut begun = false;
        for word in part.split_whitespace() {
            if begun && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::replace(&mut line, rest.to_owned()));
                begun = false;
            }
            if begun {
                line.push(' ');
            }
            line.push_str(word);
            begun = true;
        }
    }
    lines.push(line);
    let mut out = String::new();
    for line in lines {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_breaks_at_blanks_and_keeps_the_texts_own_lines() {
        assert_eq!(wrap("a: ", "   ", "one two three", 10), "a: one two\n   three\n");
        assert_eq!(wrap("a: ", "   ", "one\ntwo", 10), "a: one\n   two\n");
        assert_eq!(
            wrap("a: ", "   ", "a-word-that-is-too-long b", 10),
            "a: a-word-that-is-too-long\n   b\n"
        );
        assert_eq!(wrap("a: ", "   ", "", 10), "a:\n");
    }

    proptest! {
        #[test]
        fn no_word_is_lost_and_no_line_is_too_long(words in prop::collection::vec("[a-zé'/]{1,12}", 0..40), width in 16usize..60) {
            let text = wrap(" = ", "   ", &words.join(" "), width);
            let seen: Vec<&str> = text.split_whitespace().skip(1).collect();
            prop_assert_eq!(seen, words);
            prop_assert!(text.lines().all(|line| line.chars().count() <= width), "{}", text);
        }
    }
}
