//! What goes wrong, and how it is mended.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use rustix::process::Signal;
use stentor_checks::history::Ask;
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, MEMBERS, PATIENCE};
use super::load::Load;
use crate::proxy::Mode;

/// How a link that is slow delays each piece.
const SLOW: Mode = Mode::Slow(Duration::from_millis(40));
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(100);
/// How many writes a member with a full disk is asked for.
const REFUSALS: usize = 3;

/// Whom a fault is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whom {
    Leader,
    Other,
    Two,
    All,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// SIGKILL.
    Kill(Whom),
    /// SIGSTOP, and SIGCONT later.
    Pause(Whom),
    /// SIGTERM to the leader.
    HandOver,
    /// What messages of one member to one other meet.
    OneWay(Mode),
    /// A follower and the leader can't talk, and both can to the third.
    Pair,
    /// Nobody hears it, and it hears everybody.
    Unheard(Whom),
    /// It hears nobody, and everybody hears it.
    Unhearing(Whom),
    /// It can't talk to anybody, in neither direction.
    Alone(Whom),
    /// Nobody can talk to anybody.
    Apart,
    /// Its disk has no room.
    FullDisk(Whom),
}

/// All of them.
pub(super) const FAULTS: [Fault; 20] = [
    Fault::Kill(Whom::Leader),
    Fault::Kill(Whom::Other),
    Fault::Kill(Whom::Two),
    Fault::Kill(Whom::All),
    Fault::Pause(Whom::Leader),
    Fault::Pause(Whom::Other),
    Fault::HandOver,
    Fault::OneWay(Mode::Refusing),
    Fault::OneWay(Mode::Held),
    Fault::OneWay(SLOW),
    Fault::Pair,
    Fault::Unheard(Whom::Leader),
    Fault::Unheard(Whom::Other),
    Fault::Unhearing(Whom::Leader),
    Fault::Unhearing(Whom::Other),
    Fault::Alone(Whom::Leader),
    Fault::Alone(Whom::Other),
    Fault::Apart,
    Fault::FullDisk(Whom::Leader),
    Fault::FullDisk(Whom::Other),
];

impl Fault {
    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::Kill(Whom::Leader) => "kills of the leader",
            Fault::Kill(Whom::Other) => "kills of a follower",
            Fault::Kill(Whom::Two) => "kills of two",
            Fault::Kill(Whom::All) => "kills of all",
            Fault::Pause(Whom::Leader) => "pauses of the leader",
            Fault::Pause(_) => "pauses of a follower",
            Fault::HandOver => "ends of the leader by SIGTERM",
            Fault::OneWay(Mode::Refusing) => "one direction of a link cut",
            Fault::OneWay(Mode::Held) => "one direction of a link held",
            Fault::OneWay(_) => "one direction of a link slow",
            Fault::Pair => "leader and a follower apart",
            Fault::Unheard(Whom::Leader) => "leader unheard",
            Fault::Unheard(_) => "follower unheard",
            Fault::Unhearing(Whom::Leader) => "leader unhearing",
            Fault::Unhearing(_) => "follower unhearing",
            Fault::Alone(Whom::Leader) => "leader alone",
            Fault::Alone(_) => "follower alone",
            Fault::Apart => "all apart",
            Fault::FullDisk(Whom::Leader) => "full disks of the leader",
            Fault::FullDisk(_) => "full disks of a follower",
        }
    }

    /// Whether it keeps messages between members back.
    fn is_of_links(self) -> bool {
        matches!(self, Fault::Pair | Fault::Unheard(_) | Fault::Unhearing(_) | Fault::Alone(_) | Fault::Apart)
    }
}

