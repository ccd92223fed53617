//! microk8s' kubelite: kubelet, kube-proxy and kube-controller-manager in one process, the flags of each in a file.

use std::path::{Path, PathBuf};

use super::settings::Part;
use super::told::Told;
use crate::observe::root::HostRoot;
use crate::view::host::Program;

/// Where microk8s keeps them, unless the command line says otherwise.
const ARGUMENTS: &str = "/var/snap/microk8s/current/args";

/// What snapd sets for microk8s (snap.microk8s.daemon-kubelite.service).
const COMMON: &str = "/var/snap/microk8s/common";
const SNAP: &str = "/snap/microk8s/current";

/// The programs inside, each with its file's flags. `own` is what kubelite itself was told.
pub(super) fn read(own: &Told, root: &HostRoot) -> Vec<Part> {
    let inside = [
        (Program::ControllerManager, "controller-manager-args-file"),
        (Program::Kubelet, "kubelet-args-file"),
        (Program::Proxy, "proxy-args-file"),
    ];
    let control_plane = own.get("start-control-plane").is_none() || own.is_on("start-control-plane");
    let wanted = inside
        .into_iter()
        .filter(|(program, _)| *program != Program::ControllerManager || control_plane);
    wanted
        .map(|(program, flag)| {
            let file = own.get(flag).filter(|path| !path.is_empty());
            let file = file.map_or_else(|| Path::new(ARGUMENTS).join(program.name()), PathBuf::from);
            let mut part = Part::new(program, Told::default());
            let told = &mut part.told;
            match part.sources.read(root, &file) {
                Ok(Some(text)) => told.words(program, &words(&text, &file), &file.display().to_string()),
                Ok(None) => told.problem(format!("{}: there is no such file", file.display())),
                Err(why) => told.problem(why),
            }
            part
        })
        .collect()
}

/// Words by blanks, lines that begin with "#" aside, quotes off, snapd's variables replaced: as kubelite reads it.
fn words(text: &str, file: &Path) -> Vec<String> {
    let data = file
        .parent()
        .and_then(Path::parent)
        .map(|dir| dir.display().to_string());
    let data = data.unwrap_or_default();
    let variables = [("SNAP_COMMON", COMMON), ("SNAP_DATA", data.as_str()), ("SNAP", SNAP)];
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .flat_map(str::split_whitespace)
        .map(|word| {
            let mut word = word.replace(['"', '\''], "");
            for (name, value) in variables {
                word = word
                    .replace(&format!("${{{name}}}"), value)
                    .replace(&format!("${name}"), value);
            }
            word
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, HostRoot) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = HostRoot::new(dir.path());
        (dir, root)
    }

    #[test]
    fn each_programs_file_is_read_with_snapds_variables() {
        let (_dir, root) = host(&[
            (
                "var/snap/microk8s/9/args/kubelet",
                "# comment --max-pods=1\n--container-runtime-endpoint=${SNAP_COMMON}/run/containerd.sock\n--root-dir=\"$SNAP_DATA/k\"\n",
            ),
            (
                "var/snap/microk8s/current/args/kube-proxy",
                "--cluster-cidr 10.1.0.0/16 \n--kubeconfig=x\n",
            ),
        ]);
        let mut own = Told::default();
        own.set("kubelet-args-file", "/var/snap/microk8s/9/args/kubelet", "command line");
        own.set("start-control-plane", "false", "command line");
        let all = read(&own, &root);
        assert_eq!(all.len(), 2);
        let (kubelet, proxy) = (&all[0].told, &all[1].told);
        assert_eq!(
            kubelet.get("container-runtime-endpoint"),
            Some("/var/snap/microk8s/common/run/containerd.sock")
        );
        assert_eq!(kubelet.get("root-dir"), Some("/var/snap/microk8s/9/k"));
        assert_eq!(kubelet.get("max-pods"), None);
        assert_eq!(proxy.settings["cluster-cidr"].value, "10.1.0.0/16");
        assert_eq!(
            proxy.settings["cluster-cidr"].source,
            "/var/snap/microk8s/current/args/kube-proxy"
        );
        assert_eq!(proxy.settings.len(), 1);
    }

    #[test]
    fn a_file_that_is_not_there_is_said() {
        let (_dir, root) = host(&[]);
        let all = read(&Told::default(), &root);
        assert_eq!(all.len(), 3);
        assert_eq!(
            all[0].told.problems().unwrap(),
            "/var/snap/microk8s/current/args/kube-controller-manager: there is no such file"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_files_never_panic(text in "[$\\{}A-Z_#\"' \n=-]{0,60}") {
            let _ = words(&text, Path::new("/a/b"));
        }
    }
}
