//! The kinds of load. Each is what one row of the cost table says, and returns what it measured.

mod behind;
mod catchup;
mod churn;
mod cluster;
mod compaction;
mod distinct;
mod failover;
mod fanout;
mod idle;
mod latency;
mod lease;
mod lists;
mod non_matching;
mod options;
mod prev_kv;
mod progress;
mod reconnect;
mod restart;
mod slow;
mod unary;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::bars::Bar;
use crate::clients::{Clients, Load};
use crate::figures::{Figures, Unit, micros_each};
use crate::target::Target;
use crate::wire::Keys;
use crate::work::Fill;
use crate::writers::{Job, Pace, Until, Writers, Written};

pub use options::{Options, Size};

/// The figure that most rows are about.
const CPU: &str = "server CPU per event";
/// What a server is given to come to rest between phases.
const SETTLE: Duration = Duration::from_millis(100);

/// Every workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Workload {
    /// Puts of random keys by any number of clients
    Put,
    /// Puts by one client
    #[value(name = "put-1")]
    Put1,
    /// Puts by 100 clients
    #[value(name = "put-100")]
    Put100,
    /// Puts at a fixed rate: latency from when each was due
    PutOpen,
    /// Puts by 1 to 8,000 clients
    PutScale,
    /// Linearizable gets of random keys by 100 clients
    Get,
    /// Serializable gets of random keys by 100 clients
    GetSerializable,
    /// Linearizable gets at a fixed rate: latency from when each was due
    GetOpen,
    /// Linearizable gets by 1 to 8,000 clients
    GetScale,
    /// Pages of 1,000 keys from random ones on
    Page,
    /// Counts of all keys
    Count,
    /// All keys, page by page at one revision
    Paginate,
    /// All keys in one RangeStream (etcd 3.7 and Stentor)
    RangeStream,
    /// Transactions that put a key if it is as its client left it
    TxnSwap,
    /// Transactions of several puts
    TxnMulti,
    /// Deletes of keys that are there
    Delete,
    /// Leases granted, and their memory
    LeaseGrant,
    /// Leases kept alive
    LeaseKeepAlive,
    /// Put latency while a long history is compacted
    PutCompaction,
    /// Memory of idle connections with a watcher each
    IdleConnections,
    /// Memory of a server without keys, and with many
    IdleServer,
    /// kill -9, to the first linearizable read; memory and disk
    Restart,
    /// Events from the start of their put, and from its answer, at a fixed rate
    WatchLatency,
    /// Watchers created and cancelled over and over
    WatchChurn,
    /// Events on a connection that also lists
    WatchLists,
    /// All clients connect again at once
    Reconnect,
    /// Events by the number of watchers
    FanoutScale,
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
    /// Three members: puts by one client, through the leader
    #[value(name = "cluster-put-1")]
    ClusterPut1,
    /// Three members: puts by 100 clients, through all members
    #[value(name = "cluster-put-100")]
    ClusterPut100,
    /// Three members: linearizable gets by 100 clients, through all members
    ClusterGet,
    /// Three members: watchers of one key on one member, and shared by all
    ClusterFanout,
    /// Three members: kill -9 of the leader, to the first write that is accepted
    Failover,
}

/// What a workload is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Keys, leases, memory, restarts.
    Store,
    /// What watches cost.
    Watch,
    /// Three members.
    Cluster,
}

impl Workload {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it does, in a line.
    pub fn about(self) -> String {
        let value = self.to_possible_value();
        value.and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default()
    }

    /// What it is about.
    pub fn group(self) -> Group {
        match self {
            _ if self < Workload::WatchLatency => Group::Store,
            _ if self < Workload::ClusterPut1 => Group::Watch,
            _ => Group::Cluster,
        }
    }

    /// How many members of a cluster it is for.
    pub fn members(self) -> usize {
        if self.group() == Group::Cluster { 3 } else { 1 }
    }

    /// Whether etcd is measured beside it.
    pub fn has_peer(self) -> bool {
        !matches!(self, Workload::CatchupLength | Workload::NonMatching)
    }

