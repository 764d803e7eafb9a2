use stentor_client::txn::{Compare, OpResult, TxnOutcome, delete, each, get, key, list, nested, put};
use stentor_client::{Client, ErrorKind, KeyRange, Revision};

use crate::harness::{Rig, failed, until};

async fn holds(client: &Client, condition: Compare) -> bool {
    client.txn().when(condition).await.unwrap().succeeded
}

#[tokio::test(start_paused = true)]
async fn one_branch_runs_and_its_results_come_in_order() {
    let rig = Rig::start().await;
    let client = rig.client();
    let txn = client.txn().when(key("/a").version().eq(0)).then(put("/a", "1")).or_else(get("/a"));
    let created = txn.clone().await.unwrap();
    assert!(created.succeeded);
    assert_eq!(created.results, [OpResult::Put(None)]);
    assert_eq!(created.revision.get(), rig.revision());

    let lost = txn.await.unwrap();
    assert!(!lost.succeeded);
    assert_eq!((lost.revision, lost.results.len()), (created.revision, 1));
    let pair = lost.pair(0).unwrap();
    assert_eq!((pair.value_str(), pair.mod_revision()), (Some("1"), created.revision));

    // Steps see those before; all of it is one revision.
    let steps = client.txn().when(key("/a").exists()).and_then(put("/a", "2").prev_kv());
    let steps = steps.then_all([put("/b", "x"), put("/c", "y")]).then(get("/a")).then(get("/none"));
    let TxnOutcome { results, revision, .. } = steps.then(list(KeyRange::prefix("/")).limit(2)).await.unwrap();
    assert_eq!(revision, created.revision.next());
    assert_eq!(results[0].pair().unwrap().value_str(), Some("1"));
    assert_eq!(results[1..3], [OpResult::Put(None), OpResult::Put(None)]);
    assert_eq!(results[3].pair().unwrap().mod_revision(), revision);
    assert_eq!(results[4], OpResult::Get(None));
    let OpResult::List { pairs, more: true } = &results[5] else { panic!("{results:?}") };
    assert_eq!(pairs.iter().map(|pair| &pair.key()[..]).collect::<Vec<_>>(), [b"/a", b"/b"]);
}

#[tokio::test(start_paused = true)]
async fn conditions_on_everything_a_key_has() {
    let rig = Rig::start().await;
    let client = rig.client();
    let first = client.put("/a", "1").await.unwrap();
    let second = client.put("/a", "2").await.unwrap();
    assert!(holds(&client, key("/a").version().eq(2)).await);
    assert!(!holds(&client, key("/a").version().gt(2)).await);
    assert!(holds(&client, key("/a").create_revision().eq(first)).await);
    assert!(holds(&client, key("/a").mod_revision().eq(second)).await);
    assert!(holds(&client, key("/a").mod_revision().gt(first)).await);
    assert!(!holds(&client, key("/a").mod_revision().lt(second)).await);
    assert!(holds(&client, key("/a").value().eq("2")).await);
    assert!(holds(&client, key("/a").value().ne("1")).await);
    assert!(holds(&client, key("/a").lease().eq(None)).await);

    assert!(holds(&client, key("/none").is_missing()).await);
    assert!(holds(&client, key("/none").mod_revision().eq(Revision::ZERO)).await);
    assert!(!holds(&client, key("/none").value().ne("1")).await, "there is no value to compare");
}

