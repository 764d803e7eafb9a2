//! Leases: granted, attached to keys, kept alive through any member, and left to end or ended.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use stentor_checks::history::{Answer, Ask, LeaseLife};
use stentor_checks::random::Random;
use stentor_checks::workload::LEASED;
use stentor_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
};
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::cluster::PATIENCE;
use super::load::{Shared, answer, count};
use crate::client::Client;

/// Seconds; longer than most faults last.
const KEPT_TTL: i64 = 20;
const KEPT_EVERY: Duration = Duration::from_millis(300);
/// What the lease that is kept is attached to.
const KEPT_KEY: &str = "/l/kept";

/// Holds one lease after the other.
pub(super) async fn hold_some(shared: Arc<Shared>, number: u64, mut random: Random) -> Result<()> {
    while !shared.is_over() {
        // An error leaves the lease to its end, which may be before anybody has held it.
        if let Ok(Some(error)) = hold(&shared, &format!("l{number}"), &mut random).await {
            anyhow::bail!(error);
        }
        sleep(random.millis(0, 1_000)).await;
    }
    Ok(())
}

/// What is wrong with it, if all calls were answered.
async fn hold(shared: &Shared, name: &str, random: &mut Random) -> Result<Option<String>, Status> {
    let (id, ttl) = grant(shared, shared.client(random), random.between(1, 4) as i64).await?;
    for _ in 0..random.between(1, 2) {
        let key = LEASED[random.below(LEASED.len() as u64) as usize].to_owned();
        shared.operate(&shared.client(random), name, |value| Ask::Put { key, value, lease: id }).await?;
    }
    for _ in 0..random.below(6) {
        sleep(ttl.mul_f64(0.2) + random.millis(0, ttl.as_millis() as u64 / 3)).await;
        match renew(shared, shared.client(random), id).await {
            Ok(Ok(())) => {}
            Ok(Err(wrong)) => return Ok(wrong),
            // The member could not; another may.
            Err(_) => {}
        }
    }
    if random.one_in(3) {
        revoke(shared, name, shared.client(random), id).await?;
    }
    Ok(None)
}

async fn grant(shared: &Shared, mut client: Client, ttl: i64) -> Result<(i64, Duration), Status> {
    let renewed_at = shared.now();
    let granted = answer(client.lease.lease_grant(LeaseGrantRequest { ttl, id: 0 })).await?.into_inner();
    let ttl = Duration::from_secs(granted.ttl.unsigned_abs());
    shared.lock().history.leases.insert(granted.id, LeaseLife { ttl, renewed_at });
    Ok((granted.id, ttl))
}

/// Renews a lease. If there is none any more, that is the error, with what is wrong with it if it has not run out.
async fn renew(shared: &Shared, mut client: Client, id: i64) -> Result<Result<(), Option<String>>, Status> {
    let renewed_at = shared.now();
    let renewing = async {
        let once = tokio_stream::once(LeaseKeepAliveRequest { id });
        let mut answers = client.lease.lease_keep_alive(once).await?.into_inner();
        answers.message().await
    };
    let renewed = answer(renewing).await?.ok_or_else(|| Status::unavailable("no answer"))?;
    let now = shared.now();
    let mut state = shared.lock();
    let Some(life) = state.history.leases.get_mut(&id) else { return Ok(Err(None)) };
    if renewed.ttl <= 0 {
        return Ok(Err(lost_early(id, *life, now)));
    }
    life.renewed_at = life.renewed_at.max(renewed_at);
    drop(state);
    count(&shared.reached.renewals);
    Ok(Ok(()))
}

/// What is wrong with a lease that is gone by now.
fn lost_early(id: i64, life: LeaseLife, now: Duration) -> Option<String> {
    (now < life.renewed_at + life.ttl).then(|| format!("lease {id:x} is gone after {now:?}, too early for {life:?}"))
}

async fn revoke(shared: &Shared, name: &str, mut client: Client, id: i64) -> Result<(), Status> {
    let at = shared.lock().history.ask(format!("{name} revokes"), Ask::Revoke(id));
    let response = answer(client.lease.lease_revoke(LeaseRevokeRequest { id })).await?.into_inner();
    shared.lock().history.answer(at, response.header.unwrap_or_default().revision, Answer::Done);
    count(&shared.reached.revocations);
    Ok(())
}

/// Keeps one lease alive, with a key, and grants another if faults have kept it from that for too long.
pub(super) async fn keep_one(shared: Arc<Shared>, mut random: Random) -> Result<()> {
    let mut kept = None;
    // The last is left to be looked for.
    while !shared.is_over() || kept.is_none() {
        let client = shared.client(&mut random);
        kept = match kept {
            None => match grant(&shared, client.clone(), KEPT_TTL).await {
                Ok((id, _)) => {
                    let put = |value| Ask::Put { key: KEPT_KEY.to_owned(), value, lease: id };
                    // Without an answer it may be attached.
                    let _ = shared.operate(&client, "kept", put).await;
                    Some(id)
                }
                Err(_) => None,
            },
            Some(id) => match renew(&shared, client, id).await {
                Ok(Err(Some(wrong))) => anyhow::bail!(wrong),
                Ok(Err(None)) => None,
                _ => Some(id),
            },
        };
        sleep(KEPT_EVERY).await;
    }
    Ok(())
}

/// Waits until all leases have ended, as nobody keeps them alive any more; each has its time, though.
pub(super) async fn others_end(shared: &Shared) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for client in &shared.clients {
        let mut client = client.clone();
        loop {
            let asked_at = shared.now();
            let leases = client.lease.lease_leases(LeaseLeasesRequest {}).await?.into_inner().leases;
            let lives = shared.lock().history.leases.clone();
            for (id, life) in lives.iter().filter(|(_, life)| asked_at < life.renewed_at + life.ttl) {
                let to_live = LeaseTimeToLiveRequest { id: *id, keys: false };
                let left = client.lease.lease_time_to_live(to_live).await?.into_inner().ttl;
                // In whole seconds: 0 for the last one.
                let wrong = (left < 0).then(|| lost_early(*id, *life, shared.now())).flatten();
                ensure!(wrong.is_none() || was_revoked(shared, *id), "{}", wrong.unwrap_or_default());
            }
            if leases.is_empty() {
                break;
            }
            ensure!(Instant::now() < deadline, "nobody keeps these leases alive, and they do not end: {leases:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

fn was_revoked(shared: &Shared, lease: i64) -> bool {
    shared.lock().history.operations.iter().any(|operation| operation.ask == Ask::Revoke(lease))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_is_gone_early_is_found() {
        let life = LeaseLife { ttl: Duration::from_secs(2), renewed_at: Duration::from_secs(5) };
        assert_eq!(lost_early(7, life, Duration::from_secs(7)), None);
        assert!(lost_early(7, life, Duration::from_millis(6_999)).is_some());
    }
}
