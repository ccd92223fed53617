//! Whole looks at made-up procfs trees.

mod real;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::*;

fn touch(path: &Path, second: u64) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(second))
        .unwrap();
}

/// A host whose procfs is made up; this agent is in network namespace "net:[1]".
struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        host.file("proc/stat", "cpu 1\nbtime 1790000000\n");
        host.process(1, "systemd", &["/sbin/init"], Some("net:[1]"))
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        // Older than every process, unless a test says otherwise.
        touch(&path, 1_790_000_000);
    }

    fn with(self, path: &str, text: &str) -> Self {
        self.file(path, text);
        self
    }

    /// A child of process 1; its namespace cannot be read where it has none.
    fn process(self, pid: u32, comm: &str, words: &[&str], net: Option<&str>) -> Self {
        self.child(pid, 1, comm, words, net)
    }

    fn child(self, pid: u32, parent: u32, comm: &str, words: &[&str], net: Option<&str>) -> Self {
        let mut line = words.join("\0");
        line.push('\0');
        self.file(&format!("proc/{pid}/cmdline"), &line);
        self.file(&format!("proc/{pid}/comm"), &format!("{comm}\n"));
        let start = u64::from(pid) * 100;
        let stat = format!("{pid} ({comm}) S {parent} {}{start} 0\n", "0 ".repeat(17));
        self.file(&format!("proc/{pid}/stat"), &stat);
        self.file(
            &format!("proc/{pid}/cgroup"),
            &format!("0::/system.slice/{comm}.service\n"),
        );
        let ns = self.dir.path().join(format!("proc/{pid}/ns"));
        std::fs::create_dir_all(&ns).unwrap();
        if let Some(net) = net {
            symlink(net, ns.join("net")).unwrap();
        }
        self
    }

    /// As a container with a file system of its own.
    fn contained(self, pid: u32, files: &[(&str, &str)]) -> Self {
        let id = "ab".repeat(32);
        self.file(
            &format!("proc/{pid}/cgroup"),
            &format!("0::/kubepods.slice/cri-containerd-{id}.scope\n"),
        );
        for (path, text) in files {
            self.file(&format!("containers/{pid}/{path}"), text);
        }
        let inside = self.dir.path().join(format!("containers/{pid}"));
        symlink(inside, self.dir.path().join(format!("proc/{pid}/root"))).unwrap();
        self
    }

    fn gone(&self, pid: u32) {
        std::fs::remove_dir_all(self.dir.path().join(format!("proc/{pid}"))).unwrap();
    }

    fn reader(&self) -> ProcessReader {
        let root = HostRoot::new(self.dir.path());
        ProcessReader::on(root, Procfs::at(self.dir.path().join("proc"), false, 999))
    }

    fn look(&self) -> Vec<Process> {
        found(&mut self.reader())
    }
}

fn found(reader: &mut ProcessReader) -> Vec<Process> {
    reader.look(Timestamp::UNIX_EPOCH).value.unwrap()
}

fn text(processes: &[Process]) -> String {
    let mut lines = Vec::new();
    for process in processes {
        let inside = process
            .embedded_in
            .map(|program| format!(" in {program}"))
            .unwrap_or_default();
        let since = process.started_at.map(|at| format!(" since {at}")).unwrap_or_default();
        lines.push(format!("{}{inside} pid {}{since}", process.program, process.pid));
        let settings = process.settings.iter();
        lines.extend(settings.map(|(name, setting)| format!("  {name}={} ({})", setting.value, setting.source)));
        lines.extend(process.problem.iter().map(|why| format!("  problem: {why}")));
    }
    lines.join("\n")
}

const MANIFEST: &str = "spec: {containers: [{command: [kube-controller-manager, --cluster-cidr=10.50.0.0/16]}]}";

