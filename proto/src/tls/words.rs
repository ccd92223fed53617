//! TLS errors in words for the person who must act. rustls' own name the
//! protocol's state; these name the file, the clock or the flag.

use std::error::Error as StdError;
use std::io;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

use super::NAME;

/// The TLS error inside of an I/O error, wherever it was wrapped.
pub fn inner(error: &io::Error) -> Option<&Error> {
    let mut at: Option<&(dyn StdError + 'static)> = Some(error.get_ref()?);
    while let Some(error) = at {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found);
        }
        at = error.source();
    }
    None
}

/// What a client saw of an aggregator. `trusted` names the CAs it was held against ("2 CAs of /trust/ca.crt").
pub fn of_server(error: &Error, trusted: &str) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error, trusted),
        Error::AlertReceived(alert) => refused(*alert),
        Error::InvalidMessage(_) => {
            "it does not speak TLS: is this an aggregator with --plaintext (then http://), or another port?".to_owned()
        }
        Error::PeerIncompatible(_) => format!("it speaks no TLS 1.3 ({error})"),
        Error::NoApplicationProtocol => "it speaks no HTTP/2: this is no aggregator".to_owned(),
        error => error.to_string(),
    }
}

/// What the other side said as it refused. A client certificate is judged only after the handshake: then the text
/// arrives in a read error.
pub fn refused(alert: AlertDescription) -> String {
    use AlertDescription as A;
    match alert {
        A::UnknownCA | A::BadCertificate | A::CertificateUnknown | A::DecryptError => format!(
            "it does not accept this side's client certificate ({alert:?}): was it signed by the cluster's client CA?"
        ),
        A::CertificateExpired => "it calls this side's client certificate expired".to_owned(),
        A::ProtocolVersion => "it refuses TLS 1.3".to_owned(),
        A::NoApplicationProtocol => "it speaks no HTTP/2: this is no aggregator".to_owned(),
        alert => format!("it refused the handshake ({alert:?})"),
    }
}

fn certificate(error: &CertificateError, trusted: &str) -> String {
    use CertificateError as C;
    match error {
        C::UnknownIssuer | C::BadSignature => format!(
            "its certificate is signed by none of the {trusted}: they are out of date, or this is another cluster's aggregator"
        ),
        C::ExpiredContext { time, not_after } => format!(
            "its certificate expired at {}, and this host's clock says {}: one of the two clocks is wrong, or nobody renews it",
            shown(*not_after),
            shown(*time)
        ),
        C::NotValidYetContext { time, not_before } => format!(
            "its certificate is valid from {} on, and this host's clock says {}: one of the two clocks is wrong",
            shown(*not_before),
            shown(*time)
        ),
        C::NotValidForNameContext { presented, .. } => format!(
            "its certificate is not for {NAME:?} but for {}: this is another service, or --tls-cert was made without that name",
            if presented.is_empty() {
                "no name at all".to_owned()
            } else {
                presented.join(", ")
            }
        ),
        C::NotValidForName => format!("its certificate is not for {NAME:?}: this is another service"),
        error => format!("its certificate cannot be trusted ({error})"),
    }
}

fn shown(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(|| format!("{} s after 1970", time.as_secs()), |at| at.to_string())
}
