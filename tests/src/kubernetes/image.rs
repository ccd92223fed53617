//! The bench's images, made here, so that no registry is asked for anything: the
//! one that its pods run, a static program that waits; and those of its own programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::image;
use crate::image::oci::{Entry, Image};
use crate::kubernetes::error::{Error, Result, io};
use crate::kubernetes::tools::{cache, hex, sources};

/// Its name. containerd 1.6 takes it for a pod's sandbox by default.
pub const IMAGE: &str = "registry.k8s.io/pause:3.6";

/// The image as an archive, made once and then kept below `target/`.
pub fn archive() -> Result<PathBuf> {
    let source = sources().join("pause.c");
    let text = fs::read(&source).map_err(io(format!("read {}", source.display())))?;
    let cache = cache();
    fs::create_dir_all(&cache).map_err(io(format!("make {}", cache.display())))?;
    let kept = cache.join(format!("pause-oci-{}.tar", &hex(&[text])[..16]));
    if kept.is_file() {
        return Ok(kept);
    }
    let work = tempfile::tempdir_in(&cache).map_err(io(format!("make a directory in {}", cache.display())))?;
    let program = work.path().join("pause");
    compile(&source, &program)?;
    let fresh = work.path().join("image.tar");
    write(&program, IMAGE, &fresh)?;
    fs::rename(&fresh, &kept).map_err(io(format!("keep {}", kept.display())))?;
    Ok(kept)
}

/// An image called `name` with nothing in it but `program`, a static one, in its
/// root. Kept as the other is, for this very build of the program.
pub fn of_program(program: &Path, name: &str) -> Result<PathBuf> {
    kept(program, name, |archive| write(program, name, archive))
}

/// An image called `name` with `program` at `path` (`opt/bin/flanneld`) and the shared libraries that it needs. Kept as
/// the others are.
///
/// # Errors
///
/// The program or a library cannot be read, or the archive not be written.
pub fn with_libraries(program: &Path, name: &str, path: &str) -> Result<PathBuf> {
    kept(program, name, |archive| {
        let mut files = BTreeMap::new();
        image::add(&mut files, program, path, false)?;
        let image = Image {
            name: name.to_owned(),
            entrypoint: format!("/{path}"),
            files,
            ..Image::default()
        };
        image.write(archive).map_err(io(format!("write {}", archive.display())))
    })
}

/// The archive below `target/` that `make` writes where there is none yet of this build of the program.
fn kept(program: &Path, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = cache();
    let what = || io(format!("read {}", program.display()));
    let metadata = fs::metadata(program).map_err(what())?;
    // Tools are kept in a directory of their content's name: who it was made from says its path.
    let made = metadata.modified().map_err(what())?;
    let identity = format!("oci {name} {} {} {made:?}", program.display(), metadata.len());
    let file = program.file_name().unwrap_or_default().to_string_lossy();
    fs::create_dir_all(&cache).map_err(io(format!("make {}", cache.display())))?;
    let kept = cache.join(format!("{file}-{}.tar", &hex(&[identity])[..16]));
    if kept.is_file() {
        return Ok(kept);
    }
    let work = tempfile::tempdir_in(&cache).map_err(io(format!("make a directory in {}", cache.display())))?;
    let fresh = work.path().join("image.tar");
    make(&fresh)?;
    fs::rename(&fresh, &kept).map_err(io(format!("keep {}", kept.display())))?;
    Ok(kept)
}

fn compile(source: &Path, program: &Path) -> Result<()> {
    let mut command = Command::new("cc");
    command
        .args(["-static", "-Os", "-s", "-Wall", "-Werror", "-o"])
        .arg(program)
        .arg(source);
    let output = command.output().map_err(|error| {
        Error::Missing(format!(
            "cc: {error}. Install a C compiler, on Debian: sudo apt-get install build-essential"
        ))
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Build {
        what: format!("cc -static {}", source.display()),
        output: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The program is all that is in it.
fn write(program: &Path, name: &str, archive: &Path) -> Result<()> {
    let file = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bytes = fs::read(program).map_err(io(format!("read {}", program.display())))?;
    let image = Image {
        name: name.to_owned(),
        entrypoint: format!("/{file}"),
        files: [(PathBuf::from(file), Entry::Program(bytes))].into(),
        environment: vec!["PATH=/".to_owned()],
        ..Image::default()
    };
    image.write(archive).map_err(io(format!("write {}", archive.display())))
}
