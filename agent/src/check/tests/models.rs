//! What each CNI's configuration, as it writes it, says of the Node's pod CIDR.

use std::path::Path;

use super::*;

/// Each file alone in the directory: what is made of it.
#[test]
fn what_each_configuration_makes_of_the_pod_cidr() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/observe/cni/fixtures");
    let mut names: Vec<String> = std::fs::read_dir(&fixtures)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let lines: Vec<String> = names
        .iter()
        .map(|name| {
            let host = tempfile::tempdir().unwrap();
            let dir = host.path().join("etc/cni/net.d");
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::copy(fixtures.join(name), dir.join(name)).unwrap();
            let made = match model(&crate::observe::cni::read(host.path())) {
                Ok(model) => format!("{}, range {:?}, {:?}", model.plugin, model.ranges, model.delivery),
                Err(why) => format!("not by the podCIDR: {why}"),
            };
            format!("{name}: {made}")
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}
