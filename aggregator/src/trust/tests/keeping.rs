//! The keeper: two of them in one place, a place that fails, one that a person has broken.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::super::authority::Authority;
use super::super::directory::Directory;
use super::super::figures::Figures;
use super::super::keeper::Keeper;
use super::super::record::{self, Record};
use super::super::rotation::{Policy, State};
use super::super::serving::Offer;
use super::super::store::{Loaded, Publication, Store, StoreError};
use super::names;
use crate::http::Ready;

/// A store in memory, with versions; shared by those that clone it.
#[derive(Clone, Default)]
struct Shelf {
    inner: Arc<Mutex<Inner>>,
    down: Arc<AtomicBool>,
}

#[derive(Default)]
struct Inner {
    record: Option<Record>,
    version: u64,
    published: Option<Publication>,
    saves: u32,
}

impl Shelf {
    fn up(&self) -> Result<(), StoreError> {
        if self.down.load(Ordering::Relaxed) {
            return Err(StoreError::Failed("the API server is away".to_owned()));
        }
        Ok(())
    }
}

impl Store for Shelf {
    fn place(&self) -> String {
        "shelf".to_owned()
    }

    async fn load(&self) -> Result<Loaded, StoreError> {
        self.up()?;
        let loaded = {
            let inner = self.inner.lock().unwrap();
            Loaded {
                record: inner.record.clone(),
                version: inner.record.as_ref().map(|_| inner.version.to_string()),
                published: inner.published.clone(),
                asked: false,
            }
        };
        // Whoever else looks now sees the same.
        tokio::task::yield_now().await;
        Ok(loaded)
    }

    async fn save(&self, record: &Record, loaded: &Loaded) -> Result<(), StoreError> {
        self.up()?;
        let mut inner = self.inner.lock().unwrap();
        let newest = inner.record.as_ref().map(|_| inner.version.to_string());
        if newest != loaded.version {
            return Err(StoreError::Conflict("shelf".to_owned()));
        }
        inner.record = Some(record.clone());
        inner.version += 1;
        inner.saves += 1;
        Ok(())
    }

    async fn publish(&self, publication: &Publication) -> Result<(), StoreError> {
        self.up()?;
        self.inner.lock().unwrap().published = Some(publication.clone());
        Ok(())
    }
}

