use std::time::Duration;

use stentor_client::{Client, ErrorKind, Result, Revision, Swap};
use tokio::task::JoinHandle;

use crate::harness::{Rig, failed, until};

/// A client with time for a second try.
fn patient(rig: &Rig) -> Client {
    rig.builder().call_timeout(Duration::from_secs(30)).build().unwrap()
}

/// Sends it and loses its answer, after the member has done it. It is tried again once `between` is over.
async fn lose_answer<F>(rig: &Rig, sent: F, between: impl AsyncFnOnce()) -> Result<Swap>
where
    F: Future<Output = Result<Swap>> + Send + 'static,
{
    let before = rig.revision();
    rig.wire.set_deaf(true);
    let sent: JoinHandle<Result<Swap>> = tokio::spawn(sent);
    until(|| rig.revision() > before).await;
    rig.wire.set_down(true);
    rig.wire.cut();
    rig.wire.set_deaf(false);
    between().await;
    rig.wire.set_down(false);
    sent.await.unwrap()
}

/// A client on a wire that stays whole.
fn bystander(rig: &Rig) -> Client {
    rig.other_wire().client()
}

#[tokio::test(start_paused = true)]
async fn a_write_happens_only_if_the_key_is_as_known() {
    let rig = Rig::start().await;
    let client = rig.client();
    let Swap::Done(created) = client.create("/a", "1").await.unwrap() else { panic!("there was none") };
    let Swap::Lost(Some(now)) = client.create("/a", "2").await.unwrap() else { panic!("there is one") };
    assert_eq!((now.value_str(), now.mod_revision()), (Some("1"), created));

    let Swap::Done(replaced) = client.replace("/a", "2", created).await.unwrap() else { panic!("it is as known") };
    let Swap::Lost(Some(now)) = client.replace("/a", "3", created).await.unwrap() else { panic!("it is newer") };
    assert_eq!((now.value_str(), now.mod_revision()), (Some("2"), replaced));
    assert_eq!(client.replace("/none", "3", created).await.unwrap(), Swap::Lost(None));
    assert!(matches!(client.replace("/new", "1", Revision::ZERO).await.unwrap(), Swap::Done(_)));

    assert!(matches!(client.remove("/a", created).await.unwrap(), Swap::Lost(Some(_))));
    assert!(matches!(client.remove("/a", replaced).await.unwrap(), Swap::Done(_)));
    assert_eq!(client.remove("/a", replaced).await.unwrap(), Swap::Lost(None));
    failed(client.remove("/a", Revision::ZERO).await, ErrorKind::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn without_leave_it_is_not_sent_again() {
    let rig = Rig::start().await;
    let client = patient(&rig);
    let swap = client.create("/a", "1").into_future();
    failed(lose_answer(&rig, swap, async || {}).await, ErrorKind::Ambiguous);
    assert_eq!(rig.revision(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_second_sending_that_finds_the_key_changed_is_ambiguous_unless_the_value_decides() {
    let rig = Rig::start().await;
    let client = patient(&rig);
    let swap = client.create("/a", "1").retry_guarded().into_future();
    failed(lose_answer(&rig, swap, async || {}).await, ErrorKind::Ambiguous);

    let swap = client.create("/b", "unlike any other").retry_guarded().unique_value().into_future();
    let done = lose_answer(&rig, swap, async || {}).await.unwrap();
    assert_eq!(done, Swap::Done(Revision::new(rig.revision()).unwrap()));

    // Overwritten in between: it may have been ours that was overwritten.
    let known = client.get("/b").await.unwrap().unwrap().mod_revision();
    let other = bystander(&rig);
    let swap = client.replace("/b", "2", known).retry_guarded().unique_value().into_future();
    let swap = lose_answer(&rig, swap, async || {
        other.put("/b", "3").await.unwrap();
    });
    failed(swap.await, ErrorKind::Ambiguous);
    assert_eq!(client.get("/b").await.unwrap().unwrap().value_str(), Some("3"), "nothing was done twice");
}

#[tokio::test(start_paused = true)]
async fn a_first_sending_that_was_lost_on_its_way_is_made_up_for() {
    let rig = Rig::start().await;
    let client = patient(&rig);
    let known = client.put("/a", "1").await.unwrap();
    rig.wire.set_mute(true);
    let swap = tokio::spawn(client.replace("/a", "2", known).retry_guarded().into_future());
    // Longer than a try: the first is given up.
    tokio::time::sleep(Duration::from_secs(3)).await;
    rig.wire.cut();
    rig.wire.set_mute(false);
    let Swap::Done(done) = swap.await.unwrap().unwrap() else { panic!("nobody else wrote") };
    assert_eq!((done, rig.revision()), (known.next(), known.get() + 1));
}

#[tokio::test(start_paused = true)]
async fn a_removal_is_settled_by_what_is_there_now() {
    let rig = Rig::start().await;
    let client = patient(&rig);
    let known = client.put("/a", "1").await.unwrap();
    let swap = client.remove("/a", known).retry_guarded().into_future();
    failed(lose_answer(&rig, swap, async || {}).await, ErrorKind::Ambiguous);
    assert_eq!(client.get("/a").await.unwrap(), None);

    // Created again in between: by then it had been deleted, by this or by another.
    let known = client.put("/b", "1").await.unwrap();
    let other = bystander(&rig);
    let swap = client.remove("/b", known).retry_guarded().into_future();
    let swap = lose_answer(&rig, swap, async || {
        other.put("/b", "2").await.unwrap();
    });
    failed(swap.await, ErrorKind::Ambiguous);
    assert_eq!(client.get("/b").await.unwrap().unwrap().value_str(), Some("2"), "the second sending left it alone");

    // Known wrongly from the start: whatever became of the first sending, the key has lived on.
    let old = client.put("/c", "1").await.unwrap();
    let newer = client.put("/c", "2").await.unwrap();
    let swap = client.remove("/c", old).retry_guarded().into_future();
    let other = bystander(&rig);
    rig.wire.set_deaf(true);
    let swap = tokio::spawn(swap);
    // A deaf wire gives no sign: a try is given up after its time.
    tokio::time::sleep(Duration::from_secs(3)).await;
    other.put("/d", "1").await.unwrap();
    rig.wire.set_deaf(false);
    let Swap::Lost(Some(now)) = swap.await.unwrap().unwrap() else { panic!("it lives on") };
    assert_eq!(now.mod_revision(), newer);
}
