//! How systemd starts a service. k3s and rke2 write a title over their arguments, so that what they were told on
//! their command line stands nowhere else on the host.

use std::path::{Path, PathBuf};

use super::sources::Sources;
use crate::observe::root::HostRoot;

/// Where systemd looks for units, the first that has one wins (systemd.unit(5)).
const DIRECTORIES: &[&str] = &[
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// A command that a unit starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// The file that says so.
    pub file: PathBuf,
}

/// What `service` starts; `None` where there is no such unit.
pub(super) fn command(root: &HostRoot, service: &str, sources: &mut Sources) -> Result<Option<Command>, String> {
    let mut files = Vec::new();
    for dir in DIRECTORIES {
        let file = Path::new(dir).join(service);
        if let Some(text) = sources.read(root, &file)? {
            files.push((file, text));
            break;
        }
    }
    if files.is_empty() {
        return Ok(None);
    }
    let mut drop_ins = Vec::new();
    for dir in DIRECTORIES {
        let listed = sources.list(root, &Path::new(dir).join(format!("{service}.d")), &[".conf"])?;
        // A file hides those of the same name in later directories.
        for file in listed {
            if drop_ins
                .iter()
                .all(|known: &PathBuf| known.file_name() != file.file_name())
            {
                drop_ins.push(file);
            }
        }
    }
    drop_ins.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    for file in drop_ins {
        if let Some(text) = sources.read(root, &file)? {
            files.push((file, text));
        }
    }
    let mut found = None;
    for (file, text) in files {
        for line in starts(&text) {
            if line.is_empty() {
                found = None;
                continue;
            }
            let words =
                shlex::split(&line).ok_or_else(|| format!("{}: its ExecStart cannot be read", file.display()))?;
            found = Some(Command {
                words,
                file: file.clone(),
            });
        }
    }
    Ok(found)
}

/// The values of `ExecStart=` in `[Service]`, lines joined, systemd's own prefixes off. An empty one takes back
/// what was said before.
fn starts(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut service = false;
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line.starts_with('#') || line.starts_with(';') {
            continue;
        }
        if line.starts_with('[') {
            service = line == "[Service]";
            continue;
        }
        let mut whole = String::new();
        let mut part = line;
        while let Some(continued) = part.strip_suffix('\\') {
            whole.push_str(continued);
            whole.push(' ');
            // Comments may stand between the lines of one value.
            part = lines
                .by_ref()
                .find(|line| !line.starts_with(['#', ';']))
                .unwrap_or_default();
        }
        whole.push_str(part);
        if let Some((name, value)) = whole.split_once('=')
            && service
            && name.trim_end() == "ExecStart"
        {
            found.push(
                value
                    .trim()
                    .trim_start_matches(['@', '-', ':', '+', '!', '|'])
                    .to_owned(),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As k3s' installer writes it.
    const K3S: &str = "[Unit]\nDescription=Lightweight Kubernetes\n\n[Service]\nType=notify\n\
        EnvironmentFile=-/etc/systemd/system/k3s.service.env\nExecStartPre=-/sbin/modprobe overlay\n\
        ExecStart=/usr/local/bin/k3s \\\n    server \\\n\t'--cluster-cidr' \\\n# why not\n\t'10.52.0.0/16' \\\n\n";

    fn read(files: &[(&str, &str)]) -> Result<Option<Command>, String> {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        command(&HostRoot::new(dir.path()), "k3s.service", &mut Sources::default())
    }

    #[test]
    fn an_installers_unit_is_read() {
        let found = read(&[("etc/systemd/system/k3s.service", K3S)]).unwrap().unwrap();
        assert_eq!(
            found.words,
            ["/usr/local/bin/k3s", "server", "--cluster-cidr", "10.52.0.0/16"]
        );
        assert_eq!(found.file, Path::new("/etc/systemd/system/k3s.service"));
        assert_eq!(read(&[]), Ok(None));
    }

    #[test]
    fn a_drop_in_takes_the_start_back_and_says_another() {
        let found = read(&[
            ("usr/lib/systemd/system/k3s.service", K3S),
            (
                "etc/systemd/system/k3s.service.d/50-own.conf",
                "[Service]\nExecStart=\nExecStart=-/opt/k3s agent\n",
            ),
            (
                "usr/lib/systemd/system/k3s.service.d/10-no.conf",
                "[Unit]\nExecStart=/bin/false\n",
            ),
        ]);
        let found = found.unwrap().unwrap();
        assert_eq!(found.words, ["/opt/k3s", "agent"]);
        assert!(found.file.ends_with("50-own.conf"));
    }

    #[test]
    fn quotes_that_do_not_close_are_said() {
        let torn = read(&[("etc/systemd/system/k3s.service", "[Service]\nExecStart=/k3s 'server\n")]);
        assert_eq!(
            torn.unwrap_err(),
            "/etc/systemd/system/k3s.service: its ExecStart cannot be read"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_units_never_panic(text in "(\\[Service\\]|ExecStart=|[a-z '\"#;=\\\\\n-]){0,20}") {
            let _ = starts(&text);
        }
    }
}