#[test]
fn a_control_plane_host_of_kubeadm_is_told_with_every_source() {
    let host = Host::new()
        .process(
            2,
            "containerd",
            &["/usr/bin/containerd", "-a", "/run/containerd/containerd.sock"],
            Some("net:[1]"),
        )
        .process(
            3,
            "kubelet",
            &["/usr/bin/kubelet", "--config=/var/lib/kubelet/config.yaml", "--v=2"],
            Some("net:[1]"),
        )
        .with(
            "var/lib/kubelet/config.yaml",
            "maxPods: 200\nstaticPodPath: /etc/kubernetes/manifests\n",
        )
        .with("etc/kubernetes/manifests/kube-controller-manager.yaml", MANIFEST)
        .process(
            4,
            "kube-controller",
            &[
                "kube-controller-manager",
                "--cluster-cidr=10.244.0.0/16",
                "--root-ca-file=/x",
            ],
            Some("net:[1]"),
        )
        .process(
            5,
            "kube-proxy",
            &["/usr/local/bin/kube-proxy", "--config=/c/config.conf"],
            Some("net:[1]"),
        )
        .contained(5, &[("c/config.conf", "clusterCIDR: 10.244.0.0/16\n")])
        .process(6, "bash", &["bash", "kubelet"], Some("net:[1]"));
    insta::assert_snapshot!(text(&host.look()));
}

#[test]
fn a_kubelet_of_another_network_namespace_is_not_this_hosts() {
    let host = Host::new()
        .process(3, "kubelet", &["kubelet"], Some("net:[2]"))
        .process(4, "kubelet", &["kubelet", "--node-ip=10.0.0.1"], Some("net:[1]"))
        .process(5, "kubelet", &["kubelet"], None);
    assert_eq!(
        text(&host.look()),
        "kubelet pid 4 since 2026-09-21T14:13:24Z\n  node-ip=10.0.0.1 (command line)"
    );
}

#[test]
fn where_the_namespace_may_not_be_read_the_only_one_counts_and_it_is_said() {
    let host = Host::new().process(3, "kubelet", &["kubelet"], None);
    let look = host.look();
    assert_eq!(look.len(), 1);
    assert!(look[0].problem.as_ref().unwrap().contains("CAP_SYS_PTRACE"));
    let two = host.process(4, "kubelet", &["kubelet"], None).look();
    assert_eq!(two.len(), 2);
    assert!(
        two.iter()
            .all(|process| process.problem.as_ref().unwrap().contains("(pids 3, 4)"))
    );
}

#[test]
fn two_kubelets_in_one_namespace_are_both_doubted_and_two_containerds_are_not() {
    let net = Some("net:[1]");
    let host = Host::new()
        .process(3, "kubelet", &["kubelet"], net)
        .process(4, "kubelet", &["kubelet"], net)
        .process(5, "containerd", &["containerd"], net)
        .process(
            6,
            "containerd",
            &["containerd", "--config", "/var/run/docker/containerd/containerd.toml"],
            net,
        );
    let doubted: Vec<bool> = host.look().iter().map(|process| process.problem.is_some()).collect();
    assert_eq!(doubted, [true, true, false, false]);
}

#[test]
fn a_child_that_is_still_a_copy_of_its_program_is_not_a_second_one() {
    let net = Some("net:[1]");
    let host = Host::new()
        .process(3, "kubelet", &["kubelet"], net)
        .child(4, 3, "kubelet", &["kubelet"], net);
    let look = host.look();
    assert_eq!((look.len(), look[0].pid, &look[0].problem), (1, 3, &None));
}

#[test]
fn k3s_is_listed_with_what_is_inside_it() {
    let host = Host::new()
        .process(3, "k3s-server", &["/usr/local/bin/k3s server", "", ""], Some("net:[1]"))
        .process(
            4,
            "containerd",
            &["containerd", "-c", "/var/lib/rancher/k3s/c.toml"],
            Some("net:[1]"),
        )
        .with("proc/3/cgroup", "0::/system.slice/k3s.service\n")
        .with(
            "etc/systemd/system/k3s.service",
            "[Service]\nExecStart=/usr/local/bin/k3s server --node-ip=10.0.0.1\n",
        )
        .with(
            "var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00-k3s-defaults.conf",
            "maxPods: 110\n",
        );
    let look = host.look();
    let kinds: Vec<(Program, Option<Program>)> = look
        .iter()
        .map(|process| (process.program, process.embedded_in))
        .collect();
    let inside = Some(Program::K3s);
    assert_eq!(
        kinds,
        [
            (Program::Kubelet, inside),
            (Program::ControllerManager, inside),
            (Program::Proxy, inside),
            (Program::Flanneld, inside),
            (Program::Containerd, None),
            (Program::K3s, None),
        ]
    );
    assert_eq!(look[2].settings["cluster-cidr"].source, "default of k3s");
    assert_eq!(look[0].settings["max-pods"].value, "110");
    assert!(
        look.iter()
            .all(|process| process.pid == if process.program == Program::Containerd { 4 } else { 3 })
    );
}

