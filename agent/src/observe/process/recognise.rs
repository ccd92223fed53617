//! Which program a process is.

use super::manifest::base;
use crate::view::host::Program;

const ALL: &[Program] = &[
    Program::Kubelet,
    Program::ControllerManager,
    Program::Proxy,
    Program::Flanneld,
    Program::Containerd,
    Program::Crio,
    Program::K3s,
    Program::Rke2,
    Program::Kubelite,
    Program::K0s,
];

/// The kernel keeps that much of an executable's name (TASK_COMM_LEN less the end).
const COMM: usize = 15;

/// What a process may be by the name of its executable. k3s runs itself again as `k3s-server` or `k3s-agent`.
pub(super) fn candidate(comm: &str) -> Option<Program> {
    if matches!(comm, "k3s-server" | "k3s-agent") {
        return Some(Program::K3s);
    }
    ALL.iter().find(|program| comm == cut(program.name())).copied()
}

fn cut(name: &str) -> &str {
    name.get(..COMM).unwrap_or(name)
}

/// The words after the program's name; `None` where the process is something else: a script of that name, or a
/// command of the same binary that ends (`k3s kubectl`, `crio wipe`).
pub(super) fn words(program: Program, arguments: &[String], executable: Option<&str>) -> Option<Vec<String>> {
    let title: Vec<String>;
    let arguments = match arguments {
        // A title that was written over the arguments is one word with blanks in it.
        [only] if only.contains(' ') => {
            title = only.split_whitespace().map(str::to_owned).collect();
            &title
        }
        all => all,
    };
    let (first, rest) = arguments.split_first()?;
    if base(first) != program.name() && executable != Some(program.name()) {
        return None;
    }
    let command = rest.first().map(String::as_str);
    let runs = match program {
        Program::K3s | Program::Rke2 => matches!(command, Some("server" | "agent")),
        Program::K0s => matches!(command, Some("controller" | "worker")),
        Program::Containerd | Program::Crio => command.is_none_or(|word| word.starts_with('-')),
        _ => true,
    };
    runs.then(|| rest.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_long_name_is_known_by_its_first_15_bytes() {
        assert_eq!(candidate("kube-controller"), Some(Program::ControllerManager));
        assert_eq!(candidate("containerd-shim"), None);
        assert_eq!(candidate("k3s-agent"), Some(Program::K3s));
        let long = list(&["kube-controller-manager-tool"]);
        assert_eq!(
            words(Program::ControllerManager, &long, Some("kube-controller-manager-tool")),
            None
        );
    }

    #[test]
    fn every_distribution_writes_it_in_its_own_way() {
        for (program, arguments, rest) in [
            (
                Program::Kubelet,
                vec!["/usr/bin/kubelet", "--config=/x"],
                vec!["--config=/x"],
            ),
            (Program::Kubelet, vec!["/var/lib/k0s/bin/kubelet"], vec![]),
            (Program::K3s, vec!["/usr/local/bin/k3s server"], vec!["server"]),
            (
                Program::K3s,
                vec!["/usr/local/bin/k3s", "agent", "--docker"],
                vec!["agent", "--docker"],
            ),
            (Program::Rke2, vec!["/usr/local/bin/rke2 agent"], vec!["agent"]),
            (
                Program::K0s,
                vec!["/usr/local/bin/k0s", "controller", "--single"],
                vec!["controller", "--single"],
            ),
            (Program::Kubelite, vec!["/snap/microk8s/1/kubelite"], vec![]),
        ] {
            assert_eq!(
                words(program, &list(&arguments), None),
                Some(list(&rest)),
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn scripts_and_short_commands_are_not_the_program() {
        assert_eq!(
            words(Program::Kubelet, &list(&["/bin/sh", "/usr/bin/kubelet"]), Some("dash")),
            None
        );
        assert_eq!(words(Program::K3s, &list(&["k3s", "kubectl", "get"]), None), None);
        assert_eq!(words(Program::Crio, &list(&["crio", "wipe"]), None), None);
        assert_eq!(words(Program::Kubelet, &[], Some("kubelet")), None);
    }

    #[test]
    fn an_executable_counts_whatever_its_first_argument_says() {
        assert_eq!(
            words(Program::Kubelet, &list(&["agent", "--v=2"]), Some("kubelet")),
            Some(list(&["--v=2"]))
        );
    }

    proptest! {
        #[test]
        fn arbitrary_names_never_panic(comm in ".{0,20}", arguments in prop::collection::vec(".{0,12}", 0..4)) {
            let _ = candidate(&comm);
            for program in ALL {
                let _ = words(*program, &arguments, Some(&comm));
            }
        }
    }
}
