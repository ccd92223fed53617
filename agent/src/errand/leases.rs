//! `remove-leases`: host-local's leases of sandboxes that are gone.
//!
//! A lease is the file `DIRECTORY/ADDRESS`, which names the container that has the address. host-local reads and writes
//! them only while it holds `flock` on `DIRECTORY/lock`, and so does this: no address can be given out between the look
//! at its lease and the lease's end.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::args::{Held, RemoveLeases};
use super::directory::{Directory, Found};
use super::error::Error;
use crate::observe::addresses::lease::container;
use crate::observe::root::HostRoot;

/// host-local's lock.
const LOCK: &str = "lock";

/// How long to wait for it. host-local holds it for milliseconds; a hundred pods that start at once take turns.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is tried meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of a lease.
enum Lease {
    Gone,
    Others(String),
    Its(OsString, Found),
}

/// Removes those that are still what is said of them. Nothing is removed before all of them were looked at.
pub(super) fn remove(args: &RemoveLeases) -> Result<String, Error> {
    let directory = Directory::open(&HostRoot::new(&args.host_root), &args.directory)?;
    let _locked = lock(&directory, PATIENCE)?;
    let mut leases = Vec::new();
    for held in &args.leases {
        leases.push((held, look(&directory, held)?));
    }
    let (mut removed, mut gone, mut left) = (Vec::new(), Vec::new(), Vec::new());
    for (held, lease) in leases {
        match lease {
            Lease::Its(name, found) if directory.remove_found(&name, &found)? => removed.push(held.address.to_string()),
            Lease::Its(..) | Lease::Gone => gone.push(held.address.to_string()),
            Lease::Others(whose) => left.push(format!("{} ({whose})", held.address)),
        }
    }
    Ok(told(&args.directory, &removed, &gone, &left))
}

fn look(directory: &Directory, held: &Held) -> Result<Lease, Error> {
    let name = OsString::from(held.address.to_string());
    let Some(found) = directory.read(&name)? else {
        return Ok(Lease::Gone);
    };
    match container(&found.content) {
        Some(id) if id == held.container => Ok(Lease::Its(name, found)),
        Some(id) => Ok(Lease::Others(format!("it is {id}'s now"))),
        None => Ok(Lease::Others("it names no container".to_owned())),
    }
}

/// host-local's own lock; it ends with what is returned.
fn lock(directory: &Directory, patience: Duration) -> Result<Flock<File>, Error> {
    let start = Instant::now();
    let mut file = directory.lock_file(LOCK)?;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
            Err((_, error)) => {
                return Err(Error::io(format!("{} cannot be locked", directory.path(LOCK)))(error));
            }
        };
        if start.elapsed() >= patience {
            return Err(Error::TimedOut(format!(
                "{} is somebody's who has not let go of it for {} s: nothing was removed; try again",
                directory.path(LOCK),
                patience.as_secs()
            )));
        }
        std::thread::sleep(PAUSE);
    }
}

