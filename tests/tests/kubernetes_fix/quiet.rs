//! What is mended without a drain: leases that nobody has, routes that are too much, and a kubelet that does not look.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use cidrift_lab::frozen::freeze;
use cidrift_lab::kubernetes::flanneld::routes;
use cidrift_lab::kubernetes::swap::swap;
use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::api::core::v1::Node;
use kube::api::ObjectMeta;
use nix::unistd::Pid;
use serde_json::json;

use crate::ground::{Ground, PATIENCE};
use crate::mend::{fix, own_routes};
use crate::ping;

/// A part of the pool that no Node ever had.
const NOBODYS: &str = "10.244.200.0/24";

/// Of a lease that nobody has.
const OLD: Duration = Duration::from_secs(600);

/// Where host-local keeps leases.
const LEASES: &str = "var/lib/cni/networks";

/// All at once on three nodes: none of it interrupts a pod, nor takes a node away.
pub(crate) fn mended_without_a_drain(ground: &Ground) {
    ground.phase("what needs no drain");
    let [deaf, a, b] = apart(ground);
    let (to_a, to_b, to_deaf) = (ground.cidr(a), ground.cidr(b), ground.cidr(deaf));
    // The aggregator believes a minute long that the kubelet is about to follow.
    deaf_kubelet(ground, deaf);
    let (directory, living) = leak(ground, a);
    let typist = ground.typist();
    let half = halves(to_b)[0];
    let via = ground.node(deaf).addresses[0];
    for line in [
        format!("ip route add {NOBODYS} via {via}"),
        format!("ip route add blackhole {half}"),
    ] {
        typist.type_on(a, &line).unwrap();
    }
    typist
        .type_on(b, &format!("ip route replace blackhole {to_a}"))
        .unwrap();
    let missing = ping::missing(&ground.cluster);
    for way in [format!("{a} -> {b}"), format!("{b} -> {a}")] {
        assert!(missing.contains(&way), "{way}: {missing:?}");
    }
    let ids = [
        ("HOST05", a),
        ("PATH03", a),
        ("PATH04", a),
        ("PATH04", b),
        ("HOST08", deaf),
    ];
    let ids = ids.map(|(code, node)| format!("{code}/{node}"));
    ground.found(&ids.each_ref().map(String::as_str)[..4]);
    let wanted = [ids[4].as_str()];
    ground
        .deployed
        .wait_open(&ground.cluster, &wanted, false, PATIENCE * 2)
        .unwrap();
    ground.mark("found that the kubelet does not follow");
    for (node, method, steps) in [
        (
            a,
            "host",
            &["remove-leases", "remove-route", "remove-route", "verify"][..],
        ),
        (b, "host", &["remove-route", "reach", "verify"]),
        (deaf, "restart", &["restart-kubelet", "verify"]),
    ] {
        let row = ground.planned(node, method);
        let planned = row["steps"].as_array().unwrap().iter();
        let planned: Vec<&str> = planned.map(|step| step["does"]["do"].as_str().unwrap()).collect();
        assert_eq!(planned, steps, "{row:#}");
        assert_eq!(row["interrupts"]["pods"], json!([]), "{row:#}");
    }

    let told = with_kubelet(ground, deaf, || {
        let command = format!(
            "echo {{node}} > {0}/asked && until [ -e {0}/done ]; do sleep 0.1; done",
            restarts(ground)
        );
        fix(ground, &["--all", "--yes", "--restart-command", &command])
    });
    assert!(!told.contains("drain") && !told.contains("cordon"), "{told}");
    let rest = names(&directory);
    assert!(living.is_subset(&rest), "{living:?} {rest:?}");
    assert!(rest.iter().all(|name| !leaked(to_a).contains(name)), "{rest:?}");
    let there = routes(ground.node(a)).unwrap();
    assert!(!there.contains(NOBODYS) && !there.contains("blackhole"), "{there}");
    let there = routes(ground.node(b)).unwrap();
    let right = format!("{to_a} via {} ", ground.node(a).addresses[0]);
    assert!(there.contains(&right) && !there.contains("blackhole"), "{there}");
    let followed = format!("newPodCIDR=\"{to_deaf}\"");
    assert!(ground.node(deaf).kubelet.log_contains(&followed));
    assert_eq!(own_routes(ground, deaf), [""; 0]);
    ground.is_whole();
}

