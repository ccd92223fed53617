//! One plugin's file.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::root::HostRoot;

/// What became of looking for a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Binary {
    /// It is there and can be run.
    Runs,
    /// It is not, and why.
    Missing(String),
    /// Nobody can tell, and why.
    Unknown(String),
}

/// Looks for a plugin in these directories, as libcni does: the first one that has a file of that name counts.
pub(super) fn find(root: &HostRoot, dirs: &[PathBuf], name: &str) -> Binary {
    // libcni refuses such a name; nothing is looked for outside the directories.
    if name.contains('/') || matches!(name, "." | "..") {
        return Binary::Missing("it is no file name".to_owned());
    }
    let mut why = None;
    for dir in dirs {
        let path = dir.join(name);
        match root.resolve(&path).and_then(|at| at.metadata()) {
            Ok(metadata) => match fault(&metadata) {
                None => return Binary::Runs,
                Some(fault) => why = why.or(Some(format!("{} {fault}", path.display()))),
            },
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                if let Some(hidden) = hidden(root, dir, &path) {
                    return Binary::Unknown(hidden);
                }
            }
            Err(error) => return Binary::Unknown(format!("{}: {error}", path.display())),
        }
    }
    Binary::Missing(why.unwrap_or_else(|| {
        let names: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        format!("it is not in {}", names.join(", "))
    }))
}

fn fault(metadata: &Metadata) -> Option<String> {
    if !metadata.is_file() {
        return Some("is not a regular file".to_owned());
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o111 == 0 {
        return Some(format!("is not executable (mode {mode:04o})"));
    }
    (metadata.len() == 0).then(|| "is empty".to_owned())
}

/// Where the file may well be there and only this agent does not see it.
fn hidden(root: &HostRoot, dir: &Path, path: &Path) -> Option<String> {
    if root.hides(dir) {
        return Some(format!(
            "{} cannot be seen below {}",
            dir.display(),
            root.base().display()
        ));
    }
    let at = root.resolve(dir).ok()?.join(path.file_name()?);
    let target = at.read_link().ok()?;
    root.hides(&target).then(|| {
        format!(
            "{} leads to {}, which cannot be seen below {}",
            path.display(),
            target.display(),
            root.base().display()
        )
    })
}