fn told(directory: &Path, removed: &[String], gone: &[String], left: &[String]) -> String {
    let mut parts = Vec::new();
    for (what, which) in [("removed", removed), ("gone already", gone), ("left alone", left)] {
        if !which.is_empty() {
            parts.push(format!("{what}: {}", which.join(", ")));
        }
    }
    format!("leases in {}: {}", directory.display(), parts.join("; "))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    const DIRECTORY: &str = "/var/lib/cni/networks/cbr0";

    fn host() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join(DIRECTORY.trim_start_matches('/'));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("lock"), "").unwrap();
        fs::write(directory.join("last_reserved_ip.0"), "10.244.3.4").unwrap();
        for (address, content) in [
            ("10.244.3.2", "aaa\r\neth0"),
            ("10.244.3.3", "bbb"),
            ("10.244.3.4", "ccc\r\neth0"),
            ("10.244.3.5", ""),
            ("10.244.3.6", "\0\0\0"),
            ("fd00:3::2", "aaa\r\neth0"),
        ] {
            fs::write(directory.join(address), content).unwrap();
        }
        (root, directory)
    }

    fn run(root: &Path, leases: &[(&str, &str)]) -> Result<String, String> {
        let held = leases.iter().map(|(address, container)| Held {
            address: address.parse().unwrap(),
            container: (*container).to_owned(),
        });
        let args = RemoveLeases {
            host_root: root.to_owned(),
            directory: DIRECTORY.into(),
            leases: held.collect(),
        };
        remove(&args).map_err(|error| error.to_string())
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn exactly_the_leases_of_these_containers_go() {
        let (root, directory) = host();
        let wanted = [
            ("10.244.3.2", "aaa"),
            ("10.244.3.3", "bbb"),
            ("10.244.3.4", "aaa"),
            ("10.244.3.5", "aaa"),
            ("10.244.3.6", "aaa"),
            ("10.244.3.7", "aaa"),
            ("fd00:3:0::2", "aaa"),
        ];
        assert_eq!(
            run(root.path(), &wanted).unwrap(),
            "leases in /var/lib/cni/networks/cbr0: removed: 10.244.3.2, 10.244.3.3, fd00:3::2; gone already: \
             10.244.3.7; left alone: 10.244.3.4 (it is ccc's now), 10.244.3.5 (it names no container), 10.244.3.6 \
             (it names no container)"
        );
        let left = ["10.244.3.4", "10.244.3.5", "10.244.3.6", "last_reserved_ip.0", "lock"];
        assert_eq!(names(&directory), left);
        let again = run(root.path(), &wanted[..2]).unwrap();
        assert!(again.ends_with("gone already: 10.244.3.2, 10.244.3.3"), "{again}");
    }

    #[test]
    fn an_id_that_only_begins_so_is_another() {
        let (root, directory) = host();
        run(root.path(), &[("10.244.3.2", "aa"), ("10.244.3.3", "bbbb")]).unwrap();
        assert!(directory.join("10.244.3.2").exists() && directory.join("10.244.3.3").exists());
    }

    #[test]
    fn nothing_goes_where_one_of_them_is_no_lease() {
        let (root, directory) = host();
        symlink("10.244.3.3", directory.join("10.244.3.9")).unwrap();
        let told = run(root.path(), &[("10.244.3.2", "aaa"), ("10.244.3.9", "bbb")]).unwrap_err();
        assert!(told.contains("10.244.3.9 is a symbolic link"), "{told}");
        assert!(directory.join("10.244.3.2").exists());
    }

    #[test]
    fn the_lock_is_waited_for_and_not_for_ever() {
        let (root, directory) = host();
        let file = File::open(directory.join("lock")).unwrap();
        let held = Flock::lock(file, FlockArg::LockExclusive).unwrap();
        let opened = Directory::open(&HostRoot::new(root.path()), Path::new(DIRECTORY)).unwrap();
        let told = lock(&opened, Duration::from_millis(100)).unwrap_err().to_string();
        assert!(
            told.contains("/lock is somebody's") && told.contains("nothing was removed"),
            "{told}"
        );
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| run(root.path(), &[("10.244.3.2", "aaa")]));
            std::thread::sleep(Duration::from_millis(200));
            assert!(!waiting.is_finished() && directory.join("10.244.3.2").exists());
            drop(held);
            waiting.join().unwrap().unwrap();
        });
        assert!(!directory.join("10.244.3.2").exists());
        // It is let go of.
        lock(&opened, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_directory_without_a_lock_gets_the_one_that_host_local_would_make() {
        let (root, directory) = host();
        fs::remove_file(directory.join("lock")).unwrap();
        run(root.path(), &[("10.244.3.2", "aaa")]).unwrap();
        assert!(directory.join("lock").exists() && !directory.join("10.244.3.2").exists());
        fs::remove_file(directory.join("lock")).unwrap();
        symlink("10.244.3.3", directory.join("lock")).unwrap();
        let told = run(root.path(), &[("10.244.3.3", "bbb")]).unwrap_err();
        assert!(told.contains("/lock cannot be opened"), "{told}");
    }
}