#[test]
fn kubelites_programs_have_their_files_and_the_files_that_these_name() {
    let host = Host::new()
        .process(
            3,
            "kubelite",
            &["/snap/microk8s/1/kubelite", "--start-control-plane=true"],
            Some("net:[1]"),
        )
        .with(
            "var/snap/microk8s/current/args/kubelet",
            "--config=${SNAP_DATA}/args/kubelet-config\n",
        )
        .with("var/snap/microk8s/current/args/kubelet-config", "maxPods: 64\n")
        .with(
            "var/snap/microk8s/current/args/kube-proxy",
            "--cluster-cidr=10.1.0.0/16\n",
        );
    let look = host.look();
    let programs: Vec<Program> = look.iter().map(|process| process.program).collect();
    assert_eq!(
        programs,
        [
            Program::Kubelet,
            Program::ControllerManager,
            Program::Proxy,
            Program::Kubelite
        ]
    );
    assert_eq!(look[0].settings["max-pods"].value, "64");
    assert!(
        look[1]
            .problem
            .as_ref()
            .unwrap()
            .contains("kube-controller-manager: there is no such file")
    );
    assert_eq!(look[2].settings["cluster-cidr"].value, "10.1.0.0/16");
}

#[test]
fn a_configmap_that_changed_after_kube_proxy_started_may_not_be_in_effect() {
    let host = Host::new()
        .process(3, "kube-proxy", &["kube-proxy", "--config=/c.conf"], Some("net:[1]"))
        .contained(3, &[("c.conf", "clusterCIDR: 10.244.0.0/16\n")]);
    let mut reader = host.reader();
    assert_eq!(found(&mut reader)[0].problem, None);
    touch(&host.dir.path().join("containers/3/c.conf"), 1_790_000_900);
    assert_eq!(
        found(&mut reader)[0].problem.as_deref(),
        Some("/c.conf was written after it started: what it says may not be in effect")
    );
}

#[test]
fn an_edit_of_one_programs_file_inside_kubelite_says_nothing_of_another() {
    let host = Host::new()
        .process(
            3,
            "kubelite",
            &["kubelite", "--start-control-plane=false"],
            Some("net:[1]"),
        )
        .with("var/snap/microk8s/current/args/kubelet", "--max-pods=1\n")
        .with(
            "var/snap/microk8s/current/args/kube-proxy",
            "--cluster-cidr=10.1.0.0/16\n",
        );
    let edit = |name: &str| {
        touch(
            &host.dir.path().join("var/snap/microk8s/current/args").join(name),
            1_790_000_900,
        );
        host.look().into_iter().find_map(|process| process.problem)
    };
    assert_eq!(edit("kubelet"), None);
    assert!(
        edit("kube-proxy")
            .unwrap()
            .contains("args/kube-proxy was written after it started")
    );
}

#[test]
fn nothing_is_read_again_until_a_process_or_a_file_changes() {
    let host = Host::new()
        .process(3, "kubelet", &["kubelet", "--config=/k.yaml"], Some("net:[1]"))
        .with("k.yaml", "maxPods: 1\n");
    let mut reader = host.reader();
    let first = found(&mut reader);
    assert_eq!(first[0].settings["max-pods"].value, "1");
    // What is not read cannot be missed.
    std::fs::remove_file(host.dir.path().join("proc/3/cmdline")).unwrap();
    assert_eq!(found(&mut reader), first);

    host.file("k.yaml", "maxPods: 22\n");
    assert_eq!(found(&mut reader)[0].settings["max-pods"].value, "22");
    host.gone(3);
    assert_eq!(found(&mut reader), []);
}

#[test]
fn a_pid_that_is_given_out_again_is_another_process() {
    let net = Some("net:[1]");
    let host = Host::new().process(3, "kubelet", &["kubelet"], net);
    let mut reader = host.reader();
    assert_eq!(found(&mut reader).len(), 1);
    host.gone(3);
    let host = host.process(3, "sleep", &["sleep", "9"], net);
    assert_eq!(found(&mut reader), []);
    drop(host);
}

