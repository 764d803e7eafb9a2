//! The operator: adds, removes and moves members, makes voters of learners, moves the office of the leader, and
//! compares what members have.

use std::collections::BTreeMap;

use stentor_checks::random::Random;
use stentor_proto::etcdserverpb::cluster_client::ClusterClient;
use stentor_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use stentor_proto::etcdserverpb::{
    HashKvRequest, Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, MoveLeaderRequest, StatusRequest,
};
use tonic::Status;

use crate::calls::{Calls, answer};
use crate::member;
use crate::world::{Life, World, now};

/// The host's name of the operator.
pub(crate) const NAME: &str = "operator";

/// With fewer voters than this no member is removed.
const FEWEST: usize = 3;

/// Runs the operator, who changes the members if the run is to have that.
pub(crate) async fn run(world: World, hosts: usize, changes_members: bool, mut random: Random) -> turmoil::Result {
    let calls = Calls::new(hosts)?;
    loop {
        tokio::time::sleep(random.millis(200, 2_500)).await;
        let closing = world.lock().closing;
        if let Err(error) = step(&world, &calls, changes_members && !closing, closing, &mut random).await {
            world.note(format_args!("{NAME}: {}", error.message()));
        }
    }
}

async fn step(world: &World, calls: &Calls, changes: bool, closing: bool, random: &mut Random) -> Result<(), Status> {
    let members = members(world, calls, random).await?;
    start_added(world, &members);
    if closing {
        return Ok(());
    }
    if random.one_in(3) {
        return compare_hashes(world, calls, random).await;
    }
    if random.one_in(3) {
        return move_leader(world, calls, &members, random).await;
    }
    if !changes {
        return Ok(());
    }
    if random.one_in(5) {
        return move_member(world, calls, &members, random).await;
    }
    let mut client = ClusterClient::new(calls.to(some_host(world, random))?);
    let voters: Vec<_> = members.values().filter(|member| !member.is_learner).collect();
    if let Some(learner) = members.values().find(|member| member.is_learner) {
        if random.one_in(8) {
            answer(client.member_remove(MemberRemoveRequest { id: learner.id })).await?;
        } else {
            answer(client.member_promote(MemberPromoteRequest { id: learner.id })).await?;
            world.lock().reached.promotions += 1;
        }
        world.note(format_args!("{NAME}: learner {:x} is promoted, or removed", learner.id));
        return Ok(());
    }
    let spare = (0..calls.members()).find(|number| is_spare(world, *number, &members));
    match spare {
        Some(spare) if voters.len() <= FEWEST || random.one_in(2) => {
            let is_learner = !random.one_in(3);
            let request = MemberAddRequest { peer_ur_ls: vec![member::peer_url(spare)], is_learner };
            answer(client.member_add(request)).await?;
            world.lock().reached.additions += 1;
            world.note(format_args!("{NAME}: m{spare} is added"));
        }
        _ if voters.len() > FEWEST => {
            let Some(removed) = voters.get(random.below(voters.len() as u64) as usize) else { return Ok(()) };
            answer(client.member_remove(MemberRemoveRequest { id: removed.id })).await?;
            world.lock().reached.removals += 1;
            world.note(format_args!("{NAME}: {:x} is removed", removed.id));
        }
        _ => {}
    }
    Ok(())
}

/// The members, by their hosts' numbers.
async fn members(world: &World, calls: &Calls, random: &mut Random) -> Result<BTreeMap<usize, Member>, Status> {
    let channel = calls.to(some_host(world, random))?;
    let list = answer(ClusterClient::new(channel).member_list(MemberListRequest { linearizable: true })).await?;
    let is_at =
        |member: &Member, number: usize| member::peer_urls(number).iter().any(|url| member.peer_ur_ls.contains(url));
    let host = |member: &Member| (0..calls.members()).find(|number| is_at(member, *number));
    Ok(list.members.into_iter().filter_map(|member| Some((host(&member)?, member))).collect())
}

fn some_host(world: &World, random: &mut Random) -> usize {
    world.lock().some_host(random)
}

