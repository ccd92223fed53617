//! k3s and rke2: their configuration files and command line, and what reaches the programs inside k3s.
//!
//! k3s runs kubelet, kube-proxy, flannel and, as a server, kube-controller-manager in its own process. rke2 starts
//! them as processes and static pods, which are found by themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::flags::{self, Flag};
use super::k3s;
use super::sources::Sources;
use super::told::{COMMAND_LINE, Told, scalar, yaml};
use super::unit;
use crate::observe::root::HostRoot;
use crate::view::host::Program;

/// The defaults of both (pkg/cli/server of k3s).
const CLUSTER_CIDR: &str = "10.42.0.0/16";
const SERVICE_CIDR: &str = "10.43.0.0/16";

/// A running k3s or rke2.
pub(super) struct Rancher<'a> {
    pub program: Program,
    /// The words after the program's name, "server" or "agent" first; nothing more where it wrote a title over them.
    pub words: &'a [String],
    /// The service of systemd that it runs as.
    pub service: Option<&'a str>,
}

/// What it was told, by name: all values and where the last word on them stands.
pub(super) type Values = BTreeMap<&'static str, (Vec<String>, String)>;

/// The program itself and, for k3s, those inside it.
pub(super) fn read(rancher: &Rancher<'_>, root: &HostRoot, sources: &mut Sources) -> Vec<(Program, Told)> {
    let mut own = Told::default();
    let line = command_line(rancher, root, sources, &mut own);
    let flags = line
        .as_ref()
        .map(|(words, _)| flags::parse(rancher.program, words))
        .unwrap_or_default();
    let named = flags
        .iter()
        .rev()
        .find(|flag| flag.name == "config")
        .map(|flag| PathBuf::from(&flag.value));
    let mut values = Values::new();
    let file = named.unwrap_or_else(|| format!("/etc/rancher/{}/config.yaml", rancher.program).into());
    configuration(&mut values, &file, root, sources, &mut own);
    if let Some((_, source)) = &line {
        overwrite(&mut values, &flags, source);
    }
    for (name, (all, source)) in values.iter().filter(|(name, _)| !flags::carries(name)) {
        own.set(name, all.join(","), source);
    }
    let server = rancher.words.first().is_some_and(|word| word == "server");
    // The defaults are those of IPv4; a server whose first address is an IPv6 one takes others.
    let ipv6 = own
        .get("node-ip")
        .is_some_and(|addresses| addresses.split(',').next().is_some_and(|first| first.contains(':')));
    if server && line.is_some() && !ipv6 {
        let source = format!("default of {}", rancher.program);
        own.set_default("cluster-cidr", CLUSTER_CIDR, &source);
        own.set_default("service-cidr", SERVICE_CIDR, &source);
    }
    let mut all = Vec::new();
    if rancher.program == Program::K3s {
        all = k3s::embedded(&own, &values, server);
    }
    // What is not known of the whole is not known of its parts.
    if let Some(why) = own.problems() {
        all.iter_mut().for_each(|(_, told)| told.problem(why.as_str()));
    }
    all.insert(0, (rancher.program, own));
    all
}

/// Its own flags and where they stand; `None` where they are hidden.
fn command_line(
    rancher: &Rancher<'_>,
    root: &HostRoot,
    sources: &mut Sources,
    own: &mut Told,
) -> Option<(Vec<String>, String)> {
    if rancher.words.len() > 1 {
        return Some((rancher.words[1..].to_vec(), COMMAND_LINE.to_owned()));
    }
    let unit = match rancher.service {
        Some(service) => unit::command(root, service, sources),
        None => Ok(None),
    };
    match unit {
        Ok(Some(command)) => {
            let named = |word: &String| rancher.words.first() == Some(word);
            // A wrapper that a unit starts instead says nothing of the flags.
            if let Some(at) = command.words.iter().position(named) {
                let words = command.words[at + 1..].to_vec();
                if words.iter().all(|word| !word.contains('$')) {
                    return Some((words, command.file.display().to_string()));
                }
            }
            own.problem(format!(
                "{}: its ExecStart does not name all flags",
                command.file.display()
            ));
        }
        Ok(None) => own.problem("it hides its command line, and no unit of systemd tells it"),
        Err(why) => own.problem(why),
    }
    None
}

