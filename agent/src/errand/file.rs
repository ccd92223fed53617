//! `remove-file`: one regular file of the host.

use super::args::RemoveFile;
use super::directory::Directory;
use super::error::Error;
use crate::observe::root::HostRoot;

/// Removes it. With a text that it must contain, it is removed only if it is still the file that was read.
pub(super) fn remove(args: &RemoveFile) -> Result<String, Error> {
    let path = args.path.display();
    let (directory, name) = Directory::of(&HostRoot::new(&args.host_root), &args.path)?;
    let gone = Ok(format!("{path} is gone already"));
    let removed = match &args.containing {
        None => directory.remove(name)?,
        Some(text) => {
            let Some(found) = directory.read(name)? else {
                return gone;
            };
            if memchr::memmem::find(&found.content, text.as_bytes()).is_none() {
                return Ok(format!(
                    "{path} does not contain {text:?}: it was written anew meanwhile, and is left alone"
                ));
            }
            directory.remove_found(name, &found)?
        }
    };
    if removed { Ok(format!("removed {path}")) } else { gone }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    use super::*;

    const FILE: &str = "etc/cni/net.d/10-x.conflist";

    fn host() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(FILE);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        (root, file)
    }

    fn run(root: &Path, path: &str, containing: Option<&str>) -> Result<String, String> {
        let args = RemoveFile {
            host_root: root.to_owned(),
            containing: containing.map(str::to_owned),
            path: path.into(),
        };
        remove(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_goes_once_and_is_gone_then() {
        let (root, file) = host();
        fs::write(&file, "10.244.3.0/24").unwrap();
        let path = format!("/{FILE}");
        assert_eq!(run(root.path(), &path, None), Ok(format!("removed {path}")));
        assert!(!file.exists());
        for containing in [None, Some("x")] {
            assert_eq!(
                run(root.path(), &path, containing),
                Ok(format!("{path} is gone already"))
            );
        }
    }

    #[test]
    fn a_file_that_was_written_anew_is_left_alone() {
        let (root, file) = host();
        // Not text as a whole: what is looked for is bytes.
        fs::write(&file, b"\xff 10.244.9.0/24").unwrap();
        let path = format!("/{FILE}");
        let told = run(root.path(), &path, Some("10.244.3.0/24")).unwrap();
        assert!(
            told.contains("left alone") && told.contains("\"10.244.3.0/24\""),
            "{told}"
        );
        assert!(file.exists());
        let told = run(root.path(), &path, Some("10.244.9.0/24")).unwrap();
        assert!(told.starts_with("removed") && !file.exists(), "{told}");
    }

    #[test]
    fn nothing_but_a_regular_file_is_removed() {
        let (root, file) = host();
        let directory = file.parent().unwrap();
        let target = root.path().join("target");
        fs::write(&target, "text").unwrap();
        symlink(&target, directory.join("link")).unwrap();
        symlink("nowhere", directory.join("dangling")).unwrap();
        nix::unistd::mkfifo(&directory.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        fs::create_dir(directory.join("empty")).unwrap();
        for (name, what) in [
            ("link", "a symbolic link"),
            ("dangling", "a symbolic link"),
            ("fifo", "a FIFO"),
            ("empty", "a directory"),
        ] {
            for containing in [None, Some("text")] {
                let told = run(root.path(), &format!("/etc/cni/net.d/{name}"), containing).unwrap_err();
                assert!(told.contains(&format!("is {what}: nothing but")), "{told}");
            }
            assert!(directory.join(name).symlink_metadata().is_ok(), "{name}");
        }
        assert!(target.exists());
    }

    #[test]
    fn a_directory_that_is_not_mounted_is_no_file_that_is_gone() {
        let (root, _file) = host();
        let told = run(root.path(), "/run/flannel/subnet.env", None).unwrap_err();
        assert!(told.contains("is the host's directory mounted?"), "{told}");
    }
}
