//! What `/metrics` and the log show of TLS. Where a figure has a log line, one function makes both.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::{debug, info, warn};

use crate::folded::{Folded, Kind};

type Label = [(&'static str, &'static str); 1];

/// How a handshake ended that came to nothing; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// There is no certificate to serve with yet.
    NoCertificate,
    /// The client was too slow.
    Timeout,
    /// The client went away: probes do.
    Closed,
    /// The client spoke no TLS.
    Plaintext,
    /// The client speaks no TLS 1.3, or not HTTP/2.
    Incompatible,
    /// The client's certificate was not accepted.
    ClientCertificate,
    /// The client did not accept this aggregator's.
    Distrusted,
    /// Too many from one address at once.
    Crowded,
    /// Anything else.
    Other,
}

impl Failure {
    fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Plaintext => "plaintext",
            Self::Incompatible => "incompatible",
            Self::ClientCertificate => "client-certificate",
            Self::Distrusted => "distrusted",
            Self::Crowded => "crowded",
            Self::Other => "other",
        }
    }
}

/// The figures.
#[derive(Debug, Default)]
pub struct Figures {
    handshakes: Family<Label, Counter>,
    expiry: Family<Label, Gauge>,
    renewals: Counter,
    troubles: Family<Label, Counter>,
    said: Mutex<Folded>,
}

impl Figures {
    /// Registers them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "tls_handshakes",
            "TLS handshakes, by what came of them",
            self.handshakes.clone(),
        );
        registry.register(
            "tls_expiry_timestamp_seconds",
            "Until when the certificate that is served, and the CA that signs, are valid",
            self.expiry.clone(),
        );
        registry.register("tls_renewals", "Certificates taken into use", self.renewals.clone());
        registry.register(
            "tls_troubles",
            "Times that a CA, a certificate or the CAs of clients could not be read, kept or published",
            self.troubles.clone(),
        );
    }

    pub(super) fn accepted(&self) {
        self.handshakes.get_or_create(&[("result", "good")]).inc();
    }

    pub(super) fn failed(&self, from: IpAddr, failure: Failure, text: &str) {
        let result = failure.as_str();
        self.handshakes.get_or_create(&[("result", result)]).inc();
        if failure == Failure::Closed || !self.news(from, failure) {
            debug!(peer = %from, result, "no TLS: {text}");
        } else {
            warn!(peer = %from, result, "no TLS: {text}");
        }
    }

    fn news(&self, from: IpAddr, failure: Failure) -> bool {
        // Counts cannot be half changed.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = Kind {
            from: Some(from),
            what: failure.as_str(),
        };
        said.note(kind, Instant::now())
    }

    /// Says how often what was said a minute ago happened since. To be called several times a minute.
    pub(crate) fn tell_more(&self) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let due = said.due(Instant::now());
        drop(said);
        for (kind, more) in due {
            let (from, result) = kind.map_or((None, "any"), |kind| (kind.from, kind.what));
            let from = from.map_or_else(|| "others".to_owned(), |from| from.to_string());
            warn!(peer = %from, result, more, "no TLS: the same again in the last minute");
        }
    }

    pub(super) fn serving(&self, until: Timestamp, source: &str) {
        self.renewals.inc();
        self.expiry.get_or_create(&[("of", "serving")]).set(until.as_second());
        info!(%until, "serving with another certificate ({source})");
    }

    pub(super) fn authority(&self, until: Timestamp) {
        self.expiry.get_or_create(&[("of", "ca")]).set(until.as_second());
    }

    pub(super) fn rotated(&self, place: &str, happened: &str) {
        info!(place, "{happened}");
    }

    pub(super) fn written_again(&self, place: &str) {
        self.troubles.get_or_create(&[("part", "ca")]).inc();
        warn!(
            place,
            "it was removed while its CA is in use, and is written again; another CA is to be asked for (annotation \
             cidrift.dev/rotate=now, or a file called rotate), so that agents hear of it before it signs"
        );
    }

    /// `before`: what was said last of this `part`; the same is not said twice.
    pub(super) fn trouble(&self, part: &'static str, text: &str, before: &mut Option<String>) {
        self.troubles.get_or_create(&[("part", part)]).inc();
        if before.as_deref() != Some(text) {
            warn!(part, "{text}");
            *before = Some(text.to_owned());
        }
    }

    pub(super) fn over(&self, part: &'static str, before: &mut Option<String>) {
        if before.take().is_some() {
            info!(part, "that is over");
        }
    }
}
