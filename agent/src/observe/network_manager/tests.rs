use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A host whose network managers work in this very namespace.
struct Rooted(tempfile::TempDir);

impl Rooted {
    fn new() -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        root.namespace(&fs::read_link("/proc/thread-self/ns/net").unwrap());
        root
    }

    fn namespace(&self, link: &Path) {
        let at = self.0.path().join("proc/1/ns");
        fs::create_dir_all(&at).unwrap();
        let _ = fs::remove_file(at.join("net"));
        symlink(link, at.join("net")).unwrap();
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        let at = self.0.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, text).unwrap();
        self
    }

    fn networkd(&self) -> &Self {
        self.write(&format!("{}/cgroup.procs", networkd::SERVICE.cgroup), "417\n");
        // lo is there in every namespace, and is number 1.
        self.write(
            &format!("{}/1", networkd::LINKS),
            "# private\nADMIN_STATE=configured\nOPER_STATE=routable\n",
        )
    }

    fn nm(&self) -> &Self {
        self.write(&format!("{}/cgroup.procs", nm::SERVICE.cgroup), "418\n")
    }

    fn reader(&self) -> NetworkManagerReader {
        NetworkManagerReader::new(HostRoot::new(self.0.path()))
    }

    fn look(&self) -> Result<Vec<NetworkManager>, Missing> {
        self.reader().look(&CniFacts::default(), Timestamp::UNIX_EPOCH).value
    }

    /// "SETTING (file)" of each.
    fn said(&self) -> Vec<String> {
        let line = |manager: NetworkManager| match manager.file {
            Some(file) => format!("{} {file}", manager.setting),
            None => manager.setting,
        };
        self.look().unwrap().into_iter().map(line).collect()
    }
}

const OFF: &str = "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n";

#[test]
fn where_neither_runs_there_is_none() {
    let root = Rooted::new();
    assert!(matches!(root.look(), Err(Missing::Absent(_))));
    // Directories that the package or an earlier run left are no witness, nor is an empty cgroup.
    root.write("/run/systemd/netif/links/1", "ADMIN_STATE=configured\n");
    root.write("/run/NetworkManager/devices/1", "[device]\nmanaged=true\n");
    root.write(&format!("{}/cgroup.procs", networkd::SERVICE.cgroup), "");
    assert!(matches!(root.look(), Err(Missing::Absent(_))));
}

#[test]
fn networkd_manages_foreign_routes_and_rules_unless_told_otherwise() {
    let root = Rooted::new();
    root.networkd();
    assert_eq!(
        root.said(),
        [
            "ManageForeignRoutes=yes (default)",
            "ManageForeignRoutingPolicyRules=yes (default)"
        ]
    );
    assert_eq!(root.look().unwrap()[0].devices, ["lo"]);
    root.write("/etc/systemd/networkd.conf", OFF);
    assert_eq!(root.look(), Ok(vec![]));
}

#[test]
fn a_drop_in_wins_over_the_main_file_and_a_later_name_over_an_earlier() {
    let root = Rooted::new();
    root.networkd().write("/etc/systemd/networkd.conf", OFF);
    root.write(
        "/usr/lib/systemd/networkd.conf.d/20-cni.conf",
        "[Network]\nManageForeignRoutes=yes\n",
    );
    assert_eq!(
        root.said(),
        ["ManageForeignRoutes=yes /usr/lib/systemd/networkd.conf.d/20-cni.conf"]
    );
    root.write(
        "/etc/systemd/networkd.conf.d/10-early.conf",
        "[Network]\nManageForeignRoutes=no\n",
    );
    assert_eq!(root.said().len(), 1, "names decide, not directories");
    root.write(
        "/run/systemd/networkd.conf.d/30-late.conf",
        "[Network]\nManageForeignRoutes=false\n",
    );
    assert_eq!(root.said().len(), 0);
}

#[test]
fn of_two_drop_ins_of_one_name_the_first_directory_has_the_say_and_may_mask_it() {
    let root = Rooted::new();
    root.networkd().write("/etc/systemd/networkd.conf", OFF);
    root.write(
        "/usr/lib/systemd/networkd.conf.d/20-x.conf",
        "[Network]\nManageForeignRoutes=yes\n",
    );
    root.write("/etc/systemd/networkd.conf.d/20-x.conf", "[Network]\n");
    assert_eq!(root.said().len(), 0);
    fs::remove_file(root.0.path().join("etc/systemd/networkd.conf.d/20-x.conf")).unwrap();
    assert_eq!(root.said().len(), 1);
    let mask = root.0.path().join("etc/systemd/networkd.conf.d/20-x.conf");
    symlink("/dev/null", mask).unwrap();
    assert_eq!(root.said().len(), 0);
}

