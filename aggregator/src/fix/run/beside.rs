//! Nodes that have no room on the Lease are named there before they are written beside it: wherever a new fix ends before it has
//! the Lease, the next one finds what is left of it.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::halt::{call, code};
use super::lease::{LEASE, LeaseError, failed};
use super::notes;
use super::record::Record;
use super::shelf::{self, Shelf};

/// The Lease, and where the nodes of a new record are that have no room on it.
pub(super) async fn laid(
    (api, maps): (&Api<Lease>, &Api<ConfigMap>),
    lease: Lease,
    record: &Record,
) -> Result<(Lease, Option<Shelf>), LeaseError> {
    if notes::roomy(record)? {
        return Ok((lease, None));
    }
    let (shelf, text) = Shelf::of(record)?;
    let names = shelf.names(&record.id);
    let lease = named(api, lease, &names).await?;
    if let Err(why) = shelf::fill(maps, &record.id, &text).await {
        // The one that was not answered may be there, too. What is there still stays named.
        shelf::clear(maps, names).await;
        return Err(why);
    }
    Ok((lease, Some(shelf)))
}

/// The Lease, which nobody renews, with these names on it.
async fn named(api: &Api<Lease>, mut lease: Lease, names: &[String]) -> Result<Lease, LeaseError> {
    notes::add_beside(&mut lease, names);
    let (made, holder) = (lease.resource_version().is_some(), notes::holder(&lease));
    let put = call(async || match made {
        true => api.replace(LEASE, &PostParams::default(), &lease).await,
        false => api.create(&PostParams::default(), &lease).await,
    });
    match put.await {
        Ok(lease) => Ok(lease),
        Err(error) if code(&error) == Some(409) => {
            // The first answer may have been lost.
            let there = call(async || api.get_opt(LEASE).await).await;
            let there = there.map_err(|error| failed("get", &error))?;
            let ours = |there: &Lease| {
                let named = notes::beside(there);
                notes::holder(there) == holder && names.iter().all(|name| named.contains(name))
            };
            there.filter(ours).ok_or(LeaseError::Raced)
        }
        Err(error) => Err(failed(if made { "update" } else { "create" }, &error)),
    }
}
