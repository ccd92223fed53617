//! Runtimes as their configuration and sockets show them.

use super::*;

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

const V2: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\n  bin_dir = \"/opt/cni/bin\"\n  \
    conf_template = \"/etc/containerd/cni.template\" # kept\n[plugins.\"io.containerd.grpc.v1.cri\"]\nconf_dir = \"/no\"\n";
const V3: &str =
    "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\n  conf_dir = '/srv/cni'\n  conf_template = ''\n";

#[test]
fn containerds_template_is_found_in_both_forms_of_its_configuration() {
    let (_dir, root) = host(&[("etc/containerd/config.toml", V2)]);
    let runtime = look(&root, None);
    assert_eq!(
        runtime.template,
        Some(Template::Named("/etc/containerd/cni.template".into()))
    );
    assert_eq!(runtime.dir.as_deref(), Some(Path::new(DEFAULT_DIR)));

    let (_dir, root) = host(&[("etc/containerd/config.toml", V3)]);
    let runtime = look(&root, None);
    assert_eq!(runtime.template, Some(Template::None));
    assert_eq!(runtime.dir.as_deref(), Some(Path::new("/srv/cni")));
}

#[test]
fn without_a_configuration_nothing_is_known_of_a_template() {
    let (_dir, root) = host(&[]);
    let runtime = look(&root, None);
    assert_eq!((runtime.template, runtime.skips_bad_files), (None, false));
}

#[test]
fn k3s_keeps_its_own_directory_and_a_leftover_in_the_default_one_leaves_doubt() {
    let k3s = "var/lib/rancher/k3s/agent/etc/cni/net.d/10-flannel.conflist";
    let (_dir, root) = host(&[(k3s, "{}")]);
    assert_eq!(
        look(&root, None).dir.unwrap(),
        Path::new("/").join(k3s).parent().unwrap()
    );

    let podman = "etc/cni/net.d/87-podman.conflist";
    let (_dir, root) = host(&[(k3s, "{}"), (podman, "{}")]);
    let runtime = look(&root, None);
    assert_eq!(runtime.dir, None);
    assert!(runtime.doubt.unwrap().contains("--cni-dir"));

    let (_dir, root) = host(&[(k3s, "{}"), (podman, "{}"), ("run/k3s/containerd/containerd.sock", "")]);
    assert_eq!(
        look(&root, None).dir.unwrap(),
        Path::new("/").join(k3s).parent().unwrap()
    );
}

#[test]
fn crio_skips_bad_files_and_may_name_its_network() {
    let (_dir, root) = host(&[
        ("run/crio/crio.sock", ""),
        (
            "etc/crio/crio.conf",
            "[crio.network]\n# cni_default_network = \"no\"\nnetwork_dir = \"/etc/cni/net.d/\"\n",
        ),
        (
            "etc/crio/crio.conf.d/10-net.conf",
            "[crio.network]\ncni_default_network = \"flannel\"\n",
        ),
    ]);
    let runtime = look(&root, None);
    assert!(runtime.skips_bad_files);
    assert_eq!(runtime.default_network.as_deref(), Some("flannel"));
}

fn plugin_dirs(root: &HostRoot) -> Vec<String> {
    let named = look(root, None).plugin_dirs;
    let paths = named.into_iter().flat_map(|named| named.paths);
    paths.map(|path| path.display().to_string()).collect()
}

#[test]
fn beside_crio_containerds_directories_do_not_count_for_sure() {
    let (_dir, root) = host(&[
        ("etc/containerd/config.toml", V2),
        ("run/containerd/containerd.sock", ""),
        ("run/crio/crio.sock", ""),
        (
            "etc/crio/crio.conf",
            "[crio.network]\nplugin_dirs = [\"/usr/libexec/cni\"]\n",
        ),
    ]);
    assert_eq!(look(&root, None).plugin_dirs, None);
    assert_eq!(
        crio_plugin_dirs(&root).unwrap().paths,
        [PathBuf::from("/usr/libexec/cni")]
    );
}

#[test]
fn plugin_directories_are_read_of_every_form_of_the_configuration() {
    for (text, expected) in [
        (V2, vec!["/opt/cni/bin"]),
        (V3, Vec::<&str>::new()),
        ("[plugins.cri.cni]\nbin_dir = \"/usr/lib/cni\"\n", vec!["/usr/lib/cni"]),
        (
            "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\ncni = { bin_dir = '', bin_dirs = [\n '/opt/cni/bin', # kept\n '/usr/lib/cni'\n] }\n",
            vec!["/opt/cni/bin", "/usr/lib/cni"],
        ),
        ("[plugins.cri.cni]\nbin_dir = \"${SNAP_DATA}/opt/cni/bin\"\n", vec![]),
        ("[plugins.cri.cni\nbin_dir = \"/torn\"\n", vec![]),
    ] {
        let (_dir, root) = host(&[("etc/containerd/config.toml", text)]);
        assert_eq!(plugin_dirs(&root), expected, "{text}");
    }
}

