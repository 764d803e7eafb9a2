mod namespace;
mod swap;
mod txn;

use std::time::Duration;

use stentor_client::{ErrorKind, KeyRange, LeaseId, Revision};

use crate::harness::{Rig, failed};

#[tokio::test(start_paused = true)]
async fn a_put_gives_the_pair_before() {
    let rig = Rig::start().await;
    let client = rig.client();
    let first = client.put("/a", "1").prev_kv().await.unwrap();
    assert_eq!((first.revision.get(), first.prev), (rig.revision(), None));
    let second = client.put("/a", "2").prev_kv().await.unwrap();
    let prev = second.prev.unwrap();
    assert_eq!((prev.value_str(), prev.mod_revision()), (Some("1"), first.revision));
    assert_eq!(second.revision, first.revision.next());
}

#[tokio::test(start_paused = true)]
async fn a_put_keeps_what_it_is_told_to_keep() {
    let rig = Rig::start().await;
    let client = rig.client();
    let lease = LeaseId::new(7).unwrap();
    failed(client.put("/a", "1").lease(lease).await, ErrorKind::LeaseNotFound);
    failed(client.put("/a", "").ignore_value().await, ErrorKind::KeyNotFound);
    failed(client.put("/a", "1").ignore_lease().await, ErrorKind::KeyNotFound);
    client.put("/a", "1").await.unwrap();
    // A value given beside it does not matter; the server would refuse it.
    client.put("/a", "2").ignore_value().await.unwrap();
    let pair = client.get("/a").await.unwrap().unwrap();
    assert_eq!((pair.value_str(), pair.version()), (Some("1"), 2));
    client.put("/a", "3").ignore_lease().await.unwrap();
    assert_eq!(client.get("/a").await.unwrap().unwrap().value_str(), Some("3"));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_gives_the_pairs_and_takes_segments() {
    let rig = Rig::start().await;
    let client = rig.client();
    for name in ["/t", "/t/1", "/t/2", "/t-x"] {
        client.put(name, name).await.unwrap();
    }
    let one = client.delete("/t/2").prev_kv().await.unwrap();
    assert_eq!((one.count, one.revision.get()), (1, rig.revision()));
    assert_eq!(one.prev[0].value_str(), Some("/t/2"));
    assert!(client.delete("/none").prev_kv().await.unwrap().prev.is_empty());

    let before = rig.revision();
    let both = client.delete(KeyRange::segment("/t")).prev_kv().await.unwrap();
    assert_eq!((both.count, both.revision.get()), (2, before + 1));
    assert_eq!(both.prev.iter().filter_map(|pair| pair.key_str()).collect::<Vec<_>>(), ["/t", "/t/1"]);
    let rest = client.delete(KeyRange::all()).await.unwrap();
    assert_eq!((rest.count, rest.prev.len()), (1, 0), "the pairs were not asked for");
}

#[tokio::test(start_paused = true)]
async fn compaction_drops_history() {
    let rig = Rig::start().await;
    let client = rig.client();
    let old = client.put("/a", "1").await.unwrap();
    let new = client.put("/a", "2").await.unwrap();
    failed(client.compact(new.next()).await, ErrorKind::FutureRevision);
    assert_eq!(client.get("/a").at(old).await.unwrap().unwrap().value_str(), Some("1"));
    client.compact(new).physical().await.unwrap();
    failed(client.get("/a").at(old).await, ErrorKind::Compacted { at: Revision::ZERO });
    failed(client.compact(new).await, ErrorKind::Compacted { at: Revision::ZERO });
}

#[tokio::test(start_paused = true)]
async fn a_compaction_whose_answer_is_lost_is_done_when_it_is_done() {
    let rig = Rig::start().await;
    let client = rig.builder().call_timeout(Duration::from_secs(30)).build().unwrap();
    let new = client.put("/a", "1").await.unwrap();
    rig.wire.set_deaf(true);
    let compact = tokio::spawn(client.compact(new).into_future());
    let compacted = || rig.member.node.store.view().compacted() == Some(new);
    crate::harness::until(compacted).await;
    rig.wire.cut();
    rig.wire.set_deaf(false);
    compact.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_pairs_are_put_in_as_few_transactions_as_the_server_takes() {
    let rig = Rig::with_flags(&["--max-txn-ops", "50"]).await;
    let client = rig.client();
    assert_eq!(client.put_all(Vec::<(&str, &str)>::new()).await.unwrap(), Revision::ZERO);
    let before = rig.revision();
    let pairs = (0..200).map(|n| (format!("/n/{n:03}"), n.to_string()));
    let revision = client.put_all(pairs).await.unwrap();
    let listed = client.list(KeyRange::prefix("/n/")).await.unwrap();
    assert_eq!(listed.pairs().len(), 200);
    assert!(listed.into_iter().enumerate().all(|(n, pair)| *pair.value() == n.to_string()));
    // 128 and 64 are refused, 32 are taken.
    assert_eq!((revision.get(), rig.revision()), (before + 7, before + 7));

    // The last of equal keys stays.
    let written = client.put_all([("/x", "1"), ("/y", "1"), ("/x", "2")]).batch(9).await.unwrap();
    assert_eq!(written.get(), before + 9);
    assert_eq!(client.get("/x").await.unwrap().unwrap().value_str(), Some("2"));
    failed(client.put_all([("/z", "1"), ("", "1")]).batch(1).await, ErrorKind::InvalidArgument);
    assert!(client.get("/z").await.unwrap().is_some(), "what came before is written");
}
