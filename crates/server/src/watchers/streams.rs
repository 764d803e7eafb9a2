//! What is looked at. A trait, so that tests can show streams in any state.

use stentor_watch::{Gauges, Hub, StreamReport, Tip, WatcherReport, WatcherState};

/// A state as people and programs are told it.
pub(crate) fn state_name(state: WatcherState) -> &'static str {
    match state {
        WatcherState::Synced => "synced",
        WatcherState::Unsynced => "unsynced",
        WatcherState::Victim => "victim",
    }
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

impl Streams for Hub {
    type Stream = stentor_watch::OpenStream;

    fn tip(&self) -> Tip {
        Hub::tip(self)
    }

    fn gauges(&self) -> Gauges {
        Hub::gauges(self)
    }

    fn streams(&self) -> Vec<Self::Stream> {
        Hub::streams(self)
    }
}

impl OpenStream for stentor_watch::OpenStream {
    fn report(&self) -> StreamReport {
        stentor_watch::OpenStream::report(self)
    }

    fn watchers(&self, visit: &mut dyn FnMut(WatcherReport)) {
        stentor_watch::OpenStream::watchers(self, visit);
    }
}
