//! The four calls that are made to a runtime, each with a deadline.

use std::path::Path;

use tokio::time::Instant;
use tonic::Code;
use tonic::transport::Channel;

use super::connection::{CriError, answer, connect};
use super::v1;
use super::v1::runtime_service_client::RuntimeServiceClient;

/// The largest answer that is taken: what CRI servers themselves limit a message to.
const MESSAGE_LIMIT: usize = 16 << 20;

/// A connection.
#[derive(Debug, Clone)]
pub(super) struct Client {
    inner: RuntimeServiceClient<Channel>,
}

impl Client {
    /// Of the socket at `path`.
    pub(super) async fn connect(path: &Path, deadline: Instant) -> Result<Self, CriError> {
        let channel = connect(path, deadline).await?;
        Ok(Self {
            inner: RuntimeServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT),
        })
    }

    pub(super) async fn version(&self, deadline: Instant) -> Result<v1::VersionResponse, CriError> {
        let request = v1::VersionRequest {
            version: "v1".to_owned(),
        };
        answer("Version", deadline, self.inner.clone().version(request)).await
    }

    pub(super) async fn status(&self, deadline: Instant) -> Result<v1::StatusResponse, CriError> {
        let request = v1::StatusRequest { verbose: true };
        answer("Status", deadline, self.inner.clone().status(request)).await
    }

    pub(super) async fn list(&self, deadline: Instant) -> Result<Vec<v1::PodSandbox>, CriError> {
        let mut inner = self.inner.clone();
        let asked = inner.list_pod_sandbox(v1::ListPodSandboxRequest {});
        Ok(answer("ListPodSandbox", deadline, asked).await?.items)
    }

    pub(super) async fn sandbox(&self, id: &str, deadline: Instant) -> Result<v1::PodSandboxStatus, CriError> {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        let mut inner = self.inner.clone();
        let asked = inner.pod_sandbox_status(request);
        let status = answer("PodSandboxStatus", deadline, asked).await?.status;
        status.ok_or_else(|| CriError::Answer {
            call: "PodSandboxStatus",
            code: Code::Ok,
            message: "the answer has no status".to_owned(),
        })
    }
}
