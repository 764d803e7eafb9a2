use std::sync::Arc;

use stentor_proto::{KeyRange, Revision};
use stentor_watch::{Gauges, Tip};

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

impl WatcherState {
    /// As people and programs are told it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            WatcherState::Synced => "synced",
            WatcherState::Unsynced => "unsynced",
            WatcherState::Victim => "victim",
        }
    }
}

/// One stream: its sums.
#[derive(Clone, Debug)]
pub struct StreamReport {
    /// Given to no other stream as long as the process runs.
    pub id: u64,
    /// Whose it is: [`super::StreamLabel::text`].
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
    /// Bytes of responses that wait for the connection.
    pub held_bytes: u64,
    /// Events sent.
    pub events: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// When the oldest event was committed that one of them has not got; `None` if they have all.
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
    /// When the oldest event was committed that it has not got; `None` if it has all.
    pub behind_since_unix_ms: Option<u64>,
    /// Its events carry the pairs before.
    pub prev_kv: bool,
    /// It gets progress notes.
    pub progress_notify: bool,
    /// Its large responses are split.
    pub fragment: bool,
}

/// The open streams of a member, as they are looked at from outside: the hub's, or a test's.
pub trait Streams: Send + Sync {
    /// One of them.
    type Stream: OpenStream;

    /// How far the store is.
    fn tip(&self) -> Tip;

    /// Watchers by state, and bytes held.
    fn gauges(&self) -> Gauges;

    /// Every open stream.
    fn streams(&self) -> Vec<Self::Stream>;
}

/// A stream that can be looked at.
pub trait OpenStream {
    /// Its sums.
    fn report(&self) -> StreamReport;

    /// Visits its watchers, while which it delivers nothing.
    fn watchers(&self, visit: &mut dyn FnMut(WatcherReport));
}
