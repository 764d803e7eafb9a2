//! kill -9, and how long until the first read.

use std::time::Instant;

use anyhow::{Result, bail, ensure};

use super::{Options, fill, median};
use crate::bars::{Bar, Bound};
use crate::connection::{Connection, Windows};
use crate::figures::{Figures, Unit};
use crate::scan::Answer;
use crate::target::Target;
use crate::wire::{Keys, framed};
use stentor_proto::etcdserverpb::RangeRequest;

const TIME: &str = "restart to the first linearizable read";
const RSS: &str = "RSS after a restart";
const DISK: &str = "disk";

pub(super) const BARS: [Bar; 3] = [
    Bar::new(TIME, Bound::TimesAtMost(0.125)),
    Bar::new(RSS, Bound::TimesAtMost(0.5)),
    Bar::new(DISK, Bound::TimesAtMost(0.6)),
];

/// Kills a server that has many keys, and starts it again, several times.
pub(super) async fn run(target: &mut Target, options: &Options) -> Result<Figures> {
    if !target.restarts() {
        bail!("only a server that was started here can be restarted");
    }
    let count = options.keys.unwrap_or(options.each(500, 100_000, 100_000, 1_000_000));
    let keys = Keys::new("restart/", count, 32);
    fill(target, &keys, options.value_size()).await?;
    let (mut times, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..options.each(1, 3, 3, 5) {
        let start = Instant::now();
        target.restart()?;
        let found = read_one_and_count(target, &keys).await?;
        times.push(found.saturating_duration_since(start).as_secs_f64() * 1e6);
        resident.push(target.resident()? as f64);
    }
    let mut figures = Figures::default();
    figures.push(TIME, Unit::Micros, median(times));
    figures.push(RSS, Unit::Bytes, median(resident));
    figures.push(DISK, Unit::Bytes, target.on_disk()? as f64);
    figures.push("keys", Unit::Count, count as f64);
    figures.push("answers", Unit::Count, count as f64);
    figures.push("wrong answers", Unit::Count, 0.0);
    Ok(figures)
}

/// When a key was there, linearizably read. No key may be lost.
async fn read_one_and_count(target: &Target, keys: &Keys) -> Result<Instant> {
    let range = Connection::open(target.address, Windows::LARGE).await?.method("etcdserverpb.KV/Range")?;
    let (mut one, mut all) = (Answer::default(), Answer::default());
    let get = RangeRequest { key: keys.get(keys.count() / 2).into(), ..Default::default() };
    range.exchange(framed(&get), |message| one.read(message)).await?;
    let found = Instant::now();
    ensure!(one.pairs == 1, "{} has lost a key", target.name);
    let (key, range_end) = keys.range();
    let count = RangeRequest { key: key.into(), range_end: range_end.into(), count_only: true, ..Default::default() };
    range.exchange(framed(&count), |message| all.read(message)).await?;
    ensure!(all.fourth.cast_unsigned() == keys.count(), "{} has {} of {} keys", target.name, all.fourth, keys.count());
    Ok(found)
}
