//! `QueryService` over an [`Engine`].

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Finding, FindingState, Severity};
use cidrift_proto::v1;
use cidrift_proto::v1::query_service_server::{QueryService, QueryServiceServer};
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::answer::StatusAnswer;
use super::pages::{Pages, Paths, Views};
use super::path::Many;
use super::watch::Watch;
use super::{convert, guard, pages, path};
use crate::engine::{Engine, State};
use crate::identity::{Credentials, Identity, Question, Refusal};
use crate::metrics::Metrics;

/// How often it is looked at again whether a subscriber may still listen.
const AGAIN: Duration = Duration::from_secs(60);

/// Answers operators.
#[derive(Debug)]
pub struct Query {
    engine: Arc<Engine>,
    stop: CancellationToken,
    door: Door,
}

/// Lets operators in, or says why not.
#[derive(Debug, Clone)]
struct Door {
    identity: Identity,
    metrics: Arc<Metrics>,
}

impl Door {
    async fn pass(&self, credentials: &Credentials, question: Question) -> Result<(), Refusal> {
        let answer = self.identity.operator(credentials, question).await;
        answer.inspect_err(|refusal| self.metrics.operator_refused(credentials.from, refusal))
    }

    async fn open<T>(&self, request: &Request<T>, question: Question) -> Result<(), Status> {
        let answer = self.pass(&Credentials::of(request), question).await;
        answer.map_err(|refusal| Status::from(&refusal))
    }

    /// Ends when one who was let in may stay no longer. While nobody can be asked, what was known counts for some minutes.
    async fn shut(self, credentials: Credentials, question: Question) -> Status {
        loop {
            tokio::time::sleep(AGAIN).await;
            if let Err(refusal) = self.pass(&credentials, question).await {
                return Status::from(&refusal);
            }
        }
    }
}

/// The service, whose watches last as long as their subscribers or the engine. It believes everybody.
pub fn service(engine: Arc<Engine>) -> QueryServiceServer<Query> {
    service_until(engine, CancellationToken::new())
}

/// The service, whose watches end when `stop` is cancelled: a server that
/// stops gracefully waits for its streams. It believes everybody.
pub fn service_until(engine: Arc<Engine>, stop: CancellationToken) -> QueryServiceServer<Query> {
    Query::new(engine, stop).into_server()
}

impl Query {
    /// Answers everybody, until `stop` is cancelled.
    pub fn new(engine: Arc<Engine>, stop: CancellationToken) -> Self {
        let door = Door {
            identity: Identity::Believed,
            metrics: Arc::default(),
        };
        Self { engine, stop, door }
    }

    /// Answers those who may ask.
    pub fn with_identity(self, identity: Identity, metrics: Arc<Metrics>) -> Self {
        let door = Door { identity, metrics };
        Self { door, ..self }
    }

    /// The pages of an answer, for as long as he who asked may ask.
    fn pages<P: Pages, T>(
        &self,
        request: &Request<T>,
        question: Question,
        pages: P,
    ) -> Response<BoxStream<'static, Result<P::Page, Status>>> {
        let leave = self.door.clone().shut(Credentials::of(request), question);
        let pages = pages::stream(&self.engine, pages, self.stop.clone());
        Response::new(Box::pin(guard::until_refused(pages, leave)))
    }

    /// As a server for tonic.
    pub fn into_server(self) -> QueryServiceServer<Self> {
        QueryServiceServer::new(self)
    }
}

/// Which findings are asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    node: Option<String>,
    code: Option<Code>,
}

impl Filter {
    /// A node that nobody knows is an error: an empty answer to a slip of the pen would look like health.
    fn parse(state: &State, node: &str, code: &str, now: Timestamp) -> Result<Self, Status> {
        let code = match code {
            "" => None,
            code => Some(code.parse::<Code>().map_err(|_| {
                Status::invalid_argument(format!(
                    "no finding has the code or name {code:?}; `kubectl cidrift explain` lists them"
                ))
            })?),
        };
        let node = (!node.is_empty()).then(|| node.to_owned());
        let filter = Self { node, code };
        if let Some(name) = &filter.node {
            let named = || state.findings().iter().chain(&state.history()).any(|f| filter.takes(f));
            if !state.knows(name) && !named() {
                return Err(path::unknown_node(state, name, now));
            }
        }
        Ok(filter)
    }

    #[cfg(test)]
    pub(super) fn of(node: Option<&str>, code: Option<Code>) -> Self {
        Self {
            node: node.map(str::to_owned),
            code,
        }
    }

    pub(super) fn takes(&self, finding: &Finding) -> bool {
        self.code.is_none_or(|code| code == finding.claim.code)
            && self.node.as_ref().is_none_or(|node| finding.claim.nodes.contains(node))
    }
}

#[tonic::async_trait]
impl QueryService for Query {
    async fn get_status(&self, request: Request<v1::GetStatusRequest>) -> Result<Response<v1::Status>, Status> {
        self.door.open(&request, Question::Status).await?;
        let now = Timestamp::now();
        let status = self.engine.read(|state| state.status(now));
        Ok(Response::new(convert::status_to_wire(&StatusAnswer {
            aggregator_version: cidrift_proto::version().to_owned(),
            identity_warning: self.door.identity.warning().map(str::to_owned),
            status,
        })))
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        self.door.open(&request, Question::Nodes).await?;
        let now = Timestamp::now();
        let nodes = self.engine.read(|state| state.node_summaries(now));
        Ok(Response::new(v1::ListNodesResponse {
            nodes: nodes.iter().map(convert::summary_to_wire).collect(),
        }))
    }

