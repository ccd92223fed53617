//! Connecting to an aggregator: TCP, TLS, then gRPC over that one connection.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::pem::{self, PemError};
use super::secured::Secured;
use super::{ALPN, NAME, provider, words};

/// What is shown to an aggregator that asks for a client certificate.
#[derive(Debug)]
pub enum ClientAuth {
    /// Nothing.
    None,
    /// A certificate with its chain, and its key.
    Pair(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    /// Whatever this chooses.
    Resolver(Arc<dyn ResolvesClientCert>),
}

/// Whom this side believes, and what it shows of itself.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    trusted: String,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("trusted", &self.trusted)
            .finish_non_exhaustive()
    }
}

/// Why there is no such trust.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The bundle of CAs.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A certificate in it that is none.
    #[error("{0}")]
    Unusable(String),
    /// The client certificate does not go with its key.
    #[error("{0}")]
    Client(String),
}

impl Trust {
    /// Trust in the CAs of `bundle` (PEM), which `source` names in errors.
    pub fn new(bundle: &[u8], source: &str, client: ClientAuth) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in pem::certificates(bundle, source)? {
            roots
                .add(certificate)
                .map_err(|error| TrustError::Unusable(format!("{source}: a certificate in it is no CA's: {error}")))?;
        }
        let trusted = format!("{} CA(s) in {source}", roots.len());
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| TrustError::Unusable(error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match client {
            ClientAuth::None => builder.with_no_client_auth(),
            ClientAuth::Pair(chain, key) => builder.with_client_auth_cert(chain, key).map_err(|error| {
                TrustError::Client(match error {
                    rustls::Error::InconsistentKeys(_) => {
                        "the client certificate and the client key do not belong together".to_owned()
                    }
                    error => format!("the client certificate cannot be used: {error}"),
                })
            })?,
            ClientAuth::Resolver(resolver) => builder.with_client_cert_resolver(resolver),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Every connection proves itself anew: what is trusted may have changed meanwhile.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
            trusted,
        })
    }

    /// A TLS handshake over `io`, within `patience`.
    pub async fn handshake<IO>(&self, io: IO, patience: Duration) -> Result<Secured<IO>, DialError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(NAME).map_err(|error| DialError::Untrusted(error.to_string()))?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        match timeout(patience, connector.connect(name, io)).await {
            Ok(Ok(stream)) => Ok(Secured::new(stream)),
            Ok(Err(error)) => Err(self.explain(&error)),
            Err(_) => Err(DialError::Unreachable(format!("no TLS handshake within {patience:?}"))),
        }
    }

    fn explain(&self, error: &io::Error) -> DialError {
        match words::inner(error) {
            Some(tls) => DialError::Untrusted(words::of_server(tls, &self.trusted)),
            None if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ) =>
            {
                DialError::Unreachable(
                    "it closed the connection during the TLS handshake: it may have no certificate yet, or too many \
                     connections"
                        .to_owned(),
                )
            }
            None => DialError::Unreachable(format!("TLS handshake: {error}")),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Nobody answers, or not in time.
    #[error("{0}")]
    Unreachable(String),
    /// Somebody does, but the two do not trust each other.
    #[error("{0}")]
    Untrusted(String),
}

/// A TCP connection to `address` (HOST:PORT), within `patience`; small messages leave at once.
pub async fn tcp(address: &str, patience: Duration) -> Result<TcpStream, DialError> {
    match timeout(patience, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            // Only a delay would come of it if this failed.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(DialError::Unreachable(error.to_string())),
        Err(_) => Err(DialError::Unreachable(format!("no connection within {patience:?}"))),
    }
}

/// Whether whoever listens there speaks TLS: for a better word to somebody who tried without. Nothing is shown to it, and
/// nobody is believed; `false` where it cannot be told within `patience`.
pub async fn speaks_tls(address: &str, patience: Duration) -> bool {
    let config = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    let (Ok(config), Ok(name)) = (config, ServerName::try_from(NAME)) else {
        return false;
    };
    let mut config = config
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let Ok(io) = tcp(address, patience).await else {
        return false;
    };
    let shaken = timeout(patience, TlsConnector::from(Arc::new(config)).connect(name, io)).await;
    match shaken {
        Ok(Ok(_)) => true,
        // A certificate, or a refusal in TLS' own words.
        Ok(Err(error)) => matches!(
            words::inner(&error),
            Some(
                rustls::Error::InvalidCertificate(_)
                    | rustls::Error::AlertReceived(_)
                    | rustls::Error::PeerIncompatible(_)
            )
        ),
        Err(_) => false,
    }
}

/// Where requests over TLS say that they go: the name that was verified.
pub fn origin() -> Uri {
    Uri::from_static("https://cidrift-aggregator")
}

/// gRPC over a connection that stands. When it breaks, the channel is broken for good: whoever wants another
/// connection reads files and addresses anew first.
pub async fn channel<IO>(endpoint: Endpoint, io: IO) -> Result<Channel, tonic::transport::Error>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = Arc::new(Mutex::new(Some(io)));
    let once = service_fn(move |_: Uri| {
        let io = Arc::clone(&io);
        async move {
            let taken = io.lock().unwrap_or_else(PoisonError::into_inner).take();
            taken
                .map(TokioIo::new)
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the connection is gone"))
        }
    });
    endpoint.connect_with_connector(once).await
}
