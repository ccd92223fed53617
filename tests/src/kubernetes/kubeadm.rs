//! kube-controller-manager as kubeadm runs it: a static pod on a node, whose
//! mirror pod, flags, restarts and last exit are in the API; and kubeadm's own
//! record of what was meant.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::kubernetes::client::Api;
use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::error::{Error, Result, api, io};
use crate::kubernetes::node::Node;
use crate::kubernetes::pki::write;
use crate::kubernetes::place;
use crate::kubernetes::scenario::list;
use crate::kubernetes::{image, tools};

/// The program and its container.
const PROGRAM: &str = "kube-controller-manager";

/// Its image, made here from the program that was built.
const IMAGE: &str = "registry.k8s.io/kube-controller-manager:v1.36.3";

/// Where kubelet looks for static pods, on the node.
const MANIFESTS: &str = "/etc/kubernetes/manifests";

/// kube-controller-manager on one node.
#[derive(Debug)]
pub struct StaticManager<'a> {
    node: &'a Node,
    services: String,
}

impl<'a> StaticManager<'a> {
    /// Gives the node all that it needs: image, kubeconfig, keys, and a kubelet that reads manifests.
    /// Nothing runs before [`Self::run`]; the bench's own instance should be stopped then.
    pub fn install(cluster: &'a Cluster, node: &str) -> Result<Self> {
        let node = cluster.node(node)?;
        let kubernetes = tools::build(&tools::KUBERNETES, &|_| {})?;
        let archive = image::of_program(&kubernetes.path(PROGRAM)?, IMAGE)?;
        let path = archive.to_string_lossy();
        let output = node.ctr(&["images", "import", "--snapshotter", "native", &path])?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::Malformed(format!(
                "containerd on {} refuses {IMAGE}: {said}",
                node.name
            )));
        }
        let kubernetes = node.root().join("etc/kubernetes");
        let pki = cluster.directory().join("pki");
        let kubeconfig = cluster.kubeconfig_for(&format!("system:{PROGRAM}"), None, true)?;
        let files = [
            (kubeconfig, "controller-manager.conf"),
            (pki.join("ca.crt"), "pki/ca.crt"),
            (pki.join("ca.key"), "pki/ca.key"),
            (pki.join("sa.key"), "pki/sa.key"),
        ];
        for (from, to) in files {
            fs::copy(&from, kubernetes.join(to)).map_err(io(format!("copy {}", from.display())))?;
        }
        place::make(&kubernetes.join("manifests"))?;
        read_manifests(node)?;
        Ok(Self {
            node,
            services: list(&cluster.scenario().service_cidr),
        })
    }

    /// Its pod's name in kube-system.
    pub fn pod(&self) -> String {
        format!("{PROGRAM}-{}", self.node.name)
    }

    /// Writes its manifest, with these flags after kubeadm's own. kubelet sees it by itself.
    pub fn run(&self, flags: &[String]) -> Result<()> {
        let fresh = self.node.root().join("etc/kubernetes/.manifest.new");
        write(&fresh, &format!("{:#}\n", self.manifest(flags)), 0o600)?;
        fs::rename(&fresh, self.path()).map_err(io(format!("rename {}", fresh.display())))
    }

    /// Takes its manifest away: kubelet ends it.
    pub fn remove(&self) -> Result<()> {
        fs::remove_file(self.path()).map_err(io(format!("remove {}", self.path().display())))
    }

    /// Its mirror pod in the API.
    fn mirror(&self, from: &Api) -> Result<Option<Pod>> {
        let pods: kube::Api<Pod> = kube::Api::namespaced(from.client(), "kube-system");
        let name = self.pod();
        from.block_on(pods.get_opt(&name))
            .map_err(api(format!("get pod {name}")))
    }

    /// Waits until the API shows it as its manifest is now, running and Ready.
    pub fn wait_ready(&self, at: &Api, patience: Duration) -> Result<()> {
        let path = self.path();
        let text = fs::read_to_string(&path).map_err(io(format!("read {}", path.display())))?;
        let malformed = |error: serde_json::Error| Error::Malformed(format!("{}: {error}", path.display()));
        let manifest: Pod = serde_json::from_str(&text).map_err(malformed)?;
        let command = |pod: &Pod| Some(pod.spec.as_ref()?.containers.first()?.command.clone());
        at.wait(
            &format!("pod {} is Ready with its new flags", self.pod()),
            patience,
            || {
                let Some(pod) = self.mirror(at)? else { return Ok(None) };
                let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
                let ready = conditions
                    .into_iter()
                    .any(|condition| condition.type_ == "Ready" && condition.status == "True");
                Ok((ready && command(&pod) == command(&manifest)).then_some(()))
            },
        )
    }

    /// Why it waits to be started, as the API shows it: "CrashLoopBackOff".
    pub fn waiting(&self, at: &Api) -> Result<Option<String>> {
        let status = self.mirror(at)?.and_then(|pod| pod.status).unwrap_or_default();
        let container = status.container_statuses.unwrap_or_default().into_iter().next();
        let waiting = container.and_then(|container| container.state?.waiting?.reason);
        Ok(waiting)
    }

    /// Waits until one of its instances has said this; returns the line.
    pub fn wait_log(&self, text: &str, patience: Duration) -> Result<String> {
        let start = Instant::now();
        loop {
            let log = self.log()?;
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            if start.elapsed() >= patience {
                let lines: Vec<&str> = log.lines().collect();
                return Err(Error::TimedOut {
                    what: format!("{} says {text:?}", self.pod()),
                    patience,
                    last: lines[lines.len().saturating_sub(15)..].join("\n  "),
                });
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// All that its instances have said, the eldest first: what `kubectl logs` and `logs --previous` show.
    pub fn log(&self) -> Result<String> {
        let pods = self.node.root().join("var/log/pods");
        let mut logs = Vec::new();
        let read = || io(format!("read {}", pods.display()));
        for entry in fs::read_dir(&pods).map_err(read())? {
            let container = entry.map_err(read())?.path().join(PROGRAM);
            let files = fs::read_dir(&container).into_iter().flatten().flatten();
            logs.extend(files.map(|file| file.path()));
        }
        let age = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
        logs.sort_by_key(age);
        // A rotated or removed file between the two looks is no loss: its successor is read.
        let texts = logs.iter().filter_map(|path| fs::read(path).ok());
        Ok(texts.map(|text| String::from_utf8_lossy(&text).into_owned()).collect())
    }

    fn path(&self) -> PathBuf {
        self.node
            .root()
            .join("etc/kubernetes/manifests")
            .join(format!("{PROGRAM}.yaml"))
    }

    /// As kubeadm writes it.
    fn manifest(&self, flags: &[String]) -> Value {
        let own = [
            PROGRAM.to_owned(),
            "--authentication-kubeconfig=/etc/kubernetes/controller-manager.conf".to_owned(),
            "--authorization-kubeconfig=/etc/kubernetes/controller-manager.conf".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            "--client-ca-file=/etc/kubernetes/pki/ca.crt".to_owned(),
            "--cluster-name=kubernetes".to_owned(),
            "--cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt".to_owned(),
            "--cluster-signing-key-file=/etc/kubernetes/pki/ca.key".to_owned(),
            "--controllers=*,bootstrapsigner,tokencleaner".to_owned(),
            "--kubeconfig=/etc/kubernetes/controller-manager.conf".to_owned(),
            "--leader-elect=true".to_owned(),
            "--root-ca-file=/etc/kubernetes/pki/ca.crt".to_owned(),
            "--service-account-private-key-file=/etc/kubernetes/pki/sa.key".to_owned(),
            format!("--service-cluster-ip-range={}", self.services),
            "--use-service-account-credentials=true".to_owned(),
            // kubeadm leaves these at 15, 10 and 2 s: a change of leader would take most of a test.
            "--leader-elect-lease-duration=4s".to_owned(),
            "--leader-elect-renew-deadline=3s".to_owned(),
            "--leader-elect-retry-period=1s".to_owned(),
        ];
        let command: Vec<&String> = own.iter().chain(flags).collect();
        let probe = |failures: u32, period: u32| {
            json!({
                "httpGet": {"host": "127.0.0.1", "path": "/healthz", "port": 10257, "scheme": "HTTPS"},
                "failureThreshold": failures, "initialDelaySeconds": period, "periodSeconds": period, "timeoutSeconds": 15,
            })
        };
        let conf = "/etc/kubernetes/controller-manager.conf";
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": PROGRAM,
                "namespace": "kube-system",
                "labels": {"component": PROGRAM, "tier": "control-plane"},
            },
            "spec": {
                "hostNetwork": true,
                "priorityClassName": "system-node-critical",
                "containers": [{
                    "name": PROGRAM,
                    "image": IMAGE,
                    "imagePullPolicy": "Never",
                    "command": command,
                    "livenessProbe": probe(8, 10),
                    "startupProbe": probe(24, 1),
                    "volumeMounts": [
                        {"name": "k8s-certs", "mountPath": "/etc/kubernetes/pki", "readOnly": true},
                        {"name": "kubeconfig", "mountPath": conf, "readOnly": true},
                    ],
                }],
                "volumes": [
                    {"name": "k8s-certs", "hostPath": {"path": "/etc/kubernetes/pki", "type": "DirectoryOrCreate"}},
                    {"name": "kubeconfig", "hostPath": {"path": conf, "type": "FileOrCreate"}},
                ],
            },
        })
    }
}