#[tokio::test(start_paused = true)]
async fn a_condition_on_a_range_holds_for_each_of_its_keys() {
    let rig = Rig::start().await;
    let client = rig.client();
    client.put("/a/1", "x").await.unwrap();
    let seen = client.put("/a/2", "x").await.unwrap();
    let unchanged = || each(KeyRange::prefix("/a/")).mod_revision().lt(seen.next());
    assert!(holds(&client, unchanged()).await);
    assert!(holds(&client, each(KeyRange::prefix("/a/")).value().eq("x")).await);
    client.put("/a/1", "y").await.unwrap();
    assert!(!holds(&client, unchanged()).await);
    assert!(!holds(&client, each(KeyRange::prefix("/a/")).value().eq("x")).await);
    assert!(holds(&client, each(KeyRange::prefix("/none/")).is_missing()).await);
    failed(client.txn().when(each(KeyRange::segment("/a")).exists()).await, ErrorKind::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn transactions_nest() {
    let rig = Rig::start().await;
    let client = rig.client();
    client.put("/a", "1").await.unwrap();
    let inner = nested().when(key("/a").value().eq("1")).then(put("/inner", "yes")).or_else(get("/none"));
    let innermost = nested().when(key("/b").exists()).or_else(get("/a"));
    let outcome = client.txn().then(inner.then(innermost)).then(get("/inner")).await.unwrap();
    let [OpResult::Txn(inner), OpResult::Get(Some(pair))] = &outcome.results[..] else { panic!("{outcome:?}") };
    assert_eq!((pair.value_str(), pair.mod_revision()), (Some("yes"), outcome.revision));
    assert!(inner.succeeded && inner.revision == outcome.revision);
    let [OpResult::Put(None), OpResult::Txn(innermost)] = &inner.results[..] else { panic!("{inner:?}") };
    assert!(!innermost.succeeded);
    assert_eq!(innermost.pair(0).unwrap().value_str(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn a_segment_is_one_step_to_the_program() {
    let rig = Rig::start().await;
    let client = rig.client();
    for name in ["/t", "/t/1", "/t/2", "/t-x", "/t0"] {
        client.put(name, name).await.unwrap();
    }
    let segment = || KeyRange::segment("/t");
    let outcome = client
        .txn()
        .then(list(segment()))
        .then(list(segment()).limit(2).keys_only())
        .then(list(segment()).limit(3))
        .then(delete(segment()).prev_kv())
        .then(get("/t-x"))
        .await
        .unwrap();
    let keys = |step: usize| outcome.results[step].pairs().iter().filter_map(|p| p.key_str()).collect::<Vec<_>>();
    assert_eq!(keys(0), ["/t", "/t/1", "/t/2"]);
    assert_eq!(keys(1), ["/t", "/t/1"]);
    let OpResult::List { pairs, more: true } = &outcome.results[1] else { panic!("{outcome:?}") };
    assert!(pairs.iter().all(|pair| pair.value().is_empty()));
    assert!(matches!(outcome.results[2], OpResult::List { more: false, .. }));
    assert!(matches!(outcome.results[3], OpResult::Delete { count: 3, .. }));
    assert_eq!(keys(3), ["/t", "/t/1", "/t/2"]);
    assert_eq!(keys(4), ["/t-x"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_server_refuses_is_typed() {
    let rig = Rig::start().await;
    let client = rig.client();
    let puts = (0..129).map(|n| put(format!("/{n}"), "x"));
    failed(client.txn().then_all(puts).await, ErrorKind::TooManyOps);
    let conditions = (0..129).map(|n| key(format!("/{n}")).exists());
    failed(client.txn().when_all(conditions).await, ErrorKind::TooManyOps);
    failed(client.txn().then_all([put("/a", "1"), put("/a", "2")]).await, ErrorKind::InvalidArgument);
    failed(client.txn().then(put("", "1")).await, ErrorKind::InvalidArgument);
    let future = Revision::new(1000).unwrap();
    failed(client.txn().then(get("/a").at(future)).await, ErrorKind::FutureRevision);
    assert_eq!(rig.revision(), 1, "nothing was written");
}

#[tokio::test(start_paused = true)]
async fn only_a_transaction_that_writes_can_be_ambiguous() {
    let rig = Rig::start().await;
    let client = rig.client();
    let before = client.put("/a", "1").await.unwrap();

    // The member does it, and its answer is lost.
    rig.wire.set_deaf(true);
    let write = tokio::spawn(client.txn().then(put("/a", "2")).into_future());
    until(|| rig.revision() > before.get()).await;
    rig.wire.cut();
    rig.wire.set_deaf(false);
    let error = write.await.unwrap().unwrap_err();
    assert!(error.may_have_applied(), "{error}");
    assert_eq!(error.attempts(), 1);
    assert_eq!(rig.revision(), before.next().get(), "it was not sent again");

    // One that only reads is asked again.
    rig.wire.set_deaf(true);
    let dials = rig.wire.dials();
    let read = tokio::spawn(client.txn().when(key("/a").exists()).then(get("/a")).or_else(list("/b")).into_future());
    until(|| rig.wire.dials() > dials).await;
    rig.wire.cut();
    rig.wire.set_deaf(false);
    let outcome = read.await.unwrap().unwrap();
    assert_eq!(outcome.pair(0).unwrap().value_str(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_list_can_be_in_the_order_of_creation() {
    let rig = Rig::start().await;
    let client = rig.client();
    let mut created = Vec::new();
    for name in ["/q/c", "/q/a", "/q/b"] {
        created.push(client.put(name, "1").await.unwrap());
    }
    client.put("/q/c", "2").await.unwrap();
    let names = async |step| {
        let outcome = client.txn().then(step).await.unwrap();
        let pairs = outcome.results[0].pairs().iter();
        pairs.map(|pair| pair.key_str().unwrap().trim_start_matches("/q/").to_owned()).collect::<Vec<_>>().concat()
    };
    let all = || list(KeyRange::prefix("/q/"));
    assert_eq!(names(all()).await, "abc");
    assert_eq!(names(all().oldest_first()).await, "cab");
    assert_eq!(names(all().newest_first().limit(2)).await, "ba");
    assert_eq!(names(all().created_before(created[2]).newest_first().limit(1)).await, "a");
    assert_eq!(names(all().created_before(created[0])).await, "");
    assert_eq!(names(all().created_before(Revision::ZERO)).await, "", "zero is no bound to the server");
    failed(client.txn().then(list(KeyRange::segment("/q")).oldest_first()).await, ErrorKind::InvalidArgument);
}
