//! What a handshake is done with: the certificate and the CAs of clients, which change while connections live.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use cidrift_proto::tls::{ALPN, pem, provider};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};

use super::authority::Serving;

/// The newest of everything. A handshake takes what there is as it begins; connections that stand keep theirs.
#[derive(Default)]
pub struct Offer {
    parts: Mutex<Parts>,
    config: ArcSwapOption<ServerConfig>,
}

#[derive(Default)]
struct Parts {
    certificate: Option<Arc<CertifiedKey>>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("certificate", &self.config.load().is_some())
            .finish_non_exhaustive()
    }
}

impl Offer {
    /// What the next handshake is done with; `None`: there is no certificate yet.
    pub fn config(&self) -> Option<Arc<ServerConfig>> {
        self.config.load_full()
    }

    /// Serves with this from now on. The error says what is wrong with it.
    pub fn serve(&self, serving: Serving) -> Result<(), String> {
        let certified = CertifiedKey::from_der(serving.chain, serving.key, &provider());
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => "the key belongs to another certificate".to_owned(),
            error => error.to_string(),
        })?;
        self.change(|parts| parts.certificate = Some(Arc::new(certified)))
    }

    /// Asks for client certificates of these CAs (PEM) from now on; `None`: asks for none.
    pub fn clients(&self, bundle: Option<&[u8]>, source: &str) -> Result<(), String> {
        let verifier = bundle.map(|bundle| verifier(bundle, source)).transpose()?;
        self.change(|parts| parts.clients = verifier)
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) -> Result<(), String> {
        // Whole parts are replaced: what a panic left is as good as before.
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts);
        let Some(certificate) = &parts.certificate else {
            return Ok(());
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| error.to_string())?;
        let builder = match &parts.clients {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let resolver = rustls::sign::SingleCertAndKey::from(Arc::clone(certificate));
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would be judged by CAs that were believed when it began.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        self.config.store(Some(Arc::new(config)));
        Ok(())
    }
}

fn verifier(bundle: &[u8], source: &str) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    let certificates: Vec<CertificateDer<'static>> =
        pem::certificates(bundle, source).map_err(|error| error.to_string())?;
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| format!("{source}: a certificate in it is no CA's: {error}"))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| format!("{source}: {error}"))
}
