//! kill -9 of the leader, and how long until another accepts a write.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use stentor_proto::etcdserverpb::PutRequest;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::cluster::lead_first;
use super::{Options, median};
use crate::bars::{Bar, Bound};
use crate::connection::{Call, Connection, Windows};
use crate::figures::{Figures, Unit};
use crate::scan::Answer;
use crate::target::Target;
use crate::watchers::PATIENCE;
use crate::wire::framed;

const TIME: &str = "kill of the leader to the first write accepted";
/// How often another write is tried. Those before it may wait for ever: a write that was on its way to the
/// dead leader does.
const TRY_AGAIN: Duration = Duration::from_millis(5);

pub(super) const BARS: [Bar; 1] = [Bar::new(TIME, Bound::TimesAtMost(1.0))];

/// Kills the leader several times, each time with all members there.
pub(super) async fn run(target: &mut Target, options: &Options) -> Result<Figures> {
    if !target.restarts() {
        bail!("only members that were started here can be killed");
    }
    let rounds = options.pick(1, 5, 15);
    let mut times = Vec::new();
    for round in 0..rounds {
        lead_first(target).await?;
        let survivors = connect(&target.addresses()[1..]).await?;
        target.kill()?;
        let start = Instant::now();
        timeout(PATIENCE, first_write(&survivors)).await.context("no write was accepted")??;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        target.restart().with_context(|| format!("round {round}"))?;
        // The one that is back, too, has caught up when it answers a put.
        for address in target.addresses() {
            put(&connect(&[*address]).await?[0]).await?;
        }
    }
    let mut figures = Figures::default();
    let [fastest, slowest] = [f64::min as fn(f64, f64) -> f64, f64::max].map(|f| times.iter().copied().reduce(f));
    figures.push(TIME, Unit::Micros, median(times));
    figures.push("the fastest", Unit::Micros, fastest.unwrap_or_default());
    figures.push("the slowest", Unit::Micros, slowest.unwrap_or_default());
    figures.push("server RSS", Unit::Bytes, target.resident()? as f64);
    figures.push("answers", Unit::Count, f64::from(rounds));
    figures.push("wrong answers", Unit::Count, 0.0);
    Ok(figures)
}

async fn connect(addresses: &[SocketAddr]) -> Result<Vec<Call>> {
    let mut calls = Vec::new();
    for address in addresses {
        calls.push(Connection::open(*address, Windows::LARGE).await?.method("etcdserverpb.KV/Put")?);
    }
    Ok(calls)
}

async fn put(call: &Call) -> Result<()> {
    let put = PutRequest { key: "failover".into(), value: "v".into(), ..Default::default() };
    let mut answer = Answer::default();
    call.exchange(framed(&put), |message| answer.read(message)).await
}

/// Returns when one of these members has accepted a write, which each is asked for over and over.
async fn first_write(members: &[Call]) -> Result<()> {
    let mut tries = JoinSet::new();
    let mut ticks = interval(TRY_AGAIN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = members.iter().cycle();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let call = next.next().context("no member is left")?.clone();
                tries.spawn_local(async move { put(&call).await });
            }
            // A refusal is no failure here: there is no leader yet.
            Some(Ok(Ok(()))) = tries.join_next() => return Ok(()),
        }
    }
}
