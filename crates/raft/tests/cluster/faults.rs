//! What clients, operators and bad luck do to a cluster.

use std::io::ErrorKind;

use rand::Rng;
use stentor_raft::{Change, Role};

use crate::check::Broken;
use crate::world::World;

/// Most members that take part at a time.
const MANY: usize = 6;

/// How often each thing happens in a tick, of a thousand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    proposal: u32,
    read: u32,
    change: u32,
    transfer: u32,
    block: u32,
    heal: u32,
    pause: u32,
    crash: u32,
    strike: u32,
    disk: u32,
}

impl Rates {
    pub(crate) fn draw(world: &mut World) -> Rates {
        let mut one_of = |from: [u32; 3]| from[world.random.random_range(0..3)];
        Rates {
            proposal: one_of([200, 500, 900]),
            read: one_of([50, 200, 400]),
            change: one_of([10, 50, 120]),
            transfer: one_of([0, 10, 40]),
            block: one_of([0, 20, 60]),
            heal: one_of([20, 50, 200]),
            pause: one_of([0, 5, 20]),
            crash: one_of([0, 10, 30]),
            strike: one_of([0, 20, 60]),
            disk: one_of([0, 10, 30]),
        }
    }
}

/// What happens in a tick.
pub(crate) fn strike(world: &mut World, rates: &Rates) -> Result<(), Broken> {
    let awake = world.awake();
    let Some(id) = world.pick(&awake) else { return Ok(()) };
    while world.chance(rates.proposal) {
        let at = world.pick(&awake).unwrap_or(id);
        world.propose(at, None)?;
    }
    if world.chance(rates.read) {
        world.read(id)?;
    }
    if world.chance(rates.change) {
        change(world, id)?;
    }
    if world.chance(rates.transfer) {
        transfer(world, id)?;
    }
    if world.chance(rates.block) {
        block(world, id);
    }
    if world.chance(rates.heal) {
        world.network.blocked.clear();
    }
    break_a_member(world, rates, id)
}

fn break_a_member(world: &mut World, rates: &Rates, id: u64) -> Result<(), Broken> {
    // Leaders are where most can go wrong.
    let leaders = leaders(world);
    let id = if world.chance(400) { world.pick(&leaders).unwrap_or(id) } else { id };
    if world.chance(rates.pause) {
        let until = world.now + world.random.random_range(5..40);
        world.member(id).paused_until = until;
        world.reached.count("pause");
    }
    if world.chance(rates.crash) {
        let power = world.chance(600);
        world.crash(id, power);
    }
    if world.chance(rates.strike) {
        let after = world.random.random_range(0..14);
        world.member(id).strike = Some(after);
    }
    if world.chance(rates.disk) {
        let after = world.random.random_range(0..4);
        let disk = &world.members[&id].disk;
        match world.random.random_range(0..3) {
            0 => disk.fail_write(after, ErrorKind::Other),
            1 => disk.fail_write(after, ErrorKind::StorageFull),
            _ => disk.fail_sync(after, ErrorKind::Other),
        }
    }
    world.advance(id)
}

pub(crate) fn leaders(world: &World) -> Vec<u64> {
    let leads = |id: &u64| {
        let replica = world.members.get(id).and_then(|member| member.replica.as_ref());
        replica.is_some_and(|replica| replica.standing().role == Role::Leader)
    };
    world.awake().into_iter().filter(leads).collect()
}

/// Proposes a change that makes sense to this member, or did a while ago.
fn change(world: &mut World, id: u64) -> Result<(), Broken> {
    let membership = world.members[&id].store.membership.clone();
    let all: Vec<u64> = membership.voters.iter().chain(&membership.learners).copied().collect();
    let learners: Vec<u64> = membership.learners.iter().copied().collect();
    let voters: Vec<u64> = membership.voters.iter().copied().collect();
    let new = world.next_id;
    let room = all.len() < MANY;
    let leaders = leaders(world);
    let (learner, anyone, leader) = (world.pick(&learners), world.pick(&all), world.pick(&leaders));
    let change = match (world.random.random_range(0..10), learner, anyone) {
        // The last voter can't be removed: nothing may come of it.
        (2 | 9, _, _) if voters.len() == 1 => Change::Remove(voters[0]),
        (0..3, _, _) if room => Change::AddLearner(new),
        (3, _, _) if room && (voters.len() > 1 || world.chance(200)) => Change::AddVoter(new),
        (3..7, Some(learner), _) => Change::AddVoter(learner),
        (7, _, _) if leader.is_some_and(|leader| voters.contains(&leader)) && voters.len() > 1 => {
            Change::Remove(leader.unwrap_or(id))
        }
        (8, _, Some(one)) if voters.len() > 2 || world.chance(200) => Change::Remove(one),
        _ => return Ok(()),
    };
    if change.id() == new {
        world.next_id += 1;
        world.join(new);
    }
    world.propose(id, Some(change))?;
    if world.chance(200) && voters.len() > 2 {
        world.reached.count("change proposed twice at a time");
        world.propose(id, Some(Change::Remove(voters[0])))?;
    }
    Ok(())
}

fn transfer(world: &mut World, id: u64) -> Result<(), Broken> {
    let voters: Vec<u64> = world.members[&id].store.membership.voters.iter().copied().collect();
    let (Some(to), member) = (world.pick(&voters), world.member(id)) else { return Ok(()) };
    if let Some(replica) = &mut member.replica {
        replica.transfer_leader(to);
        member.dirty = true;
        world.reached.count("transfer");
    }
    world.advance(id)
}

fn block(world: &mut World, id: u64) {
    let ids: Vec<u64> = world.members.keys().copied().collect();
    let leaders = leaders(world);
    let id = if world.chance(500) { world.pick(&leaders).unwrap_or(id) } else { id };
    let kind = world.random.random_range(0..3);
    let side: Vec<bool> = ids.iter().map(|_| world.chance(500)).collect();
    for (from, from_side) in ids.iter().zip(&side) {
        for (to, to_side) in ids.iter().zip(&side) {
            let blocks = match kind {
                0 => from_side != to_side,
                1 => *to == id,
                _ => *from == id,
            };
            if blocks && from != to {
                world.network.blocked.insert((*from, *to));
            }
        }
    }
    world.reached.count(["split", "one deaf", "one mute"][kind]);
}
