//! The Lease that only one fix of a cluster can hold, and its record on it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::sync::{Mutex, MutexGuard};

use super::beside;
use super::halt::{Halt, call, code, passing};
use super::holder::Holder;
use super::notes::{self, HOLDER, Stored, holder, identity, note, record};
use super::record::Record;
use super::shelf::{self, Shelf};

/// Its name, in cidrift's namespace.
pub const LEASE: &str = "cidrift-fix";

/// Who does not renew it for this long has lost it.
pub(super) const DURATION: Duration = Duration::from_secs(30);

/// From one renewal to the next.
const EVERY: Duration = Duration::from_secs(7);

/// What it is wanted for.
#[derive(Debug, Clone)]
pub enum Want {
    /// A new fix.
    New(Box<Record>),
    /// The one that its record tells of, to go on with it.
    Go,
    /// The same, to take it back: nodes that are still to come do not matter.
    Back,
}

/// Why it cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The API server does not give or take it.
    #[error("{0}")]
    Api(Halt),
    /// Somebody renews it.
    #[error("a fix is under way: {0} renews Lease {LEASE}; one at a time")]
    Held(String),
    /// It holds a fix that did not end.
    #[error("{0}; go on with it (kubectl cidrift fix --resume --yes) or take it back (--abort --yes)")]
    Unfinished(String),
    /// There is nothing to go on with.
    #[error("no fix is unfinished: Lease {LEASE} holds none")]
    Nothing,
    /// Its record cannot be read.
    #[error(
        "the record on Lease {LEASE} cannot be read ({0}): go on with the version of this program that wrote it; if somebody else \
         did, look at the Node that it names, mend it by hand, and delete the Lease"
    )]
    Odd(String),
    /// Annotations take no more than 256 KiB, and what is beside the Lease is bounded, too.
    #[error("there is no room for a fix of {0} nodes on Lease {LEASE} and beside it: name fewer")]
    TooMany(usize),
    /// The same of one node, which is not begun for that.
    #[error(
        "it has no room on Lease {LEASE} ({} KiB): its plan takes {} KiB, the Node {} (its annotations, say)",
        .long >> 10, .plan >> 10, .node >> 10
    )]
    TooLong {
        /// Bytes in all.
        long: usize,
        /// Of these its plan.
        plan: usize,
        /// Its Node.
        node: usize,
    },
    /// A part of the record is not there any more.
    #[error(
        "ConfigMap {0} is gone: which nodes were still to come is not known; take back the one that was worked on (kubectl cidrift \
         fix --abort --yes), and plan again"
    )]
    Gone(String),
    /// It turned into somebody else's a moment ago.
    #[error("somebody else took Lease {LEASE} a moment ago")]
    Raced,
}

/// The Lease, held by this process and renewed by it.
#[derive(Debug, Clone)]
pub struct Held {
    api: Api<Lease>,
    maps: Api<ConfigMap>,
    state: Arc<Mutex<State>>,
    /// Locked while something is done that must not end half-way.
    whole: Arc<Mutex<()>>,
    /// From one renewal to the next.
    pub(super) every: Duration,
    /// Where the nodes of the record are that have no room on the Lease.
    shelf: Option<Shelf>,
}

#[derive(Debug)]
struct State {
    lease: Lease,
    /// By this machine's clock.
    renewed: Instant,
}

/// The record of a fix that has not ended, running or not; `None`: there is none. `back`: to take it back.
///
/// # Errors
///
/// It cannot be asked for, or not be read.
pub async fn look(client: &Client, namespace: &str, back: bool) -> Result<Option<Record>, LeaseError> {
    let (api, maps) = apis(client, namespace);
    let lease = call(async || api.get_opt(LEASE).await)
        .await
        .map_err(|error| failed("get", &error))?;
    let Some(lease) = lease else { return Ok(None) };
    let whole = read(&maps, &lease, back).await?;
    Ok(whole.filter(Stored::unfinished).map(|stored| stored.record))
}

fn apis(client: &Client, namespace: &str) -> (Api<Lease>, Api<ConfigMap>) {
    let lease = Api::namespaced(client.clone(), namespace);
    (lease, Api::namespaced(client.clone(), namespace))
}

