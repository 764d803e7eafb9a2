use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use stentor_client::raw::Client;
use stentor_proto::KeyRange;
use stentor_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest};
use tokio::time::Instant;

use crate::failure::{Exit, Failure, Result, text};
use crate::go;
use crate::print::show;
use crate::progress::Bar;
use crate::session::Session;

mod memory;
mod report;

use report::Report;

/// Check what a cluster can do, by writing to it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write at a steady rate for a minute and judge throughput and latency
    #[command(after_help = "Example:\n  stentorctl check perf --load=m --auto-compact")]
    Perf {
        #[command(flatten)]
        common: Common,
        /// Keys are written below this and deleted afterwards
        #[arg(long, default_value = "/etcdctl-check-perf/")]
        prefix: String,
        /// How long to write
        #[arg(long, default_value = "60s", value_parser = go::parse_duration)]
        duration: Duration,
    },
    /// Write a fixed amount and show how much memory the server took for it
    #[command(after_help = "Example:\n  stentorctl check datascale --load=s --auto-compact --auto-defrag")]
    Datascale {
        #[command(flatten)]
        common: Common,
        /// Keys are written below this and deleted afterwards
        #[arg(long, default_value = "/etcdctl-check-datascale/")]
        prefix: String,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    /// s(mall), m(edium), l(arge) or xl(arge)
    #[arg(long, default_value = "s")]
    load: String,
    /// Compact the history afterwards
    #[arg(long)]
    auto_compact: bool,
    /// Defragment afterwards
    #[arg(long)]
    auto_defrag: bool,
}

/// What a load is: writers, writes a second for `perf`, keys for `datascale`.
#[derive(Clone, Copy, Debug)]
struct Load {
    perf: (usize, u32),
    datascale: (usize, u64),
}

const VALUE_BYTES: usize = 1024;

fn load(name: &str) -> Result<Load> {
    match name {
        "s" | "small" => Ok(Load { perf: (50, 150), datascale: (50, 10_000) }),
        "m" | "medium" => Ok(Load { perf: (200, 1_000), datascale: (200, 100_000) }),
        "l" | "large" => Ok(Load { perf: (500, 8_000), datascale: (500, 1_000_000) }),
        "xl" | "xLarge" => Ok(Load { perf: (1_000, 15_000), datascale: (1_000, 3_000_000) }),
        _ => Err(Failure::new(Exit::BadFeature, format!("unknown load option {name}"))),
    }
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result<()> {
        match self.command {
            Command::Perf { common, prefix, duration } => perf(session, &common, prefix, duration).await,
            Command::Datascale { common, prefix } => datascale(session, &common, prefix).await,
        }
    }
}

async fn perf(session: &Session, common: &Common, prefix: String, duration: Duration) -> Result<()> {
    let (writers, rate) = load(&common.load)?.perf;
    let place = Place::claim(session, prefix).await?;
    let mut report = Report::default();
    let bar = Bar::count(duration.as_secs(), "seconds");
    let start = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_secs(1).div_f64(f64::from(rate)));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut writes = FuturesUnordered::new();
    let mut seconds = 0;
    for n in 0.. {
        // The time it was due counts, not when a writer was free for it.
        let due = tick.tick().await;
        if start.elapsed() >= duration {
            break;
        }
        while writes.len() >= writers {
            report.take(writes.next().await);
        }
        writes.push(place.put(n, due));
        bar.add(start.elapsed().as_secs() - seconds);
        seconds = start.elapsed().as_secs();
    }
    while !writes.is_empty() {
        report.take(writes.next().await);
    }
    drop(writes);
    report.took = start.elapsed();
    drop(bar);
    place.clean(common).await?;
    let (text, passed) = report.judge(rate);
    show(text)?;
    if passed { Ok(()) } else { Err(Failure::silent(Exit::Error)) }
}

async fn datascale(session: &Session, common: &Common, prefix: String) -> Result<()> {
    let (writers, keys) = load(&common.load)?.datascale;
    let place = Place::claim(session, prefix).await?;
    let resident = || async {
        memory::resident_bytes(place.client.endpoint().authority()).await.map_err(|why| {
            Failure::new(Exit::Error, format!("FAIL: Could not read process_resident_memory_bytes: {why}"))
        })
    };
    show(format!(
        "Start data scale check for work load [{keys} key-value pairs, {VALUE_BYTES} bytes per key-value, {writers} \
         concurrent clients].\n"
    ))?;
    let before = resident().await?;
    let mut report = Report::default();
    let bar = Bar::count(keys, "keys");
    let puts = futures::stream::iter((0..keys).map(|n| place.put(n, Instant::now()))).buffer_unordered(writers);
    let mut puts = std::pin::pin!(puts);
    while let Some(write) = puts.next().await {
        report.take(Some(write));
        bar.add(1);
    }
    drop(bar);
    let after = resident().await?;
    place.clean(common).await?;
    if !report.errors.is_empty() {
        return show(report.errors_text()).and(Err(Failure::silent(Exit::Error)));
    }
    let megabytes = (after as f64 - before as f64) / f64::from(1 << 20);
    show(format!("PASS: Approximate system memory used : {megabytes:.2} MB.\n"))
}

/// One write: how long it took, or why it failed.
type Write = std::result::Result<Duration, String>;

/// The keys below a prefix, which the check has for itself.
struct Place {
    client: Client,
    prefix: String,
    value: bytes::Bytes,
}

impl Place {
    /// Refuses a prefix that has keys: they would be deleted afterwards.
    async fn claim(session: &Session, prefix: String) -> Result<Place> {
        let client = session.connect().await?;
        let (key, range_end) = KeyRange::prefix(prefix.clone()).to_wire();
        let found = client.kv().range(RangeRequest { key, range_end, limit: 1, ..Default::default() }).await?;
        if !found.kvs.is_empty() {
            let quoted = go::quote(prefix.as_bytes());
            let message = format!("prefix {quoted} has keys. Delete with \"stentorctl del --prefix {prefix}\" first.");
            return Err(Failure::new(Exit::Interrupted, message));
        }
        Ok(Place { client, prefix, value: vec![b'x'; VALUE_BYTES].into() })
    }

    async fn put(&self, n: u64, due: Instant) -> Write {
        let key = format!("{}{n:016x}", self.prefix).into();
        let request = PutRequest { key, value: self.value.clone(), ..Default::default() };
        self.client.kv().put(request).await.map(|_| due.elapsed()).map_err(|e| text(&e))
    }

    async fn clean(&self, common: &Common) -> Result<()> {
        let (key, range_end) = KeyRange::prefix(self.prefix.clone()).to_wire();
        let deleted = self.client.kv().delete_range(DeleteRangeRequest { key, range_end, prev_kv: false }).await?;
        if common.auto_compact {
            let revision = deleted.header.map_or(0, |h| h.revision);
            show(format!("Compacting with revision {revision}\n"))?;
            self.client.kv().compact(CompactionRequest { revision, physical: true }).await?;
            show(format!("Compacted with revision {revision}\n"))?;
        }
        if common.auto_defrag {
            let endpoint = self.client.endpoint();
            show(format!("Defragmenting \"{endpoint}\"\n"))?;
            self.client.maintenance().defragment().await?;
            show(format!("Defragmented \"{endpoint}\"\n"))?;
        }
        Ok(())
    }
}
