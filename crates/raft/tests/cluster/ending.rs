//! Once nothing fails any more, everybody must come together soon.

use stentor_raft::Membership;

use crate::check::Broken;
use crate::faults::leaders;
use crate::network::Weather;
use crate::world::World;

/// Ticks in which a healthy cluster must have come together, beside those for what somebody lacks.
const SOON: u64 = 300;
/// Ticks for each entry that somebody lacks: with the smallest messages one goes at a time.
const EACH: u64 = 3;
/// Ticks between two attempts to propose something.
const BETWEEN: u64 = 25;

/// Ends all faults, and waits until all members have applied the same, with a new proposal among it, and all
/// reads are answered.
pub(crate) fn converge(world: &mut World) -> Result<(), Broken> {
    heal(world);
    let until = world.now + SOON + EACH * lacking(world);
    let mut proposals = Vec::new();
    loop {
        if world.now >= until {
            return Err(format!("the cluster does not come together: {}", describe(world)));
        }
        world.tick()?;
        let membership = membership(world);
        for id in membership.voters.iter().chain(&membership.learners) {
            world.join(*id);
        }
        let is_placed = proposals.iter().any(|proposal| world.check.is_placed(*proposal));
        if is_placed && !world.reads.are_open() && are_together(world, &membership) {
            break;
        }
        if !is_placed
            && world.now.is_multiple_of(BETWEEN)
            && let Some(id) = world.awake().into_iter().rfind(|id| membership.contains(*id))
        {
            proposals.push(world.propose(id, None)?);
        }
        let members = &world.members;
        let is_there = |id: u64, life: u64| membership.contains(id) && members.get(&id).is_some_and(|m| m.life == life);
        world.reads.drop_those_of_others(is_there);
    }
    for id in membership(world).voters {
        let store = &world.members[&id].store;
        world.check.ends(id, store.applied, store.chain)?;
    }
    let lost = world.lost_proposals();
    world.reached.count_if("proposal lost", lost > 0);
    Ok(())
}

fn heal(world: &mut World) {
    world.network.weather = Weather { lost: 0, repeated: 0, delay: 1 };
    world.network.blocked.clear();
    world.diligence = 100;
    world.is_harsh = false;
    for member in world.members.values_mut() {
        member.strike = None;
        member.disk.clear_faults();
        member.paused_until = 0;
        member.down_until = 0;
    }
}

/// How many entries those who run must be sent at most.
fn lacking(world: &World) -> u64 {
    let replicas = || world.members.values().filter(|member| !member.retired && member.store.applied.index > 0);
    let last = replicas().filter_map(|member| member.shadow.last_key_value().map(|(index, _)| *index)).max();
    let applied = replicas().map(|member| member.persisted.applied.index).min();
    last.unwrap_or(0).saturating_sub(applied.unwrap_or(0))
}

/// Who takes part as far as anybody knows.
fn membership(world: &World) -> Membership {
    let newest = world.members.values().max_by_key(|member| member.store.applied);
    newest.map(|member| member.store.membership.clone()).unwrap_or_default()
}

fn are_together(world: &World, membership: &Membership) -> bool {
    let mut stands = membership.voters.iter().chain(&membership.learners).map(|id| {
        let member = world.members.get(id)?;
        let replica = member.replica.as_ref()?;
        let standing = replica.standing();
        let all_applied = replica.committed() == member.store.applied.index && member.queue.is_empty();
        (all_applied && replica.log().last() == member.store.applied).then_some((
            member.store.applied,
            standing.term,
            standing.leader?,
        ))
    });
    let Some(Some(first)) = stands.next() else { return false };
    stands.all(|other| other == Some(first)) && membership.voters.contains(&first.2)
}

fn describe(world: &World) -> String {
    let mut text = format!("leaders {:?}", leaders(world));
    for member in world.members.values() {
        let replica = member.replica.as_ref();
        text += &format!(
            "\n{}: {:?} log {:?} committed {:?} applied {:?} of {:?}, queue {}, retired {}, followers {:?}",
            member.id,
            replica.map(|replica| replica.standing()),
            replica.map(|replica| (replica.log().start(), replica.log().last())),
            replica.map(|replica| replica.committed()),
            member.store.applied,
            member.store.membership,
            member.queue.len(),
            member.retired,
            replica.map(|replica| replica.followers()),
        );
    }
    text
}
