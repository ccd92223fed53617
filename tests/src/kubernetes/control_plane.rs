//! etcd, API server, controller manager and scheduler, in a network namespace
//! of their own that is also the nodes' segment.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::json;

use crate::ip::Ip;
use crate::kubernetes::error::{Error, Result, io};
use crate::kubernetes::pki::{Pki, write};
use crate::kubernetes::scenario::{Scenario, list};
use crate::kubernetes::service::{Recipe, Service, Where};
use crate::kubernetes::tools::{Tools, debian};
use crate::netns::Netns;
use crate::topology;

/// Where the API server listens, to nodes.
pub const API_SERVER: &str = "https://172.30.0.1:6443";
/// Its port.
pub const API_PORT: u16 = 6443;

/// How long the API server may take: 3 s on an idle machine.
const READY: Duration = Duration::from_secs(60);

/// The control plane's programs.
#[derive(Debug)]
pub struct ControlPlane {
    /// Their namespace, with the bridge br0 (172.30.0.1/24) that the nodes are on.
    pub netns: Netns,
    /// A netlink socket in it.
    pub ip: Ip,
    /// etcd.
    pub etcd: Service,
    /// kube-apiserver.
    pub apiserver: Service,
    /// kube-controller-manager.
    pub kcm: Kcm,
    /// kube-scheduler.
    pub scheduler: Service,
    /// Where the API server writes who asked what, a JSON object a line.
    pub audit_log: PathBuf,
}

/// kube-controller-manager.
#[derive(Debug)]
pub struct Kcm {
    service: Service,
    fixed: Vec<String>,
}

impl Kcm {
    /// Stops it and starts it with these flags beside those that it cannot do without.
    pub fn restart(&self, flags: &[String]) -> Result<()> {
        self.service.restart_with(arguments(self.fixed.iter().chain(flags)))
    }
}

impl std::ops::Deref for Kcm {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

/// Where the control plane's things go and who it is.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The cluster's directory.
    pub directory: &'a Path,
    /// Its authority.
    pub pki: &'a Pki,
    /// Kubernetes' programs.
    pub tools: &'a Tools,
    /// The cidrift-lab program.
    pub lab: &'a Path,
}

impl ControlPlane {
    /// Starts etcd and the API server and waits until that listens.
    pub fn start(scenario: &Scenario, ground: &Ground<'_>) -> Result<Self> {
        let (netns, ip) = segment(scenario)?;
        let etcd = etcd(&netns, ground)?;
        let audit_log = ground.directory.join("log").join("audit.log");
        let apiserver = apiserver(&netns, scenario, ground, &audit_log)?;
        let (fixed, kcm) = kcm(&netns, ground)?;
        let plane = Self {
            kcm: Kcm {
                service: Service::stopped(kcm),
                fixed,
            },
            scheduler: Service::stopped(scheduler(&netns, ground)?),
            netns,
            ip,
            etcd,
            apiserver,
            audit_log,
        };
        plane.wait_listening()?;
        Ok(plane)
    }

    /// Starts controller manager and scheduler. Not before the API server is
    /// ready: until it has made its roles, they are refused and give up.
    pub fn start_controllers(&self, scenario: &Scenario) -> Result<()> {
        self.kcm.restart(&scenario.kcm())?;
        self.scheduler.start_again()
    }

    /// Waits until the API server accepts connections. It may not be ready yet.
    pub fn wait_listening(&self) -> Result<()> {
        let start = Instant::now();
        let address = (topology::GATEWAY, API_PORT).into();
        while start.elapsed() < READY {
            self.etcd.check()?;
            self.apiserver.check()?;
            let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1));
            if self.netns.run(connect).and_then(|connected| connected).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(Error::TimedOut {
            what: "the API server listens".to_owned(),
            patience: READY,
            last: self.apiserver.tail(),
        })
    }
}

/// The control plane's namespace with the bridge that joins the nodes.
fn segment(scenario: &Scenario) -> Result<(Netns, Ip)> {
    let netns = topology::namespace("control-plane")?;
    topology::forward(&netns)?;
    let ip = Ip::new(&netns)?;
    ip.set_up("lo")?;
    ip.add_bridge("br0")?;
    ip.add_addr("br0", IpNet::new_assert(topology::GATEWAY.into(), 24))?;
    if scenario.has_ipv6() {
        ip.add_addr("br0", IpNet::new_assert(topology::GATEWAY6.into(), 64))?;
    }
    ip.set_up("br0")?;
    Ok((netns, ip))
}

fn recipe(netns: &Netns, ground: &Ground<'_>, program: PathBuf, flags: Vec<String>) -> Recipe {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Recipe {
        log: ground.directory.join("log").join(format!("{name}.log")),
        name,
        place: Where::Netns(netns.clone()),
        lab: ground.lab.to_owned(),
        program,
        arguments: arguments(&flags),
        environment: Vec::new(),
    }
}

