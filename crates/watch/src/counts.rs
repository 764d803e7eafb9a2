use std::sync::atomic::{AtomicU64, Ordering};

/// How many streams and watchers there are, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Open streams.
    pub streams: u64,
    /// Watchers that have all there is, or wait for a revision still to come.
    pub synced: u64,
    /// Watchers that read what they missed.
    pub unsynced: u64,
    /// Watchers that have events due which their stream has not taken yet.
    pub victims: u64,
    /// Bytes of recent commits and of history in memory, about.
    pub bytes: u64,
}

impl Gauges {
    /// All watchers.
    pub fn watchers(&self) -> u64 {
        self.synced + self.unsynced + self.victims
    }
}

/// Events sent, and the bytes of their responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Events.
    pub events: u64,
    /// Bytes of the events, encoded.
    pub bytes: u64,
}

/// Watchers cancelled, by reason; those that went with their stream are not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Canceled {
    /// Their client asked for it.
    pub by_client: u64,
    /// Compaction has taken what they need.
    pub by_compaction: u64,
}

/// What all streams of a hub have reported together.
#[derive(Default)]
pub(crate) struct Totals {
    events: AtomicU64,
    bytes: AtomicU64,
    canceled_by_client: AtomicU64,
    canceled_by_compaction: AtomicU64,
}

impl Totals {
    /// One stream has sent more.
    pub(crate) fn report_sent(&self, was: Sent, is: Sent) {
        if was.events != is.events {
            self.events.fetch_add(is.events - was.events, Ordering::Relaxed);
            self.bytes.fetch_add(is.bytes - was.bytes, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_canceled_by_client(&self) {
        self.canceled_by_client.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_canceled_by_compaction(&self) {
        self.canceled_by_compaction.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self) -> Sent {
        Sent { events: self.events.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    pub(crate) fn canceled(&self) -> Canceled {
        Canceled {
            by_client: self.canceled_by_client.load(Ordering::Relaxed),
            by_compaction: self.canceled_by_compaction.load(Ordering::Relaxed),
        }
    }
}
