//! The bench's images, made here, so that no registry is asked for anything: the
//! one that its pods run, a static program that waits; and those of its own programs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::kubernetes::error::{Error, Result, io};
use crate::kubernetes::tools::{cache, hex, sources};

/// Its name. containerd 1.6 takes it for a pod's sandbox by default.
pub const IMAGE: &str = "registry.k8s.io/pause:3.6";

/// The image as an archive in docker's format, made once and then kept below `target/`.
pub fn archive() -> Result<PathBuf> {
    let source = sources().join("pause.c");
    let text = fs::read(&source).map_err(io(format!("read {}", source.display())))?;
    let cache = cache();
    fs::create_dir_all(&cache).map_err(io(format!("make {}", cache.display())))?;
    let kept = cache.join(format!("pause-{}.tar", &hex(&[text])[..16]));
    if kept.is_file() {
        return Ok(kept);
    }
    let work = tempfile::tempdir_in(&cache).map_err(io(format!("make a directory in {}", cache.display())))?;
    let program = work.path().join("pause");
    compile(&source, &program)?;
    let fresh = work.path().join("image.tar");
    write(&program, IMAGE, &fresh).map_err(io(format!("write {}", fresh.display())))?;
    fs::rename(&fresh, &kept).map_err(io(format!("keep {}", kept.display())))?;
    Ok(kept)
}

/// An image called `name` with nothing in it but `program`, a static one, in its
/// root. Kept as the other is, for this very build of the program.
pub fn of_program(program: &Path, name: &str) -> Result<PathBuf> {
    let cache = cache();
    let what = || io(format!("read {}", program.display()));
    let metadata = fs::metadata(program).map_err(what())?;
    // Tools are kept in a directory of their content's name: who it was made from says its path.
    let made = metadata.modified().map_err(what())?;
    let identity = format!("{name} {} {} {made:?}", program.display(), metadata.len());
    let file = program.file_name().unwrap_or_default().to_string_lossy();
    fs::create_dir_all(&cache).map_err(io(format!("make {}", cache.display())))?;
    let kept = cache.join(format!("{file}-{}.tar", &hex(&[identity])[..16]));
    if kept.is_file() {
        return Ok(kept);
    }
    let work = tempfile::tempdir_in(&cache).map_err(io(format!("make a directory in {}", cache.display())))?;
    let fresh = work.path().join("image.tar");
    write(program, name, &fresh).map_err(io(format!("write {}", fresh.display())))?;
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

/// One layer with the program, its configuration, and the manifest that names both.
fn write(program: &Path, name: &str, archive: &Path) -> std::io::Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    let file = program.file_name().unwrap_or_default().to_string_lossy();
    append(&mut layer, &file, &fs::read(program)?, 0o755)?;
    let layer = layer.into_inner()?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": [format!("/{file}")], "Env": ["PATH=/"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&[&layer]))]},
    })
    .to_string();
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).to_string();
    let mut image = tar::Builder::new(File::create(archive)?);
    append(&mut image, "layer.tar", &layer, 0o644)?;
    append(&mut image, "config.json", config.as_bytes(), 0o644)?;
    append(&mut image, "manifest.json", manifest.as_bytes(), 0o644)?;
    image.into_inner()?.sync_all()
}

fn append<W: std::io::Write>(to: &mut tar::Builder<W>, name: &str, data: &[u8], mode: u32) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(mode);
    header.set_cksum();
    to.append_data(&mut header, name, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_names_its_layer_by_what_is_in_it() {
        let archive = archive().unwrap();
        let mut layer = Vec::new();
        let mut config = String::new();
        for entry in tar::Archive::new(File::open(archive).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            match entry.path().unwrap().to_str().unwrap() {
                "layer.tar" => drop(std::io::Read::read_to_end(&mut entry, &mut layer).unwrap()),
                "config.json" => drop(std::io::Read::read_to_string(&mut entry, &mut config).unwrap()),
                _ => {}
            }
        }
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&[layer])));
    }
}
