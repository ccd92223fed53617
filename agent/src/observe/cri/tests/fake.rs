//! A runtime in this process: it serves what a test puts into it, over a real socket.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::super::v1;
use super::super::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};

/// What it serves.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) items: Vec<v1::PodSandbox>,
    pub(super) statuses: HashMap<String, v1::PodSandboxStatus>,
    pub(super) info: HashMap<String, String>,
    /// Ids whose status was asked for, in order.
    pub(super) asked: Vec<String>,
    /// How often it was asked for its version: once a connection.
    pub(super) connections: usize,
    /// The call that is never answered.
    pub(super) hangs: &'static str,
    /// Every call is answered so.
    pub(super) refuses: Option<Status>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Fake(Arc<Mutex<Content>>);

/// Listening until dropped; its connections break then too.
pub(super) struct Listening {
    path: PathBuf,
    runtime: Option<Runtime>,
    fake: Fake,
    /// Who else had a clone of it before: every connection gets one.
    others: usize,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let _ = std::fs::remove_file(&self.path);
        for _ in 0..1000 {
            if Arc::strong_count(&self.fake.0) <= self.others + 1 {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A socket at `path` below `root`.
pub(super) fn listen(root: &Path, path: &str) -> (PathBuf, UnixListener) {
    let path = root.join(path.trim_start_matches('/'));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    (path, listener)
}

impl Fake {
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    pub(super) fn serve(&self, root: &Path, path: &str) -> Listening {
        let others = Arc::strong_count(&self.0);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let guard = runtime.enter();
        let (path, listener) = listen(root, path);
        let service = RuntimeServiceServer::new(self.clone()).max_encoding_message_size(usize::MAX);
        let incoming = UnixListenerStream::new(listener);
        runtime.spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        drop(guard);
        Listening {
            path,
            runtime: Some(runtime),
            fake: self.clone(),
            others,
        }
    }

    /// A sandbox; without an address it shares the host's network.
    pub(super) fn add(&self, id: &str, pod: &str, ready: bool, address: Option<&str>) {
        let (namespace, name) = pod.split_once('/').unwrap();
        let metadata = v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: namespace.to_owned(),
            attempt: 0,
        };
        let network = match address {
            Some(_) => v1::NamespaceMode::Pod,
            None => v1::NamespaceMode::Node,
        };
        let options = v1::NamespaceOption {
            network: network.into(),
            ..v1::NamespaceOption::default()
        };
        let state = if ready {
            v1::PodSandboxState::SandboxReady
        } else {
            v1::PodSandboxState::SandboxNotready
        };
        let status = v1::PodSandboxStatus {
            id: id.to_owned(),
            network: Some(v1::PodSandboxNetworkStatus {
                ip: address.unwrap_or_default().to_owned(),
                additional_ips: Vec::new(),
            }),
            linux: Some(v1::LinuxPodSandboxStatus {
                namespaces: Some(v1::Namespace { options: Some(options) }),
            }),
            ..v1::PodSandboxStatus::default()
        };
        let item = v1::PodSandbox {
            id: id.to_owned(),
            metadata: Some(metadata),
            state: state.into(),
            created_at: 1_763_967_600_000_000_000,
        };
        self.with(|content| {
            content.items.push(item);
            content.statuses.insert(id.to_owned(), status);
        });
    }

    async fn answer<T>(&self, call: &str, give: impl FnOnce(&mut Content) -> Result<T, Status>) -> Answer<T> {
        if self.with(|content| content.hangs == call) {
            std::future::pending::<()>().await;
        }
        self.with(|content| match &content.refuses {
            Some(status) => Err(status.clone()),
            None => give(content).map(Response::new),
        })
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl RuntimeService for Fake {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        let version = v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "fake".to_owned(),
            runtime_version: "1.0".to_owned(),
            runtime_api_version: "v1".to_owned(),
        };
        self.answer("Version", |content| {
            content.connections += 1;
            Ok(version)
        })
        .await
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        assert!(request.into_inner().verbose);
        self.answer("Status", |content| {
            Ok(v1::StatusResponse {
                status: None,
                info: content.info.clone(),
            })
        })
        .await
    }

    async fn list_pod_sandbox(&self, _: Request<v1::ListPodSandboxRequest>) -> Answer<v1::ListPodSandboxResponse> {
        self.answer("ListPodSandbox", |content| {
            Ok(v1::ListPodSandboxResponse {
                items: content.items.clone(),
            })
        })
        .await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.answer("PodSandboxStatus", |content| {
            let status = content.statuses.get(&id).cloned();
            content.asked.push(id);
            match status {
                Some(status) if status.id == "broken" => Err(Status::unknown("its shim does not answer")),
                Some(status) => Ok(v1::PodSandboxStatusResponse { status: Some(status) }),
                None => Err(Status::not_found("no such sandbox")),
            }
        })
        .await
    }
}
