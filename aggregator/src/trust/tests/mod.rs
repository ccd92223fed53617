//! Rotation under random clocks, the keeper on a store that fails, handshakes over real sockets.

mod handshakes;
mod keeping;
mod walks;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cidrift_proto::tls::{NAME, pem, provider};
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use std::time::Duration;

/// DER as PEM.
pub(super) fn pem_of(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

fn names() -> Vec<String> {
    vec![NAME.to_owned()]
}

/// As an agent does it that trusts `bundle`, at `now`.
fn verify(chain: &[CertificateDer<'static>], bundle: &str, now: Timestamp) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(bundle.as_bytes(), "bundle").unwrap() {
        roots.add(certificate).unwrap();
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let seconds = u64::try_from(now.as_second()).unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    verifier
        .verify_server_cert(&chain[0], &chain[1..], &name, &[], at)
        .map(drop)
}
