//! What everything here stands on: three nodes with flannel's routes between them, cidrift, and a workload that a budget
//! guards.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cidrift_lab::binaries;
use cidrift_lab::kubernetes::client::{pod, pod_cidrs};
use cidrift_lab::kubernetes::deployed::id;
use cidrift_lab::kubernetes::flanneld::{self, missing_routes};
use cidrift_lab::kubernetes::{Cluster, Cni, Deployed, Node, Scenario, Service, Typist, kubeadm, proxy};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::ping;
use crate::same::Same;
use crate::watch::Watch;

/// What a finding may take: an idle machine needs 3 s, a loaded one a multiple.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Real kubelets take some seconds to follow the control plane.
const FLAGS: [&str; 3] = ["--hold=500ms", "--settle=3s", "--silence=6s"];

/// By its Lease it is seen whether a controller manager runs; the usual 15 s would make every start wait.
const LEADS: [&str; 4] = [
    "--leader-elect=true",
    "--leader-elect-lease-duration=4s",
    "--leader-elect-renew-deadline=3s",
    "--leader-elect-retry-period=1s",
];

/// The workload, and its budget.
pub(crate) const WEB: &str = "web";

/// What containerd renders.
pub(crate) const CONFLIST: &str = "etc/cni/net.d/10-containerd-net.conflist";

/// A cluster with all of it.
pub(crate) struct Ground {
    pub(crate) watch: Watch,
    pub(crate) deployed: Deployed,
    /// The same for somebody who may no more than `cidrift-viewer` and `cidrift-fixer` say.
    pub(crate) mender: Deployed,
    /// Agents find the aggregator by them.
    #[expect(dead_code, reason = "they run as long as it lives")]
    proxies: Vec<Service>,
    pub(crate) cluster: Cluster,
    before: BTreeMap<String, Same>,
    began: Instant,
}

impl Ground {
    /// Starts it; returns once nothing is wrong and pods of all nodes reach each other.
    pub(crate) fn start() -> Self {
        Self::start_with(&LEADS, Scenario::default(), None)
    }

    /// The same with a controller manager without a Lease, which outlives an API server that goes away for a moment: here no
    /// supervisor would start it again.
    pub(crate) fn start_without_lease() -> Self {
        Self::start_with(&[], Scenario::default(), None)
    }

    /// The same as [`Ground::start`] with IPv6 beside IPv4, and networks for flannel that hold more than the pool.
    pub(crate) fn start_dual_stack_in(networks: &[IpNet]) -> Self {
        Self::start_with(&LEADS, Scenario::dual_stack(), Some(networks))
    }

    fn start_with(kcm_flags: &[&str], scenario: Scenario, networks: Option<&[IpNet]>) -> Self {
        let say = |text: &str| eprintln!("{text}");
        let programs = binaries::find(say).unwrap();
        let began = Instant::now();
        let scenario = Scenario {
            nodes: 3,
            cni: Cni::Template,
            kcm_flags: kcm_flags.iter().map(|&flag| flag.to_owned()).collect(),
            ..scenario
        };
        let cluster = Cluster::start(scenario, &say).unwrap();
        let (ranges, services) = (&cluster.scenario().cluster_cidr, &cluster.scenario().service_cidr);
        kubeadm::record(cluster.api(), ranges, services, &[]).unwrap();
        // By the bridge: no range of it has to follow when the pool's does.
        let flags = ["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni0"];
        let start = |node: &Node| proxy::start(&cluster, &node.name, &flags, PATIENCE).unwrap();
        let proxies = cluster.nodes().iter().map(start).collect();
        match networks {
            Some(networks) => flanneld::install_in(&cluster, networks, &say).unwrap(),
            None => flanneld::install(&cluster, &say).unwrap(),
        }
        // Where nodes are drained the aggregator goes elsewhere, and is found there.
        let anywhere = json!([{"op": "remove", "path": "/spec/template/spec/nodeSelector/kubernetes.io~1hostname"}]);
        let patch = json!({"target": {"kind": "Deployment"}, "patch": anywhere.to_string()});
        let deployed = Deployed::install(&cluster, &programs, &FLAGS, &[patch], &say).unwrap();
        let typist = Typist::new(&cluster, &deployed).unwrap();
        for node in ["n2", "n3"] {
            let line = format!(
                "kubectl label node {node} rack=7 && kubectl annotate node {node} example.com/owner=somebody && \
                 kubectl taint node {node} soft=yes:PreferNoSchedule && \
                 kubectl patch node {node} -p '{{\"spec\":{{\"providerID\":\"lab://{node}\"}}}}'"
            );
            typist.type_line(&line).unwrap();
        }
        workload(&typist);
        for line in [
            "kubectl create clusterrolebinding menders --clusterrole=cidrift-viewer --user=mender",
            "kubectl create clusterrolebinding menders-fix --clusterrole=cidrift-fixer --user=mender",
            "kubectl -n cidrift create rolebinding menders --role=cidrift-viewer --user=mender",
            "kubectl -n cidrift create rolebinding menders-fix --role=cidrift-fixer --user=mender",
        ] {
            typist.type_line(line).unwrap();
        }
        drop(typist);
        let mender = deployed.by(cluster.kubeconfig_for("mender", None, false).unwrap());
        let names = cluster.nodes().iter().map(|node| node.name.clone());
        let before = names.map(|name| (name.clone(), Same::of(&cluster, &name))).collect();
        let ground = Self {
            watch: Watch::start(&cluster),
            deployed,
            mender,
            proxies,
            cluster,
            before,
            began,
        };
        ground.is_whole();
        ground
    }

