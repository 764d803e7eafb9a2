//! What can be chosen of a workload.

use std::time::Duration;

use crate::clients::Pace;

/// How large a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// To see that it works: nothing is learned about time.
    Tiny,
    /// All targets in three minutes.
    Quick,
    /// A few seconds.
    Small,
    /// The sizes of the targets.
    Full,
}

/// What can be set of a workload; what is not has the size's own value.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How large
    #[arg(skip = Size::Small)]
    pub size: Size,
    /// Seconds of each measured phase
    #[arg(long)]
    pub seconds: Option<f64>,
    /// How many clients call
    #[arg(long)]
    pub clients: Option<usize>,
    /// How many of them share a connection (16)
    #[arg(long)]
    pub per_connection: Option<usize>,
    /// Calls a second in all, whatever the answers do; latency counts from when each was due. Without it each
    /// client calls again as soon as it is answered
    #[arg(long)]
    pub rate: Option<f64>,
    /// How many keys there are
    #[arg(long)]
    pub keys: Option<u64>,
    /// How many leases there are
    #[arg(long)]
    pub leases: Option<u64>,
    /// Keys of a page; puts of a transaction
    #[arg(long)]
    pub batch: Option<u64>,
    /// How many watchers
    #[arg(long)]
    pub watchers: Option<usize>,
    /// How many watch streams
    #[arg(long)]
    pub streams: Option<usize>,
    /// How many connections those streams are on
    #[arg(long)]
    pub connections: Option<usize>,
    /// How many writers
    #[arg(long)]
    pub writers: Option<usize>,
    /// How many revisions of history
    #[arg(long)]
    pub revisions: Option<u64>,
    /// Bytes of each value
    #[arg(long)]
    pub value_size: Option<usize>,
}

impl Options {
    /// A size with nothing else set.
    pub fn of(size: Size) -> Options {
        Options {
            size,
            seconds: None,
            clients: None,
            per_connection: None,
            rate: None,
            keys: None,
            leases: None,
            batch: None,
            watchers: None,
            streams: None,
            connections: None,
            writers: None,
            revisions: None,
            value_size: None,
        }
    }

    /// The value for this size; a quick run has the small one.
    pub fn pick<T>(&self, tiny: T, small: T, full: T) -> T {
        match self.size {
            Size::Tiny => tiny,
            Size::Quick | Size::Small => small,
            Size::Full => full,
        }
    }

    /// The value for this size, where a quick run has one of its own.
    pub fn each<T>(&self, tiny: T, quick: T, small: T, full: T) -> T {
        if self.size == Size::Quick { quick } else { self.pick(tiny, small, full) }
    }

    /// How long a measured phase takes.
    pub fn phase(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.unwrap_or(self.each(0.1, 0.8, 2.0, 5.0)).clamp(0.001, 86_400.0))
    }

    /// How long a run of one workload may take at most, whatever happens.
    pub fn longest(&self) -> Duration {
        let minutes = self.each(2, 2, 10, 60);
        Duration::from_secs(60 * minutes) + self.phase() * 100
    }

    /// How long a server is warmed up.
    pub fn warm_up(&self) -> Duration {
        self.phase().min(Duration::from_millis(500))
    }

    /// How long memory is given to come to rest: allocators give back what they don't need only after some
    /// seconds, for which a quick run has no time.
    pub fn settle(&self) -> Duration {
        Duration::from_millis(self.each(50, 1_500, 12_000, 12_000))
    }

    /// How calls follow each other.
    pub fn pace(&self) -> Pace {
        self.rate.map_or(Pace::Closed, Pace::Open)
    }

    /// Bytes of each value.
    pub fn value_size(&self) -> usize {
        self.value_size.unwrap_or(256)
    }
}