#[test]
fn only_the_first_main_file_counts() {
    let root = Rooted::new();
    root.networkd().write("/usr/lib/systemd/networkd.conf", OFF);
    assert_eq!(root.said().len(), 0);
    root.write("/etc/systemd/networkd.conf", "[Network]\n#ManageForeignRoutes=no\n");
    assert_eq!(root.said().len(), 2);
}

#[test]
fn other_sections_and_what_is_no_boolean_change_nothing() {
    let root = Rooted::new();
    root.networkd().write("/etc/systemd/networkd.conf", OFF);
    root.write(
        "/etc/systemd/networkd.conf.d/a.conf",
        "[DHCP]\nManageForeignRoutes=yes\n[Network]\nManageForeignRoutes=keep\n",
    );
    assert_eq!(root.said().len(), 0);
}

#[test]
fn devices_that_networkd_leaves_alone_are_not_its_own() {
    let root = Rooted::new();
    root.networkd()
        .write(&format!("{}/1", networkd::LINKS), "ADMIN_STATE=unmanaged\n");
    assert!(root.look().unwrap().iter().all(|manager| manager.devices.is_empty()));
    // Of a device that is gone by now.
    root.write(&format!("{}/4000000", networkd::LINKS), "ADMIN_STATE=configured\n");
    assert!(root.look().unwrap().iter().all(|manager| manager.devices.is_empty()));
}

#[test]
fn a_manager_of_another_network_namespace_is_not_this_ones() {
    let root = Rooted::new();
    root.networkd().nm();
    root.namespace(Path::new("net:[1]"));
    assert!(matches!(root.look(), Err(Missing::Absent(_))));
}

#[test]
fn where_the_namespace_cannot_be_told_that_is_the_reason() {
    let root = Rooted::new();
    root.networkd();
    fs::remove_dir_all(root.0.path().join("proc")).unwrap();
    let Err(Missing::Unreadable(why)) = root.look() else {
        panic!("{:?}", root.look())
    };
    assert!(
        why.starts_with("systemd-networkd runs: whether it works in this network namespace"),
        "{why}"
    );
}

#[test]
fn a_device_is_network_managers_unless_it_only_watches_it() {
    let root = Rooted::new();
    let state = format!("{}/1", nm::DEVICES);
    root.nm().write(&state, "[device]\nmanaged=false\n");
    assert_eq!(root.look(), Ok(vec![]));
    root.write(&state, "[device]\nmanaged=true\nconnection-uuid=1f\n");
    assert_eq!(root.look().unwrap()[0].devices, ["lo"]);
    let profile = "/run/NetworkManager/system-connections/lo.nmconnection";
    root.write(
        profile,
        "[connection]\nid=lo\nuuid=1f\n[.nmmeta]\nnm-generated=true\nvolatile=true\nexternal=true\n",
    );
    assert_eq!(root.look(), Ok(vec![]));
    // Its own default for a wired device is generated too, and it acts on that.
    root.write(profile, "[connection]\nuuid=1f\n[.nmmeta]\nnm-generated=true\n");
    assert_eq!(root.said(), ["managed=true /run/NetworkManager/devices"]);
}

#[test]
fn what_one_of_them_would_do_stands_though_the_other_cannot_be_read() {
    let root = Rooted::new();
    root.nm()
        .write(&format!("{}/1", nm::DEVICES), "[device]\nmanaged=true\n");
    let profile = "/run/NetworkManager/system-connections/x";
    root.write(profile, &"x".repeat(100_000));
    assert!(matches!(root.look(), Err(Missing::Unreadable(_))));
    root.networkd();
    assert_eq!(root.said().len(), 2);
}

#[test]
fn what_has_not_changed_is_not_read_again_within_a_minute() {
    let root = Rooted::new();
    root.networkd();
    let mut reader = root.reader();
    let mut look = |second| {
        let at = Timestamp::from_second(second).unwrap();
        reader.look(&CniFacts::default(), at).value.unwrap().len()
    };
    assert_eq!(look(0), 2);
    root.write("/etc/systemd/networkd.conf", OFF);
    assert_eq!(look(59), 2);
    assert_eq!(look(60), 0);
    root.write(
        "/etc/systemd/networkd.conf.d/a.conf",
        "[Network]\nManageForeignRoutes=yes\n",
    );
    assert_eq!(look(61), 1, "a new drop-in is seen at once");
}

#[test]
fn without_the_right_to_trace_the_first_process_its_directory_tells_the_namespace() {
    // What the fallback rests on, of the real procfs.
    let own = Path::new("/proc/thread-self/net/stat");
    let main = Path::new("/proc/self/net/stat");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(own.metadata().unwrap().ino(), main.metadata().unwrap().ino());
}
