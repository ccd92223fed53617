//! Questions to the aggregator, answers in plain data.

use std::future::Future;
use std::time::Duration;

use cidrift_proto::Malformed;
use cidrift_proto::finding::Finding;
use cidrift_proto::prefix::prefix_from_wire;
use cidrift_proto::tls::dial;
use cidrift_proto::tls::secured::Verdict;
use cidrift_proto::v1;
use cidrift_proto::v1::query_service_client::QueryServiceClient;
use futures::{Stream, StreamExt};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::args::Args;
use super::connect::{self, Bearer};
use crate::fix::gather::Views;
use crate::query::answer::{NodeAnswer, PathAnswer, PathRow, PathsAnswer, StatusAnswer, WatchEvent, worst};
use crate::query::convert;
use crate::summary::{NodeSummary, PoolReport};

/// Largest answer taken. A node's detail grows with the cluster: about 200 bytes
/// for each pod CIDR, 3 MiB at 15,000 nodes; 64 MiB bounds a mad server.
const ANSWER_LIMIT: usize = 64 << 20;

/// Of more nodes than that the names are more to send than the answers that they would spare.
const NAMED: usize = 1000;

/// Whether a page was the last.
type Last = bool;

/// Why there is no answer, and what to do next.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// The address makes no sense.
    #[error("--server {0:?} is no address: give it as http://HOST:7440")]
    Address(String),
    /// TLS without anybody to believe.
    #[error(
        "{0}: which CA is to be believed? Give --ca FILE (or CIDRIFT_CA): what ConfigMap cidrift-trust holds as ca.crt; \
         or leave --server out, and the way goes through the Kubernetes API"
    )]
    NoCa(String),
    /// The CA that was given.
    #[error("{0}")]
    Ca(String),
    /// The two do not trust each other.
    #[error("the aggregator at {server} cannot be trusted: {reason}")]
    Untrusted {
        /// Where.
        server: String,
        /// Why.
        reason: String,
    },
    /// The kubeconfig, or what it names.
    #[error("the kubeconfig cannot be used: {0}\nWithout one, name the aggregator with --server or CIDRIFT_SERVER.")]
    Kubeconfig(String),
    /// The API server said no.
    #[error("{0}")]
    Api(String),
    /// Something that should be in the cluster is not there.
    #[error("{0}")]
    Missing(String),
    /// The token that was given.
    #[error("--token-file {0}")]
    Token(String),
    /// The aggregator does not know the user, or does not let him.
    #[error("the aggregator at {server} refuses: {reason}")]
    Denied {
        /// Where.
        server: String,
        /// Why, and what would help.
        reason: String,
    },
    /// Nobody is there.
    #[error(
        "cannot reach the aggregator at {server}: {reason}\n\
         Is it running there? Without --server and CIDRIFT_SERVER the way goes through the Kubernetes API."
    )]
    Unreachable {
        /// Where.
        server: String,
        /// The innermost reason.
        reason: String,
    },
    /// It does not answer in time.
    #[error(
        "the aggregator at {server} did not answer within {after:?}: is it overloaded, or is another service there? --timeout waits longer"
    )]
    Timeout {
        /// Where.
        server: String,
        /// How long was waited.
        after: Duration,
    },
    /// Something else listens there.
    #[error(
        "{server} answers, but not as an aggregator ({reason}): the query port is 7440, not the one for HTTP (7441); and unless it runs with --plaintext, it is asked by https://"
    )]
    Stranger {
        /// Where.
        server: String,
        /// What it said.
        reason: String,
    },
    /// It was asked without TLS.
    #[error(
        "{0} speaks TLS: ask it by https:// and give --ca FILE (or CIDRIFT_CA), what ConfigMap cidrift-trust holds as ca.crt; \
         or leave --server out, and the way goes through the Kubernetes API"
    )]
    SpeaksTls(String),
    /// The question was wrong.
    #[error("{0}")]
    Question(String),
    /// The aggregator does not know a question that this program asks.
    #[error(
        "the aggregator at {0} is an older one and does not know this question; kubectl cidrift path FROM TO asks about one way"
    )]
    Older(String),
    /// A watch broke off.
    #[error(
        "the watch broke off: the aggregator at {server} is gone or cannot be reached any more ({reason}); start the watch again when it is back"
    )]
    Broken {
        /// Where.
        server: String,
        /// What was seen of it.
        reason: String,
    },
    /// It failed.
    #[error("the aggregator at {server} did not answer: {reason}")]
    Failed {
        /// Where.
        server: String,
        /// What it said.
        reason: String,
    },
    /// Its answer cannot be read.
    #[error(
        "the aggregator's answer cannot be read ({0}): is it of another version? `kubectl cidrift version` shows both"
    )]
    Answer(#[from] Malformed),
}