/// The three nodes; the aggregator is not on the first, for nobody reaches it through a kubelet that does not answer.
fn apart(ground: &Ground) -> [&str; 3] {
    let line = "kubectl -n cidrift get pods -l app.kubernetes.io/name=cidrift-aggregator -o \
                jsonpath='{.items[*].spec.nodeName}'";
    let there = ground.typist().type_line(line).unwrap();
    let mut names: Vec<&str> = ground.cluster.nodes().iter().map(|node| node.name.as_str()).collect();
    names.sort_by_key(|name| there.split_whitespace().any(|other| other == *name));
    names.try_into().unwrap()
}

/// The Node gets another CIDR and then the one from before, which its kubelet, which hangs by then, does not hear of. All else
/// on the node is as it should be.
fn deaf_kubelet(ground: &Ground, name: &str) {
    let (api, cidr) = (ground.cluster.api(), ground.cidr(name));
    swap(&ground.cluster, name, &["10.244.78.0/24".parse().unwrap()], PATIENCE).unwrap();
    let kubelet = &ground.node(name).kubelet;
    let pid = Pid::from_raw(kubelet.pid().unwrap().cast_signed());
    freeze(pid).unwrap();
    let now = api.node(name).unwrap().unwrap();
    let mut spec = now.spec.unwrap_or_default();
    spec.pod_cidr = Some(cidr.to_string());
    spec.pod_cidrs = Some(vec![cidr.to_string()]);
    let again = Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: now.metadata.labels,
            annotations: now.metadata.annotations,
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        // As the kubelet had told it: one that starts rejects the pods that run where a Node tells no capacity.
        status: now.status,
    };
    api.delete_node(name).unwrap();
    api.create_node(&again).unwrap();
}

/// Where whoever restarts a kubelet is asked.
fn restarts(ground: &Ground) -> String {
    ground.cluster.directory().display().to_string()
}

/// Does something, while its command has the kubelet of this node restarted.
fn with_kubelet(ground: &Ground, name: &str, act: impl FnOnce() -> String + Send) -> String {
    let place = PathBuf::from(restarts(ground));
    std::thread::scope(|scope| {
        let acting = scope.spawn(act);
        let asked = || {
            Ok(fs::read_to_string(place.join("asked"))
                .ok()
                .filter(|text| text.ends_with('\n')))
        };
        let node = ground
            .cluster
            .api()
            .wait("somebody is to restart a kubelet", PATIENCE * 3, asked);
        assert_eq!(node.unwrap().trim(), name);
        let kubelet = &ground.node(name).kubelet;
        // One that hangs does not end when it is asked to.
        kubelet.kill();
        kubelet.start_again().unwrap();
        fs::write(place.join("done"), "").unwrap();
        acting.join().unwrap()
    })
}

/// Addresses that pods of the node do not come to.
fn leaked(cidr: IpNet) -> Vec<String> {
    let IpNet::V4(net) = cidr else {
        panic!("{cidr} is of IPv6")
    };
    let last = u32::from(net.broadcast());
    (10..16)
        .map(|back| IpAddr::V4((last - back).into()).to_string())
        .collect()
}

/// Leases of sandboxes that are gone, between those of pods that run; returns the directory, and the names of the latter.
fn leak(ground: &Ground, name: &str) -> (PathBuf, BTreeSet<String>) {
    let cidr = ground.cidr(name);
    let networks = fs::read_dir(ground.node(name).root().join(LEASES)).unwrap();
    let mut networks = networks.map(|entry| entry.unwrap().path());
    let lease = |name: &String| name.parse::<IpAddr>().is_ok_and(|address| cidr.contains(&address));
    let directory = networks.find(|path| names(path).iter().any(lease)).unwrap();
    let living = names(&directory);
    for (number, address) in leaked(cidr).iter().enumerate() {
        let path = directory.join(address);
        fs::write(&path, format!("{number:064x}\r\neth0")).unwrap();
        let then = SystemTime::now() - OLD;
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(then)
            .unwrap();
    }
    (directory, living)
}

fn names(directory: &PathBuf) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// Both halves of a CIDR; pods get addresses of the first.
fn halves(cidr: IpNet) -> Vec<Ipv4Net> {
    let IpNet::V4(net) = cidr else {
        panic!("{cidr} is of IPv6")
    };
    net.subnets(net.prefix_len() + 1).unwrap().collect()
}
