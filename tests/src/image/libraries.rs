//! The shared libraries that a program needs, as the loader of this machine finds them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kubernetes::{Error, error::io};

/// Where they are, the loader itself included. None for a static program.
///
/// # Errors
///
/// `ldd` is missing, cannot read the program, or does not find a library.
pub fn of(program: &Path) -> Result<Vec<PathBuf>, Error> {
    let what = format!("ldd {}", program.display());
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .map_err(io(what.clone()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("not a dynamic executable") || text.contains("statically linked") {
        return Ok(Vec::new());
    }
    if !output.status.success() {
        let output = said.trim().to_owned();
        return Err(Error::Build { what, output });
    }
    parse(&text).map_err(|library| Error::Missing(format!("{library}, which {} needs", program.display())))
}

/// The error is a library that was not found.
fn parse(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        let path = place.split(" (").next().unwrap_or_default().trim();
        // linux-vdso.so.1 is the kernel's and no file.
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        } else if place == "not found" {
            return Err(name.to_owned());
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    // ldd cidrift-agent, Debian 12; the last line shortened from another program.
    const SAID: &str = "\tlinux-vdso.so.1 (0x00007f39a9854000)
\tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f39a9400000)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f39a921e000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f39a9856000)
";

    #[test]
    fn libraries_and_the_loader_are_found_and_the_kernels_own_is_left_out() {
        let found = parse(SAID).unwrap();
        assert_eq!(
            found,
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib/x86_64-linux-gnu/libgcc_s.so.1",
                "/lib64/ld-linux-x86-64.so.2"
            ]
            .map(PathBuf::from)
        );
    }

    #[test]
    fn one_that_is_not_there_is_named() {
        let said = format!("{SAID}\tlibx.so.1 => not found\n");
        assert_eq!(parse(&said), Err("libx.so.1".to_owned()));
    }

    #[test]
    fn this_very_test_needs_a_c_library() {
        let found = of(&std::env::current_exe().unwrap()).unwrap();
        assert!(found.iter().any(|path| path.ends_with("libc.so.6")), "{found:?}");
    }
}
