//! What goes wrong, and when it is mended.

use std::io;
use std::time::Duration;

use stentor_checks::random::Random;
use stentor_mvcc::engine::memory::{self, MemoryEngine};
use stentor_mvcc::engine::{Batch, Durability, Engine as _};
use turmoil::Sim;

use crate::check::Excuses;
use crate::member;
use crate::world::{Host, World};

/// The two ends of a link, by their hosts' names.
type Link = (String, String);

/// One thing that is wrong.
#[derive(Clone, Debug)]
enum Fault {
    /// Nothing passes, and connecting fails at once.
    Partition(Link),
    /// Only what the second sends to the first is lost.
    Deaf(Link),
    /// Only what the first sends to the second is lost.
    Mute(Link),
    /// Nothing passes and nobody is told: what is sent waits.
    Hold(Link),
    /// Some of what is sent is lost: the connections it was part of never go on.
    Loss(Link),
    /// What passes takes up to so long.
    Slow(Link, Duration),
    /// The member's host dies.
    Kill(usize),
    /// All of them.
    KillAll,
    /// The member is told to end, and does so in order.
    End(usize),
    /// The disk of the member's log fails, from its next write or sync on.
    BadLog(usize),
    /// That of its store.
    BadStore(usize),
    /// These members can't talk to the others, nor the others to them.
    Split(Vec<usize>),
    /// The member can't be heard by the others.
    Unheard(usize),
    /// The member does not hear the others.
    Unhearing(usize),
}

/// Latency of a healthy link, at most.
const LATENCY: Duration = Duration::from_millis(20);

/// How often a link that loses something does so, for each message.
const LOSS: f64 = 0.01;

/// Draws faults, brings them about, and mends them.
pub(crate) struct Faults {
    random: Random,
    next_at: Duration,
    /// When each is mended.
    open: Vec<(Duration, Fault, Duration)>,
    clients: usize,
    members: usize,
    /// Some runs are calm, so that what only calm brings about is reached too.
    calm: u64,
}

impl Faults {
    pub(crate) fn new(mut random: Random, clients: usize, members: usize) -> Faults {
        let calm = random.between(1, 4);
        let next_at = Duration::from_secs(2) + random.millis(0, 4_000);
        Faults { random, next_at, open: Vec::new(), clients, members, calm }
    }

    /// Does what is due at this moment.
    pub(crate) fn step(&mut self, sim: &mut Sim<'_>, world: &World, excuses: &mut Excuses) {
        let now = sim.elapsed();
        let (due, open) = std::mem::take(&mut self.open).into_iter().partition(|(until, ..)| *until <= now);
        self.open = open;
        for (_, fault, begun) in due {
            excuses.faults.push((begun, now));
            self.mend(sim, world, &fault);
        }
        if now < self.next_at {
            return;
        }
        self.next_at = now + self.random.millis(200, 1_500) * self.calm as u32;
        let (fault, time) = self.draw(world);
        {
            let mut state = world.lock();
            state.note(now, format_args!("fault: {fault:?} for {} ms", time.as_millis()));
            *match &fault {
                Fault::Partition(_) | Fault::Deaf(_) | Fault::Mute(_) => &mut state.reached.partitions,
                Fault::Hold(_) => &mut state.reached.holds,
                Fault::Loss(_) => &mut state.reached.losses,
                Fault::Kill(_) | Fault::KillAll => &mut state.reached.kills,
                Fault::End(_) => &mut state.reached.ends,
                Fault::BadLog(_) | Fault::BadStore(_) => &mut state.reached.disk_failures,
                Fault::Slow(..) => &mut state.reached.slow_links,
                Fault::Split(_) => &mut state.reached.splits,
                Fault::Unheard(_) | Fault::Unhearing(_) => &mut state.reached.asymmetric_splits,
            } += 1;
            if let Some((client, member)) = self.deadened(&fault) {
                state.dead_links.push((client, member, now));
            }
        }
        self.begin(sim, world, &fault);
        self.open.push((now + time, fault, now));
    }

