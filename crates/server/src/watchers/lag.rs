use stentor_proto::Revision;
use stentor_watch::Tip;

use stentor_watch::{StreamReport, WatcherReport};

/// How far behind the store a watcher is, or the one of a stream that is furthest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Revisions of the store that it has still to pass; most may not concern it.
    pub revisions: u64,
    /// Milliseconds since the oldest event that it has not got was committed; 0 if it has all.
    pub ms: u64,
}

impl Lag {
    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Lag) -> Lag {
        Lag { revisions: self.revisions.max(other.revisions), ms: self.ms.max(other.ms) }
    }
}

/// What lags are counted from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// The newest revision.
    pub revision: Revision,
    /// Wall clock, milliseconds since 1970.
    pub unix_ms: u64,
}

impl Now {
    pub(super) fn at(tip: Tip, unix_ms: u64) -> Now {
        Now { revision: tip.revision, unix_ms }
    }

    fn lag(self, cursor: Revision, behind_since_unix_ms: Option<u64>) -> Lag {
        let revisions = self.revision.next().get().saturating_sub(cursor.get());
        Lag {
            revisions: u64::try_from(revisions).unwrap_or(0),
            ms: behind_since_unix_ms.map_or(0, |since| self.unix_ms.saturating_sub(since)),
        }
    }

    /// Of the stream's watcher that is furthest behind.
    pub(super) fn of_stream(self, report: &StreamReport) -> Lag {
        if report.watchers == 0 { Lag::default() } else { self.lag(report.cursor, report.behind_since_unix_ms) }
    }

    pub(super) fn of_watcher(self, report: &WatcherReport) -> Lag {
        self.lag(report.cursor, report.behind_since_unix_ms)
    }
}
