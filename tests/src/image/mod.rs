//! The images that clusters run: `cidrift-agent` and `cidrift-aggregator`, each with the libraries that it needs and
//! nothing else, made from the programs that are built here. No docker, no registry: what comes out is an archive
//! for `ctr -n k8s.io images import`.
//!
//! The agent's has `journalctl` too: kubelets and runtimes of most hosts write to the journal, whose files nothing
//! else reads as well. It is run inside the container, on the host's files, which are mounted read-only: the host's
//! own journalctl would need the right to change the root directory, and its whole file system.
//!
//! And it has `cidrift-errand`, which the agent never starts: a fix does, in a Pod of its own. So it needs no image of
//! its own, and is on every node already.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binaries::Binaries;
use crate::kubernetes::error::{Error, Result, io};
use crate::kubernetes::tools::{PATH, cache, hex};

pub mod libraries;
pub mod oci;

use oci::{Entry, Image};

/// The agent's image, without its tag: that is the version.
pub const AGENT: &str = "cidrift.dev/agent";
/// The aggregator's.
pub const AGGREGATOR: &str = "cidrift.dev/aggregator";

/// The version of what is built here.
pub const CURRENT: &str = env!("CARGO_PKG_VERSION");
/// What [`Binaries::older`] says it is.
pub const OLDER: &str = "0.0.9";

/// Nobody in particular: what images without a root user usually have.
const NOBODY: &str = "65532:65532";

/// Users and hosts are looked up in files; names of hosts in DNS too, as the pod's own files say.
const ETC: [(&str, &str); 3] = [
    ("etc/passwd", "root:x:0:0:root:/:/\nnobody:x:65532:65532:nobody:/:/\n"),
    ("etc/group", "root:x:0:\nnobody:x:65532:\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
];

/// Directories of a host that are mounted below `/host`, with the links by which hosts call them too.
const HOST_LINKS: [(&str, &str); 3] = [
    ("host/var/run", "/run"),
    ("host/lib", "/usr/lib"),
    ("host/var/lock", "/run/lock"),
];

/// The agent's image, of these programs' `version`.
///
/// # Errors
///
/// A program or library is missing or cannot be read.
pub fn agent(programs: &Binaries, version: &str) -> Result<Image> {
    let mut image = image(AGENT, version, &programs.agent, "")?;
    let journalctl = PATH
        .split(':')
        .map(|directory| Path::new(directory).join("journalctl"))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Error::Missing("journalctl is missing. Install, on Debian: sudo apt-get install systemd".into())
        })?;
    add(&mut image.files, &programs.errand, "usr/bin/cidrift-errand", true)?;
    add(&mut image.files, &journalctl, "usr/bin/journalctl", false)?;
    for (path, target) in HOST_LINKS {
        image.files.insert(path.into(), Entry::Link(target.to_owned()));
    }
    Ok(image)
}

/// The aggregator's image, for a user who is not root.
///
/// # Errors
///
/// As [`agent`]'s.
pub fn aggregator(programs: &Binaries, version: &str) -> Result<Image> {
    image(AGGREGATOR, version, &programs.aggregator, NOBODY)
}

/// Writes both images into `directory`, as `agent.tar` and `aggregator.tar`; returns their paths and sizes in bytes.
///
/// # Errors
///
/// An image cannot be made or written.
pub fn write(programs: &Binaries, version: &str, directory: &Path) -> Result<Vec<(PathBuf, usize)>> {
    fs::create_dir_all(directory).map_err(io(format!("make {}", directory.display())))?;
    let images = [
        ("agent.tar", agent(programs, version)?),
        ("aggregator.tar", aggregator(programs, version)?),
    ];
    let written = images.into_iter().map(|(name, image)| {
        let path = directory.join(name);
        image.write(&path).map_err(io(format!("write {}", path.display())))?;
        Ok((path, image.size()))
    });
    written.collect()
}

/// The archives of these very programs, made once and then kept below `target/`: the agent's and the aggregator's.
///
/// # Errors
///
/// As [`write()`]'s.
pub fn kept(programs: &Binaries, version: &str) -> Result<[PathBuf; 2]> {
    let mut identity = vec![version.to_owned()];
    for program in [&programs.agent, &programs.errand, &programs.aggregator] {
        let metadata = fs::metadata(program).map_err(io(format!("read {}", program.display())))?;
        let modified = metadata.modified().map_err(io("ask for a file's time"))?;
        identity.push(format!("{} {} {modified:?}", program.display(), metadata.len()));
    }
    // Besides the programs, this code is what an image is made from.
    identity.push(include_str!("mod.rs").to_owned());
    let base = cache();
    fs::create_dir_all(&base).map_err(io(format!("make {}", base.display())))?;
    let directory = base.join(format!("images-{}", &hex(&identity)[..16]));
    if !directory.is_dir() {
        let fresh = tempfile::tempdir_in(&base).map_err(io(format!("make a directory in {}", base.display())))?;
        write(programs, version, fresh.path())?;
        match fs::rename(fresh.path(), &directory) {
            Ok(()) => _ = fresh.keep(),
            // Somebody else was faster, with the same; what was made here goes.
            Err(_) if directory.is_dir() => {}
            Err(error) => return Err(io(format!("keep {}", directory.display()))(error)),
        }
    }
    Ok(["agent.tar", "aggregator.tar"].map(|name| directory.join(name)))
}

fn image(name: &str, version: &str, program: &Path, user: &str) -> Result<Image> {
    let file = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut files = BTreeMap::new();
    for (path, text) in ETC {
        files.insert(path.into(), Entry::File(text.into()));
    }
    add(&mut files, program, &format!("usr/bin/{file}"), true)?;
    Ok(Image {
        name: format!("{name}:{version}"),
        files,
        entrypoint: format!("/usr/bin/{file}"),
        user: user.to_owned(),
        environment: vec!["PATH=/usr/bin".to_owned()],
        labels: BTreeMap::from([
            ("org.opencontainers.image.title".to_owned(), file),
            ("org.opencontainers.image.version".to_owned(), version.to_owned()),
            ("org.opencontainers.image.licenses".to_owned(), "Apache-2.0".to_owned()),
        ]),
    })
}

/// Adds a program at `path`, without its debugging information where `strip` says so, and its libraries.
pub(crate) fn add(files: &mut BTreeMap<PathBuf, Entry>, program: &Path, path: &str, strip: bool) -> Result<()> {
    let read = |path: &Path| fs::read(path).map_err(io(format!("read {}", path.display())));
    let bytes = if strip { stripped(program)? } else { read(program)? };
    files.insert(path.into(), Entry::Program(bytes));
    for library in libraries::of(program)? {
        let place = library.strip_prefix("/").unwrap_or(&library).to_owned();
        files.insert(place, Entry::Program(read(&library)?));
    }
    Ok(())
}

fn stripped(program: &Path) -> Result<Vec<u8>> {
    let work = tempfile::tempdir().map_err(io("make a directory"))?;
    let output = work.path().join("program");
    let what = format!("strip {}", program.display());
    let done = Command::new("strip")
        .arg("-o")
        .arg(&output)
        .arg(program)
        .output()
        .map_err(|error| Error::Missing(format!("strip: {error}. On Debian: sudo apt-get install binutils")))?;
    if !done.status.success() {
        return Err(Error::Build {
            what,
            output: String::from_utf8_lossy(&done.stderr).into_owned(),
        });
    }
    fs::read(&output).map_err(io(what))
}
