//! What happens while it is watched.

use stentor_proto::etcdserverpb::LeaseGrantRequest;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::mvccpb::{Event, KeyValue};

use super::client::{Watching, everything, key, range, with_prev_kv};
use super::ledger::is_put;
use super::writes::{Writer, delete_of, put_of};
use crate::harness::{Rig, until};

/// An event in short: P or D, its key, its value, its revision, its version.
fn short(event: &Event) -> String {
    let kv = event.kv.as_ref().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let kind = if is_put(event) { 'P' } else { 'D' };
    format!("{kind} {}={} {} {}", text(&kv.key), text(&kv.value), kv.mod_revision, kv.version)
}

struct Live {
    rig: Rig,
    writer: Writer,
    watching: Watching,
}

impl Live {
    /// With one watcher of everything.
    async fn start() -> Live {
        let rig = Rig::start(&[]).await;
        let mut watching = Watching::open(rig.channel()).await;
        watching.watch(with_prev_kv(everything())).await;
        Live { writer: Writer::new(&rig), rig, watching }
    }

    /// What has come since, all of it.
    async fn came(&mut self) -> Vec<String> {
        let before = self.watching.seen(0).events.len();
        self.watching.settle().await;
        self.watching.seen(0).events[before..].iter().map(short).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn puts_deletes_and_what_is_no_event() {
    let mut live = Live::start().await;
    live.writer.put("a", "1").await;
    live.writer.put("a", "1").await;
    assert_eq!(live.came().await, ["P a=1 2 1", "P a=1 3 2"], "the same value is an event all the same");
    assert_eq!(live.writer.delete("a", "").await, (4, 1));
    assert_eq!(live.came().await, ["D a= 4 0"]);
    let deleted = live.watching.seen(0).events.last().unwrap();
    let bare = KeyValue { key: "a".into(), mod_revision: 4, ..KeyValue::default() };
    assert_eq!(deleted.kv, Some(bare), "a delete shows key and revision alone");
    let before = deleted.prev_kv.as_ref().unwrap();
    assert_eq!((before.value.as_ref(), before.mod_revision, before.version), (&b"1"[..], 3, 2));
    assert_eq!(live.writer.delete("a", "").await, (4, 0));
    assert_eq!(live.came().await, [] as [&str; 0], "a delete of nothing is no event");
    live.writer.put("a", "again").await;
    assert_eq!(live.came().await, ["P a=again 5 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_delete_of_a_range_is_one_revision_of_many_events() {
    let mut live = Live::start().await;
    for name in ["c", "a", "b", "x"] {
        live.writer.put(name, "v").await;
    }
    live.came().await;
    assert_eq!(live.writer.delete("a", "d").await, (6, 3));
    let responses = live.watching.seen(0).headers.len();
    assert_eq!(live.came().await, ["D a= 6 0", "D b= 6 0", "D c= 6 0"]);
    assert_eq!(live.watching.seen(0).headers[responses..], [6], "in one response");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_one_revision_in_the_order_of_its_operations() {
    let mut live = Live::start().await;
    live.writer.put("old", "v").await;
    live.came().await;
    let put = |key: &str, value: &str| Request::RequestPut(put_of(key, value));
    let delete = |key: &str| Request::RequestDeleteRange(delete_of(key, ""));
    live.writer.txn([put("z", "1"), delete("old"), put("a", "2")]).await;
    assert_eq!(live.came().await, ["P z=1 3 1", "D old= 3 0", "P a=2 3 1"]);
    // Two changes of one key in one revision are two events.
    live.writer.txn([Request::RequestDeleteRange(delete_of("z", "\0")), put("z", "new")]).await;
    assert_eq!(live.came().await, ["D z= 4 0", "P z=new 4 1"]);
    assert_eq!(live.watching.seen(0).events[4].prev_kv.as_ref().unwrap().value, "1");
}

/// By the clock's own move: nothing else is left to do.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_lease_deletes_its_keys_in_one_revision() {
    let mut live = Live::start().await;
    live.rig.lease().lease_grant(LeaseGrantRequest { id: 7, ttl: 5 }).await.unwrap();
    for name in ["b", "a"] {
        let put = stentor_proto::etcdserverpb::PutRequest { lease: 7, ..put_of(name, "v") };
        live.rig.kv().put(put).await.unwrap();
    }
    live.came().await;
    until(|| live.rig.revision() == 4).await;
    assert_eq!(live.came().await, ["D a= 4 0", "D b= 4 0"]);
}

#[tokio::test(start_paused = true)]
async fn overlapping_watchers_on_one_stream_each_get_theirs() {
    let rig = Rig::start(&[]).await;
    let mut watching = Watching::open(rig.channel()).await;
    let ranges = [key("b"), key("b"), range("a", "c"), range("b", "c"), range("a", "b"), range("b", [0]), everything()];
    for request in ranges.clone() {
        watching.watch(request).await;
    }
    let mut writer = Writer::new(&rig);
    for name in ["a", "b", "c", "b"] {
        writer.put(name, "v").await;
    }
    watching.settle().await;
    let seen: Vec<Vec<i64>> = (0..ranges.len() as i64).map(|id| watching.revisions(id)).collect();
    // An interval holds the key that it starts at, and not the one that it ends at.
    let (b, not_c) = (vec![3, 5], vec![2, 3, 5]);
    assert_eq!(seen, [b.clone(), b.clone(), not_c, b, vec![2], vec![3, 4, 5], vec![2, 3, 4, 5]]);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_watchers_on_one_key() {
    const STREAMS: usize = 10;
    const WATCHERS: i64 = 1_000;
    let rig = Rig::start(&[]).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut watching = Watching::open(rig.channel()).await;
        (0..WATCHERS).for_each(|_| watching.create(key("a")));
        watching.until(|ledger| ledger.watchers.len() as i64 == WATCHERS).await;
        streams.push(watching);
    }
    let mut writer = Writer::new(&rig);
    for _ in 0..3 {
        writer.put("a", "v").await;
    }
    for watching in &mut streams {
        watching.settle().await;
        assert!(watching.ledger.watchers.values().all(|seen| seen.revisions() == [2, 3, 4]));
    }
}
