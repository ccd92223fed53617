//! What a fix sees: the aggregator, which may move to another node while it runs.

use std::cell::RefCell;
use std::time::Duration;

use cidrift_proto::finding::Finding;
use tokio::time::{Instant, sleep};

use super::app::Failure;
use super::args::Args;
use super::client::{AskError, Client};
use super::cluster::Cluster;
use super::plan::ground;
use crate::fix::ground::Ground;
use crate::fix::run::Eyes;
use crate::query::answer::{NodeAnswer, PathAnswer};

/// An aggregator that was drained away answers on another node within this.
const MOVES: Duration = Duration::from_secs(90);

/// A connection that is made anew when it breaks.
pub(super) struct Watching<'a> {
    args: &'a Args,
    cluster: Cluster,
    /// `None`: nobody was asked yet, or the one who was has gone.
    client: RefCell<Option<Client>>,
}

impl<'a> Watching<'a> {
    /// Asks nobody yet: what is taken back needs no aggregator.
    pub(super) async fn open(args: &'a Args) -> Result<Self, Failure> {
        Ok(Self {
            args,
            cluster: Cluster::open(args).await?,
            client: RefCell::default(),
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
        let client = self.client().await?;
        ground(&client, &self.cluster).await
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
    async fn ground(&self) -> Result<Ground, String> {
        let began = Instant::now();
        loop {
            let failed = match self.look().await {
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

    async fn path(&self, from: &str, to: &str) -> Result<PathAnswer, String> {
        self.ask(async |client| client.path(from, to).await).await
    }
}
