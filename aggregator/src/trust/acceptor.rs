//! Takes connections and does the TLS handshakes, bounded in time and number; hands on those that stand.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cidrift_proto::tls::words;
use rustls::{AlertDescription, Error};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::figures::{Failure, Figures};
use super::serving::Offer;

/// A handshake takes two round trips and about a millisecond of work; slow ones are attacks or dead hosts.
pub const HANDSHAKE: Duration = Duration::from_secs(5);

/// Handshakes at once. 5,000 agents that come back within seconds wait in the kernel's queue.
pub const HANDSHAKES: usize = 1024;

/// Of those, from one address: an agent needs one, many operators may share one.
pub const FROM_ONE: usize = 64;

/// Connections that stand and wait to be served.
const WAITING: usize = 64;

/// No file descriptor is left, usually: others must end first.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// Connections that stand, for tonic.
pub type Standing = mpsc::Receiver<io::Result<TlsStream<TcpStream>>>;

/// Takes connections.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    offer: Arc<Offer>,
    figures: Arc<Figures>,
    standing: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
}

impl Acceptor {
    /// It, and where its connections come out.
    pub fn new(listener: TcpListener, offer: Arc<Offer>, figures: Arc<Figures>) -> (Self, Standing) {
        let (standing, out) = mpsc::channel(WAITING);
        let acceptor = Self {
            listener,
            offer,
            figures,
            standing,
        };
        (acceptor, out)
    }

    /// Until `shutdown`; handshakes that are under way then are dropped.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut handshakes: JoinSet<IpAddr> = JoinSet::new();
        let mut from: HashMap<IpAddr, usize> = HashMap::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(ended) = handshakes.join_next(), if !handshakes.is_empty() => match ended {
                    Ok(address) => leave(&mut from, address),
                    // Whose it was is lost with it: better too many places than ever fewer.
                    Err(_) => from.clear(),
                },
                accepted = self.listener.accept(), if handshakes.len() < HANDSHAKES => match accepted {
                    Ok((stream, peer)) => self.take(stream, peer, &mut handshakes, &mut from),
                    Err(error) => {
                        tracing::debug!("a connection could not be taken: {error}");
                        tokio::time::sleep(EXHAUSTED).await;
                    }
                },
            }
        }
    }

    fn take(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        handshakes: &mut JoinSet<IpAddr>,
        from: &mut HashMap<IpAddr, usize>,
    ) {
        let address = peer.ip().to_canonical();
        let places = from.entry(address).or_default();
        if *places >= FROM_ONE {
            let text = format!("{FROM_ONE} handshakes of this address are under way already");
            self.figures.failed(address, Failure::Crowded, &text);
            return;
        }
        let Some(config) = self.offer.config() else {
            if *places == 0 {
                from.remove(&address);
            }
            let text = "there is no certificate to serve with yet; /readyz says why";
            self.figures.failed(address, Failure::NoCertificate, text);
            return;
        };
        *places += 1;
        let figures = Arc::clone(&self.figures);
        let standing = self.standing.clone();
        handshakes.spawn(async move {
            // Only a delay would come of it if this failed.
            let _ = stream.set_nodelay(true);
            match timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await {
                Ok(Ok(stream)) => {
                    figures.accepted();
                    // Nobody takes it any more: the aggregator stops.
                    let _ = standing.send(Ok(stream)).await;
                }
                Ok(Err(error)) => {
                    let (failure, text) = judge(&error);
                    figures.failed(address, failure, &text);
                }
                Err(_) => {
                    let text = format!("it did not finish the handshake within {HANDSHAKE:?}");
                    figures.failed(address, Failure::Timeout, &text);
                }
            }
            address
        });
    }
}

fn leave(from: &mut HashMap<IpAddr, usize>, address: IpAddr) {
    if let Some(places) = from.get_mut(&address) {
        *places = places.saturating_sub(1);
        if *places == 0 {
            from.remove(&address);
        }
    }
}

/// What a failed handshake says of the client.
fn judge(error: &io::Error) -> (Failure, String) {
    use AlertDescription as A;
    match words::inner(error) {
        Some(Error::InvalidMessage(_)) => (
            Failure::Plaintext,
            "it does not speak TLS: an agent or operator with http:// where https:// is needed?".to_owned(),
        ),
        Some(Error::PeerIncompatible(why)) => (Failure::Incompatible, format!("it speaks no TLS 1.3 ({why:?})")),
        Some(Error::NoApplicationProtocol) => (Failure::Incompatible, "it speaks no HTTP/2".to_owned()),
        Some(Error::InvalidCertificate(why)) => (
            Failure::ClientCertificate,
            format!("its client certificate is not one of the cluster's client CA: {why}"),
        ),
        Some(Error::AlertReceived(
            alert @ (A::UnknownCA
            | A::BadCertificate
            | A::CertificateUnknown
            | A::CertificateExpired
            | A::DecryptError
            | A::AccessDenied),
        )) => (
            Failure::Distrusted,
            format!(
                "it does not trust this aggregator's certificate ({alert:?}): its CAs or its clock are out of date"
            ),
        ),
        Some(error) => (Failure::Other, error.to_string()),
        None => (Failure::Closed, error.to_string()),
    }
}
