use std::sync::atomic::{AtomicI64, Ordering};

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

/// What all streams of a hub have reported together.
#[derive(Default)]
pub(crate) struct Totals {
    streams: AtomicI64,
    synced: AtomicI64,
    unsynced: AtomicI64,
    victims: AtomicI64,
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
}