/// The whole record of a Lease. `back`: without the nodes that are still to come where they are gone.
async fn read(maps: &Api<ConfigMap>, lease: &Lease, back: bool) -> Result<Option<Stored>, LeaseError> {
    let Some(mut stored) = record(lease)? else {
        return Ok(None);
    };
    if let Some(shelf) = &stored.shelf {
        match shelf.fetch(maps, &mut stored.record).await {
            Err(LeaseError::Gone(_) | LeaseError::Odd(_)) if back => {}
            fetched => fetched?,
        }
    }
    Ok(Some(stored))
}

impl Held {
    /// Takes it. `wait`: somebody holds it, and whether he still renews it is looked at for half a minute; whom that tells of.
    ///
    /// # Errors
    ///
    /// It is somebody else's, or has nothing or too much on it for what it is wanted for.
    pub async fn take(
        client: &Client,
        namespace: &str,
        want: Want,
        me: &Holder,
        wait: &dyn Fn(&str),
    ) -> Result<(Self, Record), LeaseError> {
        let (api, maps) = apis(client, namespace);
        let found = call(async || api.get_opt(LEASE).await)
            .await
            .map_err(|error| failed("get", &error))?;
        let Some(found) = found else {
            let Want::New(new) = want else {
                return Err(LeaseError::Nothing);
            };
            return Self::begin((api, maps), unmade(), me, *new).await;
        };
        let lease = unheld(&api, found, wait).await?;
        // What is left of another one is said without them, too.
        let old = read(&maps, &lease, !matches!(want, Want::Go)).await?;
        let (record, shelf) = match (want, old.filter(Stored::unfinished)) {
            (Want::New(_), Some(Stored { record: old, .. })) => {
                return Err(LeaseError::Unfinished(old.left()));
            }
            (Want::New(new), None) => return Self::begin((api, maps), lease, me, *new).await,
            (Want::Go | Want::Back, Some(old)) => {
                let record = Record {
                    stopped: None,
                    ..old.record
                };
                (record, old.shelf)
            }
            (Want::Go | Want::Back, None) => return Err(LeaseError::Nothing),
        };
        let lease = written(&api, lease, me, (&record, shelf.as_ref())).await;
        let held = Self::of((api, maps), lease.map_err(Untaken::into_error)?, shelf);
        held.tidy(Some(&record.id)).await;
        Ok((held, record))
    }

    /// Takes it for a new fix. Where that is refused what was written beside it is of no use.
    async fn begin(
        (api, maps): (Api<Lease>, Api<ConfigMap>),
        lease: Lease,
        me: &Holder,
        record: Record,
    ) -> Result<(Self, Record), LeaseError> {
        let (lease, shelf) = beside::laid((&api, &maps), lease, &record).await?;
        match written(&api, lease, me, (&record, shelf.as_ref())).await {
            Ok(lease) => {
                let held = Self::of((api, maps), lease, shelf);
                held.tidy(Some(&record.id)).await;
                Ok((held, record))
            }
            Err(why) => {
                if let (Some(shelf), true) = (&shelf, why.sure()) {
                    shelf::clear(&maps, shelf.names(&record.id)).await;
                }
                Err(why.into_error())
            }
        }
    }

    fn of((api, maps): (Api<Lease>, Api<ConfigMap>), lease: Lease, shelf: Option<Shelf>) -> Self {
        let state = State {
            lease,
            renewed: Instant::now(),
        };
        Self {
            api,
            maps,
            state: Arc::new(Mutex::new(state)),
            whole: Arc::default(),
            every: EVERY,
            shelf,
        }
    }

    /// Renews it for as long as it is polled; ends when it is lost, and nothing is under way that is whole.
    pub async fn keep(self) -> Halt {
        loop {
            tokio::time::sleep(self.every).await;
            if let Err(halt) = self.renew().await {
                let _ended = self.whole.lock().await;
                return halt;
            }
        }
    }

