//! The gRPC service that agents report to.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use cidrift_proto::v1;
use cidrift_proto::v1::report_service_server::{ReportService, ReportServiceServer};
use futures::Stream as FutureStream;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::hello::{self, Greeting, Unwelcome};
use super::seats::{Seats, Who};
use super::stream::{Ends, Shared, Stream};
use super::{Hosts, Limits};
use crate::cluster::{HostEvent, RefusedReport};
use crate::identity::{Credentials, Identity, NodeIdentity, Refusal, binding};
use crate::metrics::{Ended, Metrics};

/// Takes reports.
pub struct Ingest<H> {
    shared: Shared<H>,
    seats: Arc<Seats>,
    room: Arc<Semaphore>,
    identity: Identity,
}

impl<H: Hosts> Ingest<H> {
    /// Hands everything to `hosts`, and believes whoever reports. Streams end when `shutdown` is cancelled.
    pub fn new(hosts: Arc<H>, limits: Limits, metrics: Arc<Metrics>, shutdown: CancellationToken) -> Self {
        Self {
            room: Arc::new(Semaphore::new(limits.max_streams.min(Semaphore::MAX_PERMITS))),
            seats: Arc::default(),
            identity: Identity::Believed,
            shared: Shared {
                hosts,
                limits,
                metrics,
                shutdown,
            },
        }
    }

    /// Finds out so who reports, before anything is read of it.
    pub fn with_identity(self, identity: Identity) -> Self {
        Self { identity, ..self }
    }

    /// As a server for tonic.
    pub fn into_server(self) -> ReportServiceServer<Self> {
        let bytes = self.shared.limits.max_message_bytes;
        ReportServiceServer::new(self).max_decoding_message_size(bytes)
    }

    /// Says why an agent is not heard.
    fn refuse(&self, from: Option<IpAddr>, refusal: &Refusal) -> Status {
        let status = Status::from(refusal);
        if matches!(refusal, Refusal::Unavailable(_)) {
            self.shared.hosts.turned_away(Timestamp::now());
        }
        let metrics = &self.shared.metrics;
        metrics.agent_refused(refusal);
        metrics.stream_not_taken(from, Ended::Unidentified, refusal.as_str(), status.message());
        status
    }

    /// Whether an agent of `own` may report for the node that it names. That it may not is a finding: either its
    /// configuration is wrong, or somebody has its token.
    fn speaks_for(&self, own: &NodeIdentity, greeting: &Greeting, from: Option<SocketAddr>) -> Result<(), Refusal> {
        let answer = binding::speaks_for(own, &greeting.node);
        if answer.is_err() {
            let refused = RefusedReport {
                named: greeting.node.clone(),
                from: from.map(|from| from.ip().to_canonical()),
            };
            self.shared.hosts.report_refused(&own.name, refused, Timestamp::now());
        }
        answer
    }

    async fn greet(&self, inbound: &mut Streaming<v1::AgentMessage>) -> Result<Greeting, Status> {
        let limit = self.shared.limits.hello_timeout;
        let first = tokio::time::timeout(limit, inbound.message())
            .await
            .map_err(|_| Status::deadline_exceeded(format!("no Hello came within {limit:?}")))??
            .ok_or_else(|| Status::cancelled("the stream was closed before Hello"))?;
        hello::greet(&first).map_err(|unwelcome| match unwelcome {
            Unwelcome::Protocol { .. } => Status::failed_precondition(unwelcome.to_string()),
            Unwelcome::NotHello(_) | Unwelcome::Node { .. } | Unwelcome::Text { .. } => {
                Status::invalid_argument(unwelcome.to_string())
            }
        })
    }
}

#[tonic::async_trait]
impl<H: Hosts> ReportService for Ingest<H> {
    type ReportStream = Pin<Box<dyn FutureStream<Item = Result<v1::AggregatorMessage, Status>> + Send>>;

    async fn report(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let from = request.remote_addr();
        let peer = from.map_or_else(|| "unknown peer".to_owned(), |peer| peer.to_string());
        let address = from.map(|from| from.ip().to_canonical());
        let metrics = &self.shared.metrics;
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            let limit = self.shared.limits.max_streams;
            let status = Status::resource_exhausted(format!("all {limit} report streams are taken"));
            metrics.stream_not_taken(address, Ended::Overloaded, "overloaded", status.message());
            return Err(status);
        };
        let credentials = Credentials::of(&request);
        let identified = self.identity.agent(&credentials).await;
        let speaker = identified.map_err(|refusal| self.refuse(address, &refusal))?;
        let mut inbound = request.into_inner();
        let greeting = match self.greet(&mut inbound).await {
            Ok(greeting) => greeting,
            Err(status) => {
                metrics.stream_not_taken(address, Ended::Unwelcome, "unwelcome", status.message());
                return Err(status);
            }
        };
        if let Some(own) = &speaker.node {
            let answer = self.speaks_for(own, &greeting, from);
            answer.map_err(|refusal| self.refuse(address, &refusal))?;
        }
        let who = Who {
            instance: greeting.instance.clone(),
            peer: from,
        };
        let now = Timestamp::now();
        let (holder, taken) = self
            .seats
            .take(&greeting.node, who, Arc::clone(&self.shared.hosts), now);
        if taken.displaced {
            metrics.displaced(&greeting.node, &peer);
        }
        if let Some((reason, until)) = taken.rivals {
            holder.tell(HostEvent::Rivals { reason, until }, now);
        }
        let (identity, own, metrics) = (self.identity.clone(), speaker.node, Arc::clone(metrics));
        let ends = Ends {
            until: speaker.until,
            doubted: Box::pin(async move {
                let refusal = identity.doubted(&credentials, own.as_ref()).await;
                metrics.agent_refused(&refusal);
                Status::from(&refusal)
            }),
        };
        let stream = Stream::new(greeting, inbound, holder, &self.shared, permit, ends);
        let answers = futures::stream::unfold(stream, |mut stream| async move {
            let item = stream.next().await?;
            Some((item, stream))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