/// The file and those beside it in FILE.d; a later value takes the place of an earlier, "name+" adds to it.
fn configuration(values: &mut Values, file: &Path, root: &HostRoot, sources: &mut Sources, own: &mut Told) {
    let mut files = vec![file.to_owned()];
    let mut dir = file.as_os_str().to_owned();
    dir.push(".d");
    match sources.list(root, Path::new(&dir), &[".yaml", ".yml"]) {
        Ok(more) => files.extend(more),
        Err(why) => own.problem(why),
    }
    for file in files {
        let document = match sources.read(root, &file) {
            Ok(Some(text)) => yaml(&text).map_err(|error| format!("{}: {error}", file.display())),
            Ok(None) => continue,
            Err(why) => Err(why),
        };
        match document {
            Ok(Value::Object(rows)) => rows.iter().for_each(|(key, value)| set(values, key, value, &file)),
            Ok(Value::Null) => {}
            Ok(_) => own.problem(format!("{}: it is no configuration", file.display())),
            Err(why) => own.problem(why),
        }
    }
}

fn set(values: &mut Values, key: &str, value: &Value, file: &Path) {
    let (key, adds) = key.strip_suffix('+').map_or((key, false), |key| (key, true));
    let Some(name) = flags::kept(key) else { return };
    let items: Vec<String> = match value {
        Value::Array(items) => items.iter().filter_map(scalar).collect(),
        other => scalar(other).into_iter().collect(),
    };
    let source = file.display().to_string();
    match values.get_mut(name) {
        Some((all, was)) if adds => {
            all.extend(items);
            *was = source;
        }
        _ => {
            values.insert(name, (items, source));
        }
    }
}

