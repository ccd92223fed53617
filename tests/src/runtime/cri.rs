//! A kubelet's part of CRI: it makes sandboxes and tells the runtime the pod CIDR. Calls block; do not call from
//! async code.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status};
use tower::service_fn;

use crate::kubernetes::error::{Error, Result, io};

// The messages that only the agent sends are generated too.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// What a call may take: a sandbox takes half a second on an idle machine, its plugins included.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the runtime answers, or its refusal.
pub type Answer<T> = std::result::Result<T, Status>;

/// A client of a runtime's socket.
#[derive(Debug)]
pub struct Cri {
    runtime: Runtime,
    channel: Channel,
}

/// What a sandbox is to be like.
#[derive(Debug, Clone)]
pub struct Pod<'a> {
    /// "web", in the namespace "default".
    pub name: &'a str,
    /// It shares the host's network.
    pub host_network: bool,
    /// The cgroup that it is below.
    pub cgroup: &'a str,
}

impl Cri {
    /// Of the socket at `path`, which is connected to when it is needed.
    pub fn new(path: &Path) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(io("a runtime for CRI"))?;
        let path: PathBuf = path.to_owned();
        let connector = service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = {
            let _entered = runtime.enter();
            Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
        };
        Ok(Self { runtime, channel })
    }

    /// `RunPodSandbox`: its id, or what the runtime says.
    pub fn run(&self, pod: &Pod<'_>) -> Answer<String> {
        let mode = if pod.host_network {
            v1::NamespaceMode::Node
        } else {
            v1::NamespaceMode::Pod
        };
        let options = v1::NamespaceOption {
            network: mode.into(),
            pid: v1::NamespaceMode::Container.into(),
            ipc: v1::NamespaceMode::Pod.into(),
        };
        let config = v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: pod.name.to_owned(),
                uid: format!("uid-{}", pod.name),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            hostname: if pod.host_network {
                String::new()
            } else {
                pod.name.to_owned()
            },
            log_directory: format!("/var/log/pods/default_{0}_uid-{0}", pod.name),
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: pod.cgroup.to_owned(),
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(options),
                }),
            }),
        };
        let request = v1::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: String::new(),
        };
        let mut client = self.client();
        let answer = self.wait(client.run_pod_sandbox(request))?;
        Ok(answer.pod_sandbox_id)
    }

    /// `StopPodSandbox`: its network is taken down, too.
    pub fn stop(&self, id: &str) -> Answer<()> {
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        self.wait(self.client().stop_pod_sandbox(request)).map(drop)
    }

    /// `RemovePodSandbox`.
    pub fn remove(&self, id: &str) -> Answer<()> {
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        self.wait(self.client().remove_pod_sandbox(request)).map(drop)
    }

    /// `UpdateRuntimeConfig`: the kubelet tells the pod CIDR, at its start and whenever it changes.
    pub fn update(&self, pod_cidr: &str) -> Answer<()> {
        let network = v1::NetworkConfig {
            pod_cidr: pod_cidr.to_owned(),
        };
        let request = v1::UpdateRuntimeConfigRequest {
            runtime_config: Some(v1::RuntimeConfig {
                network_config: Some(network),
            }),
        };
        self.wait(self.client().update_runtime_config(request)).map(drop)
    }

    /// `Status`: the condition `NetworkReady` and its message.
    pub fn network_ready(&self) -> Answer<(bool, String)> {
        let answer = self.wait(self.client().status(v1::StatusRequest { verbose: false }))?;
        let conditions = answer.status.unwrap_or_default().conditions.into_iter();
        let mut network = conditions.filter(|condition| condition.r#type == "NetworkReady");
        Ok(network
            .next()
            .map(|told| (told.status, told.message))
            .unwrap_or_default())
    }

    fn client(&self) -> v1::runtime_service_client::RuntimeServiceClient<Channel> {
        v1::runtime_service_client::RuntimeServiceClient::new(self.channel.clone())
    }

    fn wait<T>(&self, call: impl Future<Output = Answer<Response<T>>>) -> Answer<T> {
        let answer = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, call).await });
        let late = |_| Status::deadline_exceeded(format!("the runtime did not answer within {PATIENCE:?}"));
        answer.map_err(late)?.map(Response::into_inner)
    }
}

/// A runtime's refusal as the lab's error.
pub(super) fn refused(what: impl Into<String>) -> impl FnOnce(Status) -> Error {
    let what = what.into();
    move |status| Error::Malformed(format!("{what}: {}: {}", status.code(), status.message()))
}