    /// Somebody at a terminal.
    pub(crate) fn typist(&self) -> Typist<'_> {
        Typist::new(&self.cluster, &self.deployed).unwrap()
    }

    /// A node.
    pub(crate) fn node(&self, name: &str) -> &Node {
        self.cluster.node(name).unwrap()
    }

    /// The CIDRs that its Node has now.
    pub(crate) fn cidrs(&self, node: &str) -> Vec<IpNet> {
        pod_cidrs(&self.cluster.api().node(node).unwrap().unwrap())
    }

    /// The first of them.
    pub(crate) fn cidr(&self, node: &str) -> IpNet {
        self.cidrs(node)[0]
    }

    /// What the runtime rendered on a node; empty while it is not there.
    pub(crate) fn conflist(&self, node: &str) -> String {
        std::fs::read_to_string(self.node(node).root().join(CONFLIST)).unwrap_or_default()
    }

    /// Says how long it took to get here.
    pub(crate) fn mark(&self, what: &str) {
        eprintln!("==> {:.1} s: {what}", self.began.elapsed().as_secs_f64());
    }

    /// Waits until the runtime has rendered the Node's CIDR and the node takes pods.
    pub(crate) fn rendered(&self, node: &str) {
        let (api, cidr) = (self.cluster.api(), self.cidr(node).to_string());
        let rendered = || Ok(self.conflist(node).contains(&cidr).then_some(()));
        api.wait(&format!("containerd renders {cidr}"), PATIENCE, rendered)
            .unwrap();
        api.wait_ready(node, true, PATIENCE).unwrap();
        // A cordon's own taint goes when it is uncordoned.
        self.takes_pods(node, &["node.kubernetes.io/unschedulable"]);
    }

    /// Waits until a node has none of the controller manager's taints but these: the scheduler passes over it meanwhile.
    fn takes_pods(&self, node: &str, but: &[&str]) {
        let api = self.cluster.api();
        let free = || {
            let taints = api.node(node)?.and_then(|node| node.spec?.taints).unwrap_or_default();
            let kept = |key: &str| key.starts_with("node.kubernetes.io/") && !but.contains(&key);
            Ok((!taints.iter().any(|taint| kept(&taint.key))).then_some(()))
        };
        api.wait(&format!("{node} takes pods"), PATIENCE, free).unwrap();
    }

    /// What is going on from now on, for messages.
    pub(crate) fn phase(&self, name: &'static str) {
        self.watch.phase(name);
        self.mark(name);
    }

    /// Waits until these findings are open, and maybe others.
    pub(crate) fn found(&self, ids: &[&str]) {
        let waited = self.deployed.wait_open(&self.cluster, ids, false, PATIENCE);
        waited.unwrap_or_else(|error| panic!("{error}"));
        self.mark(&format!("found {ids:?}"));
    }

    /// What a plan has for a node; null: nothing.
    pub(crate) fn row(&self, planned: &Value, node: &str) -> Value {
        let mut rows = planned["nodes"].as_array().into_iter().flatten();
        rows.find(|row| row["node"] == node).cloned().unwrap_or_default()
    }

    /// What is planned for a node: this method, and nothing is in the way.
    pub(crate) fn planned(&self, node: &str, method: &str) -> Value {
        let planned = self.deployed.ask(&["plan"]).unwrap();
        let row = self.row(&planned, node);
        let text = String::from_utf8(self.deployed.cidrift(&["plan"]).unwrap().stdout).unwrap();
        assert_eq!(
            (&row["method"], &row["blocked"]),
            (&json!(method), &Value::Null),
            "{planned:#}\n{text}"
        );
        row
    }

    /// Waits until nothing is wrong: no finding stands, every node has its routes, pods of all nodes reach each other, and
    /// every Node has what people gave it.
    pub(crate) fn is_whole(&self) {
        let mut last = Vec::new();
        let waited = self.cluster.api().wait("nothing is wrong", PATIENCE, || {
            last = self.deployed.findings()?;
            last.retain(wrong);
            Ok(last.is_empty().then_some(()))
        });
        assert!(waited.is_ok(), "{last:#?}");
        assert_eq!(missing_routes(&self.cluster).unwrap(), [""; 0]);
        self.spread();
        ping::wait(&self.cluster, PATIENCE);
        for (node, before) in &self.before {
            assert_eq!(Same::of(&self.cluster, node), *before, "{node}");
        }
        self.mark("it is whole");
    }

    /// Makes the workload's pods anew until every node has some: the scheduler may hear late of a node that takes pods.
    pub(crate) fn spread(&self) {
        for node in self.cluster.nodes() {
            self.takes_pods(&node.name, &[]);
        }
        let line = "kubectl rollout restart deployment/web && kubectl rollout status deployment/web --timeout=90s";
        let typist = self.typist();
        let everywhere = || {
            typist.type_line(line)?;
            Ok(ping::empty(&self.cluster).is_empty().then_some(()))
        };
        self.cluster
            .api()
            .wait("every node has a pod of web", PATIENCE, everywhere)
            .unwrap();
    }

    /// Ends it; returns when nothing was seen that must not be.
    pub(crate) fn end(self) {
        self.mark("all is done");
        let seen = self.watch.end();
        eprintln!("{} looks, the longest gap {:.1?}", seen.looks, seen.longest);
        assert!(seen.violations.is_empty(), "{:#?}", seen.violations);
        assert!(seen.blind.is_empty(), "{:#?}", seen.blind);
        assert!(seen.looks > 100, "{seen:?}");
        self.deployed.remove().unwrap();
    }
}

/// Whether a finding says that something is wrong now. POOL15 tells for an hour how many Nodes came and went.
fn wrong(finding: &Value) -> bool {
    id(finding) != "POOL15/cluster" && finding["severity"] != "info"
}

/// Six pods that a budget guards, two on each node.
fn workload(typist: &Typist<'_>) {
    let labels = json!({"app": WEB});
    let mut spec = serde_json::to_value(pod(WEB, None).spec.unwrap()).unwrap();
    // Nodes that take no pods do not count.
    spec["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule", "nodeTaintsPolicy": "Honor", "matchLabelKeys": ["pod-template-hash"],
        "labelSelector": {"matchLabels": labels}}]);
    spec["terminationGracePeriodSeconds"] = json!(0);
    // Those that tolerate everything come back to a cordoned node.
    spec["tolerations"] = json!([{"key": "soft", "operator": "Exists"}]);
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": WEB},
        "spec": {"replicas": 6, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec}},
    });
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": WEB},
        "spec": {"minAvailable": 4, "selector": {"matchLabels": labels}},
    });
    typist.apply(&deployment).unwrap();
    typist.apply(&budget).unwrap();
    typist
        .type_line("kubectl rollout status deployment/web --timeout=90s")
        .unwrap();
}