    /// Mends everything.
    pub(crate) fn mend_all(&mut self, sim: &mut Sim<'_>, world: &World, excuses: &mut Excuses) {
        for (_, fault, begun) in std::mem::take(&mut self.open) {
            excuses.faults.push((begun, sim.elapsed()));
            self.mend(sim, world, &fault);
        }
        // Faults overlap, and each was mended as if it were alone.
        for member in 0..self.members {
            for other in (0..self.clients).map(client_name).chain((0..member).map(member::name)) {
                sim.release(other.clone(), member::name(member));
                mend_link(sim, &(other, member::name(member)));
            }
            start(sim, member);
        }
        world.lock().note(sim.elapsed(), "all faults are mended");
    }

    /// The client and the member of which neither is told that the other can't be heard.
    fn deadened(&self, fault: &Fault) -> Option<(usize, usize)> {
        match fault {
            Fault::Partition(link) | Fault::Deaf(link) | Fault::Mute(link) | Fault::Hold(link) => {
                let client = (0..self.clients).find(|number| client_name(*number) == link.0)?;
                Some((client, (0..self.members).find(|number| member::name(*number) == link.1)?))
            }
            _ => None,
        }
    }

    /// Between a client and a member, or between two members.
    fn link(&mut self) -> Link {
        let member = self.member();
        let other = if self.members > 1 && self.random.one_in(2) {
            member::name((member + self.random.between(1, self.members as u64 - 1) as usize) % self.members)
        } else {
            client_name(self.random.below(self.clients as u64) as usize)
        };
        (other, member::name(member))
    }

    fn member(&mut self) -> usize {
        self.random.below(self.members as u64) as usize
    }

    /// The leader, mostly: what it does at its end is worth more.
    fn leader_or(&mut self, world: &World, other: usize) -> usize {
        let state = world.lock();
        let leads =
            |host: &Host| host.node.upgrade().is_some_and(|node| node.leader() == Some(node.identity().member_id));
        let leader = state.hosts.iter().position(leads);
        if self.random.one_in(4) { other } else { leader.unwrap_or(other) }
    }

    fn draw(&mut self, world: &World) -> (Fault, Duration) {
        let (link, member) = (self.link(), self.member());
        let kind = self.random.below(24);
        if kind >= 22 {
            return (Fault::End(self.leader_or(world, member)), self.random.millis(500, 4_000));
        }
        let random = &mut self.random;
        match kind {
            0..=1 => (Fault::Partition(link), random.millis(50, 8_000)),
            2 => (Fault::Deaf(link), random.millis(50, 20_000)),
            3 => (Fault::Mute(link), random.millis(50, 20_000)),
            4..=5 => (Fault::Hold(link), random.millis(1_000, 30_000)),
            6 => (Fault::Loss(link), random.millis(500, 8_000)),
            7..=11 => (Fault::Kill(member), random.millis(50, 5_000)),
            12 => (Fault::KillAll, random.millis(50, 3_000)),
            13..=14 => {
                let some = random.below(1 << self.members);
                let some = (0..self.members).filter(|number| some >> number & 1 == 1).collect();
                (Fault::Split(some), random.millis(500, 8_000))
            }
            15 => (Fault::Unheard(member), random.millis(500, 6_000)),
            20 => (Fault::BadLog(member), random.millis(500, 5_000)),
            21 => (Fault::BadStore(member), random.millis(500, 5_000)),
            16 => (Fault::Unhearing(member), random.millis(500, 6_000)),
            _ => (Fault::Slow(link, random.millis(50, 1_500)), random.millis(1_000, 10_000)),
        }
    }

    /// Links from these members to the others.
    fn around(&self, some: &[usize]) -> Vec<Link> {
        let others = |number: &usize| {
            (0..self.members).filter(|other| !some.contains(other)).map(|other| (*number, other)).collect::<Vec<_>>()
        };
        some.iter().flat_map(others).map(|(a, b)| (member::name(a), member::name(b))).collect()
    }

