//! Names near to one that does not exist, for error texts.

/// More than this are not listed.
const LISTED: usize = 5;

/// "; did you mean node-a or node-b?", or what there is, or nothing.
pub(super) fn hint<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<(usize, &str)> = known.map(|name| (distance(wanted, name), name)).collect();
    names.sort_unstable();
    let total = names.len();
    if total == 0 {
        return "; no node is known yet".to_owned();
    }
    // A third of the letters wrong is still a slip, more is another name.
    let slip = (wanted.chars().count() / 3).max(1);
    let near: Vec<&str> = names
        .iter()
        .filter(|(far, name)| *far <= slip || (wanted.len() >= 3 && name.contains(wanted)))
        .take(LISTED)
        .map(|(_, name)| *name)
        .collect();
    if !near.is_empty() {
        return format!("; did you mean {}?", near.join(" or "));
    }
    let mut listed: Vec<&str> = names.iter().map(|(_, name)| *name).take(LISTED).collect();
    listed.sort_unstable();
    let more = match total - listed.len() {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    format!("; known nodes: {}{more}", listed.join(", "))
}

/// How many letters must be changed, added or left out (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    // Node names have at most 253 letters; a longer word is cut, it is no name anyway.
    let a: Vec<char> = a.chars().take(256).collect();
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (at, letter) in b.chars().take(256).enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for column in 1..=a.len() {
            let change = diagonal + usize::from(a[column - 1] != letter);
            diagonal = row[column];
            row[column] = change.min(row[column] + 1).min(row[column - 1] + 1);
        }
    }
    row[a.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_answered_with_the_name_meant() {
        let known = ["worker-1", "worker-2", "control-plane"];
        assert_eq!(hint("wroker-1", known.into_iter()), "; did you mean worker-1?");
    }

    #[test]
    fn a_part_of_a_name_is_answered_with_the_names_it_is_in() {
        let known = ["ip-10-0-0-1.internal", "ip-10-0-0-2.internal"];
        assert_eq!(
            hint("ip-10-0-0", known.into_iter()),
            "; did you mean ip-10-0-0-1.internal or ip-10-0-0-2.internal?"
        );
    }

    #[test]
    fn a_name_like_no_other_is_answered_with_a_short_list() {
        let names: Vec<String> = (0..9).map(|n| format!("node-{n}")).collect();
        let text = hint("zebra", names.iter().map(String::as_str));
        assert_eq!(text, "; known nodes: node-0, node-1, node-2, node-3, node-4 and 4 more");
        assert_eq!(hint("zebra", std::iter::empty()), "; no node is known yet");
    }
}
