//! An image as an archive in OCI layout, as `ctr images import`, podman and skopeo take it. The same content gives
//! the same bytes, whoever writes it and when.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::kubernetes::tools::hex;

/// What is at a path of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file that everybody may read.
    File(Vec<u8>),
    /// A program.
    Program(Vec<u8>),
    /// A symbolic link to this.
    Link(String),
    /// A directory.
    Directory,
}

/// An image of one layer.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Its full name: `cidrift.dev/agent:0.1.0`.
    pub name: String,
    /// Its files, by their paths without the leading `/`. Directories above them are made.
    pub files: BTreeMap<PathBuf, Entry>,
    /// The program that it runs.
    pub entrypoint: String,
    /// Who runs it, as numbers: `65532:65532`. Empty: root.
    pub user: String,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// What it says of itself.
    pub labels: BTreeMap<String, String>,
}

/// A blob with what names it elsewhere.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            digest: hex(&[&bytes]),
            bytes,
        }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({
            "mediaType": format!("application/vnd.oci.image.{media_type}"),
            "digest": format!("sha256:{}", self.digest),
            "size": self.bytes.len(),
        })
    }
}

impl Image {
    /// How many bytes its files have.
    pub fn size(&self) -> usize {
        let sizes = self.files.values().map(|entry| match entry {
            Entry::File(bytes) | Entry::Program(bytes) => bytes.len(),
            Entry::Link(_) | Entry::Directory => 0,
        });
        sizes.sum()
    }

    /// Writes the archive.
    ///
    /// # Errors
    ///
    /// The archive cannot be written.
    pub fn write(&self, archive: &Path) -> io::Result<()> {
        let layer = Blob::new(self.layer()?);
        let platform = json!({"architecture": architecture(), "os": "linux"});
        let mut config = json!({"Entrypoint": [self.entrypoint], "Env": self.environment, "Labels": self.labels});
        if !self.user.is_empty() {
            config["User"] = json!(self.user);
        }
        let config = json!({
            "architecture": platform["architecture"],
            "os": platform["os"],
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)]},
        });
        let config = Blob::new(config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor("config.v1+json"),
            "layers": [layer.descriptor("layer.v1.tar")],
        });
        let manifest = Blob::new(manifest.to_string().into_bytes());
        let mut named = manifest.descriptor("manifest.v1+json");
        named["platform"] = platform;
        let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        // containerd takes the first for the whole name; others know only the second, which is the tag.
        named["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": tag,
        });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [named],
        });
        let mut tar = tar::Builder::new(File::create(archive)?);
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
        append(&mut tar, "index.json", index.to_string().as_bytes(), 0o644)?;
        for blob in [&manifest, &config, &layer] {
            append(&mut tar, format!("blobs/sha256/{}", blob.digest), &blob.bytes, 0o644)?;
        }
        tar.into_inner()?.sync_all()
    }

    fn layer(&self) -> io::Result<Vec<u8>> {
        let mut all: BTreeMap<&Path, &Entry> = BTreeMap::new();
        for (path, entry) in &self.files {
            let above = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
            for directory in above {
                all.entry(directory).or_insert(&Entry::Directory);
            }
            all.insert(path, entry);
        }
        let mut layer = tar::Builder::new(Vec::new());
        for (path, entry) in all {
            match entry {
                Entry::File(bytes) => append(&mut layer, path, bytes, 0o644)?,
                Entry::Program(bytes) => append(&mut layer, path, bytes, 0o755)?,
                Entry::Directory => {
                    let mut header = header(tar::EntryType::Directory, 0, 0o755);
                    layer.append_data(&mut header, path, io::empty())?;
                }
                Entry::Link(target) => {
                    let mut header = header(tar::EntryType::Symlink, 0, 0o777);
                    layer.append_link(&mut header, path, target)?;
                }
            }
        }
        layer.into_inner()
    }
}

/// As OCI names this machine's processor.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Root's, and from 1970: neither who writes it nor when is part of it.
fn header(kind: tar::EntryType, size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn append(to: &mut tar::Builder<impl io::Write>, path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut header = header(tar::EntryType::Regular, bytes.len() as u64, mode);
    to.append_data(&mut header, path, bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn image() -> Image {
        let files = [
            ("usr/bin/x", Entry::Program(b"x".to_vec())),
            ("etc/passwd", Entry::File(b"p".to_vec())),
            ("var/run", Entry::Link("/run".to_owned())),
        ];
        Image {
            name: "cidrift.dev/x:1".to_owned(),
            files: files.into_iter().map(|(path, entry)| (path.into(), entry)).collect(),
            entrypoint: "/usr/bin/x".to_owned(),
            user: "65532:65532".to_owned(),
            ..Image::default()
        }
    }

    fn members(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mtime().unwrap(), 0);
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), bytes)
        });
        entries.collect()
    }

    #[test]
    fn every_blob_is_named_by_what_is_in_it_and_leads_to_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.tar");
        image().write(&path).unwrap();
        let members = members(&std::fs::read(&path).unwrap());
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let bytes = &members[&format!("blobs/sha256/{digest}")];
            assert_eq!(hex(&[bytes]), digest);
            assert_eq!(descriptor["size"], bytes.len());
            bytes.clone()
        };
        let index: Value = serde_json::from_slice(&members["index.json"]).unwrap();
        let named = &index["manifests"][0];
        assert_eq!(named["annotations"]["io.containerd.image.name"], "cidrift.dev/x:1");
        assert_eq!(named["annotations"]["org.opencontainers.image.ref.name"], "1");
        let manifest: Value = serde_json::from_slice(&blob(named)).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        assert_eq!(config["config"]["User"], "65532:65532");
        let layer = blob(&manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        let files = self::members(&layer);
        let paths: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            ["etc", "etc/passwd", "usr", "usr/bin", "usr/bin/x", "var", "var/run"]
        );
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["one", "two"].map(|name| directory.path().join(name));
        for path in &paths {
            image().write(path).unwrap();
        }
        let [one, two] = paths.map(|path| std::fs::read(path).unwrap());
        assert!(one == two);
    }
}
