//! CAs in a directory: for aggregators outside of a cluster, and for labs.
//!
//! `authority.json` holds everything with the keys (0600, one file, so that it is never half new); `ca.crt` is what
//! agents and operators are given. A file `rotate` asks for another CA.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record::Record;
use super::store::{Loaded, Publication, Store, StoreError};

/// A directory. Its files are small and local: reading them does not hold anybody up.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes it (0755: `ca.crt` is for everybody) where it is missing.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder.create(path).map_err(|error| failed("make", path, &error))?;
        Ok(Self { path: path.to_owned() })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn text(&self, name: &str) -> Result<Option<String>, StoreError> {
        let path = self.file(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    /// Whole or not at all: a new file takes the old one's place.
    fn replace(&self, name: &str, text: &str, mode: u32) -> Result<(), StoreError> {
        let path = self.file(name);
        let fresh = self.file(&format!(".{name}.{}", std::process::id()));
        let write = || -> io::Result<()> {
            // A rest of a run that was killed may have another mode.
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = File::options().write(true).create_new(true).mode(mode).open(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        };
        write().map_err(|error| failed("write", &path, &error))
    }

    fn keep(&self, record: &Record, loaded: &Loaded) -> Result<(), StoreError> {
        let lock = self.file(".lock");
        let held = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock);
        let held = held.map_err(|error| failed("open", &lock, &error))?;
        // Another aggregator holds it for as long as a small file takes to be written.
        held.lock().map_err(|error| failed("lock", &lock, &error))?;
        if self.text("authority.json")? != loaded.version {
            return Err(StoreError::Conflict(self.place()));
        }
        let text = serde_json::to_string_pretty(record)
            .map_err(|error| StoreError::Failed(format!("{}: {error}", self.place())))?;
        self.replace("authority.json", &format!("{text}\n"), 0o600)?;
        if loaded.asked {
            let path = self.file("rotate");
            fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
        }
        Ok(())
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Failed(format!("cannot {what} {}: {error}", path.display()))
}

impl Store for Directory {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    async fn load(&self) -> Result<Loaded, StoreError> {
        let version = self.text("authority.json")?;
        let record = version
            .as_deref()
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| {
                StoreError::Failed(format!(
                    "{} cannot be read: {error}; mend it, or remove it and a new CA is made",
                    self.file("authority.json").display()
                ))
            })?;
        let published = self.text("ca.crt")?.map(|bundle| Publication {
            bundle,
            addresses: None,
        });
        Ok(Loaded {
            record,
            version,
            published,
            asked: self.file("rotate").exists(),
        })
    }

    async fn save(&self, record: &Record, loaded: &Loaded) -> Result<(), StoreError> {
        self.keep(record, loaded)
    }

    async fn publish(&self, publication: &Publication) -> Result<(), StoreError> {
        self.replace("ca.crt", &publication.bundle, 0o644)
    }
}
