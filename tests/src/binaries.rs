//! Where the programs under test are. Under cargo they are built first, so
//! that nobody ever tests yesterday's.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Beside which directory to look instead, and not to build.
const OVERRIDE: &str = "CIDRIFT_BIN_DIR";

/// The programs.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `cidrift-agent`.
    pub agent: PathBuf,
    /// `cidrift-errand`, which is in the agent's image.
    pub errand: PathBuf,
    /// `cidrift-aggregator`.
    pub aggregator: PathBuf,
    /// `kubectl-cidrift`.
    pub kubectl: PathBuf,
    /// `cidrift-lab` itself: other programs are started through it.
    pub lab: PathBuf,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is missing.
    #[error("{} is missing; build it with `cargo build -p cidrift-agent -p cidrift-aggregator -p cidrift-lab`, or name its directory in {OVERRIDE}", .0.display())]
    Missing(PathBuf),
    /// cargo could not be run.
    #[error("{cargo} build: {source}")]
    Cargo {
        /// The program.
        cargo: String,
        /// Why not.
        source: std::io::Error,
    },
    /// cargo failed.
    #[error("{0} failed: see above")]
    Build(String),
    /// The older release has no place.
    #[error("{}: {source}", .path.display())]
    Link {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// This program does not know where it is.
    #[error("this program's own path: {0}")]
    Own(std::io::Error),
}

/// Finds them, building them first where cargo runs us. `say` is told when a
/// build starts.
pub fn find(say: impl Fn(&str)) -> Result<Binaries, Error> {
    if let Some(directory) = std::env::var_os(OVERRIDE) {
        return of(Path::new(&directory));
    }
    let own = std::env::current_exe().map_err(Error::Own)?;
    let beside = own.parent().unwrap_or(Path::new("."));
    // Tests and benchmarks live one level below the programs.
    let directory = if beside.ends_with("deps") {
        beside.parent().unwrap_or(beside)
    } else {
        beside
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    if let (Some(cargo), Some(workspace)) = (std::env::var_os("CARGO"), workspace) {
        build(&cargo.to_string_lossy(), workspace, directory, say)?;
    }
    of(directory)
}

/// All three crates in one go: with fewer, cargo would unify features
/// differently and build dependencies a second time.
fn build(cargo: &str, workspace: &Path, directory: &Path, say: impl Fn(&str)) -> Result<(), Error> {
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        None | Some("debug") => "dev",
        Some(profile) => profile,
    };
    let arguments = [
        "build",
        "--quiet",
        "--profile",
        profile,
        "--bins",
        "-p",
        "cidrift-agent",
        "-p",
        "cidrift-aggregator",
        "-p",
        "cidrift-lab",
    ];
    say(&format!("building the programs under test (profile {profile})"));
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(workspace);
    for (name, _) in std::env::vars_os() {
        if of_the_outer_cargo(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    let status = command.status().map_err(|source| Error::Cargo {
        cargo: cargo.to_owned(),
        source,
    })?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Build(format!("{cargo} {}", arguments.join(" "))))
    }
}

/// What cargo tells the program that it runs about its package. Build scripts
/// watch some of these (ring's: OUT_DIR, CARGO_PKG_NAME and others): left in
/// place, every build under cargo would undo the one before, and compile all
/// that rests on ring anew.
fn of_the_outer_cargo(variable: &str) -> bool {
    let prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
    prefixes.iter().any(|prefix| variable.starts_with(prefix))
        || matches!(variable, "CARGO_PRIMARY_PACKAGE" | "OUT_DIR")
}

impl Binaries {
    /// The same programs as [`crate::image::OLDER`], under their names, in a directory beside these.
    ///
    /// # Errors
    ///
    /// They are not built, or cannot be linked there.
    pub fn older(&self) -> Result<Self, Error> {
        let beside = self.lab.parent().unwrap_or(Path::new("."));
        let program = beside.join("cidrift-older");
        if !program.is_file() {
            return Err(Error::Missing(program));
        }
        let directory = beside.join("older");
        let link = |name: &str| {
            let path = directory.join(name);
            match std::os::unix::fs::symlink(&program, &path) {
                // It has been linked before: the link leads to what is built now.
                Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::Link { path, source }),
                _ => Ok(path),
            }
        };
        std::fs::create_dir_all(&directory).map_err(|source| Error::Link {
            path: directory.clone(),
            source,
        })?;
        Ok(Self {
            agent: link("cidrift-agent")?,
            errand: link("cidrift-errand")?,
            aggregator: link("cidrift-aggregator")?,
            ..self.clone()
        })
    }
}

fn of(directory: &Path) -> Result<Binaries, Error> {
    let program = |name: &str| {
        let path = directory.join(name);
        if path.is_file() {
            Ok(path)
        } else {
            Err(Error::Missing(path))
        }
    };
    Ok(Binaries {
        agent: program("cidrift-agent")?,
        errand: program("cidrift-errand")?,
        aggregator: program("cidrift-aggregator")?,
        kubectl: program("kubectl-cidrift")?,
        lab: program("cidrift-lab")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_the_programs_is_an_error_that_names_the_first_one_missing() {
        let directory = tempfile::tempdir().unwrap();
        let error = of(directory.path()).unwrap_err().to_string();
        assert!(error.contains("cidrift-agent is missing"), "{error}");
        assert!(error.contains("cargo build"), "{error}");
    }

    #[test]
    fn what_the_outer_cargo_says_of_its_package_is_kept_from_the_inner_one_and_what_people_set_is_not() {
        // What this very test was told by cargo, as a program under `cargo run` is.
        let told = ["OUT_DIR", "CARGO_PKG_NAME", "CARGO_MANIFEST_DIR"];
        assert!(option_env!("OUT_DIR").is_some(), "this crate has a build script");
        for name in told {
            assert!(of_the_outer_cargo(name), "{name}");
        }
        for name in ["CARGO", "CARGO_HOME", "CARGO_TARGET_DIR", "RUSTFLAGS", "CC", "PATH"] {
            assert!(!of_the_outer_cargo(name), "{name}");
        }
    }
}
