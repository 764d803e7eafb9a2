//! The kinds of load. Each is what one row of the cost table says, and returns what it measured.

mod fanout;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::bars::Bar;
use crate::figures::Figures;
use crate::target::Target;

/// How large a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// To see that it works: nothing is learned about time.
    Tiny,
    /// A few seconds.
    Small,
    /// The sizes of the cost table.
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
            watchers: None,
            streams: None,
            connections: None,
            writers: None,
            revisions: None,
            value_size: None,
        }
    }

    /// The value for this size.
    pub fn pick<T>(&self, tiny: T, small: T, full: T) -> T {
        match self.size {
            Size::Tiny => tiny,
            Size::Small => small,
            Size::Full => full,
        }
    }

    /// How long a measured phase takes.
    pub fn phase(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.unwrap_or(self.pick(0.1, 2.0, 5.0)).max(0.001))
    }

    /// How long a server is warmed up.
    pub fn warm_up(&self) -> Duration {
        self.phase().min(Duration::from_millis(500))
    }

    /// Bytes of each value.
    pub fn value_size(&self) -> usize {
        self.value_size.unwrap_or(256)
    }
}

/// Every workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Workload {
    /// Many watchers on one key, few streams
    FanoutKey,
    /// Very many watchers on one range, many streams
    FanoutRange,
    /// One watcher on each of many streams of one connection
    FanoutStreams,
}

impl Workload {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether etcd is measured beside it.
    pub fn has_peer(self) -> bool {
        true
    }

    /// What is to be reached.
    pub fn bars(self) -> &'static [Bar] {
        match self {
            Workload::FanoutKey => &fanout::KEY_BARS,
            Workload::FanoutRange => &fanout::RANGE_BARS,
            Workload::FanoutStreams => &fanout::STREAMS_BARS,
        }
    }

    /// Runs it. Must be called within a `LocalSet`.
    ///
    /// # Errors
    /// When the server fails, or does not deliver within a minute what is due.
    pub async fn run(self, target: &mut Target, options: &Options) -> Result<Figures> {
        match self {
            Workload::FanoutKey => fanout::key(target, options).await,
            Workload::FanoutRange => fanout::range(target, options).await,
            Workload::FanoutStreams => fanout::streams(target, options).await,
        }
    }
}
