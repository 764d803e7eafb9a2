//! What three members cost, by their sum and each by itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use prost::Message;
use stentor_proto::etcdserverpb::{StatusRequest, StatusResponse};

use super::{CPU, Options, unary};
use crate::bars::{Bar, Bound};
use crate::connection::{Connection, Windows};
use crate::figures::{Figures, Unit, micros_each};
use crate::target::Target;
use crate::watchers::Streams;
use crate::wire::{Keys, Watch, framed};
use crate::writers::{Job, Pace, Until, Writers, Written};

const SHARE: &str = "fan-out through all: the busiest member's part";

pub(super) const PUT_1_BARS: [Bar; 1] = [Bar::new("put p50", Bound::TimesAtMost(0.7))];
pub(super) const PUT_100_BARS: [Bar; 1] = [Bar::new("puts per second", Bound::TimesAtLeast(2.0))];
pub(super) const GET_BARS: [Bar; 1] = [Bar::new("server CPU per get", Bound::TimesAtMost(0.5))];
/// A third, and a tenth of that for what members do by themselves.
pub(super) const FANOUT_BARS: [Bar; 1] = [Bar::new(SHARE, Bound::AtMost(0.367))];

/// Puts of random keys. One client is at the leader, many share all members.
pub(super) async fn put(target: &mut Target, options: &Options, clients: usize) -> Result<Figures> {
    lead_first(target).await?;
    unary::put(target, options, clients).await
}

/// Linearizable gets, by clients that share all members.
pub(super) async fn get(target: &mut Target, options: &Options) -> Result<Figures> {
    lead_first(target).await?;
    unary::get(target, options, false).await
}

/// The same watchers of one key at the leader, and then shared by all members: events at a fixed rate, so that
/// both are asked for the same.
pub(super) async fn fanout(target: &mut Target, options: &Options) -> Result<Figures> {
    lead_first(target).await?;
    let watchers = options.watchers.unwrap_or(options.pick(24, 1_200, 1_200));
    let connections = options.connections.unwrap_or(options.pick(3, 12, 12));
    let keys = Keys::new("fanout/", 1, 32);
    let job = Job {
        keys: keys.clone(),
        value_size: options.value_size(),
        writers: options.writers.unwrap_or(4),
        pace: Pace::Open(options.rate.unwrap_or(options.pick(100.0, 200.0, 200.0))),
        until: Until::Elapsed(options.phase()),
    };
    let writers = Writers::connect(target.address, job.writers).await?;
    writers.run(Job { until: Until::Elapsed(options.warm_up()), ..job.clone() }).await?;
    let none = Phase::run(target, &writers, &job, None).await?;

    let mut figures = Figures::default();
    let (mut expected, mut received, mut disordered) = (0, 0, 0);
    let mut costs = Vec::new();
    for everywhere in [false, true] {
        let addresses = if everywhere { target.addresses() } else { &target.addresses()[..1] };
        let mut streams = Streams::connect_all(addresses, connections, Windows::LARGE).await?;
        streams.open(connections).await?;
        streams.create(watchers, |_| Watch::key(keys.get(0))).await?;
        streams.time_events(true);
        let phase = Phase::run(target, &writers, &job, Some((&streams, watchers as u64))).await?;
        let of_events = phase.beside(&none);
        costs.push(of_events.iter().copied().fold(0.0, f64::max));
        if everywhere {
            let sum: f64 = phase.each.iter().sum();
            figures.push(CPU, Unit::Micros, sum / phase.fanout);
            figures.push(format!("{CPU}, puts aside"), Unit::Micros, of_events.iter().sum::<f64>() / phase.fanout);
            figures.written(&phase.written);
            streams.seen(|seen| figures.latency("event", &seen.latency));
            figures.push("generator CPUs", Unit::Share, phase.own_share);
        }
        expected += phase.written.puts * watchers as u64;
        received += streams.seen(|seen| seen.events);
        disordered += streams.seen(|seen| seen.disordered);
    }
    if let [alone, busiest] = costs[..] {
        figures.push(SHARE, Unit::Share, busiest / alone.max(1e-9));
    }
    figures.push("server RSS", Unit::Bytes, target.resident()? as f64);
    figures.push("events expected", Unit::Count, expected as f64);
    figures.push("events received", Unit::Count, received as f64);
    figures.push("events out of order or twice", Unit::Count, disordered as f64);
    Ok(figures)
}

/// What some puts cost each member.
struct Phase {
    written: Written,
    /// Microseconds of CPU of each member for a put.
    each: Vec<f64>,
    /// Events of a put.
    fanout: f64,
    own_share: f64,
}

impl Phase {
    async fn run(target: &Target, writers: &Writers, job: &Job, watch: Option<(&Streams, u64)>) -> Result<Phase> {
        let meter = target.meter()?;
        let written = writers.run(job.clone()).await?;
        let mut fanout = 0;
        if let Some((streams, watchers)) = watch {
            streams.wait("events", written.puts * watchers, |seen| seen.events).await?;
            fanout = watchers;
        }
        let own_share = meter.read()?.own_share();
        let each: Vec<f64> =
            meter.members()?.into_iter().map(|used: Duration| micros_each(used, written.puts)).collect();
        ensure!(target.addresses().len() == each.len(), "not every member's process is known");
        Ok(Phase { written, each, fanout: fanout as f64, own_share })
    }

    /// What each member's put costs more than in another phase.
    fn beside(&self, other: &Phase) -> Vec<f64> {
        self.each.iter().zip(&other.each).map(|(with, without)| (with - without).max(0.0)).collect()
    }
}

/// Puts the leader first among the members.
pub(super) async fn lead_first(target: &mut Target) -> Result<()> {
    for member in 0..target.addresses().len() {
        if status(target, member).await?.is_some_and(|status| leads(&status)) {
            target.put_first(member);
            return Ok(());
        }
    }
    anyhow::bail!("no member of {} says that it leads", target.name)
}

fn leads(status: &StatusResponse) -> bool {
    status.leader != 0 && status.header.as_ref().is_some_and(|header| header.member_id == status.leader)
}

/// What a member says of itself.
async fn status(target: &Target, member: usize) -> Result<Option<StatusResponse>> {
    let address = *target.addresses().get(member).context("no such member")?;
    let call = Connection::open(address, Windows::LARGE).await?.method("etcdserverpb.Maintenance/Status")?;
    let mut body = None;
    let read = |message: &[u8]| {
        body = Some(Bytes::copy_from_slice(message));
        Ok(())
    };
    call.exchange(framed(&StatusRequest::default()), read).await?;
    body.map(|body| StatusResponse::decode(body).context("a status that is not one")).transpose()
}