fn is_spare(world: &World, number: usize, members: &BTreeMap<usize, Member>) -> bool {
    let is_empty = world.lock().hosts.get(number).is_some_and(|host| host.life == Life::Empty);
    is_empty && !members.contains_key(&number)
}

/// Whoever was added is started on an empty host; the run starts it.
fn start_added(world: &World, members: &BTreeMap<usize, Member>) {
    let in_cluster = |(number, member): (&usize, &Member)| member::in_cluster(*number, &member.peer_ur_ls);
    let cluster = members.iter().map(in_cluster).collect::<Vec<_>>().join(",");
    let mut state = world.lock();
    for number in members.keys() {
        let Some(host) = state.hosts.get_mut(*number) else { continue };
        // One that does not get in may have been told of members that are none any more.
        let waits = matches!(host.life, Life::Joins(_)) && host.node.upgrade().is_none();
        if host.life == Life::Empty || (waits && host.life != Life::Joins(cluster.clone())) {
            host.life = Life::Joins(cluster.clone());
            host.is_due = true;
            state.note(now(), format_args!("{NAME}: m{number} is to join {cluster}"));
        }
    }
}

/// Two members that have applied a revision, and have compacted the same, must have the same hash of it.
async fn compare_hashes(world: &World, calls: &Calls, random: &mut Random) -> Result<(), Status> {
    let revision = world.lock().history.known;
    let mut hashes = Vec::new();
    for _ in 0..2 {
        let host = some_host(world, random);
        let mut client = MaintenanceClient::new(calls.to(host)?);
        let told = answer(client.hash_kv(HashKvRequest { revision })).await?;
        hashes.push((host, told.compact_revision, told.hash));
    }
    if let [(one, compacted, hash), (other, also_compacted, another)] = hashes[..]
        && one != other
        && compacted == also_compacted
    {
        let mut state = world.lock();
        state.reached.hashes_compared += 1;
        if hash != another {
            state.wrong.push(format!("m{one} and m{other} differ at revision {revision}: {hash:x} and {another:x}"));
        }
    }
    Ok(())
}

/// A member is to be found at another of its URLs, or at both.
async fn move_member(
    world: &World,
    calls: &Calls,
    members: &BTreeMap<usize, Member>,
    random: &mut Random,
) -> Result<(), Status> {
    let runs = |number: &usize| world.lock().hosts.get(*number).is_some_and(|host| host.node.upgrade().is_some());
    let running: Vec<_> = members.iter().filter(|(number, _)| runs(number)).collect();
    let Some((number, member)) = running.get(random.below(running.len() as u64) as usize) else { return Ok(()) };
    let [first, second] = member::peer_urls(**number);
    let peer_ur_ls = match random.below(3) {
        0 => vec![first],
        1 => vec![second],
        _ => vec![first, second],
    };
    world.note(format_args!("{NAME}: m{number} is to be found at {peer_ur_ls:?}"));
    let mut client = ClusterClient::new(calls.to(some_host(world, random))?);
    answer(client.member_update(MemberUpdateRequest { id: member.id, peer_ur_ls })).await?;
    world.lock().reached.moves += 1;
    Ok(())
}

async fn move_leader(
    world: &World,
    calls: &Calls,
    members: &BTreeMap<usize, Member>,
    random: &mut Random,
) -> Result<(), Status> {
    let hosts: Vec<_> = members.keys().copied().collect();
    let any = |random: &mut Random| hosts.get(random.below(hosts.len() as u64) as usize).copied().unwrap_or_default();
    let status = answer(MaintenanceClient::new(calls.to(any(random))?).status(StatusRequest {})).await?;
    let leader = members.iter().find(|(_, member)| member.id == status.leader).map(|(number, _)| *number);
    let leader = leader.ok_or_else(|| Status::unavailable("no leader"))?;
    let target_id = members.get(&any(random)).map_or(0, |member| member.id);
    answer(MaintenanceClient::new(calls.to(leader)?).move_leader(MoveLeaderRequest { target_id })).await?;
    let mut state = world.lock();
    if target_id != status.leader {
        state.reached.transfers += 1;
    }
    state.note(now(), format_args!("{NAME}: {target_id:x} leads"));
    Ok(())
}
