//! The whole aggregator, in this process, and asking it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cidrift_aggregator::app::App;
use cidrift_aggregator::cli::Cli;
use cidrift_lab::kubernetes::Cluster;
use cidrift_proto::v1;
use cidrift_proto::v1::agent_message::Kind as Up;
use cidrift_proto::v1::query_service_client::QueryServiceClient;
use cidrift_proto::v1::report_service_client::ReportServiceClient;
use clap::Parser;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::rights::AGGREGATOR;

/// Only a guard against hanging for ever.
pub(crate) const GUARD: Duration = Duration::from_secs(30);

/// An aggregator that runs.
pub(crate) struct Running {
    pub(crate) runtime: Runtime,
    pub(crate) grpc: SocketAddr,
    http: SocketAddr,
    shutdown: CancellationToken,
    serving: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Running {
    /// Starts it, and waits until it has read the control plane.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let kubeconfig: PathBuf = cluster.kubeconfig_for(AGGREGATOR, None, false).unwrap();
        let cli = Cli::parse_from([
            "cidrift-aggregator",
            "--listen=127.0.0.1:0",
            "--plaintext",
            "--identity=tokens",
            "--http-listen=127.0.0.1:0",
            "--settle=1s",
            "--kubeconfig",
            kubeconfig.to_str().unwrap(),
        ]);
        let runtime = Runtime::new().unwrap();
        let shutdown = CancellationToken::new();
        let app = runtime.block_on(App::bind(cli)).unwrap();
        let (grpc, http) = app.addresses().unwrap();
        let serving = runtime.spawn(app.serve(shutdown.clone()));
        let running = Self {
            runtime,
            grpc,
            http,
            shutdown,
            serving: Some(serving),
        };
        running.until("it is ready", || running.get("/readyz").contains(" 200 "));
        running
    }

    /// Waits until something is so.
    pub(crate) fn until(&self, what: &str, mut so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !so() {
            assert!(start.elapsed() < GUARD, "{what}: it never became so");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// An answer over HTTP, with its head.
    pub(crate) fn get(&self, path: &str) -> String {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(self.http).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// An agent's Hello with this token; the stream, once Welcome has come.
    pub(crate) fn hello(&self, node: &str, token: Option<&str>) -> Result<Report, Status> {
        self.runtime.block_on(async {
            let channel = self.connect().await;
            let (sender, receiver) = mpsc::channel(16);
            let hello = v1::Hello {
                protocol: cidrift_proto::PROTOCOL,
                node: node.to_owned(),
                agent_version: "0.1.0".to_owned(),
                instance: format!("by hand for {node}"),
            };
            let hello = v1::Hello {
                instance: hello.instance.replace(' ', "-"),
                ..hello
            };
            sender
                .try_send(v1::AgentMessage {
                    kind: Some(Up::Hello(hello)),
                })
                .unwrap();
            let request = with_token(ReceiverStream::new(receiver), token);
            let inbound = ReportServiceClient::new(channel).report(request).await?.into_inner();
            let mut report = Report {
                inbound,
                _sender: sender,
            };
            report.inbound.message().await?.unwrap();
            Ok(report)
        })
    }

    /// How a report stream ends.
    pub(crate) fn end(&self, mut report: Report) -> Status {
        self.runtime.block_on(async {
            let end = async {
                loop {
                    match report.inbound.message().await {
                        Ok(Some(_)) => {}
                        Ok(None) => panic!("it ended without a status"),
                        Err(status) => return status,
                    }
                }
            };
            tokio::time::timeout(GUARD, end).await.unwrap()
        })
    }

    /// Asks for the cluster in a few figures.
    pub(crate) fn status(&self, token: Option<&str>) -> Result<v1::Status, Status> {
        self.runtime.block_on(async {
            let mut client = QueryServiceClient::new(self.connect().await);
            let answer = client.get_status(with_token(v1::GetStatusRequest {}, token)).await?;
            Ok(answer.into_inner())
        })
    }

    /// Asks for the pool.
    pub(crate) fn pool(&self, token: Option<&str>) -> Result<v1::Pool, Status> {
        self.runtime.block_on(async {
            let mut client = QueryServiceClient::new(self.connect().await);
            let answer = client.get_pool(with_token(v1::GetPoolRequest {}, token)).await?;
            Ok(answer.into_inner())
        })
    }

    /// Asks for one node.
    pub(crate) fn node(&self, name: &str, token: &str) -> Result<v1::NodeDetail, Status> {
        self.runtime.block_on(async {
            let mut client = QueryServiceClient::new(self.connect().await);
            let question = v1::GetNodeRequest { name: name.to_owned() };
            Ok(client.get_node(with_token(question, Some(token))).await?.into_inner())
        })
    }

    /// Asks for all findings.
    pub(crate) fn findings(&self, token: &str) -> Result<Vec<v1::Finding>, Status> {
        self.runtime.block_on(async {
            let mut client = QueryServiceClient::new(self.connect().await);
            let question = with_token(v1::ListFindingsRequest::default(), Some(token));
            Ok(client.list_findings(question).await?.into_inner().findings)
        })
    }

    /// Watches findings.
    pub(crate) fn watch(&self, token: &str) -> Result<Streaming<v1::FindingEvent>, Status> {
        self.runtime.block_on(async {
            let mut client = QueryServiceClient::new(self.connect().await);
            let question = with_token(v1::WatchFindingsRequest::default(), Some(token));
            Ok(client.watch_findings(question).await?.into_inner())
        })
    }

    async fn connect(&self) -> Channel {
        let url = format!("http://{}", self.grpc);
        Channel::from_shared(url).unwrap().connect().await.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(serving) = self.serving.take() {
            let ended = self
                .runtime
                .block_on(async { tokio::time::timeout(GUARD, serving).await });
            // A test that failed says what it has to say itself.
            if !std::thread::panicking() {
                ended.unwrap().unwrap().unwrap();
            }
        }
    }
}

/// A report stream that was let in.
#[derive(Debug)]
pub(crate) struct Report {
    inbound: Streaming<v1::AggregatorMessage>,
    _sender: mpsc::Sender<v1::AgentMessage>,
}

fn with_token<T>(question: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(question);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}
