//! The way to the aggregator: an address that was given, or the Kubernetes API.

use std::net::IpAddr;

use cidrift_proto::tls::dial::{self, ClientAuth, DialError, Trust};
use cidrift_proto::tls::secured::Verdict;
use http::{HeaderValue, Uri};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::args::Args;
use super::client::AskError;
use super::cluster::{Cluster, Credentials};

/// Shows the user's token with every question.
#[derive(Debug, Clone, Default)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A connection, what to show on it, and its name for messages.
pub(super) struct Way {
    pub(super) channel: Channel,
    pub(super) bearer: Bearer,
    pub(super) name: String,
    /// What the aggregator says if it refuses the user's certificate.
    pub(super) verdict: Verdict,
}

/// Connects as the flags say.
pub(super) async fn connect(args: &Args) -> Result<Way, AskError> {
    match args.server.as_deref().filter(|server| !server.is_empty()) {
        Some(server) => direct(args, &parse(server)?).await,
        None => through_the_api(args).await,
    }
}

/// A given address.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    tls: bool,
    /// HOST:PORT.
    authority: String,
    loopback: bool,
}

impl Server {
    fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

/// Without a scheme, loopback addresses are taken for plaintext, and all others for TLS.
fn parse(server: &str) -> Result<Server, AskError> {
    let wrong = || AskError::Address(server.to_owned());
    let (scheme, rest) = match server.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, server),
    };
    let uri: Uri = format!("http://{rest}").parse().map_err(|_| wrong())?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    // A port that is none is passed over by the parser.
    let port = uri.port_u16();
    let said = uri.authority().map_or("", |authority| authority.as_str());
    let understood = port.map_or(host.to_owned(), |port| format!("{host}:{port}"));
    if !matches!(uri.path(), "" | "/") || said != understood {
        return Err(wrong());
    }
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let loopback = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    let tls = match scheme {
        Some("https") => true,
        Some("http") => false,
        None => !loopback,
        Some(_) => return Err(wrong()),
    };
    Ok(Server {
        tls,
        authority: format!("{host}:{}", port.unwrap_or(7440)),
        loopback,
    })
}

async fn direct(args: &Args, server: &Server) -> Result<Way, AskError> {
    let name = server.url();
    let endpoint = endpoint(&server.authority).map_err(|_| AskError::Address(name.clone()))?;
    let unreachable = |reason: String| AskError::Unreachable {
        server: name.clone(),
        reason,
    };
    let bundle = match (&args.ca, server.tls) {
        (_, false) => None,
        (Some(path), true) => {
            let read = std::fs::read(path);
            let bytes = read.map_err(|error| AskError::Ca(format!("cannot read {}: {error}", path.display())))?;
            Some((bytes, path.display().to_string()))
        }
        (None, true) => return Err(AskError::NoCa(name)),
    };
    // What a token opens must not be shown to whoever listens on the way.
    let mut credentials = Credentials::default();
    if server.tls || server.loopback {
        credentials = given(args).await?;
    }
    let bearer = bearer(&credentials)?;
    let io = dial::tcp(&server.authority, args.timeout).await;
    let io = io.map_err(|error| unreachable(error.to_string()))?;
    let mut verdict = Verdict::default();
    let channel = match bundle {
        None => dial::channel(endpoint, io).await,
        Some((bundle, source)) => {
            let io = trust(&bundle, &source, credentials)?.handshake(io, args.timeout).await;
            let io = io.map_err(|error| refused(error, &name))?;
            verdict = io.verdict();
            dial::channel(endpoint.origin(dial::origin()), io).await
        }
    };
    let channel = channel.map_err(|error| unreachable(super::client::innermost(&error)))?;
    Ok(Way {
        channel,
        bearer,
        name,
        verdict,
    })
}

/// The credentials for a given address: the token's file, or the kubeconfig that was named.
async fn given(args: &Args) -> Result<Credentials, AskError> {
    if let Some(path) = &args.token_file {
        let wrong = |why: String| AskError::Token(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        if text.trim().is_empty() {
            return Err(wrong("it is empty".to_owned()));
        }
        let value = HeaderValue::try_from(format!("Bearer {}", text.trim()));
        return Ok(Credentials {
            bearer: Some(value.map_err(|_| wrong("that is no token".to_owned()))?),
            certificate: None,
        });
    }
    if args.kubeconfig.is_some() || args.context.is_some() {
        return Cluster::open(args).await?.credentials().await;
    }
    Ok(Credentials::default())
}

async fn through_the_api(args: &Args) -> Result<Way, AskError> {
    let cluster = Cluster::open(args).await?;
    let name = cluster.name();
    let bundle = match &args.ca {
        Some(path) => {
            std::fs::read(path).map_err(|error| AskError::Ca(format!("cannot read {}: {error}", path.display())))?
        }
        None => cluster.bundle().await?,
    };
    let source = args
        .ca
        .as_ref()
        .map_or("ConfigMap cidrift-trust".to_owned(), |path| path.display().to_string());
    let credentials = cluster.credentials().await?;
    let bearer = bearer(&credentials)?;
    let trust = trust(&bundle, &source, credentials)?;
    let io = trust.handshake(cluster.dial().await?, args.timeout).await;
    let io = io.map_err(|error| refused(error, &name))?;
    let verdict = io.verdict();
    let endpoint = endpoint("cidrift-aggregator").map_err(|_| AskError::Address(name.clone()))?;
    let channel = dial::channel(endpoint.origin(dial::origin()), io).await;
    let channel = channel.map_err(|error| AskError::Unreachable {
        server: name.clone(),
        reason: super::client::innermost(&error),
    })?;
    Ok(Way {
        channel,
        bearer,
        name,
        verdict,
    })
}

fn trust(bundle: &[u8], source: &str, credentials: Credentials) -> Result<Trust, AskError> {
    let client = credentials.certificate.map_or(ClientAuth::None, ClientAuth::Resolver);
    Trust::new(bundle, source, client).map_err(|error| AskError::Ca(error.to_string()))
}

fn bearer(credentials: &Credentials) -> Result<Bearer, AskError> {
    let value = credentials
        .bearer
        .as_ref()
        .map(|value| MetadataValue::try_from(value.as_bytes()));
    let value = value
        .transpose()
        .map_err(|_| AskError::Token("the user's token is no text".to_owned()))?;
    Ok(Bearer(value.map(|mut value| {
        value.set_sensitive(true);
        value
    })))
}

fn refused(error: DialError, server: &str) -> AskError {
    let server = server.to_owned();
    match error {
        DialError::Unreachable(reason) => AskError::Unreachable { server, reason },
        DialError::Untrusted(reason) => AskError::Untrusted { server, reason },
    }
}

fn endpoint(authority: &str) -> Result<Endpoint, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_plaintext_and_everything_else_is_tls_unless_it_is_said() {
        for (text, url) in [
            ("127.0.0.1:7440", "http://127.0.0.1:7440"),
            ("[::1]", "http://[::1]:7440"),
            ("localhost:1", "http://localhost:1"),
            ("10.0.0.1", "https://10.0.0.1:7440"),
            ("https://127.0.0.1:7440/", "https://127.0.0.1:7440"),
            ("http://10.0.0.1:7440", "http://10.0.0.1:7440"),
        ] {
            assert_eq!(parse(text).unwrap().url(), url, "{text}");
        }
        for wrong in ["tcp://h", "http://", "", "h/p", "a b", "h:99999", "https://user@h"] {
            assert!(matches!(parse(wrong), Err(AskError::Address(_))), "{wrong:?}");
        }
    }
}
