//! Certificates and keys as people and Kubernetes hand them over: PEM.

use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A file, or a key of an object, that does not hold what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Nothing at all in it.
    #[error("{0} is empty: it is being written, or was never filled")]
    Empty(String),
    /// No certificate in it.
    #[error("{0} holds no certificate (-----BEGIN CERTIFICATE-----)")]
    NoCertificate(String),
    /// No private key in it.
    #[error("{0} holds no private key (-----BEGIN PRIVATE KEY-----)")]
    NoKey(String),
    /// Broken off, or no base64.
    #[error("{what} cannot be read: {reason}; it may be half written")]
    Torn {
        /// The file or key.
        what: String,
        /// What the reader stumbled over.
        reason: String,
    },
}

/// All certificates in `text`, in their order. `what` names the source in errors.
pub fn certificates(text: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    if text.trim_ascii().is_empty() {
        return Err(PemError::Empty(what.to_owned()));
    }
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = read.map_err(|error| torn(&error, what))?;
    if found.is_empty() {
        return Err(PemError::NoCertificate(what.to_owned()));
    }
    Ok(found)
}

/// The first private key in `text` (PKCS#8, SEC1 or PKCS#1).
pub fn key(text: &[u8], what: &str) -> Result<PrivateKeyDer<'static>, PemError> {
    if text.trim_ascii().is_empty() {
        return Err(PemError::Empty(what.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        Error::NoItemsFound => PemError::NoKey(what.to_owned()),
        error => torn(&error, what),
    })
}

fn torn(error: &Error, what: &str) -> PemError {
    // The library's own text of a missing end shows the marker as bytes.
    let reason = match error {
        Error::MissingSectionEnd { .. } => "it breaks off before an END line".to_owned(),
        error => error.to_string(),
    };
    PemError::Torn {
        what: what.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn every_certificate_of_a_bundle_is_read_and_the_key_beside_them() {
        let (a, key_a) = pair();
        let (b, _) = pair();
        let both = format!("{a}{key_a}{b}");
        assert_eq!(certificates(both.as_bytes(), "f").unwrap().len(), 2);
        assert!(key(both.as_bytes(), "f").is_ok());
    }

    #[test]
    fn what_is_torn_empty_or_something_else_is_said_to_be_so() {
        let (text, key_text) = pair();
        let torn = &text.as_bytes()[..text.len() / 2];
        for (wrong, says) in [
            (&b""[..], "empty"),
            (b" \n", "empty"),
            (b"hello", "no certificate"),
            (torn, "breaks off"),
            (key_text.as_bytes(), "no certificate"),
            (
                b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
                "cannot be read",
            ),
        ] {
            let error = certificates(wrong, "ca.crt").unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("ca.crt"), "{error}");
        }
        // The first whole one must not make up for a second that is torn.
        let mut bundle = text.clone().into_bytes();
        bundle.extend_from_slice(torn);
        assert!(certificates(&bundle, "ca.crt").is_err());
        assert_eq!(key(text.as_bytes(), "k"), Err(PemError::NoKey("k".to_owned())));
    }
}
