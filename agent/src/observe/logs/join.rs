//! Values that klog writes over several lines: `err=<`, the text with a tab before each line, and ` >`.

/// Lines and bytes of one value that are kept. Go errors with line ends are a plugin's output: a few lines.
const LINES: usize = 32;
const BYTES: usize = 16 << 10;

/// Puts them together again, for one stream of lines.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    held: Option<(String, usize)>,
}

impl Joiner {
    /// Takes a line; hands on those that are whole. `worth`: whether a line that goes on is worth to be waited for.
    pub(super) fn push(&mut self, line: &str, worth: impl Fn(&str) -> bool, mut each: impl FnMut(&str)) {
        if let Some((mut text, lines)) = self.held.take() {
            let goes_on = line.starts_with('\t');
            let ends = line.starts_with(" >");
            if goes_on || ends {
                if text.len() + line.len() <= BYTES {
                    text.push('\n');
                    text.push_str(line);
                }
                if goes_on && lines < LINES {
                    self.held = Some((text, lines + 1));
                } else {
                    each(&text);
                }
                return;
            }
            // Torn: what there is of it.
            each(&text);
        }
        if line.ends_with("=<") && line.len() <= BYTES && worth(line) {
            self.held = Some((line.to_owned(), 0));
        } else {
            each(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(lines: &[&str]) -> Vec<String> {
        let mut joiner = Joiner::default();
        let mut all = Vec::new();
        for line in lines {
            joiner.push(line, |line| line.contains("sandbox"), |line| all.push(line.to_owned()));
        }
        all
    }

    #[test]
    fn a_value_over_several_lines_becomes_one_line() {
        assert_eq!(
            joined(&["sandbox err=<", "\tone", "\ttwo", " > pod=x", "next"]),
            ["sandbox err=<\n\tone\n\ttwo\n > pod=x", "next"]
        );
    }

    #[test]
    fn what_nobody_asks_for_is_not_held() {
        assert_eq!(joined(&["other err=<", "\tone"]), ["other err=<", "\tone"]);
    }

    #[test]
    fn a_torn_value_gives_what_is_there_and_one_without_end_is_bounded() {
        assert_eq!(
            joined(&["sandbox err=<", "\tone", "next"]),
            ["sandbox err=<\n\tone", "next"]
        );
        let mut lines = vec!["sandbox err=<"];
        let long = format!("\t{}", "x".repeat(4000));
        lines.extend(std::iter::repeat_n(long.as_str(), 1000));
        let all = joined(&lines);
        assert!(all[0].len() <= BYTES + 100, "{}", all[0].len());
    }
}
