//! A certificate authority of cidrift's own, and the serving certificates that it signs.

use std::fmt;
use std::time::Duration;

use cidrift_proto::tls::pem;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A CA's life, from the day that it is made.
pub const CA_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A serving certificate's life; it is renewed at half of it.
pub const SERVING_LIFE: Duration = Duration::from_secs(14 * 24 * 3600);

/// Everything is valid from so long before it was made: hosts whose clock is behind must be able to report, and it is
/// they whom one wants to hear of.
pub const BACKDATE: Duration = DAY;

/// What is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// No PEM.
    #[error(transparent)]
    Pem(#[from] pem::PemError),
    /// PEM of something else.
    #[error("{0}")]
    Unfit(String),
    /// The cryptography failed.
    #[error("a certificate cannot be made: {0}")]
    Making(#[from] rcgen::Error),
}

/// A CA: its certificate, its key, and how long it is valid.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// PEM; the first one signs.
    pub certificate: String,
    /// PEM, PKCS#8.
    pub key: String,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// A certificate to serve with.
pub struct Serving {
    /// The certificate, then those of its issuers.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one (ECDSA P-256).
    pub fn make(now: Timestamp) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        // Every CA has a name of its own: a verifier that knows two of them tries the right one.
        let name = format!("cidrift-aggregator CA {}", now.strftime("%Y-%m-%dT%H:%M:%S%.fZ"));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date(now, -signed(BACKDATE))?;
        params.not_after = date(now, signed(CA_LIFE))?;
        let certificate = params.self_signed(&key)?.pem();
        Self::parse(&certificate, &key.serialize_pem(), "a new CA")
    }

    /// One that was kept. `what` names the place in errors.
    pub fn parse(certificate: &str, key: &str, what: &str) -> Result<Self, AuthorityError> {
        let all = pem::certificates(certificate.as_bytes(), &format!("the certificate of {what}"))?;
        pem::key(key.as_bytes(), &format!("the key of {what}"))?;
        let unfit = |text: &str| AuthorityError::Unfit(format!("{what}: {text}"));
        let first = all.first().ok_or_else(|| unfit("no certificate"))?;
        let (not_before, not_after) = validity(first).ok_or_else(|| unfit("its certificate is no X.509"))?;
        let (_, parsed) = X509Certificate::from_der(first).map_err(|_| unfit("its certificate is no X.509"))?;
        if !parsed.is_ca() {
            return Err(unfit(
                "its certificate is no CA's (basicConstraints CA:TRUE is missing)",
            ));
        }
        let pair = KeyPair::from_pem(key).map_err(|error| unfit(&format!("its key cannot be used ({error})")))?;
        if pair.subject_public_key_info() != parsed.public_key().raw {
            return Err(unfit("its key belongs to another certificate"));
        }
        Ok(Self {
            certificate: with_newline(certificate),
            key: key.to_owned(),
            not_before,
            not_after,
        })
    }

    /// True once nobody may believe it any more.
    pub fn expired(&self, now: Timestamp) -> bool {
        now >= self.not_after
    }

    /// A certificate for `names`, valid for [`SERVING_LIFE`], but not longer than this CA.
    pub fn issue(&self, names: &[String], now: Timestamp) -> Result<Serving, AuthorityError> {
        let signer = KeyPair::from_pem(&self.key)?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, signer)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = names.first() {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.not_before = date(now, -signed(BACKDATE))?;
        params.not_after = date(now, signed(SERVING_LIFE))?.min(date(self.not_after, 0)?);
        let certificate = params.signed_by(&key, &issuer)?;
        let der = certificate.der().clone();
        let (not_before, not_after) =
            validity(&der).ok_or_else(|| AuthorityError::Unfit("the new certificate is no X.509".to_owned()))?;
        Ok(Serving {
            chain: vec![der],
            key: pem::key(key.serialize_pem().as_bytes(), "the new key")?,
            not_before,
            not_after,
        })
    }
}

/// True where a serving certificate is to be renewed: from half of its life on, and where the clock says that it was
/// made tomorrow.
pub fn is_due(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> bool {
    let half = not_before.as_second().midpoint(not_after.as_second());
    now.as_second() >= half || now < not_before
}

/// From when to when a certificate is valid; `None` where it cannot be read.
pub fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    Some((
        Timestamp::from_second(validity.not_before.timestamp()).ok()?,
        Timestamp::from_second(validity.not_after.timestamp()).ok()?,
    ))
}

/// PEM that more may follow.
pub fn with_newline(text: &str) -> String {
    format!("{}\n", text.trim())
}

fn signed(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// rcgen's time, some seconds from `at`.
fn date(at: Timestamp, seconds: i64) -> Result<time::OffsetDateTime, AuthorityError> {
    time::OffsetDateTime::from_unix_timestamp(at.as_second().saturating_add(seconds))
        .map_err(|_| AuthorityError::Unfit(format!("{at} is no time that a certificate can have")))
}