    /// Until that is dropped nothing ends for the Lease's sake: it is for what is worse half done than done by two.
    pub(super) async fn whole(&self) -> MutexGuard<'_, ()> {
        self.whole.lock().await
    }

    /// Makes sure that it is held for long enough to do something.
    pub(super) async fn sure(&self) -> Result<(), Halt> {
        let fresh = self.state.lock().await.renewed.elapsed() < EVERY * 2;
        if fresh { Ok(()) } else { self.renew().await }
    }

    /// Renews it now: it is ours at this moment, whatever the clock says.
    pub(super) async fn renew(&self) -> Result<(), Halt> {
        self.put(|_| Ok(())).await
    }

    /// Writes the record down.
    pub(super) async fn save(&self, record: &Record) -> Result<(), Halt> {
        self.put(|lease| self.note(lease, record)).await
    }

    fn note(&self, lease: &mut Lease, record: &Record) -> Result<(), Halt> {
        let noted = note(lease, record, self.shelf.as_ref());
        noted.map_err(|error| Halt::Stop(error.to_string()))
    }

    /// Whether a record has room on it with the node that is to be begun.
    pub(super) fn fits(&self, record: &Record) -> Result<(), Halt> {
        let fits = notes::fits(record, self.shelf.as_ref());
        fits.map_err(|error| Halt::Stop(error.to_string()))
    }

    /// Gives it back; what is on it stays.
    pub async fn release(self, record: &Record) -> Result<(), Halt> {
        let put = self.put(|lease| {
            self.note(lease, record)?;
            lease.annotations_mut().remove(HOLDER);
            let spec = lease.spec.get_or_insert_default();
            (spec.holder_identity, spec.renew_time) = (None, None);
            Ok(())
        });
        match put.await {
            // The answer was lost, and not the Lease.
            Err(Halt::Lost(_)) if self.given(record).await => {}
            put => put?,
        }
        if record.queue.is_empty() {
            self.tidy(None).await;
        }
        Ok(())
    }

    /// Whether it was given back: it is nobody's, with this record on it, or another fix has begun, which none can before.
    async fn given(&self, record: &Record) -> bool {
        let there = call(async || self.api.get_opt(LEASE).await).await;
        let Ok(Some(there)) = there else { return false };
        if holder(&there).is_none() && identity(&there).is_none() {
            return notes::says(&there, record, self.shelf.as_ref());
        }
        notes::record(&there).is_ok_and(|now| now.is_some_and(|now| now.record.id != record.id))
    }

    /// Deletes what lies beside it, but for what is of a fix that is not over. What cannot be deleted now stays named on it, for
    /// the next fix.
    async fn tidy(&self, unfinished: Option<&str>) {
        let own = unfinished.zip(self.shelf.as_ref());
        let own = own.map(|(id, shelf)| shelf.names(id)).unwrap_or_default();
        let mut state = self.state.lock().await;
        let names = notes::beside(&state.lease).into_iter();
        let (mut left, over): (Vec<String>, Vec<String>) = names.partition(|name| own.contains(name));
        if over.is_empty() {
            return;
        }
        left.extend(shelf::clear(&self.maps, over).await);
        let mut lease = state.lease.clone();
        notes::set_beside(&mut lease, &left);
        // Only as it was read: whoever has changed it looks himself.
        if let Ok(lease) = self.api.replace(LEASE, &PostParams::default(), &lease).await {
            state.lease = lease;
        }
    }

    /// Puts a changed one in place of the one that was read last. Others may write on it too, as long as it stays ours.
    async fn put(&self, change: impl Fn(&mut Lease) -> Result<(), Halt>) -> Result<(), Halt> {
        let mut state = self.state.lock().await;
        loop {
            let mut lease = state.lease.clone();
            let spec = lease.spec.get_or_insert_default();
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            change(&mut lease)?;
            let asked = Instant::now();
            // An outage may be longer than a Lease lasts; the version decides whether anybody took it meanwhile.
            match call(async || self.api.replace(LEASE, &PostParams::default(), &lease).await).await {
                Ok(lease) => {
                    *state = State { lease, renewed: asked };
                    return Ok(());
                }
                Err(error) if matches!(code(&error), Some(404 | 409)) => {
                    let there = call(async || self.api.get_opt(LEASE).await).await;
                    let there = there.map_err(|error| Halt::api("read Lease cidrift-fix", &error))?;
                    match there {
                        Some(there) if holder(&there) == holder(&state.lease) => state.lease = there,
                        Some(there) => {
                            let who = holder(&there).map_or_else(|| "nobody".to_owned(), |holder| holder.to_string());
                            return Err(Halt::Lost(format!("Lease {LEASE} is held by {who} now")));
                        }
                        None => match self.again(lease).await? {
                            Some(lease) => {
                                *state = State { lease, renewed: asked };
                                return Ok(());
                            }
                            None => continue,
                        },
                    }
                }
                Err(error) if code(&error) == Some(422) => {
                    return Err(Halt::Stop(Halt::api("write on Lease cidrift-fix", &error).to_string()));
                }
                Err(error) => return Err(Halt::Lost(Halt::api("renew Lease cidrift-fix", &error).to_string())),
            }
        }
    }

    /// One that was deleted without anybody else's taking it is made again: its record may be all that is known of a Node.
    /// `None`: somebody has made one just now.
    async fn again(&self, mut lease: Lease) -> Result<Option<Lease>, Halt> {
        lease.metadata = ObjectMeta {
            name: lease.metadata.name,
            labels: lease.metadata.labels,
            annotations: lease.metadata.annotations,
            ..ObjectMeta::default()
        };
        match call(async || self.api.create(&PostParams::default(), &lease).await).await {
            Ok(lease) => Ok(Some(lease)),
            Err(error) if code(&error) == Some(409) => Ok(None),
            Err(error) => {
                let why = Halt::api("make it again", &error);
                Err(Halt::Lost(format!("Lease {LEASE} was deleted: {why}")))
            }
        }
    }
}

