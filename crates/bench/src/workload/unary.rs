//! Calls that ask once and are answered once.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::{Options, fill};
use crate::bars::{Bar, Bound};
use crate::clients::{Clients, Done, Load, PER_CONNECTION, Pace, Work};
use crate::figures::{Figures, Unit, micros_each};
use crate::schedule::Until;
use crate::target::{Target, Used};
use crate::wire::Keys;
use crate::work::{CompareAndSwap, Counts, Deletes, Gets, Multi, Pages, Paginate, Puts, Streamed};

const THIRD: Bound = Bound::TimesAtMost(1.0 / 3.0);

pub(super) const PUT_1_BARS: [Bar; 3] = [
    Bar::new("puts per second", Bound::TimesAtLeast(1.7)),
    Bar::new("put p50", Bound::TimesAtMost(0.6)),
    Bar::new("server CPU per put", THIRD),
];
pub(super) const PUT_100_BARS: [Bar; 3] = [
    Bar::new("puts per second", Bound::TimesAtLeast(2.2)),
    Bar::new("put p99", Bound::TimesAtMost(0.35)),
    Bar::new("server CPU per put", THIRD),
];
pub(super) const GET_BARS: [Bar; 2] =
    [Bar::new("server CPU per get", THIRD), Bar::new("gets per second", Bound::TimesAtLeast(1.5))];
pub(super) const PAGE_BARS: [Bar; 1] = [Bar::new("pages per second", Bound::TimesAtLeast(50.0))];
pub(super) const COUNT_BARS: [Bar; 1] = [Bar::new("counts per second", Bound::TimesAtLeast(1_000.0))];

/// A kind of call, and who makes it.
struct Calls<'a> {
    /// What one is called.
    noun: &'a str,
    clients: usize,
    pace: Pace,
    warm_up: Option<Arc<dyn Work>>,
    work: Arc<dyn Work>,
    until: Until,
}

impl<'a> Calls<'a> {
    /// The same work for the warm-up and for the time of a phase.
    fn new(noun: &'a str, clients: usize, options: &Options, work: impl Work + 'static) -> Calls<'a> {
        let work: Arc<dyn Work> = Arc::new(work);
        Calls {
            noun,
            clients: options.clients.unwrap_or(clients).max(1),
            pace: options.pace(),
            warm_up: Some(Arc::clone(&work)),
            work,
            until: Until::Elapsed(options.phase()),
        }
    }

    async fn measure(&self, target: &Target, options: &Options) -> Result<(Done, Used)> {
        let per_connection = options.per_connection.unwrap_or(PER_CONNECTION);
        let clients = Clients::connect(target.addresses(), self.clients, per_connection).await?;
        let load = Load {
            work: Arc::clone(&self.work),
            clients: self.clients,
            pace: self.pace,
            until: self.until.clone(),
            record: false,
        };
        if let Some(work) = &self.warm_up {
            let until = Until::Elapsed(options.warm_up());
            clients.run(Load { work: Arc::clone(work), pace: Pace::Closed, until, ..load.clone() }).await?;
        }
        let meter = target.meter()?;
        let done = clients.run(load).await?;
        Ok((done, meter.read()?))
    }

    async fn figures(&self, target: &Target, options: &Options) -> Result<Figures> {
        let noun = self.noun;
        let (done, used) = self.measure(target, options).await?;
        let mut figures = Figures::default();
        figures.push(format!("{noun}s per second"), Unit::PerSecond, done.rate());
        figures.percentiles(noun, &done.latency);
        figures.push(format!("server CPU per {noun}"), Unit::Micros, micros_each(used.server, done.calls));
        if done.pairs > done.calls {
            figures.push("keys per second", Unit::PerSecond, done.pairs as f64 / done.elapsed.as_secs_f64());
        }
        if let Pace::Open(rate) = self.pace {
            figures.push("rate asked for", Unit::PerSecond, rate);
            figures.push("sent late p99", Unit::Micros, done.late.percentile(99.0) as f64 / 1e3);
        }
        figures.server(target, &used)?;
        figures.own(&used);
        figures.answers(&done);
        Ok(figures)
    }
}

