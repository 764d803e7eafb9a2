//! The kinds of load. Each is what one row of the cost table says, and returns what it measured.

mod behind;
mod catchup;
mod distinct;
mod fanout;
mod idle;
mod non_matching;
mod prev_kv;
mod progress;
mod slow;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::bars::Bar;
use crate::figures::{Figures, Unit, micros_each};
use crate::target::Target;
use crate::wire::Keys;
use crate::writers::{Job, Pace, Until, Writers, Written};

/// The figure that most rows are about.
const CPU: &str = "server CPU per event";
/// What a server is given to come to rest between phases.
const SETTLE: Duration = Duration::from_millis(100);

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
    /// Watchers on distinct keys: the writers' rate with them and without
    Distinct,
    /// Memory of idle watchers on keys
    IdleKeys,
    /// Memory of idle watchers on ranges
    IdleRanges,
    /// Memory of idle streams
    IdleStreams,
    /// Streams that replay a history, from memory and from disk
    Catchup,
    /// One stream that replays histories of growing length
    CatchupLength,
    /// Watchers that no put concerns: CPU per put against their number
    NonMatching,
    /// Watchers with prev_kv, of large values
    PrevKv,
    /// Progress requests under full write load
    Progress,
    /// Put latency beside a watcher that replays
    Behind,
    /// Streams that stop reading
    Slow,
}

/// Everything that is known of a workload but how it runs.
struct Row {
    /// Whether etcd is measured beside it.
    peer: bool,
    bars: &'static [Bar],
}

impl Workload {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn row(self) -> Row {
        let (peer, bars): (bool, &'static [Bar]) = match self {
            Workload::FanoutKey => (true, &fanout::KEY_BARS),
            Workload::FanoutRange => (true, &fanout::RANGE_BARS),
            Workload::FanoutStreams => (true, &fanout::STREAMS_BARS),
            Workload::Distinct => (true, &distinct::BARS),
            Workload::IdleKeys => (true, &idle::KEY_BARS),
            Workload::IdleRanges => (true, &idle::RANGE_BARS),
            Workload::IdleStreams => (true, &idle::STREAM_BARS),
            Workload::Catchup => (true, &catchup::BARS),
            Workload::CatchupLength => (false, &catchup::LENGTH_BARS),
            Workload::NonMatching => (false, &non_matching::BARS),
            Workload::PrevKv => (true, &prev_kv::BARS),
            Workload::Progress => (true, &progress::BARS),
            Workload::Behind => (true, &behind::BARS),
            Workload::Slow => (true, &slow::BARS),
        };
        Row { peer, bars }
    }

    /// Whether etcd is measured beside it.
    pub fn has_peer(self) -> bool {
        self.row().peer
    }

    /// What is to be reached.
    pub fn bars(self) -> &'static [Bar] {
        self.row().bars
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
            Workload::Distinct => distinct::run(target, options).await,
            Workload::IdleKeys => idle::keys(target, options).await,
            Workload::IdleRanges => idle::ranges(target, options).await,
            Workload::IdleStreams => idle::streams(target, options).await,
            Workload::Catchup => catchup::run(target, options).await,
            Workload::CatchupLength => catchup::length(target, options).await,
            Workload::NonMatching => non_matching::run(target, options).await,
            Workload::PrevKv => prev_kv::run(target, options).await,
            Workload::Progress => progress::run(target, options).await,
            Workload::Behind => behind::run(target, options).await,
            Workload::Slow => slow::run(target, options).await,
        }
    }
}

/// Writes so many revisions, as fast as all writers can.
async fn history(writers: &Writers, keys: &Keys, revisions: u64, value_size: usize) -> Result<Written> {
    let (keys, count) = (keys.clone(), writers.count());
    writers.run(Job { keys, value_size, writers: count, pace: Pace::Closed, until: Until::Count(revisions) }).await
}

/// What a put of this job costs the server while nobody watches, in microseconds of CPU.
async fn cost_of_a_put(target: &Target, writers: &Writers, job: &Job) -> Result<f64> {
    let meter = target.meter()?;
    let written = writers.run(job.clone()).await?;
    Ok(micros_each(meter.read()?.server, written.puts))
}

/// Adds the server's CPU per event, as it is and less what the puts cost by themselves.
fn push_cost(figures: &mut Figures, server: Duration, puts: u64, events: u64, put_cost: f64) {
    let each = micros_each(server, events);
    let put_share = put_cost * puts as f64 / events.max(1) as f64;
    figures.push(CPU, Unit::Micros, each);
    figures.push("server CPU per event, puts aside", Unit::Micros, (each - put_share).max(0.0));
    figures.push("server CPU per put, none watching", Unit::Micros, put_cost);
}

/// The middle one of these; 0 without any.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