/// Lets something fail for a while, and mends it.
pub(super) async fn inject(cluster: &mut Cluster, load: &Load, fault: Fault, rng: &mut StdRng) -> Result<()> {
    let leader = cluster.leader().await?;
    let other = (leader + rng.random_range(1..MEMBERS)) % MEMBERS;
    let pick = |whom| if matches!(whom, Whom::Leader) { leader } else { other };
    let lasts = Duration::from_millis(rng.random_range(500..5000));
    match fault {
        Fault::Kill(whom) => {
            let whom = match whom {
                Whom::Leader | Whom::Other => vec![pick(whom)],
                Whom::Two => vec![leader, other],
                Whom::All => (0..MEMBERS).collect(),
            };
            whom.iter().for_each(|n| cluster.kill(*n));
            sleep(lasts).await;
            whom.iter().try_for_each(|n| cluster.spawn(*n))?;
        }
        Fault::Pause(whom) => {
            let member = &cluster.members[pick(whom)];
            member.signal(Signal::STOP)?;
            sleep(lasts).await;
            member.signal(Signal::CONT)?;
        }
        Fault::HandOver => {
            cluster.members[leader].signal(Signal::TERM)?;
            cluster.members[leader].ends().await?;
            cluster.spawn(leader)?;
        }
        Fault::FullDisk(whom) => fill_disk(cluster, load, pick(whom)).await?,
        Fault::OneWay(_) | Fault::Pair | Fault::Unheard(_) | Fault::Unhearing(_) | Fault::Alone(_) | Fault::Apart => {
            let before = cluster.links.disturbed();
            let between = if rng.random() { (leader, other) } else { (other, leader) };
            for (from, to, mode) in directions(fault, between, pick) {
                cluster.links.set(from, to, mode);
            }
            sleep(lasts).await;
            // Each of these is one that a leader is a part of, so it is met.
            let deadline = Instant::now() + PATIENCE;
            while fault.is_of_links() && cluster.links.disturbed() == before {
                ensure!(Instant::now() < deadline, "no message has met it for {PATIENCE:?}");
                sleep(AGAIN).await;
            }
            cluster.links.heal();
        }
    }
    Ok(())
}

/// Which directions of which links are concerned, from, to and how.
fn directions(fault: Fault, (from, to): (usize, usize), pick: impl Fn(Whom) -> usize) -> Vec<(usize, usize, Mode)> {
    let all = (0..MEMBERS).flat_map(|from| (0..MEMBERS).map(move |to| (from, to))).filter(|(from, to)| from != to);
    let is_met = |link: &(usize, usize)| match fault {
        Fault::OneWay(_) => *link == (from, to),
        Fault::Pair => *link == (from, to) || *link == (to, from),
        Fault::Unheard(whom) => link.0 == pick(whom),
        Fault::Unhearing(whom) => link.1 == pick(whom),
        Fault::Alone(whom) => [link.0, link.1].contains(&pick(whom)),
        _ => true,
    };
    let mode = if let Fault::OneWay(mode) = fault { mode } else { Mode::Refusing };
    all.filter(is_met).map(|(from, to)| (from, to, mode)).collect()
}

/// A disk without room: the member says so and acknowledges nothing, the others go on, and with room it comes back.
async fn fill_disk(cluster: &mut Cluster, load: &Load, whom: usize) -> Result<()> {
    let put = |value| Ask::Put { key: "/full".to_owned(), value, lease: 0 };
    let said = cluster.members[whom].has_said_full()?;
    let deadline = Instant::now() + PATIENCE;
    while cluster.members[whom].has_said_full()? == said {
        cluster.members[whom].is_alive()?;
        ensure!(Instant::now() < deadline, "it does not say for {PATIENCE:?} that its disk is full");
        cluster.members[whom].disk()?.fill()?;
        sleep(AGAIN).await;
    }
    for _ in 0..REFUSALS {
        let told = load.shared.operate(&cluster.members[whom].client, "full", put).await;
        ensure!(told.is_err(), "it has acknowledged a write without room on its disk");
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let other = (whom + 1) % MEMBERS;
        match load.shared.operate(&cluster.members[other].client, "beside full", put).await {
            Ok(_) => break,
            Err(error) => ensure!(Instant::now() < deadline, "the others do not go on for {PATIENCE:?}: {error}"),
        }
        sleep(AGAIN).await;
    }
    cluster.members[whom].disk()?.free()?;
    cluster.members[whom].signal(Signal::TERM)?;
    cluster.members[whom].ends().await.context("with room again")?;
    cluster.spawn(whom)
}
