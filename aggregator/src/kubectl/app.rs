//! Parses, asks, prints.

use std::io::Write;
use std::process::ExitCode;

use cidrift_proto::catalogue::{CATALOGUE, Code};
use cidrift_proto::finding::{Finding, FindingState, Severity};
use clap::Parser;
use futures::future::join_all;
use serde::Serialize;

use super::args::{Args, Command};
use super::client::{AskError, Client};
use super::outcome::Outcome;
use super::output::{Output, PrintError};
use super::{fix, plan, render, watch};
use crate::fix::gather::GatherError;
use crate::fix::run::LeaseError;
use crate::kubectl::render::{AgentsOfVersion, agents_by_version};
use crate::query::answer::{NodeAnswer, StatusAnswer};
use crate::summary::{Health, NodeSummary};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Print(#[from] PrintError),
    #[error("the aggregator has ended the watch: it is stopping; start the watch again when it is back")]
    WatchEnded,
    #[error("no finding has the code or name {0:?}; `kubectl cidrift explain` lists them")]
    NoSuchCode(String),
    #[error("there is no Node {0:?}")]
    NoSuchNode(String),
    #[error("there is no Node {0:?} now; {1}")]
    Missed(String, String),
    #[error(transparent)]
    Gather(#[from] GatherError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error("the plan in {0} cannot be read: {1}")]
    Plan(String, String),
    #[error("--node-cidr-mask-size-ipv4 and -ipv6 say how long CIDRs of other ranges are: they want --migrate")]
    Masks,
    #[error("the plan's ground has moved: {0}: plan again")]
    Moved(String),
    #[error("{0}")]
    Blocked(String),
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}

impl Failure {
    /// What the program ends with: that a node must not be begun is an answer.
    fn outcome(&self) -> Outcome {
        match self {
            Self::Blocked(_) => Outcome::Findings,
            _ => Outcome::NoAnswer,
        }
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    // clap itself ends with 2 on wrong usage and with 0 after --help.
    let args = Args::parse();
    let mut output = Output::standard(args.output);
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)
        .and_then(|runtime| runtime.block_on(run(&args, &mut output)));
    match outcome {
        Ok(outcome) => outcome.into(),
        // The reader had enough: that is no failure, and nobody is left to be told.
        Err(Failure::Print(PrintError::Closed)) => Outcome::Fine.into(),
        Err(failure) => {
            // Standard error may be closed too; there is nothing to do about it then.
            let _ = writeln!(
                std::io::stderr(),
                "error: {}",
                render::text::clean(&failure.to_string())
            );
            failure.outcome().into()
        }
    }
}

/// `status` for programs.
#[derive(Serialize)]
struct StatusDocument<'a> {
    #[serde(flatten)]
    status: &'a StatusAnswer,
    findings: &'a [Finding],
}

/// `nodes` for programs.
#[derive(Serialize)]
struct NodesDocument<'a> {
    nodes: &'a [NodeSummary],
}

/// `findings` for programs: an empty list alone would look like health.
#[derive(Serialize)]
struct FindingsDocument<'a> {
    health: Health,
    unknowns: &'a [String],
    findings: &'a [Finding],
}

/// `version` for programs.
#[derive(Serialize)]
struct VersionDocument<'a> {
    client: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aggregator: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agents: Option<&'a [AgentsOfVersion]>,
}

/// `explain` without a code, for programs.
#[derive(Serialize)]
struct CatalogueDocument {
    catalogue: &'static [cidrift_proto::catalogue::Entry],
}