    fn begin(&self, sim: &mut Sim<'_>, world: &World, fault: &Fault) {
        match fault.clone() {
            Fault::Partition((a, b)) => sim.partition(a, b),
            Fault::Deaf((a, b)) => sim.partition_oneway(b, a),
            Fault::Mute((a, b)) => sim.partition_oneway(a, b),
            Fault::Hold((a, b)) => sim.hold(a, b),
            Fault::Loss((a, b)) => sim.set_link_fail_rate(a, b, LOSS),
            Fault::Slow((a, b), most) => sim.set_link_max_message_latency(a, b, most),
            Fault::Kill(m) => kill(sim, world, m),
            Fault::End(m) => on_host(world, m, |host| host.end.notify_one()),
            Fault::KillAll => (0..self.members).for_each(|m| kill(sim, world, m)),
            Fault::BadLog(m) => on_host(world, m, |host| {
                host.is_bad = true;
                if m % 2 == 0 {
                    host.disks.log.fail_sync(0, io::ErrorKind::Other);
                } else {
                    host.disks.log.fail_write(0, io::ErrorKind::Other);
                }
            }),
            Fault::BadStore(m) => on_host(world, m, |host| {
                host.is_bad = true;
                host.disks.engine().fail_next_write(memory::Fault::Io);
            }),
            Fault::Split(some) => self.around(&some).into_iter().for_each(|(a, b)| sim.partition(a, b)),
            Fault::Unheard(m) => self.around(&[m]).into_iter().for_each(|(a, b)| sim.partition_oneway(a, b)),
            Fault::Unhearing(m) => self.around(&[m]).into_iter().for_each(|(a, b)| sim.partition_oneway(b, a)),
        }
    }

    fn mend(&self, sim: &mut Sim<'_>, world: &World, fault: &Fault) {
        match fault.clone() {
            Fault::Partition((a, b)) | Fault::Deaf((a, b)) | Fault::Mute((a, b)) => sim.repair(a, b),
            Fault::Hold((a, b)) => sim.release(a, b),
            Fault::Loss(link) | Fault::Slow(link, _) => mend_link(sim, &link),
            Fault::Kill(m) => start(sim, m),
            Fault::End(m) => {
                kill(sim, world, m);
                start(sim, m);
            }
            Fault::KillAll => (0..self.members).for_each(|m| start(sim, m)),
            // It goes on only from a new start.
            Fault::BadLog(m) | Fault::BadStore(m) => {
                kill(sim, world, m);
                on_host(world, m, |host| {
                    host.is_bad = false;
                    host.disks.log.clear_faults();
                    // One that has not happened yet happens to nobody.
                    let engine = MemoryEngine::open(&host.disks.engine());
                    drop(engine.and_then(|engine| engine.write(Batch::default(), Durability::Buffered)));
                });
                start(sim, m);
            }
            Fault::Split(some) => self.around(&some).iter().for_each(|link| mend_link(sim, link)),
            Fault::Unheard(m) | Fault::Unhearing(m) => self.around(&[m]).iter().for_each(|link| mend_link(sim, link)),
        }
        let mut state = world.lock();
        if let Some((client, member)) = self.deadened(fault) {
            state.dead_links.retain(|(c, m, _)| (*c, *m) != (client, member));
        }
        state.note(sim.elapsed(), format_args!("mended: {fault:?}"));
    }
}

fn mend_link(sim: &mut Sim<'_>, (a, b): &Link) {
    sim.repair(a.clone(), b.clone());
    sim.set_link_fail_rate(a.clone(), b.clone(), 0.0);
    sim.set_link_max_message_latency(a.clone(), b.clone(), LATENCY);
}

pub(crate) fn client_name(client: usize) -> String {
    format!("c{client}")
}

/// The host dies: with its process alone, or with its power, which loses what was not synced.
pub(crate) fn kill(sim: &mut Sim<'_>, world: &World, member: usize) {
    if !sim.is_host_running(member::name(member)) {
        return;
    }
    sim.crash(member::name(member));
    let mut random = Random::new(sim.elapsed().as_millis() as u64 ^ (member as u64) << 32);
    let loses_power = !random.one_in(4);
    on_host(world, member, |host| {
        if loses_power {
            // What of the log was not synced is lost by halves.
            host.disks.crash(&mut || random.next());
        }
    });
}

fn on_host(world: &World, number: usize, change: impl FnOnce(&mut Host)) {
    if let Some(host) = world.lock().hosts.get_mut(number) {
        change(host);
    }
}

pub(crate) fn start(sim: &mut Sim<'_>, member: usize) {
    if !sim.is_host_running(member::name(member)) {
        sim.bounce(member::name(member));
    }
}

/// The simulated network.
pub(crate) fn network(seed: u64) -> Sim<'static> {
    turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(3_600))
        .tick_duration(Duration::from_millis(5))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(LATENCY)
        .repair_rate(0.5)
        .tcp_capacity(256)
        .build()
}
