//! kill -9, and how long until the first read.

use std::time::Instant;

use anyhow::{Result, bail};

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
    let (mut times, mut resident, mut lost) = (Vec::new(), Vec::new(), 0);
    for _ in 0..options.each(1, 3, 3, 5) {
        let start = Instant::now();
        target.restart()?;
        let (found, left) = read_one_and_count(target, &keys).await?;
        times.push(found.saturating_duration_since(start).as_secs_f64() * 1e6);
        resident.push(target.resident()? as f64);
        lost = lost.max(count.saturating_sub(left));
    }
    let mut figures = Figures::default();
    figures.push(TIME, Unit::Micros, median(times));
    figures.push(RSS, Unit::Bytes, median(resident));
    figures.push(DISK, Unit::Bytes, target.on_disk()? as f64);
    figures.push("keys", Unit::Count, count as f64);
    // etcd 3.5.0 to 3.5.2 lose some now and then.
    figures.push("acknowledged keys that are lost", Unit::Count, lost as f64);
    figures.push("answers", Unit::Count, count as f64);
    figures.push("wrong answers", Unit::Count, lost as f64);
    Ok(figures)
}

/// When the first linearizable read was answered, and how many keys there are.
async fn read_one_and_count(target: &Target, keys: &Keys) -> Result<(Instant, u64)> {
    let range = Connection::open(target.address, Windows::LARGE).await?.method("etcdserverpb.KV/Range")?;
    let (mut one, mut all) = (Answer::default(), Answer::default());
    let get = RangeRequest { key: keys.get(keys.count() / 2).into(), ..Default::default() };
    range.exchange(framed(&get), |message| one.read(message)).await?;
    let found = Instant::now();
    let (key, range_end) = keys.range();
    let count = RangeRequest { key: key.into(), range_end: range_end.into(), count_only: true, ..Default::default() };
    range.exchange(framed(&count), |message| all.read(message)).await?;
    Ok((found, all.fourth.cast_unsigned()))
}