/// Lets the node's kubelet read manifests, as kubeadm configures every kubelet.
fn read_manifests(node: &Node) -> Result<()> {
    let path = node.kubelet_directory().join("config.yaml");
    let text = fs::read_to_string(&path).map_err(io(format!("read {}", path.display())))?;
    let malformed = |error: serde_json::Error| Error::Malformed(format!("{}: {error}", path.display()));
    let mut config: Value = serde_json::from_str(&text).map_err(malformed)?;
    config["staticPodPath"] = json!(MANIFESTS);
    // The default of 20 s is how long a manifest may go unseen where no file event tells of it.
    config["fileCheckFrequency"] = json!("1s");
    write(&path, &format!("{config:#}\n"), 0o600)?;
    node.kubelet.restart()
}

/// Writes ConfigMap kube-system/kubeadm-config as `kubeadm init` does, with these flags of kube-controller-manager.
pub fn record(to: &Api, pod_subnet: &[IpNet], service_subnet: &[IpNet], extra: &[(&str, &str)]) -> Result<()> {
    let arguments: Vec<Value> = extra
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let configuration = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": "kubernetes",
        "kubernetesVersion": "v1.36.3",
        "networking": {
            "dnsDomain": "cluster.local",
            "podSubnet": list(pod_subnet),
            "serviceSubnet": list(service_subnet),
        },
        "controllerManager": {"extraArgs": arguments},
    });
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kubeadm-config", "namespace": "kube-system"},
        "data": {"ClusterConfiguration": format!("{configuration:#}\n")},
    });
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(to.client(), "kube-system");
    let parameters = PatchParams::apply("kubeadm").force();
    let done = to.block_on(maps.patch("kubeadm-config", &parameters, &Patch::Apply(object)));
    done.map(drop).map_err(api("write kubeadm-config"))
}