async fn run<W: Write>(args: &Args, output: &mut Output<W>) -> Result<Outcome, Failure> {
    match &args.command {
        Command::Explain { code } => return explain(output, code.as_deref()),
        Command::Version { client: true } => return version(output, None, None),
        Command::Plan(wanted) => return plan::run(args, wanted, output).await,
        Command::Fix(wanted) => return fix::run(args, wanted, output).await,
        Command::Migrate(wanted) => return plan::migrate(args, wanted, output).await,
        _ => {}
    }
    let client = Client::connect(args).await?;
    match &args.command {
        Command::Status => status(&client, output).await,
        Command::Nodes => {
            let nodes = client.nodes().await?;
            output.answer(&NodesDocument { nodes: &nodes }, |look| render::nodes(&nodes, look))?;
            Ok(Outcome::Fine)
        }
        Command::Node { name } => {
            let node = client.node(name).await?;
            output.answer(&node, |look| render::node(&node, look))?;
            Ok(node.summary.health.into())
        }
        Command::Findings {
            watch: true,
            node,
            code,
            ..
        } => {
            let (node, code) = (node.as_deref().unwrap_or(""), code.as_deref().unwrap_or(""));
            watch::watch(&client, output, node, code).await
        }
        Command::Findings { all, node, code, .. } => {
            findings(&client, output, *all, node.as_deref(), code.as_deref()).await
        }
        Command::Path { all_to: Some(to), .. } => {
            let paths = client.all_paths(to).await?;
            output.answer(&paths, |look| render::paths(&paths, look))?;
            Ok(paths.health.into())
        }
        Command::Path { from, to, .. } => {
            let end = |end: &Option<String>| end.clone().unwrap_or_default();
            let path = client.path(&end(from), &end(to)).await?;
            output.answer(&path, |look| render::path(&path, look))?;
            Ok(path.health.into())
        }
        Command::Pool => {
            let pool = client.pool().await?;
            output.answer(&pool, |look| render::pool(&pool, look))?;
            Ok(Outcome::Fine)
        }
        Command::Version { .. } => {
            let status = client.status().await?;
            let agents = agents_by_version(&client.nodes().await?);
            version(output, Some(&status.aggregator_version), Some(&agents))
        }
        Command::Explain { code } => explain(output, code.as_deref()),
        Command::Plan(wanted) => plan::run(args, wanted, output).await,
        Command::Fix(wanted) => fix::run(args, wanted, output).await,
        Command::Migrate(wanted) => plan::migrate(args, wanted, output).await,
    }
}

async fn status<W: Write>(client: &Client, output: &mut Output<W>) -> Result<Outcome, Failure> {
    let status = client.status().await?;
    let findings = client.findings(false, "", "").await?;
    let mut nodes = Vec::new();
    if !output.format().is_machine() && status.status.nodes as usize <= render::MATRIX {
        nodes = details(client).await?;
    }
    let document = StatusDocument {
        status: &status,
        findings: &findings,
    };
    output.answer(&document, |look| render::status(&status, &findings, &nodes, look))?;
    Ok(status.status.health.into())
}

/// Every node, where there are few.
async fn details(client: &Client) -> Result<Vec<NodeAnswer>, Failure> {
    let names = client.nodes().await?;
    // Agents may report for more than the control plane has.
    if names.len() > render::MATRIX {
        return Ok(Vec::new());
    }
    let nodes = join_all(names.iter().map(|node| client.node(&node.name))).await;
    let there = nodes.into_iter().filter_map(|node| match node {
        // Deleted since it was listed.
        Err(AskError::Question(_)) => None,
        other => Some(other.map_err(Failure::from)),
    });
    there.collect()
}

async fn findings<W: Write>(
    client: &Client,
    output: &mut Output<W>,
    all: bool,
    node: Option<&str>,
    code: Option<&str>,
) -> Result<Outcome, Failure> {
    let findings = client.findings(all, node.unwrap_or(""), code.unwrap_or("")).await?;
    // Asked after the findings: what turned wrong in between is rather seen than missed.
    let status = client.status().await?.status;
    let counts = |f: &Finding| f.state == FindingState::Open && f.claim.severity > Severity::Info;
    let health = if findings.iter().any(counts) {
        Health::Findings
    } else if status.unknowns.is_empty() && status.health != Health::Unknown {
        Health::Healthy
    } else {
        Health::Unknown
    };
    let document = FindingsDocument {
        health,
        unknowns: &status.unknowns,
        findings: &findings,
    };
    output.answer(&document, |look| {
        render::findings(&findings, health, &status.unknowns, look)
    })?;
    Ok(health.into())
}

fn explain<W: Write>(output: &mut Output<W>, code: Option<&str>) -> Result<Outcome, Failure> {
    match code {
        None => output.answer(&CatalogueDocument { catalogue: CATALOGUE }, render::catalogue)?,
        Some(text) => {
            let code: Code = text.parse().map_err(|_| Failure::NoSuchCode(text.to_owned()))?;
            output.answer(code.entry(), |look| render::page(code.entry(), look))?;
        }
    }
    Ok(Outcome::Fine)
}

fn version<W: Write>(
    output: &mut Output<W>,
    aggregator: Option<&str>,
    agents: Option<&[AgentsOfVersion]>,
) -> Result<Outcome, Failure> {
    let document = VersionDocument {
        client: cidrift_proto::version(),
        aggregator,
        agents,
    };
    output.answer(&document, |_| render::versions(document.client, aggregator, agents))?;
    Ok(Outcome::Fine)
}
