//! Addresses that were given out: host-local's leases, and libcni's cached results.

mod ipam;
pub(crate) mod lease;
mod result;
mod shelf;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cidrift_proto::facts::CniFacts;
use jiff::Timestamp;

use self::ipam::Ipam;
use self::shelf::{Limits, Shelf, ShelfError, list};
use super::root::HostRoot;
use crate::view::host::{CachedResult, Lease, RangeSet};
use crate::view::{Missing, Observed};

/// Where host-local keeps leases unless `dataDir` says otherwise.
const LEASES: &str = "/var/lib/cni/networks";

/// Where Antrea's agent does: it runs host-local itself, in a container whose /var/lib/cni is this directory's parent.
const ANTREA_LEASES: &str = "/var/run/antrea/cni/networks";

/// Where libcni caches results. containerd and CRI-O leave it at that.
const RESULTS: &str = "/var/lib/cni/results";

/// Networks below a directory of leases: a node has one for its pods, a few of Multus and podman.
const NETWORKS: usize = 64;

/// Leases of a network: as many as a /16 has addresses, beside the lock and the last address of each range. They have
/// some 70 bytes each: an id and an interface name.
const LEASE_LIMITS: Limits = Limits {
    entries: (1 << 16) + 16,
    files: 1 << 16,
    bytes: 1 << 10,
    linger: true,
};

/// Cached results: a few KiB each, one for each pod, and those that crashes left behind.
const RESULT_LIMITS: Limits = Limits {
    entries: 1 << 14,
    files: 1 << 12,
    bytes: 1 << 18,
    linger: false,
};

/// Bytes of the CNI configuration that are read at most, as its own reader takes.
const CONFIG_LIMIT: u64 = 1 << 20;

/// What is known of addresses that were given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// What host-local hands out of, as the CNI configuration says.
    pub ranges: Observed<Vec<RangeSet>>,
    /// What it has given out.
    pub leases: Observed<Vec<Lease>>,
    /// libcni's cached results.
    pub results: Observed<Vec<CachedResult>>,
}

/// Reads both stores.
#[derive(Debug)]
pub struct AddressReader {
    root: HostRoot,
    /// By directory: one for each network.
    leases: BTreeMap<PathBuf, Shelf<Lease>>,
    results: Shelf<CachedResult>,
}

impl AddressReader {
    /// On the host whose `/` is at `root`.
    pub fn new(root: HostRoot) -> Self {
        Self {
            root,
            leases: BTreeMap::new(),
            results: Shelf::new(RESULT_LIMITS),
        }
    }

    /// Reads what is new in them.
    ///
    /// A lease that has gone is told once more: whoever listed the sandboxes did it before, and a pod that stopped in
    /// between would seem to run without one.
    pub fn look(&mut self, cni: &CniFacts, now: Timestamp) -> Addresses {
        let path = cni.chosen.as_ref().map_or("", |config| config.path.as_str());
        let ipam = self.ipam(path);
        let ranges = match &ipam {
            Ok(Some(ipam)) => match &ipam.sets {
                Ok(sets) if sets.is_empty() => absent(now, path, "it names no range"),
                Ok(sets) => Observed::seen(now, path, sets.clone()),
                Err(why) => unreadable(now, path, why),
            },
            Ok(None) => absent(now, path, "no configuration of host-local"),
            Err(why) => unreadable(now, path, why),
        };
        Addresses {
            ranges,
            leases: self.leases(cni, ipam, now),
            results: self.results(now),
        }
    }

    /// `None` where there is no configuration, or another program allocates.
    fn ipam(&self, path: &str) -> Result<Option<Ipam>, String> {
        if path.is_empty() {
            return Ok(None);
        }
        let (bytes, _) = self
            .root
            .read(Path::new(path), CONFIG_LIMIT)
            .map_err(|error| error.to_string())?;
        let config = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        Ok(ipam::of_config(&config))
    }