    async fn get_node(&self, request: Request<v1::GetNodeRequest>) -> Result<Response<v1::NodeDetail>, Status> {
        self.door.open(&request, Question::Node).await?;
        let name = request.into_inner().name;
        let now = Timestamp::now();
        let mut detail = self.engine.read(|state| {
            state
                .node(&name, now)
                .ok_or_else(|| path::unknown_node(state, &name, now))
        })?;
        detail.findings.sort_by_cached_key(|finding| place(finding));
        Ok(Response::new(convert::detail_to_wire(&detail)))
    }

    type ListViewsStream = BoxStream<'static, Result<v1::ViewPage, Status>>;

    async fn list_views(
        &self,
        request: Request<v1::ListViewsRequest>,
    ) -> Result<Response<Self::ListViewsStream>, Status> {
        self.door.open(&request, Question::Node).await?;
        let now = Timestamp::now();
        // Both as of one moment: who is not told of has no CIDR that is left out.
        let views = self
            .engine
            .read(|state| Views::new(state.plain(), state.node_summaries(now)));
        Ok(self.pages(&request, Question::Node, views))
    }

    async fn list_findings(
        &self,
        request: Request<v1::ListFindingsRequest>,
    ) -> Result<Response<v1::ListFindingsResponse>, Status> {
        self.door.open(&request, Question::Findings).await?;
        let request = request.into_inner();
        let now = Timestamp::now();
        let findings = self.engine.read(|state| {
            let filter = Filter::parse(state, &request.node, &request.code, now)?;
            let mut findings = state.findings();
            findings.sort_by_cached_key(|finding| place(finding));
            if request.include_resolved {
                findings.extend(state.history());
            }
            findings.retain(|finding| filter.takes(finding));
            Ok::<_, Status>(findings)
        })?;
        Ok(Response::new(v1::ListFindingsResponse {
            findings: findings.iter().map(|finding| finding.as_ref().into()).collect(),
        }))
    }

    type WatchFindingsStream = BoxStream<'static, Result<v1::FindingEvent, Status>>;

    async fn watch_findings(
        &self,
        request: Request<v1::WatchFindingsRequest>,
    ) -> Result<Response<Self::WatchFindingsStream>, Status> {
        self.door.open(&request, Question::WatchFindings).await?;
        let leave = self
            .door
            .clone()
            .shut(Credentials::of(&request), Question::WatchFindings);
        let request = request.into_inner();
        let filter = self
            .engine
            .read(|state| Filter::parse(state, &request.node, &request.code, Timestamp::now()))?;
        // Weak: a watch must not keep a stopped engine alive.
        let engine = Arc::downgrade(&self.engine);
        let watch = Watch::new(move || Some(engine.upgrade()?.subscribe()), filter, self.stop.clone());
        Ok(Response::new(Box::pin(guard::until_refused(watch.stream(), leave))))
    }

    async fn get_path(&self, request: Request<v1::GetPathRequest>) -> Result<Response<v1::Path>, Status> {
        self.door.open(&request, Question::Path).await?;
        let request = request.into_inner();
        let now = Timestamp::now();
        let path = self
            .engine
            .read(|state| path::between(state, &request.from, &request.to, now))?;
        Ok(Response::new(convert::path_to_wire(&path)))
    }

    type ListPathsStream = BoxStream<'static, Result<v1::PathPage, Status>>;

    async fn list_paths(
        &self,
        request: Request<v1::ListPathsRequest>,
    ) -> Result<Response<Self::ListPathsStream>, Status> {
        self.door.open(&request, Question::Path).await?;
        let v1::ListPathsRequest { to, from } = request.get_ref();
        let now = Timestamp::now();
        let paths = self.engine.read(|state| {
            let many = Many::to(state, to, now)?;
            let others = || state.names().filter(|name| *name != many.node()).map(str::to_owned);
            let from: Vec<String> = match from.as_slice() {
                [] => others().collect(),
                named => named.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
            };
            Ok::<_, Status>(Paths {
                from: from.into_iter(),
                many,
            })
        })?;
        Ok(self.pages(&request, Question::Path, paths))
    }

    async fn get_pool(&self, request: Request<v1::GetPoolRequest>) -> Result<Response<v1::Pool>, Status> {
        self.door.open(&request, Question::Pool).await?;
        let pool = self.engine.read(State::pool_report);
        Ok(Response::new(convert::pool_to_wire(&pool)))
    }
}

/// Where a finding stands in a list: what counts before what is pending, causes
/// before what they explain, then by weight; the id keeps the order the same each time.
fn place(finding: &Finding) -> (bool, bool, Reverse<Severity>, String) {
    (
        finding.state == FindingState::Pending,
        !finding.explained_by.is_empty(),
        Reverse(finding.claim.severity),
        finding.id.clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::watch::tests::finding;

    #[test]
    fn causes_stand_before_what_they_explain_and_what_counts_before_what_is_pending() {
        let cause = finding(Code::Pool12, "b");
        let mut explained = (*finding(Code::Path01, "a")).clone();
        explained.explained_by = vec![cause.id.clone()];
        let mut pending = (*finding(Code::Pool02, "c")).clone();
        pending.state = FindingState::Pending;
        let worse = finding(Code::Path02, "d");
        let mut list = [Arc::new(pending), Arc::new(explained), cause, worse];
        list.sort_by_cached_key(|finding| place(finding));
        let ids: Vec<&str> = list.iter().map(|finding| finding.id.as_str()).collect();
        assert_eq!(ids, ["PATH02/d", "POOL12/b", "PATH01/a", "POOL02/c"]);
    }
}