/// Random keys among many, put by any number of clients.
pub(super) async fn put(target: &Target, options: &Options, clients: usize) -> Result<Figures> {
    let keys = Keys::new("put/", options.keys.unwrap_or(options.each(100, 100_000, 100_000, 1_000_000)), 32);
    let work = Puts::random(keys, options.value_size())?;
    Calls::new("put", clients, options, work).figures(target, options).await
}

/// Puts at a fixed rate.
pub(super) async fn put_open(target: &Target, options: &Options) -> Result<Figures> {
    let rate = options.rate.unwrap_or(options.pick(200.0, 2_000.0, 2_000.0));
    put(target, &Options { rate: Some(rate), ..options.clone() }, 100).await
}

/// One random key among many that are there.
pub(super) async fn get(target: &Target, options: &Options, serializable: bool) -> Result<Figures> {
    let keys = Keys::new("get/", options.keys.unwrap_or(options.each(200, 20_000, 100_000, 1_000_000)), 32);
    fill(target, &keys, options.value_size()).await?;
    let work = Gets::new(&keys, serializable)?;
    Calls::new("get", options.pick(5, 100, 100), options, work).figures(target, options).await
}

/// Gets at a fixed rate.
pub(super) async fn get_open(target: &Target, options: &Options) -> Result<Figures> {
    let rate = options.rate.unwrap_or(options.pick(200.0, 5_000.0, 5_000.0));
    get(target, &Options { rate: Some(rate), ..options.clone() }, false).await
}

/// Keys that are there, for reads of many.
async fn many(target: &Target, options: &Options) -> Result<Keys> {
    let keys = Keys::new("many/", options.keys.unwrap_or(options.each(1_500, 100_000, 100_000, 1_000_000)), 32);
    fill(target, &keys, options.value_size()).await?;
    Ok(keys)
}

/// Pages from random keys on.
pub(super) async fn page(target: &Target, options: &Options) -> Result<Figures> {
    let keys = many(target, options).await?;
    let work = Pages::new(&keys, options.batch.unwrap_or(1_000))?;
    Calls::new("page", 1, options, work).figures(target, options).await
}

/// Counts of everything.
pub(super) async fn count(target: &Target, options: &Options) -> Result<Figures> {
    let work = Counts::new(&many(target, options).await?);
    Calls::new("count", 1, options, work).figures(target, options).await
}

/// Everything, page by page.
pub(super) async fn paginate(target: &Target, options: &Options) -> Result<Figures> {
    let work = Paginate::new(many(target, options).await?, options.batch.unwrap_or(1_000));
    Calls::new("list", 1, options, work).figures(target, options).await
}

/// Everything in one answer of many messages.
pub(super) async fn range_stream(target: &Target, options: &Options) -> Result<Figures> {
    let work = Streamed::new(&many(target, options).await?);
    Calls::new("list", 1, options, work).figures(target, options).await
}

/// Transactions that write a key if it is as its client left it.
pub(super) async fn compare_and_swap(target: &Target, options: &Options) -> Result<Figures> {
    ensure!(options.rate.is_none(), "compare-and-swap has no open loop: a client's next try needs its last answer");
    let clients = options.clients.unwrap_or(options.pick(5, 100, 100)).max(1);
    let work = CompareAndSwap::new("swap/", clients, options.value_size())?;
    Calls::new("swap", clients, options, work).figures(target, options).await
}

/// Transactions of several puts.
pub(super) async fn multi(target: &Target, options: &Options) -> Result<Figures> {
    let keys = Keys::new("multi/", options.keys.unwrap_or(options.each(200, 100_000, 100_000, 1_000_000)), 32);
    let puts = usize::try_from(options.batch.unwrap_or(10))?;
    let work = Multi::new(&keys, puts, options.value_size())?;
    let mut figures =
        Calls::new("transaction", options.pick(5, 100, 100), options, work).figures(target, options).await?;
    let puts_per_second = figures.get("transactions per second").unwrap_or_default() * puts as f64;
    figures.push("puts per second", Unit::PerSecond, puts_per_second);
    Ok(figures)
}