/// The command line goes before the files: a flag that may be given several times takes the place of the whole list.
fn overwrite(values: &mut Values, flags: &[Flag], source: &str) {
    let mut line = Values::new();
    for flag in flags {
        let row = line.entry(flag.name).or_insert_with(|| (Vec::new(), source.to_owned()));
        row.0.push(flag.value.clone());
    }
    values.extend(line);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(program: Program, words: &[&str], service: Option<&str>, files: &[(&str, &str)]) -> Vec<(Program, Told)> {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let rancher = Rancher {
            program,
            words: &words,
            service,
        };
        read(&rancher, &HostRoot::new(dir.path()), &mut Sources::default())
    }

    fn text(all: &[(Program, Told)]) -> String {
        let mut lines = Vec::new();
        for (program, told) in all {
            lines.push(format!("{program}: {}", told.problems().unwrap_or_default()));
            for (name, setting) in &told.settings {
                lines.push(format!("  {name}={} ({})", setting.value, setting.source));
            }
        }
        lines.join("\n")
    }

    const UNIT: (&str, &str) = (
        "etc/systemd/system/k3s.service",
        "[Service]\nExecStart=/usr/local/bin/k3s server '--token' 'secret' '--node-ip' '10.0.0.1'\n",
    );

    #[test]
    fn a_server_with_its_files_its_unit_and_its_defaults() {
        let all = told(
            Program::K3s,
            &["server"],
            Some("k3s.service"),
            &[
                UNIT,
                (
                    "etc/rancher/k3s/config.yaml",
                    "token: secret\ncluster-cidr: 10.52.0.0/16\nnode-ip: 10.9.9.9\nkubelet-arg:\n- max-pods=200\n\
                 kube-controller-manager-arg: [node-cidr-mask-size=25]\n",
                ),
                (
                    "etc/rancher/k3s/config.yaml.d/10-a.yaml",
                    "cluster-cidr: 10.53.0.0/16,fd00:53::/56\nkubelet-arg+: [v=4]\nkube-proxy-arg: [\"proxy-mode=ipvs\"]\n",
                ),
            ],
        );
        insta::assert_snapshot!(text(&all));
    }

    #[test]
    fn the_defaults_of_a_server_on_ipv6_are_not_taken_for_known() {
        let all = told(Program::K3s, &["server", "--node-ip=2001:db8::1,10.0.0.1"], None, &[]);
        assert_eq!(all[0].1.get("cluster-cidr"), None);
    }

    #[test]
    fn hidden_flags_leave_defaults_unknown_and_are_said() {
        let all = told(Program::K3s, &["server"], None, &[]);
        assert_eq!(all[0].1.get("cluster-cidr"), None);
        assert!(all[0].1.problems().unwrap().contains("hides its command line"));
        let proxy = all.iter().find(|(program, _)| *program == Program::Proxy).unwrap();
        assert_eq!(proxy.1.get("cluster-cidr"), None);
    }

    #[test]
    fn an_agent_has_no_controller_manager_and_knows_no_range() {
        let words = [
            "agent",
            "--server",
            "https://x:6443",
            "--kubelet-arg=max-pods=30",
            "--docker",
        ];
        let all = told(Program::K3s, &words, None, &[]);
        let programs: Vec<Program> = all.iter().map(|(program, _)| *program).collect();
        assert_eq!(
            programs,
            [Program::K3s, Program::Kubelet, Program::Proxy, Program::Flanneld]
        );
        assert_eq!(all[0].1.problems(), None);
        assert_eq!(all[1].1.get("max-pods"), Some("30"));
        assert_eq!(
            all[1].1.get("container-runtime-endpoint"),
            Some("unix:///run/k3s/cri-dockerd/cri-dockerd.sock")
        );
        assert_eq!(all[2].1.get("cluster-cidr"), None);
    }

    #[test]
    fn what_is_disabled_is_not_there() {
        let words = [
            "server",
            "--disable-kube-proxy",
            "--flannel-backend=none",
            "--disable-controller-manager=false",
        ];
        let all = told(Program::K3s, &words, None, &[]);
        let programs: Vec<Program> = all.iter().map(|(program, _)| *program).collect();
        assert_eq!(programs, [Program::K3s, Program::ControllerManager, Program::Kubelet]);
        let all = told(Program::K3s, &["server", "--disable-agent"], None, &[]);
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn rke2_embeds_nothing_and_has_the_same_defaults() {
        let all = told(
            Program::Rke2,
            &["server", "--config", "/srv/r.yaml"],
            None,
            &[("srv/r.yaml", "cni: cilium\n")],
        );
        assert_eq!(all.len(), 1);
        let row = |name: &str| all[0].1.settings[name].clone();
        assert_eq!(
            (row("cluster-cidr").value.as_str(), row("cluster-cidr").source.as_str()),
            (CLUSTER_CIDR, "default of rke2")
        );
        assert_eq!(
            (row("cni").value.as_str(), row("cni").source.as_str()),
            ("cilium", "/srv/r.yaml")
        );
    }

    #[test]
    fn a_unit_that_leaves_flags_to_the_environment_or_to_a_wrapper_is_not_enough() {
        for line in ["/usr/local/bin/k3s server $MORE", "/opt/start-it"] {
            let unit = format!("[Service]\nExecStart={line}\n");
            let all = told(Program::K3s, &["server"], Some("k3s.service"), &[(UNIT.0, &unit)]);
            assert_eq!(
                all[0].1.problems().unwrap(),
                "/etc/systemd/system/k3s.service: its ExecStart does not name all flags"
            );
        }
    }

    #[test]
    fn a_torn_file_is_said_and_the_others_are_read() {
        let all = told(
            Program::Rke2,
            &["agent", "--node-ip=10.0.0.2"],
            None,
            &[
                ("etc/rancher/rke2/config.yaml", "a: [1"),
                ("etc/rancher/rke2/config.yaml.d/b.yaml", "node-name: n7\n"),
            ],
        );
        assert!(
            all[0]
                .1
                .problems()
                .unwrap()
                .starts_with("/etc/rancher/rke2/config.yaml: ")
        );
        assert_eq!(
            (all[0].1.get("node-name"), all[0].1.get("node-ip")),
            (Some("n7"), Some("10.0.0.2"))
        );
    }

    proptest! {
        #[test]
        fn arbitrary_files_never_panic(text in "(kubelet-arg|cluster-cidr|\\+|: |[ \\[\\]{}a-z=&*\n-]){0,15}") {
            let _ = told(Program::K3s, &["server"], None, &[("etc/rancher/k3s/config.yaml", &text)]);
        }
    }
}
