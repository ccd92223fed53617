//! Asking the lab's aggregator, from inside the underlay.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use cidrift_proto::tls::dial::{self, ClientAuth, DialError, Trust, TrustError};
use cidrift_proto::v1;
use cidrift_proto::v1::query_service_client::QueryServiceClient;
use cidrift_proto::verdict::CidrVerdict;
use tonic::transport::{Channel, Endpoint};

use crate::netns::Netns;
use crate::programs::AGGREGATOR;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("connect to the aggregator: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// Nobody there, or not to be believed.
    #[error("connect to the aggregator: {0}")]
    Dial(#[from] DialError),
    /// The CAs to believe.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Its answer.
    #[error("the aggregator: {0}")]
    Status(Box<tonic::Status>),
    /// A thread, a runtime.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// An answer that makes no sense.
    #[error("the aggregator's answer: {0}")]
    Malformed(#[from] cidrift_proto::Malformed),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// A connection from the underlay, whose aggregator is to be believed by the CAs in `ca`, as they are now.
pub(crate) async fn connect(ca: &Path) -> Result<Channel, Error> {
    // The lab's round trip is under a millisecond: who does not answer in a
    // second is not there.
    let patience = Duration::from_secs(1);
    let trust = Trust::new(&std::fs::read(ca)?, &ca.display().to_string(), ClientAuth::None)?;
    let io = dial::tcp(AGGREGATOR, patience).await?;
    let io = trust.handshake(io, patience).await?;
    let endpoint = Endpoint::from_shared(format!("http://{AGGREGATOR}"))?.origin(dial::origin());
    Ok(dial::channel(endpoint, io).await?)
}

/// Asks one question over a connection of its own.
fn ask<T: Send, F>(
    underlay: &Netns,
    ca: &Path,
    question: impl FnOnce(QueryServiceClient<Channel>) -> F + Send,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    underlay.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { question(QueryServiceClient::new(connect(ca).await?)).await })
    })?
}

/// The cluster in a few figures.
pub fn status(underlay: &Netns, ca: &Path) -> Result<v1::Status, Error> {
    ask(underlay, ca, async |mut client| {
        let answer = client.get_status(v1::GetStatusRequest {}).await?;
        Ok(answer.into_inner())
    })
}

/// One node with everything.
pub fn node(underlay: &Netns, ca: &Path, node: &str) -> Result<v1::NodeDetail, Error> {
    let name = node.to_owned();
    ask(underlay, ca, async |mut client| {
        Ok(client.get_node(v1::GetNodeRequest { name }).await?.into_inner())
    })
}

/// What a node's packets come to, for every pod CIDR.
pub fn verdicts(underlay: &Netns, ca: &Path, node: &str) -> Result<Vec<CidrVerdict>, Error> {
    let answer = self::node(underlay, ca, node)?;
    let verdicts = answer.verdicts.iter().map(CidrVerdict::try_from);
    Ok(verdicts.collect::<Result<_, _>>()?)
}

/// How many forwarding entries the aggregator has of a node.
pub fn entries(underlay: &Netns, ca: &Path, node: &str) -> Result<usize, Error> {
    Ok(self::node(underlay, ca, node)?.entries.len())
}
