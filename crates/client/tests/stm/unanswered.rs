use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use stentor_client::{Client, Committed, ErrorKind, Isolation, Result, Transaction};
use tokio::task::JoinHandle;

use super::{number, some, stored};
use crate::harness::{Rig, failed, until};

/// A client with time for a second try.
fn patient(rig: &Rig) -> Client {
    rig.builder().call_timeout(Duration::from_secs(30)).build().unwrap()
}

/// What happens to the wire before the first commit.
#[derive(Clone, Copy)]
enum Loses {
    Answers,
    Requests,
}

/// Adds one to a key.
fn add_one(rig: &Rig, client: Client, isolation: Isolation, wire_loses: Loses) -> JoinHandle<Result<Committed<u64>>> {
    let wire = rig.wire.clone();
    tokio::spawn(async move {
        let runs = AtomicU32::new(0);
        let (runs, wire) = (&runs, &wire);
        let run = client.stm(|t: Transaction| async move {
            let count = number(&t, "n").await?;
            if runs.fetch_add(1, Ordering::Relaxed) == 0 {
                match wire_loses {
                    Loses::Answers => wire.set_deaf(true),
                    Loses::Requests => wire.set_mute(true),
                }
            }
            t.put("n", (count + 1).to_string());
            Ok(count + 1)
        });
        run.isolation(isolation).await
    })
}

/// The way is whole again, and what was lost on it is lost.
fn mend(rig: &Rig) {
    rig.wire.cut();
    rig.wire.set_deaf(false);
    rig.wire.set_mute(false);
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_is_lost_is_not_done_twice() {
    let rig = Rig::start().await;
    let client = patient(&rig);
    client.put("n", "5").await.unwrap();
    let before = rig.revision();
    let added = add_one(&rig, client, Isolation::default(), Loses::Answers);
    until(|| rig.revision() > before).await;
    mend(&rig);
    // It could be somebody else's, who has added one too.
    failed(added.await.unwrap(), ErrorKind::Ambiguous);
    assert_eq!((rig.revision(), stored(&rig, "n").await), (before + 1, some("6")));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_lost_on_its_way_is_made_up_for() {
    let rig = Rig::start().await;
    let client = patient(&rig);
    client.put("n", "5").await.unwrap();
    let added = add_one(&rig, client, Isolation::default(), Loses::Requests);
    tokio::time::sleep(Duration::from_secs(3)).await;
    mend(&rig);
    let added = added.await.unwrap().unwrap();
    assert_eq!((added.value, added.attempts, stored(&rig, "n").await), (6, 1, some("6")));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_cannot_have_happened_is_run_again() {
    let rig = Rig::start().await;
    let client = patient(&rig);
    client.put("n", "5").await.unwrap();
    let added = add_one(&rig, client, Isolation::Serializable, Loses::Requests);
    tokio::time::sleep(Duration::from_secs(3)).await;
    // The one write since is another's.
    rig.other_wire().client().put("n", "70").await.unwrap();
    mend(&rig);
    let added = added.await.unwrap().unwrap();
    assert_eq!((added.value, added.attempts, stored(&rig, "n").await), (71, 2, some("71")));
}

#[tokio::test(start_paused = true)]
async fn a_commit_without_a_condition_is_sent_once() {
    let rig = Rig::start().await;
    let client = patient(&rig);
    client.put("n", "5").await.unwrap();
    let before = rig.revision();
    let added = add_one(&rig, client, Isolation::ReadCommitted, Loses::Answers);
    until(|| rig.revision() > before).await;
    mend(&rig);
    failed(added.await.unwrap(), ErrorKind::Ambiguous);
    assert_eq!((rig.revision(), stored(&rig, "n").await), (before + 1, some("6")));
}
