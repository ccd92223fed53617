//! Pages of the catalogue.

use cidrift_proto::catalogue::{CATALOGUE, Entry, Step};

use super::Look;
use super::text::{Grid, plain, wrap};

/// Every code in a row.
pub fn catalogue(look: &Look) -> String {
    let mut grid = Grid::new(["CODE", "NAME", "SEVERITY", "SAYS"]);
    for entry in CATALOGUE {
        grid.row([
            plain(entry.code),
            plain(entry.name),
            plain(entry.severity),
            plain(entry.title),
        ]);
    }
    let mut out = grid.print("", look);
    out += "\n`kubectl cidrift explain CODE` prints a code's page.\n";
    out
}

/// The page of one code.
pub fn page(entry: &Entry, look: &Look) -> String {
    let mut out = format!("{} {} ({})\n", entry.code, entry.name, entry.severity);
    out += &wrap("", "", entry.title, look);
    heading(&mut out, "What it means");
    out += &wrap("  ", "  ", entry.meaning, look);
    heading(&mut out, "Likely causes");
    for cause in entry.causes {
        out += &wrap("  - ", "    ", cause, look);
    }
    heading(&mut out, "How to check");
    for step in entry.look {
        print_step(&mut out, "  - ", "    ", step, look);
    }
    heading(&mut out, "What to do, the least destructive first");
    for (at, step) in entry.remedy.iter().enumerate() {
        print_step(&mut out, &format!("  {}. ", at + 1), "     ", step, look);
    }
    heading(&mut out, "When it does not apply");
    out += &wrap("  ", "  ", entry.silence, look);
    heading(&mut out, "See also");
    for code in entry.related {
        let related = code.entry();
        out += &format!("  {} {}\n", related.code, related.name);
    }
    out
}

fn heading(out: &mut String, text: &str) {
    out.push('\n');
    out.push_str(text);
    out.push('\n');
}

/// Commands are never broken: they are for copying.
fn print_step(out: &mut String, head: &str, rest: &str, step: &Step, look: &Look) {
    *out += &wrap(head, rest, step.text, look);
    for line in step.command.iter().flat_map(|command| command.lines()) {
        *out += &format!("{rest}    {line}\n");
    }
}
