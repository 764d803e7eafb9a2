//! Programs that hold leases: grant one, attach keys, keep it alive by any member, and let it end or end it.

use std::time::Duration;

use futures::stream;
use stentor_checks::history::{Answer, Ask, LeaseLife};
use stentor_checks::perform::perform;
use stentor_checks::random::Random;
use stentor_checks::workload::LEASED;
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::lease_client::LeaseClient;
use stentor_proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest};
use tonic::Status;
use tonic::transport::Channel;

use crate::calls::{Calls, answer, in_time};
use crate::world::{World, now};

/// Runs one program, with one lease after another, until the run closes.
pub(crate) async fn run(world: World, name: String, calls: Calls, mut random: Random) {
    for number in 0.. {
        tokio::time::sleep(random.millis(0, 4_000)).await;
        if world.lock().quiet {
            return;
        }
        // An error leaves the lease to its end.
        if let Err(error) = hold(&world, &format!("{name}.{number}"), &calls, &mut random).await {
            world.note(format_args!("{name}.{number}: {}", error.message()));
        }
    }
}

async fn hold(world: &World, name: &str, calls: &Calls, random: &mut Random) -> Result<(), Status> {
    let any = |random: &mut Random| {
        let host = world.lock().some_host(random);
        calls.to(host)
    };
    let renewed_at = now();
    let request = LeaseGrantRequest { ttl: random.between(1, 5) as i64, id: 0 };
    let granted = answer(LeaseClient::new(any(random)?).lease_grant(request)).await?;
    let (id, ttl) = (granted.id, Duration::from_secs(granted.ttl.unsigned_abs()));
    {
        let mut state = world.lock();
        state.history.leases.insert(id, LeaseLife { ttl, renewed_at });
        state.reached.leases += 1;
        state.note(now(), format_args!("{name} has lease {id:x} for {} s", granted.ttl));
    }
    for _ in 0..random.between(1, 2) {
        attach(world, name, KvClient::new(any(random)?), id, random).await;
    }
    for _ in 0..random.below(6) {
        tokio::time::sleep(ttl.mul_f64(0.2) + random.millis(0, ttl.as_millis() as u64 / 3)).await;
        match renew(world, any(random)?, id).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => world.note(format_args!("{name} is not renewed: {}", error.message())),
        }
    }
    if random.one_in(3) {
        revoke(world, name, LeaseClient::new(any(random)?), id).await?;
    }
    Ok(())
}

async fn attach(world: &World, name: &str, kv: KvClient<Channel>, lease: i64, random: &mut Random) {
    let key = LEASED.get(random.below(LEASED.len() as u64) as usize).copied().unwrap_or_default().to_owned();
    let (at, ask) = {
        let mut state = world.lock();
        let value = format!("{}.leased", state.history.operations.len()).into();
        let ask = Ask::Put { key, value, lease };
        (state.history.ask(format!("{name} attaches"), ask.clone()), ask)
    };
    if let Ok((revision, done)) = in_time(perform(kv, &ask)).await {
        world.lock().history.answer(at, revision, done);
    }
}

/// Whether there is such a lease yet.
async fn renew(world: &World, channel: Channel, id: i64) -> Result<bool, Status> {
    let renewed_at = now();
    let once = stream::iter([LeaseKeepAliveRequest { id }]);
    let mut client = LeaseClient::new(channel);
    let renewing = async {
        let mut answers = client.lease_keep_alive(once).await?.into_inner();
        answers.message().await.map(tonic::Response::new)
    };
    let renewed = answer(renewing).await?.ok_or_else(|| Status::unavailable("no answer"))?;
    if renewed.ttl <= 0 {
        return Ok(false);
    }
    let mut state = world.lock();
    state.reached.renewals += 1;
    if let Some(life) = state.history.leases.get_mut(&id) {
        life.renewed_at = life.renewed_at.max(renewed_at);
    }
    Ok(true)
}

async fn revoke(world: &World, name: &str, mut client: LeaseClient<Channel>, id: i64) -> Result<(), Status> {
    let at = world.lock().history.ask(format!("{name} revokes"), Ask::Revoke(id));
    let response = answer(client.lease_revoke(LeaseRevokeRequest { id })).await?;
    let revision = response.header.unwrap_or_default().revision;
    let mut state = world.lock();
    state.reached.revocations += 1;
    state.history.answer(at, revision, Answer::Done);
    Ok(())
}