    /// What is to be reached.
    pub fn bars(self) -> &'static [Bar] {
        match self {
            Workload::Put1 => &unary::PUT_1_BARS,
            Workload::Put100 => &unary::PUT_100_BARS,
            Workload::Get | Workload::GetSerializable => &unary::GET_BARS,
            Workload::Page => &unary::PAGE_BARS,
            Workload::Count => &unary::COUNT_BARS,
            Workload::PutCompaction => &compaction::BARS,
            Workload::IdleConnections => &idle::CONNECTION_BARS,
            Workload::Restart => &restart::BARS,
            Workload::FanoutKey => &fanout::KEY_BARS,
            Workload::FanoutRange => &fanout::RANGE_BARS,
            Workload::FanoutStreams => &fanout::STREAMS_BARS,
            Workload::Distinct => &distinct::BARS,
            Workload::IdleKeys => &idle::KEY_BARS,
            Workload::IdleRanges => &idle::RANGE_BARS,
            Workload::IdleStreams => &idle::STREAM_BARS,
            Workload::Catchup => &catchup::BARS,
            Workload::CatchupLength => &catchup::LENGTH_BARS,
            Workload::NonMatching => &non_matching::BARS,
            Workload::PrevKv => &prev_kv::BARS,
            Workload::Progress => &progress::BARS,
            Workload::Behind => &behind::BARS,
            Workload::Slow => &slow::BARS,
            Workload::ClusterPut1 => &cluster::PUT_1_BARS,
            Workload::ClusterPut100 => &cluster::PUT_100_BARS,
            Workload::ClusterGet => &cluster::GET_BARS,
            Workload::ClusterFanout => &cluster::FANOUT_BARS,
            Workload::Failover => &failover::BARS,
            _ => &[],
        }
    }

    /// Every workload of one server that has something to reach, in the order in which they are worth running.
    pub fn targets() -> Vec<Workload> {
        let is_target = |workload: &Workload| workload.members() == 1 && !workload.bars().is_empty();
        Workload::value_variants().iter().copied().filter(is_target).collect()
    }

    /// Runs it. Must be called within a `LocalSet`.
    ///
    /// # Errors
    /// When the server fails, does not deliver within a minute what is due, or takes unreasonably long.
    pub async fn run(self, target: &mut Target, options: &Options) -> Result<Figures> {
        let longest = options.longest();
        // On the heap: it is the sum of all kinds.
        let run = Box::pin(self.measure(target, options));
        let mut figures =
            tokio::time::timeout(longest, run).await.unwrap_or_else(|_| bail!("not finished after {longest:?}"))?;
        if !target.is_accounted() {
            figures.forget_server();
        }
        Ok(figures)
    }

    async fn measure(self, target: &mut Target, options: &Options) -> Result<Figures> {
        match self {
            Workload::Put => unary::put(target, options, options.pick(3, 64, 64)).await,
            Workload::Put1 => unary::put(target, options, 1).await,
            Workload::Put100 => unary::put(target, options, 100).await,
            Workload::PutOpen => unary::put_open(target, options).await,
            Workload::PutScale => unary::put_scale(target, options).await,
            Workload::Get => unary::get(target, options, false).await,
            Workload::GetSerializable => unary::get(target, options, true).await,
            Workload::GetOpen => unary::get_open(target, options).await,
            Workload::GetScale => unary::get_scale(target, options).await,
            Workload::Page => unary::page(target, options).await,
            Workload::Count => unary::count(target, options).await,
            Workload::Paginate => unary::paginate(target, options).await,
            Workload::RangeStream => unary::range_stream(target, options).await,
            Workload::TxnSwap => unary::compare_and_swap(target, options).await,
            Workload::TxnMulti => unary::multi(target, options).await,
            Workload::Delete => unary::delete(target, options).await,
            Workload::LeaseGrant => lease::grant(target, options).await,
            Workload::LeaseKeepAlive => lease::keep_alive(target, options).await,
            Workload::PutCompaction => compaction::run(target, options).await,
            Workload::IdleConnections => idle::connections(target, options).await,
            Workload::IdleServer => idle::server(target, options).await,
            Workload::Restart => restart::run(target, options).await,
            Workload::WatchLatency => latency::run(target, options).await,
            Workload::WatchChurn => churn::run(target, options).await,
            Workload::WatchLists => lists::run(target, options).await,
            Workload::Reconnect => reconnect::run(target, options).await,
            Workload::FanoutScale => fanout::scale(target, options).await,
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
            Workload::ClusterPut1 => cluster::put(target, options, 1).await,
            Workload::ClusterPut100 => cluster::put(target, options, 100).await,
            Workload::ClusterGet => cluster::get(target, options).await,
            Workload::ClusterFanout => cluster::fanout(target, options).await,
            Workload::Failover => failover::run(target, options).await,
        }
    }
}

/// Puts every key once.
async fn fill(target: &Target, keys: &Keys, value_size: usize) -> Result<()> {
    let clients = Clients::connect(&[target.address], 8, 1).await?;
    let work = Fill::new(keys, value_size)?;
    let until = Until::Count(work.transactions());
    let load = Load { work: Arc::new(work), clients: clients.count(), pace: Pace::Closed, until, record: false };
    clients.run(load).await?.all_right()?;
    Ok(())
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