#[test]
fn a_wrapper_that_becomes_the_program_is_found_within_the_minute() {
    let net = Some("net:[1]");
    let host = Host::new().process(3, "sh", &["sh", "/run-kubelet"], net);
    let mut reader = host.reader();
    (0..20).for_each(|_| assert_eq!(found(&mut reader), []));
    // The same process: files of its directory change, the directory does not.
    let host = host
        .with("proc/3/comm", "kubelet\n")
        .with("proc/3/cmdline", "kubelet\0");
    let host = host.with("proc/3/stat", &format!("3 (kubelet) S 1 {}300 0\n", "0 ".repeat(17)));
    assert!((0..6).any(|_| !found(&mut reader).is_empty()));
    drop(host);
}

#[test]
fn processes_that_vanish_or_make_no_sense_are_passed_over() {
    let host = Host::new()
        .process(3, "kubelet", &["kubelet"], Some("net:[1]"))
        .process(4, "kubelet", &["kubelet"], Some("net:[1]"))
        .with("proc/4/stat", "4 (kubelet) Z 1 0 0")
        .with("proc/5/status", "")
        .with("proc/6/comm", "kubelet\n")
        .with("proc/99999999999/comm", "kubelet\n");
    host.gone(3);
    assert_eq!(host.look(), []);
}

#[test]
fn a_host_without_any_such_program_has_an_empty_list() {
    assert_eq!(Host::new().look(), []);
}

#[test]
fn an_agent_that_sees_only_its_own_pod_says_what_to_mount() {
    let host = Host::new();
    let why = |own, pid| {
        let procfs = Procfs::at(host.dir.path().join("proc"), own, pid);
        let mut reader = ProcessReader::on(HostRoot::new(host.dir.path()), procfs);
        reader.look(Timestamp::UNIX_EPOCH).unreadable().map(str::to_owned)
    };
    assert_eq!(why(true, 77), None);
    assert_eq!(why(false, 1), None);
    assert!(
        why(true, 1)
            .unwrap()
            .contains("mount the host's /proc at <host root>/proc")
    );
    host.file("proc/1/comm", "pause\n");
    assert!(why(true, 77).unwrap().contains("hostPID"));
    host.gone(1);
    assert!(why(true, 77).unwrap().contains("hidepid"));
}

#[test]
fn a_containers_files_that_may_not_be_read_are_its_problem() {
    let host = Host::new()
        .process(3, "kube-proxy", &["kube-proxy", "--config=/c.conf"], Some("net:[1]"))
        .contained(3, &[]);
    assert_eq!(
        host.look()[0].problem.as_deref(),
        Some("/c.conf in its container: there is no such file")
    );
    std::fs::remove_file(host.dir.path().join("proc/3/root")).unwrap();
    host.file("c.conf", "clusterCIDR: 10.0.0.0/8\n");
    let look = host.look();
    assert!(
        look[0]
            .problem
            .as_ref()
            .unwrap()
            .starts_with("/c.conf in its container: ")
    );
    assert!(!look[0].settings.contains_key("cluster-cidr"));
}

#[test]
fn manifests_that_cannot_be_listed_are_the_kubelets_problem() {
    let host = Host::new()
        .process(3, "kubelet", &["kubelet", "--pod-manifest-path=/loop"], Some("net:[1]"))
        .with(
            "var/lib/rancher/rke2/agent/pod-manifests/kube-proxy.yaml",
            "spec: {containers: [{command: [kube-proxy]}]}",
        );
    symlink("/loop", host.dir.path().join("loop")).unwrap();
    let look = host.look();
    assert!(look[0].problem.as_ref().unwrap().starts_with("/loop: "), "{look:?}");
    assert_eq!((look[1].program, look[1].pid), (Program::Proxy, 0));
}

#[test]
fn the_hosts_procfs_is_taken_where_its_root_has_one() {
    let host = Host::new().process(3, "kubelet", &["kubelet"], None);
    let mut reader = ProcessReader::new(HostRoot::new(host.dir.path()));
    let look = found(&mut reader);
    assert_eq!(look.len(), 1);
    assert!(Path::new(&host.dir.path().join("proc")).exists());
}
