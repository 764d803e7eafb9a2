use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};

use crate::error::Result;
use crate::watch::buffer::{Buffer, Wants};
use crate::watch::hub::{HubHandle, WeakHubHandle};
use crate::watch::item::{Event, WatchItem};
use crate::watch::resume::{Spec, Watcher, WatcherId};
use crate::{KeyRange, Revision};

/// The changes of a range of keys, from one revision on, without a gap and without a repetition, across
/// broken connections and members that come and go.
///
/// A [`Stream`] of [`WatchItem`]s, and [`next`](Watch::next) for those who need no combinators. If it can't
/// go on it yields one error and then ends; without an error it ends only if it was
/// [cancelled](WatchControl::cancel) by the program. Dropping it cancels the watcher on the server.
///
/// What is delivered and not taken yet waits in a buffer of bounded size. When that is full, the watcher is
/// cancelled on the server, and created again, where it was, when half of the buffer has been taken: a slow
/// program slows down nobody else.
#[must_use = "a watch that is dropped is cancelled"]
pub struct Watch {
    id: WatcherId,
    seen: Seen,
    buffer: Buffer,
    hub: HubHandle,
    ended: bool,
}

/// How a program sees what is watched.
pub(super) struct Seen {
    pub(super) range: KeyRange,
    /// How many bytes of each key it does not see.
    pub(super) hidden: usize,
}

/// Steers a [`Watch`] from elsewhere. It keeps nothing alive: once the watch is dropped it does nothing.
#[derive(Clone)]
pub struct WatchControl {
    id: WatcherId,
    buffer: Buffer,
    hub: WeakHubHandle,
}

/// The events of a [`Watch`] one by one; see [`Watch::into_events`].
#[must_use = "streams do nothing unless polled"]
pub struct Events {
    watch: Watch,
    batch: std::vec::IntoIter<Event>,
}

impl Watch {
    pub(super) fn start(hub: HubHandle, spec: Spec, seen: Seen, buffer_bytes: usize, wants: Wants) -> Watch {
        let buffer = Buffer::new(buffer_bytes, wants);
        let id = hub.add(Watcher::new(spec, buffer.clone()));
        Watch { id, seen, buffer, hub, ended: false }
    }

    /// Waits until the server has confirmed the watcher.
    pub(crate) async fn created(&self) -> Result<()> {
        poll_fn(|cx| self.buffer.poll_created(cx)).await
    }

    /// The next item; `None` after the last.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<WatchItem>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    /// What is watched.
    pub fn range(&self) -> &KeyRange {
        &self.seen.range
    }

    /// Everything up to this revision has been taken from the stream: a program that keeps it can watch on
    /// [after](crate::WatchBuilder::after) it in its next life. It moves on with progress notes too.
    /// `None` if nothing has come yet of a watch that was asked to begin at a revision.
    pub fn position(&self) -> Option<Revision> {
        self.buffer.position()
    }

    /// A handle for other tasks.
    pub fn control(&self) -> WatchControl {
        WatchControl { id: self.id, buffer: self.buffer.clone(), hub: self.hub.downgrade() }
    }

    /// The events alone, one by one. Notes and notices are left out.
    pub fn into_events(self) -> Events {
        Events { watch: self, batch: Vec::new().into_iter() }
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<WatchItem>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let taken = ready!(self.buffer.poll_next(cx));
        if taken.drained {
            self.hub.drained(self.id);
        }
        self.ended = !matches!(taken.item, Some(Ok(_)));
        Poll::Ready(taken.item.map(|item| item.map(|item| item.without(self.seen.hidden))))
    }
}

impl WatchControl {
    /// Ends the watch. What has been delivered can still be taken, then the stream ends without an error.
    pub fn cancel(&self) {
        self.buffer.end(None);
        self.hub.remove(self.id);
    }

    /// Asks the server how far it has delivered, without waiting for the answer: it comes as
    /// [`WatchItem::Progress`], if that was asked for, and moves the position on. Nothing comes from a
    /// server that is known not to keep its notes in order with its events (etcd before 3.4.25 and 3.5.8).
    pub fn request_progress(&self) {
        self.hub.request_progress(self.id);
    }

    /// As [`Watch::position`].
    pub fn position(&self) -> Option<Revision> {
        self.buffer.position()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // In this order: a watcher that is between two lanes just now is not in either.
        self.buffer.abandon();
        self.hub.remove(self.id);
    }
}

impl Stream for Watch {
    type Item = Result<WatchItem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl FusedStream for Watch {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl Events {
    /// The next event; `None` after the last.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event>>> {
        loop {
            if let Some(event) = self.batch.next() {
                return Poll::Ready(Some(Ok(event)));
            }
            match ready!(self.watch.poll_item(cx)) {
                Some(Ok(WatchItem::Events(batch))) => self.batch = batch.into_iter(),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}

impl FusedStream for Events {
    fn is_terminated(&self) -> bool {
        self.batch.as_slice().is_empty() && self.watch.ended
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("range", &self.seen.range)
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WatchControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchControl").field("position", &self.position()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("watch", &self.watch).finish_non_exhaustive()
    }
}
