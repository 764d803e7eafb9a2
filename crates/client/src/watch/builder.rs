use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::watch::Watch;
use crate::watch::buffer::Wants;
use crate::watch::handle::Seen;
use crate::watch::resume::{Spec, Start};
use crate::{KeyRange, Revision};

/// A watch to be started; see [`Client::watch`](crate::Client::watch). Awaiting it starts it.
///
/// # Errors
/// Those of the server that no further try would mend: [`Compacted`](crate::ErrorKind::Compacted),
/// [`PermissionDenied`](crate::ErrorKind::PermissionDenied),
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for an empty range and others;
/// [`Unavailable`](crate::ErrorKind::Unavailable) when no server has confirmed it within the
/// [`ready_timeout`](Self::ready_timeout). Later they come as the last item of the stream; from etcd
/// [`Compacted`](crate::ErrorKind::Compacted) does so even at the start, since it confirms the watcher before it
/// looks for its history.
///
/// # Cancel safety
/// If the future is dropped before it is ready, nothing is left of the watch.
#[derive(Clone)]
#[must_use = "a watch starts when it is awaited"]
pub struct WatchBuilder {
    client: Client,
    spec: Spec,
    buffer_bytes: usize,
    wants: Wants,
    ready_timeout: Option<Duration>,
}

/// What a watch may hold that the program has not taken yet.
const BUFFER_BYTES: usize = 8 << 20;

impl WatchBuilder {
    pub(crate) fn new(client: Client, range: KeyRange) -> WatchBuilder {
        let start = Start::Now;
        let spec = Spec { range, start, prev_kv: false, skip_puts: false, skip_deletes: false, fragment: true };
        let ready_timeout = client.core().call_timeout;
        WatchBuilder { client, spec, buffer_bytes: BUFFER_BYTES, wants: Wants::default(), ready_timeout }
    }

    /// Begins with the changes of this revision. It may be yet to come; then nothing before it is
    /// delivered. Without this or [`after`](Self::after) the watch begins after what the store is at when
    /// it is asked for.
    pub fn from(mut self, revision: Revision) -> Self {
        self.spec.start = Start::From(revision);
        self
    }

    /// Begins after a revision that the program has seen: that of its last batch, note, list or write. A
    /// store that has not even reached it has lost its history, and the watch ends with
    /// [`HistoryReset`](crate::ErrorKind::HistoryReset) instead of waiting for ever.
    pub fn after(mut self, revision: Revision) -> Self {
        self.spec.start = Start::After(revision);
        self
    }

    /// With each event, the pair before it: see [`Event::prev`](crate::Event::prev).
    pub fn prev_kv(mut self) -> Self {
        self.spec.prev_kv = true;
        self
    }

    /// Without creations and changes.
    pub fn skip_puts(mut self) -> Self {
        self.spec.skip_puts = true;
        self
    }

    /// Without deletions.
    pub fn skip_deletes(mut self) -> Self {
        self.spec.skip_deletes = true;
        self
    }

    /// Also yields [`WatchItem::Progress`](crate::WatchItem::Progress). The client asks for notes by
    /// itself, about every half minute, so that a quiet watch does not lose its place to compaction.
    pub fn progress(mut self) -> Self {
        self.wants.progress = true;
        self
    }

    /// Also yields [`WatchItem::Interrupted`](crate::WatchItem::Interrupted) and
    /// [`WatchItem::Resumed`](crate::WatchItem::Resumed).
    pub fn notices(mut self) -> Self {
        self.wants.notices = true;
        self
    }

    /// Whether the server may send a large response in parts; it may, by default. Each revision is
    /// delivered whole all the same.
    pub fn fragment(mut self, fragment: bool) -> Self {
        self.spec.fragment = fragment;
        self
    }

    /// How much may wait to be taken, about, in bytes; 8 MiB by default. A single response is taken in
    /// whole however large it is, as long as nothing else waits.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes.max(1);
        self
    }

    /// How long the server's confirmation may take; as long as a call, by default. `None` waits for ever.
    /// It has no bearing on the watch once it has begun.
    pub fn ready_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.ready_timeout = timeout.into();
        self
    }

    async fn start(self) -> Result<Watch> {
        let seen = Seen { range: self.spec.range.clone(), hidden: self.client.namespace().len() };
        let spec = Spec { range: self.client.namespace().range(&self.spec.range)?, ..self.spec };
        let watch = Watch::start(self.client.hub()?, spec, seen, self.buffer_bytes, self.wants);
        let Some(timeout) = self.ready_timeout else {
            watch.created().await?;
            return Ok(watch);
        };
        match tokio::time::timeout(timeout, watch.created()).await {
            Ok(created) => created.map(|()| watch),
            Err(_) => Err(match self.client.core().pool.why_unavailable() {
                Some(why) => why,
                None => Error::with(ErrorKind::Unavailable, "no server has confirmed the watch"),
            }),
        }
    }
}

impl IntoFuture for WatchBuilder {
    type Output = Result<Watch>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Watch>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

impl fmt::Debug for WatchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchBuilder")
            .field("spec", &self.spec)
            .field("buffer_bytes", &self.buffer_bytes)
            .field("ready_timeout", &self.ready_timeout)
            .finish_non_exhaustive()
    }
}