/// Deletes of keys that are there, each once.
pub(super) async fn delete(target: &Target, options: &Options) -> Result<Figures> {
    let count = options.keys.unwrap_or(options.each(200, 20_000, 20_000, 100_000));
    let [warm, keys] = ["warm/", "delete/"].map(|prefix| Keys::new(prefix, count, 32));
    fill(target, &keys, options.value_size()).await?;
    let warm_up: Arc<dyn Work> = Arc::new(Deletes::new(&warm)?);
    let work = Deletes::new(&keys)?;
    let calls = Calls::new("delete", options.pick(5, 100, 100), options, work);
    // What the warm-up deletes is not there: its answers are not looked at.
    let calls = Calls { warm_up: Some(warm_up), until: Until::Count(count), ..calls };
    calls.figures(target, options).await
}

/// Rate and latency by the number of clients.
pub(super) async fn put_scale(target: &Target, options: &Options) -> Result<Figures> {
    let keys = Keys::new("put/", options.keys.unwrap_or(options.each(100, 100_000, 100_000, 1_000_000)), 32);
    scale(target, options, "put", || Ok(Arc::new(Puts::random(keys.clone(), options.value_size())?))).await
}

/// The same of linearizable gets.
pub(super) async fn get_scale(target: &Target, options: &Options) -> Result<Figures> {
    let keys = Keys::new("get/", options.keys.unwrap_or(options.each(200, 20_000, 100_000, 1_000_000)), 32);
    fill(target, &keys, options.value_size()).await?;
    scale(target, options, "get", || Ok(Arc::new(Gets::new(&keys, false)?))).await
}

/// From one client to 8,000, or as many as were chosen.
fn steps(options: &Options) -> Vec<usize> {
    let most = options.clients.unwrap_or(options.pick(4, 1_000, 8_000)).max(1);
    let mut steps: Vec<usize> = [1, 10, 100, 1_000].into_iter().filter(|step| *step < most).collect();
    steps.push(most);
    steps
}

async fn scale(
    target: &Target,
    options: &Options,
    noun: &str,
    work: impl Fn() -> Result<Arc<dyn Work>>,
) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut sum = Done::default();
    for clients in steps(options) {
        let work = work()?;
        let (warm_up, until) = (Some(Arc::clone(&work)), Until::Elapsed(options.phase()));
        let calls = Calls { noun, clients, pace: Pace::Closed, warm_up, work, until };
        let (done, used) = calls.measure(target, options).await?;
        let mut point = |curve: &str, unit, value| figures.point(curve, "clients", clients, unit, value);
        point(&format!("{noun}s per second"), Unit::PerSecond, done.rate());
        point(&format!("{noun} p50"), Unit::Micros, done.latency.percentile(50.0) as f64 / 1e3);
        point(&format!("{noun} p99"), Unit::Micros, done.latency.percentile(99.0) as f64 / 1e3);
        point(&format!("server CPU per {noun}"), Unit::Micros, micros_each(used.server, done.calls));
        figures.push(format!("generator CPUs, {clients} clients"), Unit::Share, used.own_share());
        sum.calls += done.calls;
        sum.wrong += done.wrong;
        sum.refused += done.refused;
    }
    figures.push("server RSS", Unit::Bytes, target.resident()? as f64);
    figures.answers(&sum);
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::super::Size;
    use super::*;

    #[test]
    fn steps_grow_to_the_most() {
        let of = |clients, size| steps(&Options { clients, ..Options::of(size) });
        assert_eq!(of(None, Size::Full), [1, 10, 100, 1_000, 8_000]);
        assert_eq!(of(Some(100), Size::Full), [1, 10, 100]);
        assert_eq!(of(Some(0), Size::Tiny), [1]);
    }
}
