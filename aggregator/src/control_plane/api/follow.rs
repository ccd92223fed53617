//! One set of objects: listed page by page, then watched from where the list was.
//!
//! Answers 429, 503 and 504 are tried again by kube's client itself. Its `watcher` is not used, for what it does not tell (seen in kube-runtime 5.0): that a watch
//! is open again after an error, or still alive (bookmarks are swallowed), so that a quiet kind could never be
//! said to be seen again; it starts a watch anew at the same resourceVersion for ever where that is answered
//! with 410 at once; and a single object that cannot be parsed fails every list.

use std::time::Duration;

use futures::TryStreamExt;
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::{ObjectList, Request};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::control_plane::chain;

/// Objects of a list that are asked for at once, as client-go does: some 5 MB of Pods.
const PAGE: u32 = 500;

/// The API server ends a watch after this long, and it is opened again where it was: so a connection that has
/// silently died is noticed soon, for a request in half a minute.
const WATCH: Duration = Duration::from_secs(30);

/// How long after that nothing may be heard, since the server's clock and the way have their share.
const GRACE: Duration = Duration::from_secs(5);

/// A watch that ends sooner, and without a word, is not opened again at once: that would be a busy loop.
const SHORT: Duration = Duration::from_secs(1);

/// The first answer to a request must be there by then: the API server's own limit of a request is 60 s.
const ANSWER: Duration = Duration::from_secs(60);

/// An object as it came: read as what it is only where it is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct Raw(pub(super) Box<RawValue>);

/// Which objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// "/api/v1/nodes".
    pub(super) path: String,
    /// "metadata.name=kubeadm-config".
    pub(super) fields: Option<String>,
    /// Only their metadata is asked for.
    pub(super) metadata: bool,
}

impl Target {
    /// All that are there.
    pub(super) fn of(path: String) -> Self {
        let (fields, metadata) = (None, false);
        Self { path, fields, metadata }
    }
}

/// What is told of the objects.
#[derive(Debug)]
pub(super) enum Change {
    /// A list begins.
    Begin,
    /// Listed, new or changed.
    Put(Raw),
    /// All have been listed.
    Listed,
    /// Gone.
    Gone(Raw),
    /// The watch is open.
    Open,
    /// It has run its time: until it is open again, nothing is heard.
    Closed,
}

/// Why a watch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// 410: what happened since is no longer known; to be listed anew.
    Gone,
    /// 403, with the API server's words.
    Refused(String),
    /// 404: there is no such kind.
    Absent,
    /// Anything else.
    Broken(String),
}

/// Lists, where `version` does not say from when on to watch, and watches until something goes wrong.
/// `version` is left at what has been told.
pub(super) async fn follow(
    client: &Client,
    target: &Target,
    version: &mut Option<String>,
    mut tell: impl FnMut(Change),
) -> Trouble {
    loop {
        let result = match version.clone() {
            None => list(client, target, version, &mut tell).await,
            Some(from) => {
                let result = watch(client, target, &from, version, &mut tell).await;
                tell(Change::Closed);
                result
            }
        };
        if let Err(trouble) = result {
            if trouble == Trouble::Gone {
                *version = None;
            }
            return trouble;
        }
    }
}

async fn list(
    client: &Client,
    target: &Target,
    version: &mut Option<String>,
    tell: &mut impl FnMut(Change),
) -> Result<(), Trouble> {
    tell(Change::Begin);
    let mut params = ListParams::default().limit(PAGE);
    params.field_selector.clone_from(&target.fields);
    loop {
        let request = Request::new(&target.path);
        let request = match target.metadata {
            true => request.list_metadata(&params),
            false => request.list(&params),
        };
        let request = request.map_err(|error| broken(&error))?;
        let page = client.request::<ObjectList<Raw>>(request);
        let page = within(page).await?.map_err(trouble)?;
        for object in page.items {
            tell(Change::Put(object));
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => {
                let from = page.metadata.resource_version.filter(|version| !version.is_empty());
                *version = Some(from.ok_or_else(|| Trouble::Broken("the list has no resourceVersion".to_owned()))?);
                tell(Change::Listed);
                return Ok(());
            }
        }
    }
}

