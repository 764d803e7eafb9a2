//! Streams and watchers as they are told of to those who look from outside.

use std::sync::Arc;

use stentor_proto::{KeyRange, Revision};

use crate::stream::Shared;

/// Where a watcher stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatcherState {
    /// It has all there is, or waits for a revision still to come.
    Synced,
    /// It reads what it missed, from history.
    Unsynced,
    /// Events are due that its stream does not take.
    Victim,
}

/// One stream: its sums.
#[derive(Clone, Debug)]
pub struct StreamReport {
    /// Given to no other stream as long as the process runs.
    pub id: u64,
    /// Whose it is: [`crate::StreamOptions::label`].
    pub label: Option<Arc<str>>,
    /// All its watchers.
    pub watchers: u64,
    /// Those that have all there is.
    pub synced: u64,
    /// Those that read what they missed.
    pub unsynced: u64,
    /// Those with events due that the stream does not take.
    pub victims: u64,
    /// The lowest revision that one of them needs.
    pub cursor: Revision,
    /// Bytes of a response whose beginning was taken, kept for the rest.
    pub held_bytes: u64,
    /// Events sent.
    pub events: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// When the oldest event was committed that one of them has not got, milliseconds since 1970, as far
    /// as was read; `None` if they have all.
    pub behind_since_unix_ms: Option<u64>,
}

/// One watcher.
#[derive(Clone, Debug)]
pub struct WatcherReport {
    /// Its id on its stream.
    pub id: i64,
    /// What it watches.
    pub range: KeyRange,
    /// Where it stands.
    pub state: WatcherState,
    /// The next revision it needs.
    pub cursor: Revision,
    /// Events sent.
    pub events: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// When the oldest event was committed that it has not got, milliseconds since 1970, as far as was
    /// read; `None` if it has all.
    pub behind_since_unix_ms: Option<u64>,
    /// Its events carry the pairs before.
    pub prev_kv: bool,
    /// It gets progress notes.
    pub progress_notify: bool,
    /// Its large responses are split.
    pub fragment: bool,
}

/// An open stream, to be looked at. While it is, it delivers nothing.
#[derive(Clone)]
pub struct OpenStream(pub(crate) Arc<Shared>);

impl OpenStream {
    /// Its sums.
    pub fn report(&self) -> StreamReport {
        self.0.core.lock().stream_report(&self.0)
    }

    /// Visits its watchers, in no order.
    pub fn watchers(&self, visit: &mut dyn FnMut(WatcherReport)) {
        self.0.core.lock().watcher_reports(&self.0, visit);
    }
}
