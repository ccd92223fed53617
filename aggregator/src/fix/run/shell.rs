//! Commands of the operator's own.

use std::process::Stdio;
use std::time::Duration;

use ipnet::IpNet;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;

use super::halt::Halt;

/// Puts a node and its CIDRs into a template. Names of Nodes and CIDRs have nothing in them that a shell would read.
fn filled(template: &str, node: &str, cidrs: &[IpNet]) -> String {
    let list: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
    template.replace("{node}", node).replace("{cidrs}", &list.join(","))
}

/// What a template may have for this fix to fill in.
const PLACES: [&str; 2] = ["node", "cidrs"];

/// A template as it is given: not empty, and with no place that nothing is put into. What a shell reads itself, such as
/// `${HOME}`, is its own matter.
///
/// # Errors
///
/// What is wrong with it.
pub fn template(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    for (at, _) in text.match_indices('{') {
        let Some((name, _)) = text[at + 1..].split_once('}') else {
            continue;
        };
        let place = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-'));
        if place && !text[..at].ends_with('$') && !PLACES.contains(&name) {
            return Err(format!(
                "nothing is put into {{{name}}}: there are {{node}} and {{cidrs}}"
            ));
        }
    }
    Ok(text.to_owned())
}

/// A shell and all that it has started, as long as they stay together; they end with it.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // They may all have ended by themselves.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

/// Runs it in a shell; its output goes to standard error, as it comes. What it leaves running stays, unless it did not come to
/// its end.
pub(super) async fn run(template: &str, node: &str, cidrs: &[IpNet], patience: Duration) -> Result<(), Halt> {
    let line = filled(template, node, cidrs);
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &line])
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .process_group(0)
        .kill_on_drop(true);
    let failed = |why: String| Halt::Stop(format!("{line:?} {why}"));
    let not = |error: std::io::Error| failed(format!("cannot be run: {error}"));
    let mut child = shell.spawn().map_err(not)?;
    // Dropped before the child is: its number is its own until then.
    let leader = child.id().and_then(|id| i32::try_from(id).ok());
    let mut group = Group(leader.map(Pid::from_raw));
    let ended = tokio::time::timeout(patience, child.wait()).await;
    let Ok(ended) = ended else {
        return Err(failed(format!("has not ended within {patience:?}")));
    };
    group.0 = None;
    let status = ended.map_err(not)?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(format!("failed ({status})")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_gets_the_node_and_its_end_counts() {
        let cidrs = ["10.244.1.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()];
        let text = filled("ssh {node} restart {cidrs} {node}", "n1", &cidrs);
        assert_eq!(text, "ssh n1 restart 10.244.1.0/24,fd00::/64 n1");
        let second = Duration::from_secs(20);
        assert_eq!(run("test {node} = n1", "n1", &cidrs, second).await, Ok(()));
        assert!(
            matches!(run("exit 3", "n1", &cidrs, second).await, Err(Halt::Stop(why)) if why.contains("exit status: 3"))
        );
        let slow = run("sleep 60", "n1", &cidrs, Duration::from_millis(50)).await;
        assert!(matches!(slow, Err(Halt::Stop(why)) if why.contains("has not ended")));
    }

    /// As Ctrl-C and a time limit end it: neither waits for it.
    #[tokio::test]
    async fn what_a_command_has_started_ends_with_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = format!("sleep 600 & echo $! > {}; wait", file.path().display());
        let started = async {
            loop {
                let text = std::fs::read_to_string(file.path()).unwrap();
                if let Some(pid) = text.strip_suffix('\n') {
                    return pid.to_owned();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let pid = tokio::select! {
            ended = run(&line, "n1", &[], Duration::from_secs(600)) => panic!("{ended:?}"),
            pid = started => pid,
        };
        let stat = format!("/proc/{pid}/stat");
        // Whoever inherits it may leave its remains.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn a_place_that_nothing_is_put_into_is_refused_and_so_is_no_command() {
        let all = "for i in {1..3} {a,b}; do echo ${HOME} \"${x:-y}\" {node} {cidrs}; done | awk '{ print $1 }'";
        assert_eq!(template(all).as_deref(), Ok(all));
        for (text, why) in [
            ("", "empty"),
            (" ", "empty"),
            ("ssh {nodes} x", "{nodes}"),
            ("ssh {{Node} x", "{Node}"),
            ("x ${y} {pod-cidr}", "{pod-cidr}"),
        ] {
            assert!(template(text).unwrap_err().contains(why), "{text:?}");
        }
    }
}
