//! Commands of the operator's own.

use std::process::Stdio;
use std::time::Duration;

use ipnet::IpNet;
use tokio::process::Command;

use super::halt::Halt;

/// Puts a node and its CIDRs into a template. Names of Nodes and CIDRs have nothing in them that a shell would read.
fn filled(template: &str, node: &str, cidrs: &[IpNet]) -> String {
    let list: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
    template.replace("{node}", node).replace("{cidrs}", &list.join(","))
}

/// Runs it in a shell; its output goes to standard error, as it comes.
pub(super) async fn run(template: &str, node: &str, cidrs: &[IpNet], patience: Duration) -> Result<(), Halt> {
    let line = filled(template, node, cidrs);
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &line])
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .kill_on_drop(true);
    let failed = |why: String| Halt::Stop(format!("{line:?} {why}"));
    match tokio::time::timeout(patience, shell.status()).await {
        Err(_) => Err(failed(format!("has not ended within {patience:?}"))),
        Ok(Err(error)) => Err(failed(format!("cannot be run: {error}"))),
        Ok(Ok(status)) if !status.success() => Err(failed(format!("failed ({status})"))),
        Ok(Ok(_)) => Ok(()),
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
}
