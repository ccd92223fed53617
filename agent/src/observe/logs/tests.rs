//! Whole looks: processes whose standard error is a file, and what comes of their lines.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;

use cidrift_proto::signature::Signature;
use jiff::SignedDuration;

use super::*;

struct Bench {
    dir: tempfile::TempDir,
    reader: LogReader,
    processes: Vec<Process>,
}

fn now() -> Timestamp {
    "2026-11-25T07:30:00Z".parse().unwrap()
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        let mut reader = LogReader::new(HostRoot::new(dir.path().join("root")));
        reader.proc = dir.path().join("proc");
        Self {
            dir,
            reader,
            processes: Vec::new(),
        }
    }

    /// A process that started at 07:20 and writes to NAME.log.
    fn run(&mut self, program: Program, pid: u32) {
        let log = self.dir.path().join(format!("{program}.log"));
        fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let fd = self.reader.proc.join(format!("{pid}/fd"));
        fs::create_dir_all(&fd).unwrap();
        symlink(log, fd.join("2")).unwrap();
        self.processes.push(Process {
            program,
            embedded_in: None,
            pid,
            started_at: Some("2026-11-25T07:20:00Z".parse().unwrap()),
            settings: BTreeMap::new(),
            problem: None,
        });
    }

    fn write(&self, program: Program, lines: &[&str]) {
        let log = self.dir.path().join(format!("{program}.log"));
        let mut file = fs::OpenOptions::new().append(true).open(log).unwrap();
        for line in lines {
            writeln!(file, "{line}").unwrap();
        }
    }

    fn look_at(&mut self, now: Timestamp) -> (Observed<Failures>, Observed<KubeletCidr>) {
        let told = self.told_at(now);
        (told.failures, told.kubelet)
    }

    fn told_at(&mut self, now: Timestamp) -> Told {
        let processes = Observed::seen(now, "/proc", self.processes.clone());
        self.reader.look(&processes, now)
    }

    fn look(&mut self) -> (Observed<Failures>, Observed<KubeletCidr>) {
        self.look_at(now())
    }
}

const CIDR: &str = r#"I1125 07:22:16.893408      18 kubelet_network.go:48] "Updating Pod CIDR" originalPodCIDR="" newPodCIDR="10.244.1.0/24""#;
const FAILED: &str = r#"time="2026-11-25T07:25:03.301841878Z" level=error msg="RunPodSandbox for name:\"p1\"  uid:\"u\"  namespace:\"default\" failed, error" error="failed to setup network for sandbox \"933206408e296afa0fd82f1471b86a19482b730200d422099672ef44f82f768e\": plugin type=\"bridge\" failed (add): failed to allocate for range 0: no IP addresses available in range set: 10.244.7.1-10.244.7.6""#;
const ALSO: &str = r#"E1125 07:25:03.302841      18 kuberuntime_sandbox.go:70] "Failed to create sandbox for pod" err="rpc error: code = Unknown desc = failed to setup network for sandbox \"9332\": plugin type=\"bridge\" failed (add): no IP addresses available in range set: 10.244.7.1-10.244.7.6" pod="default/p1""#;

