//! With a runtime in this process that renders, or does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::time::Instant;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use super::*;

const PATH: &str = "/etc/cni/net.d/10-containerd-net.conflist";

/// What it does with a call; the first is 1.
type Answer = dyn Fn(&Path, usize, &str) -> Result<(), Status> + Send + Sync;

#[derive(Clone)]
struct Fake {
    directory: PathBuf,
    calls: Arc<Mutex<Vec<String>>>,
    answer: Arc<Answer>,
}

#[tonic::async_trait]
impl RuntimeService for Fake {
    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Result<Response<v1::UpdateRuntimeConfigResponse>, Status> {
        let config = request.into_inner().runtime_config.unwrap().network_config.unwrap();
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(config.pod_cidr.clone());
            calls.len()
        };
        (self.answer)(&self.directory, number, &config.pod_cidr)?;
        Ok(Response::new(v1::UpdateRuntimeConfigResponse {}))
    }
}

struct Host {
    root: tempfile::TempDir,
    directory: PathBuf,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("etc/cni/net.d");
        fs::create_dir_all(&directory).unwrap();
        fs::create_dir(root.path().join("run")).unwrap();
        Self {
            root,
            directory,
            calls: Arc::default(),
        }
    }

    fn serving(answer: impl Fn(&Path, usize, &str) -> Result<(), Status> + Send + Sync + 'static) -> Self {
        let host = Self::new();
        let fake = Fake {
            directory: host.directory.clone(),
            calls: host.calls.clone(),
            answer: Arc::new(answer),
        };
        let service = Server::builder().add_service(RuntimeServiceServer::new(fake));
        tokio::spawn(service.serve_with_incoming(UnixListenerStream::new(host.listen())));
        host
    }

    fn listen(&self) -> UnixListener {
        UnixListener::bind(self.root.path().join("run/c.sock")).unwrap()
    }

    async fn render(&self, cidrs: &[&str], timeout: u64) -> Result<String, String> {
        let args = Render {
            endpoint: "/run/c.sock".into(),
            host_root: self.root.path().to_owned(),
            path: PATH.into(),
            pod_cidr: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
            timeout: Duration::from_millis(timeout),
        };
        render(&args).await.map_err(|error| error.to_string())
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

fn write(directory: &Path, subnets: &str) {
    let subnets: Vec<_> = subnets
        .split(',')
        .map(|one| [serde_json::json!({"subnet": one})])
        .collect();
    let ipam = serde_json::json!({"ranges": subnets, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]});
    let text = serde_json::json!({"name": "n", "plugins": [{"type": "ptp", "ipam": ipam}]}).to_string();
    fs::write(directory.join("10-containerd-net.conflist"), text).unwrap();
}

#[tokio::test]
async fn it_is_called_until_the_file_is_there() {
    let host = Host::serving(|directory, number, cidrs| {
        match number {
            1 => return Err(Status::unknown("server is not initialized yet")),
            2 => fs::write(directory.join("10-containerd-net.conflist"), "{\"name\"").unwrap(),
            3 => write(directory, cidrs),
            _ => {}
        }
        Ok(())
    });
    let told = host.render(&["10.244.9.0/24", "fd00:9::/64"], 20_000).await.unwrap();
    assert_eq!(told, format!("{PATH} was rendered for 10.244.9.0/24, fd00:9::/64"));
    assert_eq!(host.calls(), ["10.244.9.0/24,fd00:9::/64"; 3]);

    let told = host.render(&["fd00:9::/64"], 20_000).await.unwrap();
    assert_eq!(told, format!("{PATH} is there and names fd00:9::/64 already"));
    assert_eq!(host.calls().len(), 3);
}

#[tokio::test]
async fn a_file_of_another_cidr_is_never_rendered_over() {
    let host = Host::serving(|_, _, _| Ok(()));
    write(&host.directory, "10.244.3.0/24");
    let told = host.render(&["10.244.9.0/24"], 20_000).await.unwrap_err();
    assert_eq!(
        told,
        format!(
            "{PATH} is there and names 10.244.3.0/24, not 10.244.9.0/24: it is never rendered over; remove it first"
        )
    );
    assert_eq!(host.calls(), [""; 0]);
    // Nor one that names none at all.
    fs::write(
        host.directory.join("10-containerd-net.conflist"),
        "{\"dst\": \"0.0.0.0/0\"}",
    )
    .unwrap();
    let told = host.render(&["10.244.9.0/24"], 20_000).await.unwrap_err();
    assert!(told.contains("names no CIDR, not 10.244.9.0/24"), "{told}");
}

#[tokio::test]
async fn a_template_that_takes_the_first_range_only_is_told_as_soon_as_it_shows() {
    let host = Host::serving(|directory, _, cidrs| {
        write(directory, cidrs.split(',').next().unwrap());
        Ok(())
    });
    let start = Instant::now();
    let told = host
        .render(&["10.244.9.0/24", "fd00:9::/64"], 60_000)
        .await
        .unwrap_err();
    assert!(told.contains("names 10.244.9.0/24, not fd00:9::/64"), "{told}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[tokio::test]
async fn nothing_rendered_in_time_is_told_with_what_may_be_the_cause() {
    let host = Host::serving(|_, _, _| Ok(()));
    let told = host.render(&["10.244.9.0/24"], 700).await.unwrap_err();
    assert!(
        told.contains("was not rendered within 0.7 s") && told.contains("conf_template"),
        "{told}"
    );
    fs::write(host.directory.join("05-cilium.conflist"), "{}").unwrap();
    fs::write(host.directory.join("05-cilium.conflist.bak"), "{}").unwrap();
    let told = host.render(&["10.244.9.0/24"], 700).await.unwrap_err();
    assert!(told.ends_with("and there is 05-cilium.conflist"), "{told}");

    let host = Host::serving(|_, _, _| Err(Status::unknown("failed to parse cni config template")));
    let told = host.render(&["10.244.9.0/24"], 700).await.unwrap_err();
    assert!(told.ends_with("failed to parse cni config template"), "{told}");
}

#[tokio::test]
async fn what_serves_no_cri_is_not_asked_twice() {
    let host = Host::serving(|_, _, _| Err(Status::unimplemented("unknown service runtime.v1.RuntimeService")));
    let told = host.render(&["10.244.9.0/24"], 60_000).await.unwrap_err();
    assert!(told.contains("does not serve CRI v1"), "{told}");
    assert_eq!(host.calls().len(), 1);
}

#[tokio::test]
async fn a_socket_that_hangs_or_is_not_there_costs_no_more_than_the_timeout() {
    let host = Host::new();
    let bounded = async |why: &str| {
        let start = Instant::now();
        let told = host.render(&["10.244.9.0/24"], 1_500).await.unwrap_err();
        assert!(told.contains("/run/c.sock: ") && told.contains(why), "{told}");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    };
    bounded("the socket cannot be opened").await;
    let listener = host.listen();
    bounded("it did not answer").await;
    drop(listener);
    bounded("Connection refused").await;
}

#[tokio::test]
async fn a_directory_that_is_not_mounted_is_told_at_once() {
    let host = Host::new();
    fs::remove_dir(&host.directory).unwrap();
    let told = host.render(&["10.244.9.0/24"], 60_000).await.unwrap_err();
    assert!(told.contains("is the host's directory mounted?"), "{told}");
}
