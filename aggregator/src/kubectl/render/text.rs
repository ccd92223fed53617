//! Lines, colours and tables.

use std::borrow::Cow;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Color, ContentArrangement, Table};

use super::Look;

/// Blanks between columns, as kubectl has them.
const GAP: usize = 3;

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Nothing in particular.
    Plain,
    /// Right.
    Good,
    /// Not known, or to be watched.
    Doubt,
    /// Wrong.
    Bad,
    /// Of less weight.
    Faint,
}

impl Ink {
    fn colour(self) -> Option<Color> {
        match self {
            Self::Plain => None,
            Self::Good => Some(Color::Green),
            Self::Doubt => Some(Color::Yellow),
            Self::Bad => Some(Color::Red),
            Self::Faint => Some(Color::DarkGrey),
        }
    }

    /// The text in its colour, where colours are wanted.
    pub fn paint(self, text: &str, look: &Look) -> String {
        let code = match self {
            Self::Plain => None,
            Self::Good => Some(32),
            Self::Doubt => Some(33),
            Self::Bad => Some(31),
            Self::Faint => Some(90),
        };
        match code.filter(|_| look.colour) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

/// Without control characters: names and evidence come from hosts, and a
/// host's word must not command the operator's terminal.
pub fn clean(text: &str) -> Cow<'_, str> {
    let foul = |c: char| c.is_control() && c != '\n';
    match text.contains(foul) {
        false => Cow::Borrowed(text),
        true => Cow::Owned(text.replace(foul, "\u{fffd}")),
    }
}

/// Breaks text at blanks so that no line is longer than [`Look::columns`], unless a
/// word is. Line breaks in the text stay, and its indented lines stay whole:
/// they are commands, for copying. The first line begins with `head`, the others with `rest`.
pub fn wrap(head: &str, rest: &str, text: &str, look: &Look) -> String {
    let text = clean(text);
    let mut out = String::from(head);
    let mut used = head.chars().count();
    for (at, line) in text.lines().enumerate() {
        if at > 0 {
            out.push('\n');
            out.push_str(rest);
            used = rest.chars().count();
        }
        if look.wide || line.starts_with("  ") {
            out.push_str(line.trim_end());
            continue;
        }
        let mut first = true;
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            let length = word.chars().count();
            if !first && used + 1 + length > look.columns {
                out.push('\n');
                out.push_str(rest);
                used = rest.chars().count();
            } else if !first {
                out.push(' ');
                used += 1;
            }
            out.push_str(word);
            used += length;
            first = false;
        }
    }
    out.push('\n');
    out
}

/// A command, broken at blanks as [`wrap`] breaks text, but so that a shell still reads it as one: lines end with a backslash
/// outside of quotes, within them blanks are blanks, and a comment goes on as one.
pub fn command(head: &str, rest: &str, text: &str, look: &Look) -> String {
    let text = clean(text);
    let mut used = head.chars().count();
    if look.wide || used + text.chars().count() <= look.columns {
        return format!("{head}{text}\n");
    }
    let mut out = String::from(head);
    let (mut quoted, mut comment, mut first) = (false, false, true);
    for word in text.split_whitespace() {
        comment |= !quoted && word == "#";
        let length = word.chars().count();
        // Two for " \".
        if !first && used + 1 + length + 2 > look.columns {
            out.push_str(match (comment && word != "#", quoted) {
                (true, _) | (_, true) => "\n",
                (false, false) => " \\\n",
            });
            out.push_str(rest);
            used = rest.chars().count();
            if comment && word != "#" {
                out.push_str("# ");
                used += 2;
            }
        } else if !first {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
        quoted ^= !comment && word.matches('\'').count() % 2 == 1;
        first = false;
    }
    out.push('\n');
    out
}

/// A table as kubectl prints them: capitals on top, three blanks between
/// columns, no lines. Cells are broken only where it would be wider than
/// [`Look::columns`] and not everything is asked for.
#[derive(Debug)]
pub struct Grid {
    header: Vec<String>,
    rows: Vec<Vec<(String, Ink)>>,
}

impl Grid {
    /// An empty one with these columns.
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Self {
            header: header.into_iter().map(str::to_owned).collect(),
            rows: Vec::new(),
        }
    }

    /// One more column; before any row.
    pub fn column(&mut self, name: &str) {
        self.header.push(name.to_owned());
    }

    /// One more row; an empty cell becomes "-".
    pub fn row(&mut self, cells: impl IntoIterator<Item = (String, Ink)>) {
        let cell = |(text, ink): (String, Ink)| match text.is_empty() {
            true => ("-".to_owned(), Ink::Plain),
            false => (clean(&text).replace('\n', " "), ink),
        };
        self.rows.push(cells.into_iter().map(cell).collect());
    }

    /// How wide it is when no cell is broken.
    pub fn width(&self) -> usize {
        let columns = (0..self.header.len()).map(|at| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            let longest = cells.map(|(text, _)| text.chars().count()).max().unwrap_or(0);
            longest.max(self.header[at].chars().count())
        });
        columns.sum::<usize>() + GAP * self.header.len().saturating_sub(1)
    }

    /// The text, each line indented.
    pub fn print(&self, indent: &str, look: &Look) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING).force_no_tty();
        if !look.wide {
            let width = u16::try_from(look.columns.saturating_sub(indent.len())).unwrap_or(u16::MAX);
            table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width);
        }
        if look.colour {
            table.enforce_styling();
        }
        table.set_header(&self.header);
        for row in &self.rows {
            table.add_row(row.iter().map(|(text, ink)| {
                let cell = Cell::new(text);
                match ink.colour() {
                    Some(colour) => cell.fg(colour),
                    None => cell,
                }
            }));
        }
        let last = self.header.len().saturating_sub(1);
        for (at, column) in table.column_iter_mut().enumerate() {
            let gap = if at == last { 0 } else { GAP as u16 };
            column.set_padding((0, gap));
        }
        table
            .lines()
            .map(|line| format!("{indent}{}\n", line.trim_end()))
            .collect()
    }
}

