//! Whether a kube-controller-manager runs: without one nobody makes evicted pods anew, counts budgets or takes taints away.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, Client};

/// Renewed every 2 s (`--leader-elect-retry-period`), and given up by its holder after 10 s without (`…-renew-deadline`).
const QUIET: i64 = 20;

/// Kubelets' Leases that are looked at: they tell the time of the cluster, whatever this machine's clock says.
const CLOCKS: u32 = 50;

/// Why it is thought not to run; `None`: it does, or that cannot be told: it may do without a Lease, or be hidden by whoever
/// runs the control plane.
///
/// # Errors
///
/// The API server does not answer, or does not let you ask.
pub async fn controllers(client: &Client) -> Result<Option<String>, kube::Error> {
    let managers: Api<Lease> = Api::namespaced(client.clone(), "kube-system");
    let kubelets: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let Some(manager) = managers.get_opt("kube-controller-manager").await? else {
        return Ok(None);
    };
    let kubelets = kubelets.list(&ListParams::default().limit(CLOCKS)).await?;
    Ok(quiet(&manager, &kubelets.items))
}

fn quiet(manager: &Lease, kubelets: &[Lease]) -> Option<String> {
    let renewed = renewed(manager)?;
    let now = kubelets.iter().filter_map(self::renewed).max()?;
    let lasts = manager.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    let quiet = SignedDuration::from_secs(QUIET.max(i64::from(lasts.unwrap_or(0)) + 5));
    (now.duration_since(renewed) > quiet).then(|| {
        format!(
            "no kube-controller-manager runs: its Lease was last renewed at {renewed:.0}, and kubelets' at {now:.0}"
        )
    })
}

fn renewed(lease: &Lease) -> Option<Timestamp> {
    Some(lease.spec.as_ref()?.renew_time.as_ref()?.0)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    fn lease(second: i64, lasts: i32) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                renew_time: Some(MicroTime(Timestamp::from_second(1_790_000_000 + second).unwrap())),
                lease_duration_seconds: Some(lasts),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[test]
    fn one_that_does_not_renew_while_kubelets_do_is_gone() {
        let kubelets = [lease(90, 40), lease(100, 40)];
        assert_eq!(quiet(&lease(88, 15), &kubelets), None);
        assert_eq!(quiet(&lease(80, 15), &kubelets), None);
        assert!(
            quiet(&lease(79, 15), &kubelets)
                .unwrap()
                .contains("last renewed at 2026-09-21T14:14:39Z")
        );
        // One that has longer to renew it.
        assert_eq!(quiet(&lease(50, 60), &kubelets), None);
        // Nobody tells the time, or it was never renewed.
        assert_eq!(quiet(&lease(0, 15), &[]), None);
        assert_eq!(quiet(&Lease::default(), &kubelets), None);
    }
}
