//! The token that shows the aggregator whose agent this is. The kubelet replaces the file; it is read anew for every stream.

use std::io::Read;
use std::path::{Path, PathBuf};

use tonic::metadata::{Ascii, MetadataValue};

/// A token file is no larger: the kubelet's are 1 to 2 KiB, and the aggregator takes no longer ones.
const LONGEST: u64 = 16 * 1024;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("--token-file {}: {reason}; is the projected token volume (audience \"cidrift\") mounted there?", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file has no token in it.
    #[error("--token-file {} {why}: it must have one bearer token and nothing else", .path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Reads the token, as the value of `authorization`. It is kept from logs.
pub fn read(path: &Path) -> Result<MetadataValue<Ascii>, TokenError> {
    let unreadable = |reason: String| TokenError::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let read = file.take(LONGEST + 1).read_to_string(&mut text);
    read.map_err(|error| unreadable(error.to_string()))?;
    let no_token = |why| TokenError::NoToken {
        path: path.to_owned(),
        why,
    };
    let token = text.trim();
    if token.is_empty() {
        return Err(no_token("is empty"));
    }
    if text.len() as u64 > LONGEST {
        return Err(no_token("is longer than 16 KiB"));
    }
    if !token.bytes().all(|c| c.is_ascii_graphic()) {
        return Err(no_token("has spaces or other characters than printable ASCII"));
    }
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .map_err(|_| no_token("is not usable"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_anew_each_time_and_its_end_of_line_is_no_part_of_the_token() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for token in ["first", "second\n"] {
            std::fs::write(&path, token).unwrap();
            let value = read(&path).unwrap();
            assert_eq!(value.to_str().unwrap(), format!("Bearer {}", token.trim()));
            assert!(!format!("{value:?}").contains(token.trim()), "it is kept from logs");
        }
    }

    #[test]
    fn what_is_no_token_is_said_with_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let missing = read(&path).unwrap_err().to_string();
        assert!(
            missing.contains("No such file") && missing.contains("/token"),
            "{missing}"
        );
        let long = "a".repeat(20_000);
        for (text, why) in [
            ("", "is empty"),
            (" \n", "is empty"),
            ("a b", "spaces"),
            (&long, "16 KiB"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("/token"), "{error}");
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(read(&path), Err(TokenError::Unreadable { .. })));
        assert!(matches!(read(directory.path()), Err(TokenError::Unreadable { .. })));
    }
}
