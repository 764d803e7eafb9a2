//! What goes wrong, and when it is mended.

use std::time::Duration;

use turmoil::Sim;

use crate::check::Excuses;
use crate::member;
use crate::random::Random;
use crate::reached::Reached;
use crate::world::World;

/// One thing that is wrong.
#[derive(Clone, Debug)]
enum Fault {
    /// Between a client and a member nothing passes, and connecting fails at once.
    Partition(usize, usize),
    /// Only what the member sends is lost.
    Deaf(usize, usize),
    /// Only what the client sends is lost.
    Mute(usize, usize),
    /// Nothing passes and nobody is told: what is sent waits.
    Hold(usize, usize),
    /// The member's host dies.
    Kill(usize),
    /// All of them.
    KillAll,
    /// The member gets no entries of the log.
    CutOff(usize),
    /// The member gets them late.
    Lag(usize, Duration),
    /// What passes between a client and a member takes up to so long.
    Slow(usize, usize, Duration),
}

impl Fault {
    /// The client and the member of which neither is told that the other can't be heard.
    fn deadens(&self) -> Option<(usize, usize)> {
        match *self {
            Fault::Partition(c, m) | Fault::Deaf(c, m) | Fault::Mute(c, m) | Fault::Hold(c, m) => Some((c, m)),
            _ => None,
        }
    }
}

/// Latency of a healthy link, at most.
const LATENCY: Duration = Duration::from_millis(20);

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
    pub(crate) fn step(&mut self, sim: &mut Sim<'_>, world: &World, reached: &mut Reached, excuses: &mut Excuses) {
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
        let (fault, time) = self.draw();
        world.lock().note(now, format_args!("fault: {fault:?} for {} ms", time.as_millis()));
        *match &fault {
            Fault::Partition(..) | Fault::Deaf(..) | Fault::Mute(..) => &mut reached.partitions,
            Fault::Hold(..) => &mut reached.holds,
            Fault::Kill(_) | Fault::KillAll => &mut reached.kills,
            Fault::CutOff(_) | Fault::Lag(..) => &mut reached.lags,
            Fault::Slow(..) => &mut reached.slow_links,
        } += 1;
        if let Some((client, member)) = fault.deadens() {
            world.lock().dead_links.push((client, member, now));
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
            for client in (0..self.clients).map(client_name) {
                sim.release(client.clone(), member::name(member));
                sim.repair(client, member::name(member));
            }
            start(sim, member);
        }
        world.lock().note(sim.elapsed(), "all faults are mended");
    }

    fn draw(&mut self) -> (Fault, Duration) {
        let client = self.random.below(self.clients as u64) as usize;
        let member = self.random.below(self.members as u64) as usize;
        let (kind, random) = (self.random.below(16), &mut self.random);
        match kind {
            0..=2 => (Fault::Partition(client, member), random.millis(50, 8_000)),
            3 => (Fault::Deaf(client, member), random.millis(50, 20_000)),
            4 => (Fault::Mute(client, member), random.millis(50, 20_000)),
            5..=7 => (Fault::Hold(client, member), random.millis(1_000, 30_000)),
            8..=10 => (Fault::Kill(member), random.millis(50, 5_000)),
            11 => (Fault::KillAll, random.millis(50, 3_000)),
            12 => (Fault::CutOff(member), random.millis(500, 10_000)),
            13 => (Fault::Lag(member, random.millis(100, 4_000)), random.millis(2_000, 15_000)),
            _ => (Fault::Slow(client, member, random.millis(50, 1_500)), random.millis(1_000, 10_000)),
        }
    }

    fn begin(&self, sim: &mut Sim<'_>, world: &World, fault: &Fault) {
        let (client, member) = (client_name, member::name);
        match *fault {
            Fault::Partition(c, m) => sim.partition(client(c), member(m)),
            Fault::Deaf(c, m) => sim.partition_oneway(member(m), client(c)),
            Fault::Mute(c, m) => sim.partition_oneway(client(c), member(m)),
            Fault::Hold(c, m) => sim.hold(client(c), member(m)),
            Fault::Kill(m) => kill(sim, world, m),
            Fault::KillAll => (0..self.members).for_each(|m| kill(sim, world, m)),
            Fault::CutOff(m) => edit(world, m, |member| member.is_cut_off = true),
            Fault::Lag(m, lag) => edit(world, m, |member| member.lag = lag),
            Fault::Slow(c, m, most) => sim.set_link_max_message_latency(client(c), member(m), most),
        }
    }

    fn mend(&self, sim: &mut Sim<'_>, world: &World, fault: &Fault) {
        let (client, member) = (client_name, member::name);
        match *fault {
            Fault::Partition(c, m) | Fault::Deaf(c, m) | Fault::Mute(c, m) => sim.repair(client(c), member(m)),
            Fault::Hold(c, m) => sim.release(client(c), member(m)),
            Fault::Kill(m) => start(sim, m),
            Fault::KillAll => (0..self.members).for_each(|m| start(sim, m)),
            Fault::CutOff(m) => edit(world, m, |member| member.is_cut_off = false),
            Fault::Lag(m, _) => edit(world, m, |member| member.lag = Duration::ZERO),
            Fault::Slow(c, m, _) => sim.set_link_max_message_latency(client(c), member(m), LATENCY),
        }
        let mut state = world.lock();
        if let Some((client, member)) = fault.deadens() {
            state.dead_links.retain(|(c, m, _)| (*c, *m) != (client, member));
        }
        state.note(sim.elapsed(), format_args!("mended: {fault:?}"));
    }
}

pub(crate) fn client_name(client: usize) -> String {
    format!("c{client}")
}

fn edit(world: &World, member: usize, change: impl FnOnce(&mut crate::world::MemberState)) {
    if let Some(member) = world.lock().members.get_mut(member) {
        change(member);
    }
}

/// The host loses power.
pub(crate) fn kill(sim: &mut Sim<'_>, world: &World, member: usize) {
    if !sim.is_host_running(member::name(member)) {
        return;
    }
    sim.crash(member::name(member));
    // What of the log was not synced is lost by halves.
    let mut random = Random::new(sim.elapsed().as_millis() as u64 ^ member as u64);
    edit(world, member, |state| {
        state.disks.crash(&mut || random.next());
        state.applied = 0;
    });
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
        .tcp_capacity(256)
        .build()
}
