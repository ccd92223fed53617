//! The TLS that both sides speak: 1.3 only, one name for every aggregator, and
//! trust in a bundle of CAs that somebody hands over, never in the system's.
//!
//! [`pem`] reads what was handed over, [`dial`] connects, [`secured`] remembers a refusal, [`words`] says what
//! went wrong to the person who must act.

pub mod dial;
pub mod pem;
pub mod secured;
pub mod words;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The DNS name in every aggregator's certificate. Everybody verifies it,
/// whatever address was dialled: addresses change, the name does not.
pub const NAME: &str = "cidrift-aggregator";

/// HTTP/2, the one protocol inside.
pub const ALPN: &[u8] = b"h2";

/// The cryptography, named once: nothing depends on a process-wide default.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