/// The little that is read of every object here.
#[derive(Deserialize)]
struct Versioned {
    metadata: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    resource_version: String,
}

async fn watch(
    client: &Client,
    target: &Target,
    from: &str,
    version: &mut Option<String>,
    tell: &mut impl FnMut(Change),
) -> Result<(), Trouble> {
    let params = WatchParams {
        field_selector: target.fields.clone(),
        timeout: u32::try_from(WATCH.as_secs()).ok(),
        bookmarks: true,
        ..WatchParams::default()
    };
    let request = Request::new(&target.path);
    let request = match target.metadata {
        true => request.watch_metadata(&params, from),
        false => request.watch(&params, from),
    };
    let request = request.map_err(|error| broken(&error))?;
    let stream = within(client.request_events::<Raw>(request)).await?.map_err(trouble)?;
    let mut stream = std::pin::pin!(stream);
    tell(Change::Open);
    let (opened, mut any) = (tokio::time::Instant::now(), false);
    loop {
        let heard = tokio::time::timeout(WATCH + GRACE, stream.try_next()).await;
        let event = match heard {
            Err(_) => {
                let quiet = (WATCH + GRACE).as_secs();
                return Err(Trouble::Broken(format!("nothing was heard of the watch for {quiet} s")));
            }
            // It ran its time, or the server is going; what comes next is asked for from here on.
            Ok(Ok(None)) if any || opened.elapsed() >= SHORT => return Ok(()),
            Ok(Ok(None)) => return Err(Trouble::Broken("the watch ended as soon as it was open".to_owned())),
            Ok(Ok(Some(event))) => event,
            Ok(Err(error)) => {
                if !matches!(error, kube::Error::ReadEvents(_)) {
                    // A line that cannot be read may have told of any object.
                    *version = None;
                }
                return Err(trouble(error));
            }
        };
        any = true;
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                advance(version, &object)?;
                tell(Change::Put(object));
            }
            WatchEvent::Deleted(object) => {
                advance(version, &object)?;
                tell(Change::Gone(object));
            }
            WatchEvent::Bookmark(bookmark) => *version = Some(bookmark.metadata.resource_version),
            WatchEvent::Error(status) => return Err(trouble(kube::Error::Api(status))),
        }
    }
}

fn advance(version: &mut Option<String>, object: &Raw) -> Result<(), Trouble> {
    match serde_json::from_str::<Versioned>(object.0.get()) {
        Ok(read) => {
            *version = Some(read.metadata.resource_version);
            Ok(())
        }
        Err(error) => {
            *version = None;
            Err(Trouble::Broken(format!(
                "a watched object has no resourceVersion: {error}"
            )))
        }
    }
}

async fn within<T>(answer: impl Future<Output = T>) -> Result<T, Trouble> {
    let slow = |_| Trouble::Broken(format!("no answer within {} s", ANSWER.as_secs()));
    tokio::time::timeout(ANSWER, answer).await.map_err(slow)
}

fn broken(error: &dyn std::error::Error) -> Trouble {
    Trouble::Broken(chain(error))
}

/// What an error of the client means.
pub(super) fn trouble(error: kube::Error) -> Trouble {
    match &error {
        kube::Error::Api(status) => match status.code {
            410 => Trouble::Gone,
            403 => Trouble::Refused(status.message.clone()),
            404 => Trouble::Absent,
            // What kube's client makes of a line that it cannot read: every field of a Status may be absent.
            0 if status.message.is_empty() => Trouble::Broken("a line of the watch cannot be read".to_owned()),
            code => Trouble::Broken(format!(
                "the API server answers {code} {}: {}",
                status.reason, status.message
            )),
        },
        _ => broken(&error),
    }
}
