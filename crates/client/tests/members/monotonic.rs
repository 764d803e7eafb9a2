//! Reads that do not go back behind what was seen, with a server whose serializable reads are behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prost::Message as _;
use stentor_client::{Client, ErrorKind, Revision};
use stentor_proto::etcdserverpb::{
    PutResponse, RangeRequest, RangeResponse, ResponseHeader, StatusResponse, WatchResponse,
};
use stentor_proto::mvccpb;

use crate::harness::{failed, soon};
use crate::members::scripted;

/// What the member asked has, and what the cluster has.
#[derive(Default)]
struct Store {
    behind: AtomicI64,
    newest: AtomicI64,
    reads: AtomicU64,
}

impl Store {
    fn at(behind: i64, newest: i64) -> Arc<Store> {
        Arc::new(Store { behind: behind.into(), newest: newest.into(), reads: 0.into() })
    }

    fn client(self: &Arc<Store>, monotonic: bool) -> Client {
        let store = self.clone();
        let builder = scripted::client(move |asked| {
            let header = |revision| Some(ResponseHeader { cluster_id: 7, revision, ..ResponseHeader::default() });
            if asked.path.ends_with("/Put") {
                let revision = store.newest.fetch_add(1, Ordering::Relaxed) + 1;
                return Ok(PutResponse { header: header(revision), prev_kv: None }.encode_to_vec());
            }
            if asked.path.ends_with("/Watch") {
                return Ok(scripted::frames([store.confirmation(), store.event()]));
            }
            if asked.path.ends_with("/Status") {
                return Ok(StatusResponse::default().encode_to_vec());
            }
            store.reads.fetch_add(1, Ordering::Relaxed);
            let request: RangeRequest = asked.message();
            let at = if request.serializable { &store.behind } else { &store.newest }.load(Ordering::Relaxed);
            let kv = mvccpb::KeyValue { key: request.key, value: at.to_string().into(), ..mvccpb::KeyValue::default() };
            Ok(RangeResponse { header: header(at), kvs: vec![kv], ..RangeResponse::default() }.encode_to_vec())
        });
        if monotonic { builder.monotonic_reads() } else { builder }.build().unwrap()
    }

    fn confirmation(&self) -> WatchResponse {
        WatchResponse { created: true, ..self.response() }
    }

    /// That the newest revision was written.
    fn event(&self) -> WatchResponse {
        let newest = self.newest.load(Ordering::Relaxed);
        let kv = mvccpb::KeyValue { key: "k".into(), mod_revision: newest, ..mvccpb::KeyValue::default() };
        WatchResponse { events: vec![mvccpb::Event { kv: Some(kv), ..mvccpb::Event::default() }], ..self.response() }
    }

    fn response(&self) -> WatchResponse {
        // As old as can be: it is what an event says that counts.
        let header = ResponseHeader { cluster_id: 7, revision: 1, ..ResponseHeader::default() };
        WatchResponse { header: Some(header), ..WatchResponse::default() }
    }

    fn reads(&self) -> u64 {
        self.reads.swap(0, Ordering::Relaxed)
    }
}

/// What a serializable read finds.
async fn read(client: &Client) -> i64 {
    let pair = client.get("k").serializable().await.unwrap().unwrap();
    pair.value_str().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_read_is_made_again_if_the_member_is_behind() {
    let store = Store::at(3, 7);
    let careless = store.client(false);
    assert!(careless.get("k").await.unwrap().is_some());
    assert_eq!((read(&careless).await, store.reads()), (3, 2));

    let client = store.client(true);
    assert_eq!((read(&client).await, store.reads()), (3, 1), "nothing newer was seen");
    // Seen by a write, of a clone.
    client.namespaced("/n/").put("k", "1").await.unwrap();
    assert_eq!((read(&client).await, store.reads()), (8, 2));
    // Seen by a transaction or a list it is the same; a member that has caught up is asked once.
    store.behind.store(8, Ordering::Relaxed);
    assert_eq!((read(&client).await, store.reads()), (8, 1));
    store.newest.store(12, Ordering::Relaxed);
    assert_eq!(client.list("k").await.unwrap().revision(), Revision::new(12).unwrap());
    assert_eq!((read(&client).await, store.reads()), (12, 3));
}

#[tokio::test(start_paused = true)]
async fn what_a_watch_has_told_is_seen() {
    let store = Store::at(3, 9);
    let client = store.client(true);
    assert_eq!((read(&client).await, store.reads()), (3, 1));
    let mut watch = client.watch("k").after(Revision::new(3).unwrap()).await.unwrap().into_events();
    let event = soon(watch.next()).await.unwrap().unwrap();
    assert_eq!(event.revision(), Revision::new(9).unwrap());
    store.reads();
    assert_eq!((read(&client).await, store.reads()), (9, 2));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_has_lost_its_history_is_told_once() {
    let store = Store::at(7, 7);
    let client = store.client(true);
    assert_eq!(read(&client).await, 7);
    store.behind.store(4, Ordering::Relaxed);
    store.newest.store(5, Ordering::Relaxed);
    failed(client.get("k").serializable().await, ErrorKind::HistoryReset { cluster: 7 });
    assert_eq!(read(&client).await, 5, "from there on, and not behind it");
    let careless = store.client(false);
    assert!(careless.get("k").await.is_ok());
}
