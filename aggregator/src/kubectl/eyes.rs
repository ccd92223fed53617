//! What a fix sees: the aggregator, which may move to another node while it runs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use cidrift_proto::finding::Finding;
use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep};

use super::app::Failure;
use super::args::Args;
use super::client::{AskError, Client};
use super::cluster::Cluster;
use super::ground::{AT_ONCE, Listed, ground};
use crate::fix::ground::Ground;
use crate::fix::run::{Eyes, Ways};
use crate::query::answer::{NodeAnswer, PathRow};

/// An aggregator that was drained away answers on another node within this.
const MOVES: Duration = Duration::from_secs(90);

/// A connection that is made anew when it breaks.
pub(super) struct Watching<'a> {
    args: &'a Args,
    cluster: Cluster,
    /// `None`: nobody was asked yet, or the one who was has gone.
    client: RefCell<Option<Client>>,
    listed: RefCell<Option<Listed>>,
}

impl<'a> Watching<'a> {
    /// Asks nobody yet: what is taken back needs no aggregator.
    pub(super) async fn open(args: &'a Args) -> Result<Self, Failure> {
        Ok(Self {
            args,
            cluster: Cluster::open(args).await?,
            client: RefCell::default(),
            listed: RefCell::default(),
        })
    }

    async fn client(&self) -> Result<Client, AskError> {
        let there = self.client.borrow().clone();
        if let Some(client) = there {
            return Ok(client);
        }
        let client = Client::connect(self.args).await?;
        self.client.replace(Some(client.clone()));
        Ok(client)
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Once, for the operator, who sees at once what is wrong.
    pub(super) async fn look(&self) -> Result<Ground, Failure> {
        self.look_at(None).await
    }

    async fn look_at(&self, node: Option<&str>) -> Result<Ground, Failure> {
        let client = self.client().await?;
        let listed = self.listed.borrow().clone();
        let (ground, listed) = ground(&client, &self.cluster, node.zip(listed)).await?;
        self.listed.replace(Some(listed));
        Ok(ground)
    }

    /// An aggregator that is asked about one way after the other.
    async fn one_by_one(&self, from: &[String], to: &str) -> Ways {
        let asked = from.iter().map(|name| async move {
            let path = self.ask(async |client| client.path(name, to).await).await;
            (name.clone(), path.map(PathRow::from))
        });
        stream::iter(asked).buffer_unordered(AT_ONCE).collect().await
    }

    /// Asks; where nobody answers, a new connection is made for the next question.
    async fn ask<T>(&self, question: impl AsyncFnOnce(&Client) -> Result<T, AskError>) -> Result<T, String> {
        let client = self.client().await.map_err(|error| error.to_string())?;
        let answer = question(&client).await;
        if matches!(&answer, Err(error) if !matches!(error, AskError::Question(_))) {
            self.client.replace(None);
        }
        answer.map_err(|error| error.to_string())
    }
}

impl Eyes for Watching<'_> {
    async fn ground(&self, node: Option<&str>) -> Result<Ground, String> {
        let began = Instant::now();
        loop {
            let failed = match self.look_at(node).await {
                Ok(ground) => return Ok(ground),
                Err(failed) => failed.to_string(),
            };
            if began.elapsed() >= MOVES {
                return Err(failed);
            }
            self.client.replace(None);
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn node(&self, name: &str) -> Result<NodeAnswer, String> {
        self.ask(async |client| client.node(name).await).await
    }

    async fn findings(&self) -> Result<Vec<Finding>, String> {
        self.ask(async |client| client.findings(false, "", "").await).await
    }

    async fn paths(&self, from: &[String], to: &str) -> Ways {
        if from.is_empty() {
            return Ways::new();
        }
        let told = match self.ask(async |client| client.paths(from, to).await).await {
            Ok(Some(told)) => told.rows,
            Ok(None) => return self.one_by_one(from, to).await,
            Err(why) => return from.iter().map(|name| (name.clone(), Err(why.clone()))).collect(),
        };
        let mut rows: BTreeMap<String, PathRow> = told.into_iter().map(|row| (row.from.clone(), row)).collect();
        let row = |name: &String| {
            let row = rows.remove(name);
            let row = row.ok_or_else(|| format!("the aggregator knows no node named {name:?}"));
            (name.clone(), row)
        };
        from.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use axum::http::{HeaderName, header};
    use axum::middleware::from_fn;
    use axum::response::IntoResponse;
    use clap::Parser;
    use jiff::Timestamp;
    use tokio::net::TcpListener;
    use tonic::service::Routes;
    use tonic::transport::Server;
    use tonic::transport::server::TcpIncoming;

    use super::*;
    use crate::cluster::{ControlPlane, NodeRecord, PoolConfig};
    use crate::engine::{Config, Engine};
    use crate::query::service;

    /// An aggregator that knows three Nodes and hears of no agent, with the question about many ways or without it.
    async fn aggregator(engine: &Arc<Engine>, older: bool) -> SocketAddr {
        let refuse = move |request: axum::extract::Request, next: axum::middleware::Next| async move {
            if older && request.uri().path().ends_with("/ListPaths") {
                // As tonic answers for a method that it does not know.
                let headers = [
                    (header::CONTENT_TYPE, "application/grpc"),
                    (HeaderName::from_static("grpc-status"), "12"),
                ];
                return (headers, "").into_response();
            }
            next.run(request).await
        };
        let routes = Routes::new(service(Arc::clone(engine))).into_axum_router();
        let routes = Routes::from(routes.layer(from_fn(refuse)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder().add_routes(routes);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        address
    }

    async fn asked(address: SocketAddr, from: &[String], to: &str) -> Ways {
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("config");
        let text = "{apiVersion: v1, kind: Config, current-context: x, clusters: [{name: x, cluster: {server: 'http://127.0.0.1:1'}}], \
                    users: [{name: x, user: {}}], contexts: [{name: x, context: {cluster: x, user: x}}]}";
        std::fs::write(&kubeconfig, text).unwrap();
        let server = format!("http://{address}");
        let words = ["kubectl-cidrift", "--server", &server, "--kubeconfig"];
        let words = words.into_iter().chain([kubeconfig.to_str().unwrap(), "status"]);
        let args = Args::try_parse_from(words).unwrap();
        Watching::open(&args).await.unwrap().paths(from, to).await
    }

    #[tokio::test]
    async fn ways_are_the_same_asked_for_together_and_of_an_older_aggregator_one_by_one() {
        let names = ["n1", "n2", "n3"].map(str::to_owned);
        let nodes = names.iter().enumerate().map(|(n, name)| {
            let node = NodeRecord {
                name: name.clone(),
                uid: name.clone(),
                pod_cidrs: vec![format!("10.244.{n}.0/24").parse().unwrap()],
                ..NodeRecord::default()
            };
            (name.clone(), node)
        });
        let plane = ControlPlane {
            nodes: nodes.collect(),
            observed_at: Some(Timestamp::now()),
            ..ControlPlane::default()
        };
        let engine = Engine::new(Config {
            hold: MOVES,
            settle: MOVES,
            silence: MOVES,
            pool: PoolConfig::default(),
        });
        engine.control_plane(plane, Timestamp::now());
        let from = [&names[..2], &["gone".to_owned()]].concat();
        let mut together = asked(aggregator(&engine, false).await, &from, "n3").await;
        let mut single = asked(aggregator(&engine, true).await, &from, "n3").await;
        // Each says in its own words that there is no such node.
        for ways in [&mut together, &mut single] {
            assert!(ways.remove("gone").unwrap().unwrap_err().contains("gone"));
        }
        assert_eq!(together.len(), 2);
        assert!(together["n1"].as_ref().unwrap().health() != crate::summary::Health::Healthy);
        assert_eq!(together, single);
    }
}