fn arguments<'a>(flags: impl IntoIterator<Item = &'a String>) -> Vec<OsString> {
    flags.into_iter().map(OsString::from).collect()
}

fn etcd(netns: &Netns, ground: &Ground<'_>) -> Result<Service> {
    let data = ground.directory.join("etcd");
    let flags = vec![
        format!("--data-dir={}", data.display()),
        "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
    ];
    Service::start(recipe(netns, ground, debian("etcd")?, flags))
}

/// What the audit log keeps: who did what to which object, once it is answered.
fn audit_policy(ground: &Ground<'_>) -> Result<PathBuf> {
    let path = ground.directory.join("audit-policy.json");
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    });
    write(&path, &policy.to_string(), 0o600)?;
    Ok(path)
}

fn apiserver(netns: &Netns, scenario: &Scenario, ground: &Ground<'_>, audit_log: &Path) -> Result<Service> {
    let pki = ground.pki;
    let mut names: Vec<String> = [
        "127.0.0.1",
        "172.30.0.1",
        "localhost",
        "kubernetes",
        "kubernetes.default.svc",
    ]
    .map(str::to_owned)
    .to_vec();
    // The API server's own service has the range's first address.
    names.extend(
        scenario
            .service_cidr
            .iter()
            .map(|&net| topology::first_address(net).addr().to_string()),
    );
    let serving = pki.server("kube-apiserver", &names)?;
    let kubelet = pki.client("kube-apiserver-kubelet-client", Some("system:masters"))?;
    let mut flags = vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--advertise-address={}", topology::GATEWAY),
        format!("--bind-address={}", IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        format!("--secure-port={API_PORT}"),
        format!("--tls-cert-file={}", serving.certificate.display()),
        format!("--tls-private-key-file={}", serving.key.display()),
        format!("--client-ca-file={}", pki.ca().display()),
        format!("--kubelet-certificate-authority={}", pki.ca().display()),
        format!("--kubelet-client-certificate={}", kubelet.certificate.display()),
        format!("--kubelet-client-key={}", kubelet.key.display()),
        // Names of nodes resolve nowhere here.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!(
            "--service-account-key-file={}",
            pki.service_account_public_key().display()
        ),
        format!(
            "--service-account-signing-key-file={}",
            pki.service_account_key().display()
        ),
        format!("--service-cluster-ip-range={}", list(&scenario.service_cidr)),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--audit-policy-file={}", audit_policy(ground)?.display()),
        format!("--audit-log-path={}", audit_log.display()),
    ];
    flags.extend(scenario.apiserver_flags.iter().cloned());
    Service::start(recipe(netns, ground, ground.tools.path("kube-apiserver")?, flags))
}

/// A kubeconfig of a component of the control plane.
fn component(ground: &Ground<'_>, name: &str) -> Result<String> {
    let path = ground.directory.join(format!("{name}.kubeconfig"));
    ground
        .pki
        .kubeconfig(&path, API_SERVER, &format!("system:{name}"), None)?;
    Ok(path.display().to_string())
}

fn kcm(netns: &Netns, ground: &Ground<'_>) -> Result<(Vec<String>, Recipe)> {
    let (pki, kubeconfig) = (ground.pki, component(ground, "kube-controller-manager")?);
    let fixed = vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--client-ca-file={}", pki.ca().display()),
        format!("--root-ca-file={}", pki.ca().display()),
        format!(
            "--service-account-private-key-file={}",
            pki.service_account_key().display()
        ),
        format!("--cluster-signing-cert-file={}", pki.ca().display()),
        format!("--cluster-signing-key-file={}", pki.ca_key().display()),
        "--use-service-account-credentials=true".to_owned(),
        "--controllers=*,bootstrapsigner,tokencleaner".to_owned(),
        // There is one: a restart need not wait for a dead leader's lease.
        "--leader-elect=false".to_owned(),
        "--v=2".to_owned(),
    ];
    let program = ground.tools.path("kube-controller-manager")?;
    Ok((fixed.clone(), recipe(netns, ground, program, fixed)))
}

fn scheduler(netns: &Netns, ground: &Ground<'_>) -> Result<Recipe> {
    let kubeconfig = component(ground, "kube-scheduler")?;
    let flags = vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
    ];
    Ok(recipe(netns, ground, ground.tools.path("kube-scheduler")?, flags))
}

/// Makes the directory of all logs.
pub(crate) fn make_logs(directory: &Path) -> Result<()> {
    let logs = directory.join("log");
    std::fs::create_dir_all(&logs).map_err(io(format!("make {}", logs.display())))
}
