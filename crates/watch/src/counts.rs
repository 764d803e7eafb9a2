use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// How many streams and watchers there are, by state.
///
/// A stream reports when something is done with it: while its client takes nothing, its watchers stand
/// where they were then.
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
    streams: AtomicI64,
    synced: AtomicI64,
    unsynced: AtomicI64,
    victims: AtomicI64,
    events: AtomicU64,
    bytes: AtomicU64,
    canceled_by_client: AtomicU64,
    canceled_by_compaction: AtomicU64,
}

/// What one stream has.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) streams: i64,
    pub(crate) synced: i64,
    pub(crate) unsynced: i64,
    pub(crate) victims: i64,
}

impl Totals {
    /// One stream's counts have changed.
    pub(crate) fn report(&self, was: Counts, is: Counts) {
        // Each number stands alone: no order between them is promised.
        let add = |total: &AtomicI64, was: i64, is: i64| {
            if was != is {
                total.fetch_add(is - was, Ordering::Relaxed);
            }
        };
        add(&self.streams, was.streams, is.streams);
        add(&self.synced, was.synced, is.synced);
        add(&self.unsynced, was.unsynced, is.unsynced);
        add(&self.victims, was.victims, is.victims);
    }

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

    pub(crate) fn gauges(&self, bytes: u64) -> Gauges {
        let get = |total: &AtomicI64| u64::try_from(total.load(Ordering::Relaxed)).unwrap_or(0);
        Gauges {
            streams: get(&self.streams),
            synced: get(&self.synced),
            unsynced: get(&self.unsynced),
            victims: get(&self.victims),
            bytes,
        }
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