/// A cell without a colour.
pub fn plain(text: impl ToString) -> (String, Ink) {
    (text.to_string(), Ink::Plain)
}

/// Several things in one cell.
pub fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::super::WIDTH;
    use super::*;

    const LOOK: Look = Look {
        now: jiff::Timestamp::UNIX_EPOCH,
        colour: false,
        wide: false,
        columns: WIDTH,
    };

    #[test]
    fn a_hosts_word_cannot_command_the_terminal() {
        let foul = "eth0\x1b]0;owned\x07\r\x1b[2J";
        assert!(!clean(foul).contains(['\x1b', '\x07', '\r']));
        let mut grid = Grid::new(["NAME"]);
        grid.row([plain(foul)]);
        assert!(!grid.print("", &LOOK).contains('\x1b'));
        assert!(!wrap("", "", foul, &LOOK).contains('\x1b'));
    }

    #[test]
    fn long_text_is_broken_at_blanks_and_keeps_its_own_lines() {
        let text = "word ".repeat(60) + "\nnext";
        let wrapped = wrap("   = help: ", "           ", &text, &LOOK);
        assert!(wrapped.lines().all(|line| line.chars().count() <= WIDTH));
        assert_eq!(wrapped.lines().last(), Some("           next"));
        let wide = wrap("", "", &text, &Look { wide: true, ..LOOK });
        assert_eq!(wide.lines().count(), 2);
    }

    #[test]
    fn a_table_of_long_names_fits() {
        let name = "ip-10-0-131-77.eu-central-1.compute.internal".repeat(3);
        let mut grid = Grid::new(["NODE", "OWNER", "VERDICT"]);
        grid.row([plain(&name), plain(&name), plain("delivered")]);
        assert!(grid.print("", &LOOK).lines().all(|line| line.chars().count() <= WIDTH));
        let wide = grid.print("", &Look { wide: true, ..LOOK });
        assert_eq!(wide.lines().count(), 2, "{wide}");
    }

    #[test]
    fn a_terminal_that_is_narrower_is_filled_and_none_overflows() {
        for (terminal, columns) in [(None, 120), (Some(0), 60), (Some(80), 80), (Some(300), 120)] {
            assert_eq!(Look::columns(terminal), columns);
        }
        let look = Look { columns: 80, ..LOOK };
        let text = wrap("  why  ", "       ", &"word ".repeat(60), &look);
        let mut grid = Grid::new(["NODE", "WHAT"]);
        grid.row([plain("worker-1"), plain("word ".repeat(60))]);
        let all = text + &grid.print("  ", &look) + &command("$ ", "  ", &"word ".repeat(60), &look);
        let longest = all.lines().map(|line| line.chars().count()).max();
        assert!(longest.is_some_and(|longest| (74..=80).contains(&longest)), "{all}");
    }
}
