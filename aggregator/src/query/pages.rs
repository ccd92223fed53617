//! Answers about every node, page by page: the engine is looked at for moments, and no message is larger than it may be.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use cidrift_proto::prefix::prefix_to_wire;
use cidrift_proto::v1;
use futures::{Stream, stream};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::convert;
use super::path::Many;
use crate::engine::plain::Plain;
use crate::engine::{Engine, State};
use crate::summary::NodeSummary;

/// A page that is larger is sent. One node's part of it is about 3 MiB at most, with 15,000 routes that are all wrong.
const FULL: usize = 1 << 20;

/// For so long at most a page holds up what agents tell: a tenth of the engine's tick.
const HOLD: Duration = Duration::from_millis(10);

/// An answer that is made piece by piece.
pub(super) trait Pages: Send + 'static {
    /// One message of it.
    type Page: Message + Default;

    /// Adds the next node's part, and says how large it is; `None`: there is no next one, and the page is marked as the last.
    fn add(&mut self, state: &State, page: &mut Self::Page) -> Option<usize>;
}

/// The pages. They end with an error where the answer is not whole.
pub(super) fn stream<P: Pages>(
    engine: &Arc<Engine>,
    pages: P,
    stop: CancellationToken,
) -> impl Stream<Item = Result<P::Page, Status>> + Send + use<P> {
    // Weak: a reader that is slow must not keep a stopped engine alive.
    let engine = Arc::downgrade(engine);
    stream::unfold(Some(pages), move |pages| {
        let next = if stop.is_cancelled() {
            pages.map(|_| (Err(Status::unavailable("the aggregator stops")), None))
        } else {
            pages.and_then(|pages| page(&engine, pages))
        };
        std::future::ready(next)
    })
}

type Made<P> = (Result<<P as Pages>::Page, Status>, Option<P>);

fn page<P: Pages>(engine: &Weak<Engine>, mut pages: P) -> Option<Made<P>> {
    let Some(engine) = engine.upgrade() else {
        return Some((Err(Status::unavailable("the aggregator stops")), None));
    };
    let mut page = P::Page::default();
    let more = engine.read(|state| {
        let (begun, mut size) = (Instant::now(), 0);
        while size < FULL && begun.elapsed() < HOLD {
            match pages.add(state, &mut page) {
                Some(more) => size += more,
                None => return false,
            }
        }
        true
    });
    Some((Ok(page), more.then_some(pages)))
}

/// Ways from many nodes to one end.
pub(super) struct Paths {
    /// The end.
    pub(super) many: Many,
    /// Those that send, still to be asked.
    pub(super) from: std::vec::IntoIter<String>,
}

impl Pages for Paths {
    type Page = v1::PathPage;

    fn add(&mut self, state: &State, page: &mut v1::PathPage) -> Option<usize> {
        page.to.clear();
        page.to.push_str(self.many.node());
        let Some(from) = self.from.next() else {
            page.last = true;
            return None;
        };
        let row = self.many.row(state, &from);
        let row = row.map(|row| convert::row_to_wire(&row));
        let size = row.as_ref().map_or(0, Message::encoded_len);
        page.rows.extend(row);
        Some(size)
    }
}

/// What a plan rests on of every node.
pub(super) struct Views {
    plain: Plain,
    nodes: std::vec::IntoIter<NodeSummary>,
    begun: bool,
}

impl Views {
    /// Of all nodes that are known now.
    pub(super) fn new(plain: Plain, nodes: Vec<NodeSummary>) -> Self {
        Self {
            plain,
            nodes: nodes.into_iter(),
            begun: false,
        }
    }
}

impl Pages for Views {
    type Page = v1::ViewPage;

    fn add(&mut self, state: &State, page: &mut v1::ViewPage) -> Option<usize> {
        if !self.begun {
            self.begun = true;
            page.plain = self.plain.cidrs().map(prefix_to_wire).collect();
        }
        let Some(summary) = self.nodes.next() else {
            page.last = true;
            return None;
        };
        let view = convert::detail_to_wire(&state.view(&summary, &self.plain));
        let size = view.encoded_len();
        page.views.push(view);
        Some(size)
    }
}
