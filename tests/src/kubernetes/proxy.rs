//! The real kube-proxy on a node: Services lead to their pods there.

use std::ffi::OsString;
use std::time::Duration;

use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::error::Result;
use crate::kubernetes::service::Service;
use crate::kubernetes::tools;

/// Starts it with these flags besides those that it cannot do without, and returns once it has its rules. It ends when it is
/// dropped.
///
/// # Errors
///
/// It cannot be built or started, or does not come that far in `patience`.
pub fn start(cluster: &Cluster, node: &str, flags: &[&str], patience: Duration) -> Result<Service> {
    let kubernetes = tools::build(&tools::KUBERNETES, &|_| {})?;
    let kubeconfig = cluster.kubeconfig_for("system:kube-proxy", None, true)?;
    let own = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--hostname-override={node}"),
        // Its limits of connection tracking are the machine's, not the node's: it leaves them.
        "--conntrack-max-per-core=0".to_owned(),
        "--conntrack-min=0".to_owned(),
    ];
    let more = flags.iter().map(|&flag| flag.to_owned());
    let arguments: Vec<OsString> = own.into_iter().chain(more).map(OsString::from).collect();
    let program = kubernetes.path("kube-proxy")?;
    let proxy = cluster
        .node(node)?
        .start_program("kube-proxy", &program, arguments, Vec::new())?;
    proxy.wait_log("Caches are synced", patience)?;
    Ok(proxy)
}