#[test]
fn files_of_runtime_and_kubelet_are_followed_and_one_try_counts_once() {
    let mut bench = Bench::new();
    bench.run(Program::Kubelet, 7);
    bench.run(Program::Containerd, 8);
    bench.write(
        Program::Kubelet,
        &["I1125 07:20:00.100000      18 flags.go:64] FLAG: --v=\"2\"", CIDR, ALSO],
    );
    bench.write(Program::Containerd, &[FAILED]);
    let (failures, kubelet) = bench.look();
    let cidr = kubelet.get().unwrap();
    assert_eq!(cidr.cidrs, ["10.244.1.0/24".parse().unwrap()]);
    assert_eq!(
        kubelet.source,
        bench.dir.path().join("kubelet.log").display().to_string()
    );
    let told = failures.get().unwrap();
    let [class] = told.classes.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(
        (class.signature, class.count, class.component.as_str()),
        (Signature::AddressesExhausted, 1, "containerd")
    );
    assert_eq!(
        (class.pods.as_slice(), class.plugin.as_deref()),
        (&["default/p1".to_owned()][..], Some("bridge"))
    );
    assert_eq!(class.addresses, ["10.244.7.1-10.244.7.6"]);
    assert!(!class.text.contains("933206408e296afa"), "{}", class.text);
    assert_eq!(told.since, Some("2026-11-25T07:20:00.1Z".parse().unwrap()));

    bench.write(Program::Containerd, &[&FAILED.replace("07:25:03", "07:25:16")]);
    assert_eq!(bench.look().0.get().unwrap().classes[0].count, 2);
    let success = FAILED
        .replace("07:25:03", "07:26:00")
        .replace("failed, error", r#"returns sandbox id \"9\""#);
    bench.write(Program::Containerd, &[&success]);
    let (failures, again) = bench.look();
    assert_eq!(failures.get().unwrap().classes, []);
    assert!(again.same(&kubelet), "what is read once more is no news");
}

#[test]
fn what_does_not_change_is_no_news() {
    let mut bench = Bench::new();
    bench.run(Program::Kubelet, 7);
    bench.write(Program::Kubelet, &[CIDR, &ALSO.replace("07:25:03", "07:29:03")]);
    let (failures, kubelet) = bench.look();
    assert_eq!(failures.get().unwrap().classes.len(), 1);
    let (later, same) = bench.look_at(now() + SignedDuration::from_secs(10));
    assert!(failures.same(&later) && kubelet.same(&same));
}

#[test]
fn a_value_over_several_lines_and_torn_writes_are_one_failure() {
    let mut bench = Bench::new();
    bench.run(Program::Kubelet, 7);
    let head = r#"E1125 07:25:03.302841      18 kuberuntime_sandbox.go:70] "Failed to create sandbox for pod" err=<"#;
    bench.write(
        Program::Kubelet,
        &[
            head,
            "\trpc error: dial unix /var/run/cilium/cilium.sock: connect: no such file or directory",
        ],
    );
    assert_eq!(bench.look().0.get().unwrap().classes, []);
    bench.write(
        Program::Kubelet,
        &["\tIs the agent running?", " > pod=\"kube-system/coredns-1\""],
    );
    let (failures, _) = bench.look();
    let class = &failures.get().unwrap().classes[0];
    assert_eq!(
        (class.signature, class.pods.as_slice()),
        (Signature::DaemonUnreachable, &["kube-system/coredns-1".to_owned()][..])
    );
}

#[test]
fn rubbish_costs_nothing_and_hides_nothing() {
    let mut bench = Bench::new();
    bench.run(Program::Containerd, 8);
    let path = bench.dir.path().join("containerd.log");
    let mut bytes = vec![0_u8; 3 << 20];
    bytes.extend([0xff, 0xfe, b'\n']);
    fs::write(&path, &bytes).unwrap();
    bench.write(Program::Containerd, &[FAILED]);
    assert_eq!(bench.look().0.get().unwrap().classes.len(), 1);
}

#[test]
fn a_kubelet_that_starts_anew_has_said_nothing_yet() {
    let mut bench = Bench::new();
    bench.run(Program::Kubelet, 7);
    bench.write(Program::Kubelet, &[CIDR]);
    assert!(bench.look().1.get().is_some());
    bench.processes.clear();
    bench.run(Program::Kubelet, 9);
    bench.processes[0].started_at = Some("2026-11-25T07:29:00Z".parse().unwrap());
    let (_, kubelet) = bench.look();
    assert!(matches!(kubelet.value, Err(Missing::Absent(_))), "{kubelet:?}");
    bench.write(
        Program::Kubelet,
        &[&CIDR.replace("07:22:16", "07:29:08").replace("10.244.1", "10.244.9")],
    );
    assert_eq!(bench.look().1.get().unwrap().cidrs, ["10.244.9.0/24".parse().unwrap()]);
}

#[test]
fn a_truncated_log_makes_the_kubelets_cidr_unknown() {
    let mut bench = Bench::new();
    bench.run(Program::Kubelet, 7);
    bench.write(Program::Kubelet, &[CIDR]);
    assert!(bench.look().1.get().is_some());
    fs::write(bench.dir.path().join("kubelet.log"), "").unwrap();
    assert!(matches!(bench.look().1.value, Err(Missing::Absent(_))));
}

#[test]
fn no_process_and_no_log_are_absent_and_what_nobody_looked_at_is_not_known() {
    let mut bench = Bench::new();
    let (failures, kubelet) = bench.look();
    assert!(matches!(failures.value, Err(Missing::Absent(_))));
    assert!(matches!(kubelet.value, Err(Missing::Absent(_))));
    bench.run(Program::Kubelet, 7);
    fs::remove_file(bench.dir.path().join("kubelet.log")).unwrap();
    let (failures, _) = bench.look();
    assert!(matches!(failures.value, Err(Missing::Absent(_))), "{failures:?}");
    let Told { failures, kubelet, .. } = bench.reader.look(&Observed::not_yet(), now());
    assert_eq!(
        (failures.value, kubelet.value),
        (Err(Missing::NotYet), Err(Missing::NotYet))
    );
}

#[test]
fn a_directory_where_a_log_should_be_is_unreadable_and_says_which() {
    let mut bench = Bench::new();
    bench.run(Program::Kubelet, 7);
    bench.look();
    let log = bench.dir.path().join("kubelet.log");
    fs::remove_file(&log).unwrap();
    bench.reader.journalctl = PathBuf::from("/bin/false");
    fs::create_dir_all(bench.dir.path().join("root/var/log/journal/3f2a")).unwrap();
    let (failures, kubelet) = bench.look();
    assert_eq!(failures.unreadable(), Some("journalctl: exit status: 1"));
    assert!(kubelet.unreadable().is_some());
}

#[test]
fn the_journal_is_read_where_the_service_logs_there() {
    use std::os::unix::fs::PermissionsExt;
    let mut bench = Bench::new();
    bench.run(Program::Kubelet, 7);
    let fd = bench.reader.proc.join("7/fd/2");
    fs::remove_file(&fd).unwrap();
    symlink("socket:[1]", &fd).unwrap();
    fs::create_dir_all(bench.dir.path().join("root/var/log/journal/3f2a")).unwrap();
    let row = |message: &str| {
        serde_json::json!({
            "MESSAGE": message,
            "_SYSTEMD_UNIT": "kubelet.service",
            "__REALTIME_TIMESTAMP": "1795591500000000",
            "__CURSOR": "s=1",
        })
    };
    let script = bench.dir.path().join("journalctl");
    let rows = format!("{}\n{}", row(CIDR), row(ALSO));
    fs::write(&script, format!("#!/bin/sh\ncat <<'END'\n{rows}\nEND\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    bench.reader.journalctl = script;
    let (failures, kubelet) = bench.look();
    assert_eq!(kubelet.source, "the journal (kubelet.service)");
    assert_eq!(kubelet.get().unwrap().cidrs, ["10.244.1.0/24".parse().unwrap()]);
    assert_eq!(failures.get().unwrap().classes[0].component, "kubelet");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever is in the files, in whatever pieces it comes: a look ends, and what is whole counts.
    #[test]
    fn any_bytes_between_whole_lines_hide_nothing(
        before in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
        after in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
        cut in 0_usize..1200,
    ) {
        let mut bench = Bench::new();
        bench.run(Program::Containerd, 8);
        bench.run(Program::Kubelet, 7);
        let mut bytes = before;
        bytes.push(b'\n');
        bytes.extend(FAILED.as_bytes());
        bytes.push(b'\n');
        bytes.extend(&after);
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        let path = bench.dir.path().join("containerd.log");
        for part in [first, second] {
            fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(part).unwrap();
            bench.look();
        }
        let failures = bench.look().0;
        proptest::prop_assert_eq!(&failures.get().unwrap().classes[0].pods, &["default/p1".to_owned()]);
    }
}

/// Real lines of containerd 1.6.20 (Debian) and 2.4.2: `grep RunPodSandbox` of what each logged at its default level
/// while five sandboxes were made in a range of five addresses, a sixth failed, and one of the host's network was made.
/// Of the sandboxes' ids the middle is cut.
const CONTAINERD_1_6: &str = include_str!("fixtures/containerd-1.6.20.log");
const CONTAINERD_2_4: &str = include_str!("fixtures/containerd-2.4.2.log");

#[test]
fn how_long_sandboxes_took_is_in_the_logs_of_both_containerds() {
    for (text, made, slowest, median, failed) in [(CONTAINERD_1_6, 6, 135, 84, 43), (CONTAINERD_2_4, 6, 112, 77, 51)] {
        let mut bench = Bench::new();
        bench.run(Program::Containerd, 8);
        let lines: Vec<&str> = text.lines().collect();
        bench.write(Program::Containerd, &lines);
        let told = bench.told_at("2026-11-25T15:50:00Z".parse().unwrap());
        let setups = told.setups.value.unwrap();
        for span in &setups.spans {
            assert_eq!((span.made, span.failed), (made, 1));
            assert_eq!((span.slowest_ms, span.median_ms), (Some(slowest), Some(median)));
            assert_eq!(span.slowest_failed_ms, Some(failed));
        }
        assert_eq!((setups.waiting, setups.waiting_since), (0, None));
        // An hour later it is over.
        let told = bench.told_at("2026-11-25T16:50:00Z".parse().unwrap());
        assert!(matches!(told.setups.value, Err(Missing::Absent(_))));
    }
}

#[test]
fn a_kubelet_alone_tells_nothing_of_how_long_it_took() {
    let mut bench = Bench::new();
    bench.run(Program::Kubelet, 7);
    bench.write(Program::Kubelet, &[ALSO]);
    let told = bench.told_at(now());
    assert_eq!(told.failures.get().unwrap().classes.len(), 1);
    assert_eq!(told.setups.value, Err(Missing::Absent("no runtime was found".into())));
}

#[test]
fn a_time_goes_on_over_a_rotation_and_ends_where_lines_are_lost() {
    let line = |pod: &str, second: u32, end: &str| {
        let metadata = format!(r#"name:\"{pod}\"  uid:\"u\"  namespace:\"ns\""#);
        format!(r#"time="2026-11-25T07:29:{second:02}.5Z" level=info msg="RunPodSandbox for {metadata}{end}""#)
    };
    let asked = |pod, second| line(pod, second, "");
    let made = |pod, second| line(pod, second, r#" returns sandbox id \"9332\""#);
    let mut bench = Bench::new();
    bench.run(Program::Containerd, 8);
    let log = bench.dir.path().join("containerd.log");
    let at = |second| now() + SignedDuration::from_secs(second);
    bench.write(Program::Containerd, &[&asked("a", 1)]);
    bench.told_at(at(0));
    // Renamed, and a new one in its place: what the process writes to now is found by its link.
    fs::rename(&log, bench.dir.path().join("containerd.log.1")).unwrap();
    fs::write(&log, "").unwrap();
    bench.write(Program::Containerd, &[&made("a", 8), &asked("b", 10)]);
    let setups = bench.told_at(at(60)).setups.value.unwrap();
    assert_eq!((setups.spans[0].made, setups.spans[0].slowest_ms), (1, Some(7_000)));
    // Emptied while it is written to: whether b came meanwhile, nobody knows.
    fs::write(&log, "").unwrap();
    bench.write(Program::Containerd, &[&made("c", 20)]);
    let before = bench.told_at(at(119)).setups.value.unwrap();
    assert_eq!(before, setups, "figures stand for a minute");
    let setups = bench.told_at(at(120)).setups.value.unwrap();
    assert_eq!((setups.spans[0].made, setups.spans[0].slowest_ms), (2, Some(7_000)));
    assert_eq!((setups.waiting, setups.waiting_since), (0, None));
    assert_eq!(setups.since, Some("2026-11-25T07:29:20.5Z".parse().unwrap()));
}

#[test]
fn what_cri_o_leaves_to_kubelet_to_tell_ends_a_time_as_well() {
    let mut bench = Bench::new();
    bench.run(Program::Crio, 8);
    bench.run(Program::Kubelet, 7);
    let crio = |second: u32, call: &str, text: &str| {
        let fields = format!("id={call} name=/runtime.v1.RuntimeService/RunPodSandbox");
        format!(r#"time="2026-11-25 07:25:{second:02}.5+00:00" level=info msg="{text}" {fields}"#)
    };
    let running = "Running pod sandbox: default/p1/POD";
    let lines = [
        crio(0, "c1", running),
        crio(20, "c2", running),
        crio(
            22,
            "c2",
            "Ran pod sandbox e24892f993e7 with infra container: default/p1/POD",
        ),
        crio(25, "c3", "Running pod sandbox: default/p2/POD"),
    ];
    bench.write(Program::Crio, &lines.each_ref().map(String::as_str));
    // The failure of the first try, told at 07:25:03.
    bench.write(Program::Kubelet, &[ALSO, ALSO]);
    let setups = bench.told_at(now()).setups.value.unwrap();
    let span = setups.spans[0];
    assert_eq!((span.made, span.slowest_ms), (1, Some(2_000)));
    assert_eq!((span.failed, span.slowest_failed_ms), (1, Some(2_802)));
    assert_eq!(setups.waiting, 1, "p2 for almost five minutes");
}
