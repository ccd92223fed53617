//! A certificate that somebody else makes and renews (cert-manager, a person): files, read again as they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cidrift_proto::tls::{NAME, pem};
use jiff::Timestamp;
use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::ParsedCertificate;
use tokio_util::sync::CancellationToken;

use super::authority::{Serving, validity};
use super::figures::Figures;
use super::objects::Objects;
use super::serving::Offer;
use super::store::{Publication, Store};
use crate::http::Ready;

/// Between two looks at the files: a renewal comes weeks before it is needed, and a wrong file should be said soon.
const LOOK: Duration = Duration::from_secs(5);

/// Between two looks at the ConfigMap, in looks at the files.
const LOOKS: u32 = 12;

/// Files to serve with.
pub struct Given {
    /// The certificate, then those of its issuers; PEM.
    pub certificate: PathBuf,
    /// Its key; PEM.
    pub key: PathBuf,
    /// The CAs to be believed, and where they are published.
    pub publish: Option<(PathBuf, Objects)>,
    /// Where agents reach this aggregator, one ADDRESS:PORT a line.
    pub addresses: Option<String>,
    /// Takes the certificate.
    pub offer: Arc<Offer>,
    /// Shows it.
    pub figures: Arc<Figures>,
    /// Waits for it.
    pub ready: Ready,
}

impl Given {
    /// Until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut before: Option<(Vec<u8>, Vec<u8>)> = None;
        let (mut said, mut said_published) = (None, None);
        let mut looks = 0u32;
        loop {
            match self.look(&mut before) {
                Ok(()) => {
                    self.figures.over("certificate", &mut said);
                    self.ready.done("certificate");
                }
                Err(text) => {
                    self.figures.trouble("certificate", &text, &mut said);
                    if before.is_none() {
                        self.ready.pending("certificate", text);
                    }
                }
            }
            if looks.is_multiple_of(LOOKS) || said_published.is_some() {
                match self.publish().await {
                    Ok(()) => {
                        self.figures.over("trust", &mut said_published);
                        self.ready.done("trust");
                    }
                    Err(text) => self.figures.trouble("trust", &text, &mut said_published),
                }
            }
            looks = looks.wrapping_add(1);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Takes what is new. What was there last goes on being served while the new is torn or does not fit.
    fn look(&self, before: &mut Option<(Vec<u8>, Vec<u8>)>) -> Result<(), String> {
        let now = (read(&self.certificate)?, read(&self.key)?);
        if before.as_ref() == Some(&now) {
            return Ok(());
        }
        let serving = serving(&now.0, &now.1, &self.certificate, &self.key)?;
        let until = serving.not_after;
        if until <= Timestamp::now() {
            return Err(format!("{} expired at {until}", self.certificate.display()));
        }
        self.offer
            .serve(serving)
            .map_err(|error| format!("{} with {}: {error}", self.certificate.display(), self.key.display()))?;
        self.figures.serving(until, &self.certificate.display().to_string());
        *before = Some(now);
        Ok(())
    }

    async fn publish(&self) -> Result<(), String> {
        let Some((file, objects)) = &self.publish else {
            return Ok(());
        };
        let bytes = read(file)?;
        pem::certificates(&bytes, &file.display().to_string()).map_err(|error| error.to_string())?;
        let wanted = Publication {
            bundle: String::from_utf8(bytes).map_err(|_| format!("{} is no text", file.display()))?,
            addresses: self.addresses.clone(),
        };
        let published = objects.published().await.map_err(|error| error.to_string())?;
        if published.is_some_and(|published| published.covers(&wanted)) {
            return Ok(());
        }
        objects.publish(&wanted).await.map_err(|error| error.to_string())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Holds the two files against each other and against what everybody will verify.
fn serving(certificate: &[u8], key: &[u8], file: &Path, key_file: &Path) -> Result<Serving, String> {
    let file = file.display().to_string();
    let chain = pem::certificates(certificate, &file).map_err(|error| error.to_string())?;
    let key = pem::key(key, &key_file.display().to_string()).map_err(|error| error.to_string())?;
    let leaf = chain.first().ok_or_else(|| format!("{file} holds no certificate"))?;
    let parsed = ParsedCertificate::try_from(leaf).map_err(|error| format!("{file}: {error}"))?;
    let name = ServerName::try_from(NAME).map_err(|error| error.to_string())?;
    verify_server_name(&parsed, &name)
        .map_err(|_| format!("{file} is not for the DNS name {NAME}, which agents and kubectl cidrift verify"))?;
    let (not_before, not_after) = validity(leaf).ok_or_else(|| format!("{file} is no X.509"))?;
    Ok(Serving {
        chain,
        key,
        not_before,
        not_after,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::authority::Authority;

    fn files(names: &[&str]) -> (String, String) {
        let made = rcgen::generate_simple_self_signed(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let made = made.unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn files_that_do_not_fit_are_refused_and_the_last_good_pair_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let given = Given {
            certificate: path("tls.crt"),
            key: path("tls.key"),
            publish: None,
            addresses: None,
            offer: Arc::default(),
            figures: Arc::default(),
            ready: Ready::default(),
        };
        let put = |certificate: &str, key: &str| {
            std::fs::write(path("tls.crt"), certificate).unwrap();
            std::fs::write(path("tls.key"), key).unwrap();
        };
        let mut before = None;
        let wrong = |says: &str, before: &mut Option<_>| {
            let error = given.look(before).unwrap_err();
            assert!(error.contains(says), "{error}");
        };
        wrong("cannot read", &mut before);
        let (good, key) = files(&[NAME]);
        let (other, other_key) = files(&["other.example"]);
        put(&good, &other_key);
        wrong("belongs to another", &mut before);
        put(&other, &other_key);
        wrong("not for the DNS name", &mut before);
        assert!(given.offer.config().is_none());
        put(&good, &key);
        given.look(&mut before).unwrap();
        let config = given.offer.config().unwrap();
        put(&good[..good.len() / 2], &key);
        wrong("breaks off", &mut before);
        assert!(Arc::ptr_eq(&config, &given.offer.config().unwrap()));
    }

    #[test]
    fn a_certificate_that_has_expired_is_not_taken_into_use() {
        let directory = tempfile::tempdir().unwrap();
        let then = Timestamp::now() - jiff::SignedDuration::from_hours(24 * 20);
        let ca = Authority::make(then).unwrap();
        let old = ca.issue(&[NAME.to_owned()], then).unwrap();
        assert!(old.not_after < Timestamp::now());
        let (certificate, key) = (directory.path().join("c"), directory.path().join("k"));
        std::fs::write(&certificate, crate::trust::tests::pem_of("CERTIFICATE", &old.chain[0])).unwrap();
        std::fs::write(&key, crate::trust::tests::pem_of("PRIVATE KEY", old.key.secret_der())).unwrap();
        let given = Given {
            certificate,
            key,
            publish: None,
            addresses: None,
            offer: Arc::default(),
            figures: Arc::default(),
            ready: Ready::default(),
        };
        let error = given.look(&mut None).unwrap_err();
        assert!(error.contains("expired at"), "{error}");
    }
}
