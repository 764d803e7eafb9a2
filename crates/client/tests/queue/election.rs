use std::time::Duration;

use stentor_client::{ErrorKind, KeyValue, Observation, OwnershipLoss};

use super::{clients, keys, lose_answer, queued};
use crate::harness::{Rig, failed, soon};

async fn next(leaders: &mut Observation) -> Option<String> {
    let leader = tokio::time::timeout(Duration::from_secs(60), leaders.next()).await.expect("a leader in time");
    text(leader.expect("it goes on").unwrap())
}

fn text(leader: Option<KeyValue>) -> Option<String> {
    leader.map(|leader| leader.value_str().unwrap().to_owned())
}

fn some(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_all_see_who() {
    let rig = Rig::start().await;
    let [one, two, seer] = clients(&rig);
    let election = seer.election("/lead");
    let mut leaders = election.observe().await.unwrap();
    assert_eq!((next(&mut leaders).await, election.leader().await.unwrap()), (None, None));

    let first = soon(one.election("/lead").campaign("one")).await.unwrap();
    assert_eq!(next(&mut leaders).await, some("one"));
    let second = tokio::spawn(two.election("/lead").campaign("two").into_future());
    queued(&rig, "/lead/", 2).await;
    first.proclaim("one, busy").await.unwrap();
    assert_eq!(next(&mut leaders).await, some("one, busy"));
    let seen = election.leader().await.unwrap().unwrap();
    assert_eq!((seen.key(), seen.lease()), (first.key(), Some(first.lease().id())));
    assert_eq!(seen.create_revision(), first.fence());

    // A late reader begins with who leads then.
    let mut late = election.observe().await.unwrap();
    assert_eq!(next(&mut late).await, some("one, busy"));
    first.resign().await.unwrap();
    let second = soon(second).await.unwrap().unwrap();
    assert_eq!(next(&mut leaders).await, some("two"), "nobody sees a candidate before it leads");
    assert_eq!(next(&mut late).await, some("two"));
    assert!(second.txn().await.unwrap().succeeded);
    drop(second);
    assert_eq!(next(&mut leaders).await, None);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_any_more_proclaims_nothing() {
    let rig = Rig::start().await;
    let [one, two] = clients(&rig);
    let first = soon(one.election("/lead").campaign("one")).await.unwrap();
    let second = tokio::spawn(two.election("/lead").campaign("two").into_future());
    queued(&rig, "/lead/", 2).await;
    one.lease_revoke(first.lease()).await.unwrap();
    assert!(matches!(soon(first.lost()).await, OwnershipLoss::Deleted | OwnershipLoss::Lease(_)));
    let second = soon(second).await.unwrap().unwrap();
    failed(first.proclaim("still one").await, ErrorKind::LeaseLost);
    failed(first.resign().await, ErrorKind::LeaseLost);
    assert_eq!(text(one.election("/lead").leader().await.unwrap()), some("two"));
    assert_eq!(keys(&rig, "/lead/").await.len(), 1);
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn observing_survives_breaks_and_compaction() {
    let rig = Rig::start().await;
    let [one, two, other] = clients(&rig);
    let mut leaders = rig.client().election("/lead").observe().await.unwrap();
    assert_eq!(next(&mut leaders).await, None);
    let first = soon(one.election("/lead").campaign("one")).await.unwrap();
    assert_eq!(next(&mut leaders).await, some("one"));
    rig.wire.set_down(true);
    rig.wire.cut();
    first.resign().await.unwrap();
    let _second = soon(two.election("/lead").campaign("two")).await.unwrap();
    let written = other.put("/x", "1").await.unwrap();
    other.compact(written).await.unwrap();
    rig.wire.set_down(false);
    assert_eq!(next(&mut leaders).await, some("two"));
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_is_left_from_before_takes_the_new_value() {
    let rig = Rig::start().await;
    let client = rig.client();
    let lease = client.lease(Duration::from_secs(30)).await.unwrap();
    let election = client.election("/lead");
    // As a program leaves it that was told to keep its lease, or another client with the same one.
    client.put(format!("/lead/{}", lease.id()), "before").lease(&lease).await.unwrap();
    let leads = soon(election.campaign("now").lease(&lease)).await.unwrap();
    assert_eq!(text(election.leader().await.unwrap()), some("now"));
    assert!(leads.txn().await.unwrap().succeeded);
    leads.resign().await.unwrap();

    // Whose first answer was lost, for one.
    let client = rig.builder().call_timeout(Duration::from_secs(30)).build().unwrap();
    let lease = client.lease(Duration::from_secs(30)).await.unwrap();
    let before = rig.revision();
    rig.wire.set_deaf(true);
    let campaign = tokio::spawn(client.election("/lead").campaign("me").lease(&lease).into_future());
    lose_answer(&rig, before).await;
    let leads = soon(campaign).await.unwrap().unwrap();
    assert_eq!((leads.fence().get(), rig.revision()), (before + 1, before + 1));
}
