//! The directory through which `break`, `mend` and `down` find a running lab.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where it is for this user: in XDG_RUNTIME_DIR, else in /tmp. `uid` is the
/// user's own, not what it is mapped to in a user namespace.
pub fn path(uid: u32) -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty()) {
        Some(runtime) => Path::new(&runtime).join("cidrift-lab"),
        None => PathBuf::from(format!("/tmp/cidrift-lab-{uid}")),
    }
}

/// The socket inside.
pub fn socket(directory: &Path) -> PathBuf {
    directory.join("control.sock")
}

/// Makes it, for this user alone. What somebody else made there is refused:
/// /tmp is everybody's.
pub fn make(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let found = std::fs::symlink_metadata(directory)?;
    let own = found.uid() == nix::unistd::geteuid().as_raw();
    if !found.is_dir() || !own || found.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::other(format!(
            "{} is not a directory of this user alone; remove it",
            directory.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_can_enter_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("lab");
        make(&directory).unwrap();
        make(&directory).unwrap();
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(make(&directory).is_err());
    }

    #[test]
    fn a_link_to_a_directory_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let real = parent.path().join("real");
        make(&real).unwrap();
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(make(&link).is_err());
    }
}