    fn leases(&mut self, cni: &CniFacts, ipam: Result<Option<Ipam>, String>, now: Timestamp) -> Observed<Vec<Lease>> {
        let config = cni.chosen.as_ref();
        let named = match ipam {
            Ok(ipam) => ipam.and_then(|ipam| ipam.data_dir),
            Err(why) => {
                let path = config.map_or("", |config| config.path.as_str());
                return unreadable(now, path, &format!("where leases are kept is not known: {why}"));
            }
        };
        let network = config.map(|config| config.network.clone()).unwrap_or_default();
        let mut places = vec![PathBuf::from(LEASES), PathBuf::from(ANTREA_LEASES)];
        places.retain(|place| Some(place) != named.as_ref());
        // Where the file says where leases are, those of its network that lie elsewhere are of former days.
        let elsewhere = if named.is_some() { network.as_str() } else { "" };
        let mut found = Vec::new();
        let mut before = std::mem::take(&mut self.leases);
        for (place, without) in named
            .iter()
            .map(|place| (place, ""))
            .chain(places.iter().map(|place| (place, elsewhere)))
        {
            match self.place(place, without, &mut before) {
                Ok(()) => found.push(place.display().to_string()),
                Err(error) if error.is_not_found() => {}
                Err(error) => return unreadable(now, &place.display().to_string(), &error.to_string()),
            }
        }
        if found.is_empty() {
            let place = named.unwrap_or_else(|| PathBuf::from(LEASES));
            return self.not_there(now, &place);
        }
        let leases = self.leases.values().flat_map(Shelf::contents);
        Observed::seen(now, found.join(", "), leases.cloned().collect())
    }

    /// Reads the networks below one directory, except one.
    fn place(
        &mut self,
        place: &Path,
        without: &str,
        before: &mut BTreeMap<PathBuf, Shelf<Lease>>,
    ) -> Result<(), ShelfError> {
        let networks = list(&self.root, place, NETWORKS)?;
        for (name, metadata) in networks {
            let Some(network) = name.to_str().filter(|name| metadata.is_dir() && *name != without) else {
                continue;
            };
            let directory = place.join(network);
            let path: Arc<str> = directory.to_string_lossy().into();
            let mut shelf = before.remove(&directory).unwrap_or_else(|| Shelf::new(LEASE_LIMITS));
            let looked = shelf.look(
                &self.root,
                &directory,
                |name| lease::address(name).is_some(),
                |page| {
                    let address = lease::address(page.name).ok_or("its name is no address")?;
                    let content = page.content.as_ref().map_or(&[][..], |content| content);
                    Ok(lease::lease(network, &path, address, content, page.modified))
                },
            );
            match looked {
                Ok(_) => {}
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            }
            self.leases.insert(directory, shelf);
        }
        Ok(())
    }

    /// The host has no such directory, or this agent does not see it.
    fn not_there<T>(&self, now: Timestamp, place: &Path) -> Observed<T> {
        let source = place.display().to_string();
        if self.root.hides(place) {
            let below = self.root.base().display();
            return unreadable(
                now,
                &source,
                &format!("it cannot be seen below {below}: it is not mounted there"),
            );
        }
        absent(now, &source, "there is no such directory")
    }

    fn results(&mut self, now: Timestamp) -> Observed<Vec<CachedResult>> {
        let looked = self.results.look(
            &self.root,
            Path::new(RESULTS),
            |_| true,
            |page| result::parse(page.content.clone()?, page.modified).map_err(|error| error.to_string()),
        );
        let survey = match looked {
            Ok(survey) => survey,
            Err(error) if error.is_not_found() => return self.not_there(now, Path::new(RESULTS)),
            Err(error) => return unreadable(now, RESULTS, &error.to_string()),
        };
        // What is missing stands beside the name: evidence of this source is read with it.
        let mut source = RESULTS.to_owned();
        if survey.older > 0 {
            source += &format!(" (the newest {} of {})", survey.read, survey.read + survey.older);
        }
        let senseless = self.results.senseless().count();
        if let Some((name, why)) = self.results.senseless().next() {
            source += &format!(
                " (without {senseless} of {}: {}: {why})",
                survey.read,
                name.to_string_lossy()
            );
        }
        Observed::seen(now, source, self.results.contents().cloned().collect())
    }
}

fn absent<T>(now: Timestamp, source: &str, why: &str) -> Observed<T> {
    Observed::missing(now, source, Missing::Absent(why.to_owned()))
}

fn unreadable<T>(now: Timestamp, source: &str, why: &str) -> Observed<T> {
    Observed::missing(now, source, Missing::Unreadable(why.to_owned()))
}

#[cfg(test)]
mod tests;