#[test]
fn what_is_imported_goes_before_the_file_and_what_cannot_be_read_leaves_nothing_known() {
    let main = "imports = [\"/etc/containerd/conf.d/*.toml\"]\n[plugins.cri.cni]\nbin_dir = \"/a\"\nconf_dir = \"/etc/cni/a\"\n";
    let (dir, root) = host(&[
        ("etc/containerd/config.toml", main),
        (
            "etc/containerd/conf.d/10-cni.toml",
            "[plugins.cri.cni]\nbin_dir = \"/b\"\n",
        ),
        ("etc/containerd/conf.d/README", "["),
    ]);
    let runtime = look(&root, None);
    assert_eq!(plugin_dirs(&root), ["/b"]);
    assert_eq!(runtime.dir.as_deref(), Some(Path::new("/etc/cni/a")));
    std::fs::write(dir.path().join("etc/containerd/conf.d/20-torn.toml"), "[").unwrap();
    let runtime = look(&root, None);
    assert_eq!((runtime.plugin_dirs, runtime.template), (None, None));
    // An imported section that names none may stand in the place of the one that did.
    std::fs::write(dir.path().join("etc/containerd/conf.d/20-torn.toml"), "[plugins.cri]\n").unwrap();
    assert_eq!(look(&root, None).plugin_dirs, None);
}

#[test]
fn crios_plugin_directories_are_those_of_the_last_file_that_names_them() {
    let (_dir, root) = host(&[
        ("run/crio/crio.sock", ""),
        (
            "etc/crio/crio.conf",
            "[crio.network]\nplugin_dirs = [\n\t\"/opt/cni/bin/\",\n]\n",
        ),
        (
            "etc/crio/crio.conf.d/10-crio.conf",
            "[crio.network]\nplugin_dirs = [\"/var/lib/cni/bin\", \"/usr/libexec/cni\"]\n",
        ),
    ]);
    assert_eq!(plugin_dirs(&root), ["/var/lib/cni/bin", "/usr/libexec/cni"]);
    assert!(look(&root, None).runs);
}

#[test]
fn k3s_without_flannel_reads_the_default_directory_whatever_an_earlier_flannel_left() {
    let left = "var/lib/rancher/k3s/agent/etc/cni/net.d/10-flannel.conflist";
    let config = "version = 3\n[grpc]\naddress = \"/run/k3s/containerd/containerd.sock\"\n";
    let (_dir, root) = host(&[
        (left, "{}"),
        ("etc/cni/net.d/10-calico.conflist", "{}"),
        ("var/lib/rancher/k3s/agent/etc/containerd/config.toml", config),
        ("run/k3s/containerd/containerd.sock", ""),
    ]);
    let runtime = look(&root, None);
    assert_eq!(runtime.dir.as_deref(), Some(Path::new(DEFAULT_DIR)));
    assert_eq!(runtime.template, Some(Template::None));
}

#[test]
fn rke2_and_k0s_name_their_plugins_in_files_of_their_own() {
    for (file, socket) in [
        (
            "var/lib/rancher/rke2/agent/etc/containerd/config.toml",
            "run/k3s/containerd/containerd.sock",
        ),
        ("etc/k0s/containerd.toml", "run/k0s/containerd.sock"),
    ] {
        let (_dir, root) = host(&[
            (
                file,
                "[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/opt/cni/bin']\n",
            ),
            (socket, ""),
            ("etc/cni/net.d/10-calico.conflist", "{}"),
        ]);
        let runtime = look(&root, None);
        assert_eq!(runtime.dir.as_deref(), Some(Path::new(DEFAULT_DIR)), "{file}");
        assert_eq!(plugin_dirs(&root), ["/opt/cni/bin"], "{file}");
        assert!(runtime.runs);
    }
}

#[test]
fn an_empty_directory_is_that_of_the_runtime_that_runs() {
    let (_dir, root) = host(&[("run/k3s/containerd/containerd.sock", "")]);
    assert_eq!(
        look(&root, None).dir.unwrap(),
        Path::new("/var/lib/rancher/k3s/agent/etc/cni/net.d")
    );
}
