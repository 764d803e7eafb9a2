//! The examples do what they say.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{clients, keys, queued};
use crate::harness::{Rig, soon, until};
use distributed_lock::Done;

#[path = "../../examples/distributed_lock.rs"]
mod distributed_lock;
#[path = "../../examples/leader_election.rs"]
mod leader_election;

#[tokio::test(start_paused = true)]
async fn a_report_is_written_by_who_holds_the_lock() {
    let rig = Rig::start().await;
    let [one, two] = clients(&rig);
    let (tell, told) = tokio::sync::oneshot::channel();
    let work = async { told.await.unwrap() };
    let first = tokio::spawn(async move { distributed_lock::run(&one, work).await });
    queued(&rig, "/locks/report/", 1).await;
    let second = tokio::spawn(async move { distributed_lock::run(&two, async { "second".to_owned() }).await });
    queued(&rig, "/locks/report/", 2).await;
    tell.send("first".to_owned()).unwrap();
    assert_eq!(soon(first).await.unwrap().unwrap(), Done::Written);
    assert_eq!(soon(second).await.unwrap().unwrap(), Done::Written);
    let report = rig.client().get("/reports/latest").await.unwrap().unwrap();
    assert_eq!((report.value_str(), report.version()), (Some("second"), 2));
}

#[tokio::test(start_paused = true)]
async fn a_report_is_not_written_by_who_has_lost_the_lock() {
    let rig = Rig::start().await;
    let [one, hand] = clients(&rig);
    let never = std::future::pending();
    let cut_short = tokio::spawn(async move { distributed_lock::run(&one, never).await });
    queued(&rig, "/locks/report/", 1).await;
    let [key] = &keys(&rig, "/locks/report/").await[..] else { panic!("there is one") };
    hand.delete(key.clone()).await.unwrap();
    assert_eq!(soon(cut_short).await.unwrap().unwrap(), Done::Lost("somebody has deleted the key".to_owned()));

    // The work ends in the same moment in which the lock is lost.
    let [one] = clients(&rig);
    let work = async {
        let [key] = &keys(&rig, "/locks/report/").await[..] else { panic!("there is one") };
        hand.delete(key.clone()).await.unwrap();
        "late".to_owned()
    };
    let done = distributed_lock::run(&one, work).await.unwrap();
    assert!(matches!(done, Done::Lost(_)), "{done:?}");
    assert_eq!(rig.client().get("/reports/latest").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn another_leads_when_the_leader_is_cut_off_and_all_see_it() {
    let rig = Rig::start().await;
    let [two, seer] = clients(&rig);
    let one = rig.client();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let following = tokio::spawn(async move {
        let tell = |leader: Option<&str>| heard.lock().unwrap().push(leader.unwrap_or("nobody").to_owned());
        leader_election::follow(&seer, tell).await
    });
    let leaders = || told.lock().unwrap().join(", ");
    until(|| leaders() == "nobody").await;
    let first =
        tokio::spawn(async move { leader_election::stand(&one, "one", async |_| std::future::pending().await).await });
    until(|| leaders() == "nobody, one").await;
    let second = tokio::spawn(async move {
        leader_election::stand(&two, "two", async |_| tokio::time::sleep(Duration::from_secs(60)).await).await
    });
    queued(&rig, "/leader/billing/", 2).await;
    rig.wire.set_down(true);
    rig.wire.cut();
    until(|| leaders() == "nobody, one, two").await;
    rig.wire.set_down(false);
    // It stands again, and is elected when the other is through.
    soon(second).await.unwrap().unwrap();
    until(|| leaders() == "nobody, one, two, one").await;
    first.abort();
    following.abort();
}
