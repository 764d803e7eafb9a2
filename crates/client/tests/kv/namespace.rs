use bytes::Bytes;
use stentor_client::txn::{each, get, key, put};
use stentor_client::{Client, ErrorKind, EventKind, KeyRange, Listing, Prev, Swap};

use crate::harness::{Rig, failed};

/// A store with two tenants and something around them.
async fn tenants(rig: &Rig) -> Client {
    let client = rig.client();
    for name in ["/t", "/t/", "/t/a", "/t/a/x", "/t/a-b", "/t/b", "/t/\u{ff}", "/t0", "/u/a"] {
        client.put(name, name).await.unwrap();
    }
    client
}

fn keys(listing: &Listing) -> Vec<&str> {
    listing.pairs().iter().filter_map(|pair| pair.key_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_range_stays_inside() {
    let rig = Rig::start().await;
    let tenant = tenants(&rig).await.namespaced("/t/");
    let list = async |range: KeyRange| tenant.list(range).page_entries(2).await.unwrap();
    assert_eq!(keys(&list(KeyRange::all()).await), ["a", "a-b", "a/x", "b", "\u{ff}"]);
    assert_eq!(keys(&list(KeyRange::prefix("")).await), ["a", "a-b", "a/x", "b", "\u{ff}"]);
    assert_eq!(keys(&list(KeyRange::from_key("a/")).await), ["a/x", "b", "\u{ff}"]);
    assert_eq!(keys(&list(KeyRange::prefix("a")).await), ["a", "a-b", "a/x"]);
    assert_eq!(keys(&list(KeyRange::segment("a")).await), ["a", "a/x"]);
    assert_eq!(keys(&list(KeyRange::interval("a-", "b")).await), ["a-b", "a/x"]);
    assert_eq!(keys(&list(KeyRange::interval("b", "a")).await), [""; 0]);
    assert_eq!(keys(&list(KeyRange::key("b")).await), ["b"]);
    for range in [KeyRange::key(""), KeyRange::from_key(""), KeyRange::interval("", "b")] {
        failed(tenant.list(range).await, ErrorKind::InvalidArgument);
    }
    assert_eq!(keys(&tenant.namespaced("a/").list(KeyRange::all()).await.unwrap()), ["x"]);

    let deleted = tenant.delete(KeyRange::all()).prev_kv().await.unwrap();
    assert_eq!(
        deleted.prev.iter().filter_map(|pair| pair.key_str()).collect::<Vec<_>>(),
        ["a", "a-b", "a/x", "b", "ÿ"]
    );
    let rest = rig.client().list(KeyRange::all()).await.unwrap();
    assert_eq!(keys(&rest), ["/t", "/t/", "/t0", "/u/a"]);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_at_the_end_of_the_key_space_has_no_end() {
    let rig = Rig::start().await;
    let client = rig.client();
    let last = client.namespaced(Bytes::from_static(b"\xff\xff"));
    client.put("\u{7f}", "before").await.unwrap();
    last.put("a", "1").await.unwrap();
    last.put(Bytes::from_static(b"\xff\xff\xff"), "2").await.unwrap();
    let all = last.list(KeyRange::all()).await.unwrap();
    assert_eq!(all.pairs().iter().map(|pair| &pair.key()[..]).collect::<Vec<_>>(), [b"a".as_slice(), b"\xff\xff\xff"]);
}

#[tokio::test(start_paused = true)]
async fn writes_and_transactions_stay_inside() {
    let rig = Rig::start().await;
    let client = tenants(&rig).await;
    let tenant = client.namespaced("/t/");
    let written = tenant.put("a", "2").prev_kv().await.unwrap();
    assert_eq!(written.prev.unwrap().key_str(), Some("a"));
    assert_eq!(client.get("/t/a").await.unwrap().unwrap().value_str(), Some("2"));
    failed(tenant.put("", "1").await, ErrorKind::InvalidArgument);
    failed(tenant.get("").await, ErrorKind::InvalidArgument);

    // The condition holds for all of the tenant's keys, though not for all there are.
    client.put("/zzz", "1").await.unwrap();
    let unchanged = each(KeyRange::from_key("b")).mod_revision().lt(written.revision);
    let outcome = tenant.txn().when(unchanged).when(key("u").is_missing()).then(put("u", "1")).then(get("b")).await;
    let outcome = outcome.unwrap();
    assert!(outcome.succeeded);
    assert_eq!(outcome.pair(1).unwrap().key_str(), Some("b"));
    assert!(client.get("/t/u").await.unwrap().is_some());

    let Swap::Lost(Some(now)) = tenant.create("u", "2").await.unwrap() else { panic!("there is one") };
    assert_eq!(now.key_str(), Some("u"));
    assert!(matches!(tenant.remove("u", now.mod_revision()).await.unwrap(), Swap::Done(_)));
    tenant.put_all([("v", "1"), ("w", "1")]).await.unwrap();
    assert!(client.get("/t/v").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_watch_sees_what_is_inside_and_names_it_so() {
    let rig = Rig::start().await;
    let client = tenants(&rig).await;
    let tenant = client.namespaced("/t/");
    let watch = tenant.watch(KeyRange::from_key("a/")).prev_kv().await.unwrap();
    assert_eq!(*watch.range(), KeyRange::from_key("a/"));
    let mut events = watch.into_events();
    client.put("/t/a", "below the range").await.unwrap();
    client.put("/t/b", "2").await.unwrap();
    client.put("/u/a", "above the namespace").await.unwrap();
    client.delete("/t/b").await.unwrap();
    let put = events.next().await.unwrap().unwrap();
    assert_eq!((put.kind(), put.kv().key_str()), (EventKind::Put, Some("b")));
    let Prev::Value(prev) = put.prev() else { panic!("it was there before") };
    assert_eq!((prev.key_str(), prev.value_str()), (Some("b"), Some("/t/b")));
    let deleted = events.next().await.unwrap().unwrap();
    assert_eq!((deleted.kind(), deleted.kv().key_str()), (EventKind::Delete, Some("b")));
    failed(tenant.watch("").await, ErrorKind::InvalidArgument);
}
