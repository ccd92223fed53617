//! What plans and new fixes are told first: that a fix is not finished.

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};

use super::halt::{call, code};
use super::lease::{LEASE, LeaseError, failed};
use super::notes::{Stored, holder, identity, record};
use super::record::{Record, Work};

/// A fix that is not finished.
#[derive(Debug)]
pub struct Standing {
    record: Record,
    /// That it is so, and what to do about it.
    pub text: String,
}

impl Standing {
    /// Whether it may have deleted this Node, and not made it again.
    pub fn misses(&self, node: &str) -> bool {
        let work = self.record.work.as_ref().filter(|work| work.plan.node == node);
        work.is_some_and(Work::missing)
    }
}

/// The fix that is not finished; `None`: there is none, or he who asks may not look: who may plan need not be let see that, and
/// who may not begin is told so then.
///
/// # Errors
///
/// It cannot be asked for, or not be read.
pub async fn standing(client: &Client, namespace: &str) -> Result<Option<Standing>, LeaseError> {
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let lease = call(async || api.get_opt(LEASE).await).await;
    let lease = match lease {
        Ok(Some(lease)) => lease,
        Ok(None) => return Ok(None),
        Err(error) if code(&error) == Some(403) => return Ok(None),
        Err(error) => return Err(failed("get", &error)),
    };
    // Where the rest of its nodes is kept is no matter of this.
    let stored = record(&lease)?.filter(Stored::unfinished);
    Ok(stored.map(|Stored { record, .. }| {
        let ended = holder(&lease).is_some_and(|holder| holder.gone());
        let text = match identity(&lease).filter(|_| !ended) {
            Some(who) => format!("a fix is under way, or its program has died: {who} holds Lease {LEASE}"),
            None => LeaseError::Unfinished(record.left()).to_string(),
        };
        Standing { record, text }
    }))
}