/// Why it was not written.
enum Untaken {
    /// Somebody has written it meanwhile.
    Raced,
    /// It is refused, or was not answered.
    Failed(&'static str, kube::Error),
    /// Who has written it meanwhile cannot be seen: it may have been this program.
    Unseen(kube::Error),
    /// It cannot be described.
    Odd(LeaseError),
}

impl Untaken {
    /// Whether it is known that it was not written.
    fn sure(&self) -> bool {
        match self {
            Self::Raced | Self::Odd(_) => true,
            Self::Failed(_, error) => code(error).is_some() && !passing(error),
            Self::Unseen(_) => false,
        }
    }

    fn into_error(self) -> LeaseError {
        match self {
            Self::Raced => LeaseError::Raced,
            Self::Failed(verb, error) => failed(verb, &error),
            Self::Unseen(error) => failed("get", &error),
            Self::Odd(error) => error,
        }
    }
}

/// One that nobody has made yet.
fn unmade() -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(LEASE.to_owned()),
            ..ObjectMeta::default()
        },
        ..Lease::default()
    }
}

/// Makes it ours, with a record on it.
async fn written(
    api: &Api<Lease>,
    mut lease: Lease,
    me: &Holder,
    (record, shelf): (&Record, Option<&Shelf>),
) -> Result<Lease, Untaken> {
    notes::write(&mut lease, me, record, shelf).map_err(Untaken::Odd)?;
    let verb = if lease.resource_version().is_some() {
        "update"
    } else {
        "create"
    };
    let put = call(async || match verb {
        "update" => api.replace(LEASE, &PostParams::default(), &lease).await,
        _ => api.create(&PostParams::default(), &lease).await,
    });
    match put.await {
        Ok(lease) => Ok(lease),
        Err(error) if code(&error) == Some(409) => {
            // The first answer may have been lost.
            let there = call(async || api.get_opt(LEASE).await).await;
            let there = there.map_err(Untaken::Unseen)?;
            let ours = |there: &Lease| holder(there).as_ref() == Some(me) && notes::says(there, record, shelf);
            there.filter(ours).ok_or(Untaken::Raced)
        }
        Err(error) => Err(Untaken::Failed(verb, error)),
    }
}

/// The Lease once nobody renews it: at once where its holder is known to have ended, else when it does not change for as
/// long as it lasts. Clocks are not compared.
async fn unheld(api: &Api<Lease>, mut lease: Lease, wait: &dyn Fn(&str)) -> Result<Lease, LeaseError> {
    let Some(who) = identity(&lease) else { return Ok(lease) };
    if holder(&lease).is_some_and(|holder| holder.gone()) {
        return Ok(lease);
    }
    wait(&who);
    let seen = lease.resource_version();
    let began = Instant::now();
    while began.elapsed() < DURATION {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = call(async || api.get_opt(LEASE).await)
            .await
            .map_err(|error| failed("get", &error))?;
        let Some(now) = now else {
            return Err(LeaseError::Raced);
        };
        if identity(&now).is_none() {
            return Ok(now);
        }
        if now.resource_version() != seen {
            return Err(LeaseError::Held(who));
        }
        lease = now;
    }
    Ok(lease)
}

pub(super) fn failed(verb: &str, error: &kube::Error) -> LeaseError {
    LeaseError::Api(Halt::api(&format!("{verb} Lease {LEASE}"), error))
}