/// A connection.
#[derive(Debug, Clone)]
pub(super) struct Client {
    inner: QueryServiceClient<InterceptedService<Channel, Bearer>>,
    server: String,
    verdict: Verdict,
    timeout: Duration,
}

impl Client {
    /// Connects as the flags say.
    pub(super) async fn connect(args: &Args) -> Result<Self, AskError> {
        let way = connect::connect(args).await?;
        let inner = QueryServiceClient::with_interceptor(way.channel, way.bearer);
        Ok(Self {
            inner: inner.max_decoding_message_size(ANSWER_LIMIT),
            server: way.name,
            verdict: way.verdict,
            timeout: args.timeout,
        })
    }

    async fn ask<T>(
        &self,
        question: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, AskError> {
        match self.in_time(question).await? {
            Err(status) => Err(self.explained(self.refusal(&status)).await),
            Ok(answer) => Ok(answer.into_inner()),
        }
    }

    /// The same, or that the other side speaks TLS where it was asked without: all that HTTP/2 says then is that it broke.
    async fn explained(&self, error: AskError) -> AskError {
        let broke = matches!(
            error,
            AskError::Unreachable { .. } | AskError::Stranger { .. } | AskError::Failed { .. }
        );
        match self.server.strip_prefix("http://").filter(|_| broke) {
            Some(address) if dial::speaks_tls(address, self.timeout).await => AskError::SpeaksTls(self.server.clone()),
            _ => error,
        }
    }

    fn refusal(&self, status: &tonic::Status) -> AskError {
        use tonic::Code;
        let server = self.server.clone();
        if let Some(said) = self.verdict.said() {
            let reason = said.to_owned();
            return AskError::Denied { server, reason };
        }
        let reason = match status.message() {
            "" => status.code().description().to_owned(),
            text => text.to_owned(),
        };
        match status.code() {
            Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition => AskError::Question(reason),
            Code::Unauthenticated | Code::PermissionDenied => AskError::Denied { server, reason },
            Code::Unavailable => AskError::Unreachable { server, reason },
            Code::Unimplemented => AskError::Stranger { server, reason },
            // What tonic makes of an answer that is no gRPC at all: HTTP without its trailers, or no HTTP/2.
            _ if reason.contains("grpc-status header missing") || reason.contains("http2 error") => {
                AskError::Stranger { server, reason }
            }
            _ => AskError::Failed { server, reason },
        }
    }

    /// Takes an answer that comes in pages, up to its last one; `false`: the aggregator does not know the question.
    /// A page is waited for as long as a whole answer.
    async fn pages<P>(
        &self,
        question: impl Future<Output = Result<tonic::Response<tonic::Streaming<P>>, tonic::Status>>,
        mut take: impl FnMut(P) -> Result<Last, Malformed>,
    ) -> Result<bool, AskError> {
        let mut pages = match self.in_time(question).await? {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == tonic::Code::Unimplemented => return Ok(false),
            Err(status) => return Err(self.explained(self.refusal(&status)).await),
        };
        loop {
            match self.in_time(pages.message()).await? {
                Ok(Some(page)) => {
                    if take(page)? {
                        return Ok(true);
                    }
                }
                Ok(None) => {
                    return Err(AskError::Failed {
                        server: self.server.clone(),
                        reason: "its answer broke off".to_owned(),
                    });
                }
                Err(status) => return Err(self.refusal(&status)),
            }
        }
    }

    async fn in_time<T>(&self, question: impl Future<Output = T>) -> Result<T, AskError> {
        let answer = tokio::time::timeout(self.timeout, question).await;
        answer.map_err(|_| AskError::Timeout {
            server: self.server.clone(),
            after: self.timeout,
        })
    }

    pub(super) async fn status(&self) -> Result<StatusAnswer, AskError> {
        let mut inner = self.inner.clone();
        let wire = self.ask(inner.get_status(v1::GetStatusRequest {})).await?;
        Ok(convert::status_from_wire(&wire)?)
    }

    pub(super) async fn nodes(&self) -> Result<Vec<NodeSummary>, AskError> {
        let mut inner = self.inner.clone();
        let wire = self.ask(inner.list_nodes(v1::ListNodesRequest {})).await?;
        Ok(wire
            .nodes
            .iter()
            .map(convert::summary_from_wire)
            .collect::<Result<_, _>>()?)
    }

    pub(super) async fn node(&self, name: &str) -> Result<NodeAnswer, AskError> {
        let mut inner = self.inner.clone();
        let name = name.to_owned();
        let wire = self.ask(inner.get_node(v1::GetNodeRequest { name })).await?;
        Ok(convert::detail_from_wire(&wire)?)
    }

    pub(super) async fn findings(&self, all: bool, node: &str, code: &str) -> Result<Vec<Finding>, AskError> {
        let mut inner = self.inner.clone();
        let request = v1::ListFindingsRequest {
            include_resolved: all,
            node: node.to_owned(),
            code: code.to_owned(),
        };
        let wire = self.ask(inner.list_findings(request)).await?;
        Ok(wire.findings.iter().map(TryInto::try_into).collect::<Result<_, _>>()?)
    }

    /// Every change, until the stream ends. Messages of unknown kinds are passed over.
    pub(super) async fn watch(
        &self,
        node: &str,
        code: &str,
    ) -> Result<impl Stream<Item = Result<WatchEvent, AskError>> + Unpin + use<>, AskError> {
        let mut inner = self.inner.clone();
        let request = v1::WatchFindingsRequest {
            node: node.to_owned(),
            code: code.to_owned(),
        };
        let stream = self.ask(inner.watch_findings(request)).await?;
        let client = self.clone();
        Ok(Box::pin(stream.filter_map(move |event| {
            let event = match event {
                Err(status)
                    if matches!(
                        status.code(),
                        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied
                    ) =>
                {
                    Some(Err(client.refusal(&status)))
                }
                Err(status) => Some(Err(AskError::Broken {
                    server: client.server.clone(),
                    reason: status.message().to_owned(),
                })),
                Ok(wire) => convert::event_from_wire(&wire).map_err(AskError::from).transpose(),
            };
            std::future::ready(event)
        })))
    }

    pub(super) async fn path(&self, from: &str, to: &str) -> Result<PathAnswer, AskError> {
        let mut inner = self.inner.clone();
        let request = v1::GetPathRequest {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let wire = self.ask(inner.get_path(request)).await?;
        Ok(convert::path_from_wire(&wire)?)
    }

    /// Both ways between these nodes (none: every other one) and one end, by the name of the node that sends; `None`: the
    /// aggregator is an older one, which does not know the question.
    pub(super) async fn paths(&self, from: &[String], to: &str) -> Result<Option<PathsAnswer>, AskError> {
        let mut inner = self.inner.clone();
        let few = from.len() <= NAMED;
        let request = v1::ListPathsRequest {
            to: to.to_owned(),
            from: if few { from.to_vec() } else { Vec::new() },
        };
        let (mut to, mut rows) = (String::new(), Vec::new());
        let known = self
            .pages(inner.list_paths(request), |page| {
                for row in &page.rows {
                    rows.push(convert::row_from_wire(row)?);
                }
                to = page.to;
                Ok(page.last)
            })
            .await?;
        Ok(known.then(|| PathsAnswer {
            to,
            health: worst(rows.iter().map(PathRow::health)),
            rows,
        }))
    }

    /// The same between every node and one end, where nothing else would answer that.
    pub(super) async fn all_paths(&self, to: &str) -> Result<PathsAnswer, AskError> {
        let told = self.paths(&[], to).await?;
        told.ok_or_else(|| AskError::Older(self.server.clone()))
    }

    /// What a plan rests on of every node; `None`: the aggregator is an older one, which does not know the question.
    pub(super) async fn views(&self) -> Result<Option<Views>, AskError> {
        let mut inner = self.inner.clone();
        let mut views = Views::default();
        let known = self
            .pages(inner.list_views(v1::ListViewsRequest {}), |page| {
                for view in &page.views {
                    views.nodes.push(convert::detail_from_wire(view)?);
                }
                for prefix in &page.plain {
                    views.plain.push(prefix_from_wire(prefix, "views.plain")?);
                }
                Ok(page.last)
            })
            .await?;
        Ok(known.then_some(views))
    }

    pub(super) async fn pool(&self) -> Result<PoolReport, AskError> {
        let mut inner = self.inner.clone();
        let wire = self.ask(inner.get_pool(v1::GetPoolRequest {})).await?;
        Ok(convert::pool_from_wire(&wire)?)
    }
}

/// The transport wraps the reason ("Connection refused") several times in "transport error".
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}