struct Running {
    offer: Arc<Offer>,
    ready: Ready,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn run<S: Store>(store: S, policy: Policy) -> Running {
    let running = Running {
        offer: Arc::default(),
        ready: Ready::default(),
        stop: CancellationToken::new(),
    };
    running.ready.pending("certificate", "not there yet");
    running.ready.pending("trust", "not there yet");
    let keeper = Keeper {
        store,
        policy,
        names: names(),
        addresses: Some("10.0.0.1:7440\n".to_owned()),
        offer: Arc::clone(&running.offer),
        figures: Arc::new(Figures::default()),
        ready: running.ready.clone(),
    };
    tokio::spawn(keeper.run(running.stop.clone()));
    running
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

fn state(record: &Record) -> State {
    record::read(record, "test").unwrap().unwrap()
}

#[tokio::test]
async fn two_that_start_together_never_use_different_cas() {
    for _ in 0..20 {
        let shelf = Shelf::default();
        let both = [
            run(shelf.clone(), Policy::default()),
            run(shelf.clone(), Policy::default()),
        ];
        until("both serve", || both.iter().all(|one| one.offer.config().is_some())).await;
        let inner = shelf.inner.lock().unwrap();
        assert_eq!(inner.saves, 1);
        let published = inner.published.clone().unwrap();
        assert_eq!(
            published.bundle,
            state(inner.record.as_ref().unwrap()).current.certificate
        );
        assert_eq!(published.addresses.as_deref(), Some("10.0.0.1:7440\n"));
    }
}

#[tokio::test]
async fn without_an_api_server_it_waits_says_so_and_comes_up_with_it() {
    let shelf = Shelf::default();
    shelf.down.store(true, Ordering::Relaxed);
    let one = run(shelf.clone(), Policy::default());
    until("readiness says why", || {
        one.ready.shown().contains("certificate: the API server is away")
    })
    .await;
    assert!(one.offer.config().is_none());
    shelf.down.store(false, Ordering::Relaxed);
    until("it serves", || one.ready.shown() == "ready\n").await;
    assert!(one.offer.config().is_some());
}

#[tokio::test]
async fn a_whole_rotation_renews_what_is_served_and_keeps_the_old_ca_believed() {
    let shelf = Shelf::default();
    let quick = Policy {
        rotate_after: Some(Duration::from_secs(2)),
        lead: Duration::from_secs(1),
    };
    let one = run(shelf.clone(), quick);
    until("it serves", || one.offer.config().is_some()).await;
    let first = one.offer.config().unwrap();
    let ca = state(shelf.inner.lock().unwrap().record.as_ref().unwrap())
        .current
        .certificate;
    until("another CA signs", || {
        state(shelf.inner.lock().unwrap().record.as_ref().unwrap())
            .current
            .certificate
            != ca
    })
    .await;
    until("another certificate is served", || {
        !Arc::ptr_eq(&one.offer.config().unwrap(), &first)
    })
    .await;
    let bundle = shelf.inner.lock().unwrap().published.clone().unwrap().bundle;
    assert!(bundle.contains(ca.trim()));
}

#[tokio::test]
async fn what_a_person_broke_is_said_and_never_overwritten() {
    let (a, b) = (
        Authority::make(Timestamp::now()).unwrap(),
        Authority::make(Timestamp::now()).unwrap(),
    );
    let leaf = rcgen::generate_simple_self_signed(names()).unwrap();
    let put = |crt: &str, key: &str| {
        BTreeMap::from([
            ("ca.crt".to_owned(), crt.to_owned()),
            ("ca.key".to_owned(), key.to_owned()),
        ])
    };
    let mut lonely = put(&a.certificate, &a.key);
    lonely.remove("ca.key");
    for (broken, says) in [
        (put(&a.certificate, &b.key), "its key belongs to another certificate"),
        (put(&a.certificate[..80], &a.key), "breaks off"),
        (put("hello", &a.key), "no certificate"),
        (put(&a.certificate, "hello"), "no private key"),
        (put(&leaf.cert.pem(), &leaf.signing_key.serialize_pem()), "no CA's"),
        (lonely, "no ca.key"),
    ] {
        let shelf = Shelf::default();
        shelf.inner.lock().unwrap().record = Some(broken.clone());
        let one = run(shelf.clone(), Policy::default());
        until(says, || one.ready.shown().contains(says)).await;
        let inner = shelf.inner.lock().unwrap();
        assert_eq!((inner.record.as_ref(), inner.saves), (Some(&broken), 0));
        assert!(one.offer.config().is_none());
    }
}

#[tokio::test]
async fn what_is_removed_under_a_running_aggregator_is_written_again_with_the_same_ca() {
    let shelf = Shelf::default();
    // It looks every 250 ms.
    let often = Policy {
        rotate_after: Some(Duration::from_secs(3_600)),
        lead: Duration::from_secs(1),
    };
    let one = run(shelf.clone(), often);
    until("it serves", || one.ready.shown() == "ready\n").await;
    let (before, serving) = (shelf.inner.lock().unwrap().record.clone(), one.offer.config().unwrap());
    assert!(before.is_some());
    shelf.inner.lock().unwrap().record = None;
    until("it is there again", || shelf.inner.lock().unwrap().record.is_some()).await;
    let ca = |record: Option<Record>| record.unwrap()["ca.crt"].clone();
    assert_eq!(ca(shelf.inner.lock().unwrap().record.clone()), ca(before));
    assert!(
        Arc::ptr_eq(&one.offer.config().unwrap(), &serving),
        "the certificate stays"
    );
}

#[tokio::test]
async fn a_directory_keeps_the_ca_over_restarts_and_its_key_for_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tls");
    let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap_or_default();
    let one = run(Directory::open(&path).unwrap(), Policy::default());
    until("it serves", || one.ready.shown() == "ready\n").await;
    let first = read("ca.crt");
    assert_eq!(first.matches("BEGIN CERTIFICATE").count(), 1);
    assert!(!first.contains("PRIVATE KEY"));
    let mode = |name: &str| std::fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("authority.json"), mode("ca.crt")), (0o600, 0o644));
    drop(one);
    // A person asks for another one.
    std::fs::write(path.join("rotate"), "").unwrap();
    let two = run(Directory::open(&path).unwrap(), Policy::default());
    until("the next CA is told", || {
        read("ca.crt").matches("BEGIN CERTIFICATE").count() == 2
    })
    .await;
    assert!(read("ca.crt").starts_with(&first) && !path.join("rotate").exists());
    drop(two);
    std::fs::write(path.join("authority.json"), "{\"ca.crt\"").unwrap();
    let three = run(Directory::open(&path).unwrap(), Policy::default());
    until("a torn file is said", || {
        three.ready.shown().contains("authority.json cannot be read")
    })
    .await;
}
