//! What went wrong in etcd, shown not to happen here: each test names the issue. Those about crashes
//! (13766, 14370, 14685, 17780) are the rounds of `crash.rs`.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use stentor_interop::client::Client;
use stentor_interop::peers::{SERVER, required};
use stentor_interop::process::Server;
use stentor_interop::stream::{Stream, revision_of};
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::request_op::Request as Op;
use stentor_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, PutRequest,
    RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
};
use stentor_proto::mvccpb::event::EventType;
use tokio_stream::wrappers::ReceiverStream;

struct Tested {
    client: Client,
    server: Server,
}

async fn start(test: &str, flags: &[&str]) -> Result<Option<Tested>> {
    let Some(binary) = required(SERVER, test) else { return Ok(None) };
    let server = Server::start(&binary, flags)?;
    Ok(Some(Tested { client: Client::connect(&server.endpoint()).await?, server }))
}

fn put_of(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() }
}

fn ops(ops: impl IntoIterator<Item = Op>) -> TxnRequest {
    let success = ops.into_iter().map(|op| RequestOp { request: Some(op) }).collect();
    TxnRequest { success, ..TxnRequest::default() }
}

fn watch_of(key: &str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest { key: key.to_owned().into(), start_revision, ..WatchCreateRequest::default() }
}

impl Tested {
    async fn put(&mut self, key: &str, value: &str) -> Result<i64> {
        let answer = self.client.kv.put(put_of(key, value)).await?.into_inner();
        Ok(answer.header.context("no header")?.revision)
    }

    async fn delete(&mut self, key: &str) -> Result<i64> {
        let delete = DeleteRangeRequest { key: key.to_owned().into(), ..DeleteRangeRequest::default() };
        let answer = self.client.kv.delete_range(delete).await?.into_inner();
        ensure!(answer.deleted == 1, "{key} was not there");
        Ok(answer.header.context("no header")?.revision)
    }

    async fn compact(&mut self, revision: i64) -> Result<()> {
        self.client.kv.compact(CompactionRequest { revision, physical: true }).await?;
        Ok(())
    }

    async fn value(&mut self, key: &str) -> Result<Option<Bytes>> {
        let range = RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
        Ok(self.client.kv.range(range).await?.into_inner().kvs.into_iter().next().map(|pair| pair.value))
    }

    /// A stream with one watcher, and its id.
    async fn watch(&self, create: WatchCreateRequest) -> Result<(Stream, i64)> {
        let mut stream = Stream::open(&self.client);
        stream.create(create).await?;
        let created = stream.answer().await?;
        ensure!(created.created && !created.canceled, "{created:?}");
        Ok((stream, created.watch_id))
    }
}

#[tokio::test]
async fn etcd_14370_an_acknowledged_write_survives_kill_9() -> Result<()> {
    let Some(mut tested) = start("etcd 14370", &[]).await? else { return Ok(()) };
    for round in 0..5 {
        let value = format!("value {round}");
        tested.put("key", &value).await?;
        tested.server.kill();
        tested.server.restart()?;
        tested.client = Client::connect(&tested.server.endpoint()).await?;
        assert_eq!(tested.value("key").await?, Some(value.into()));
    }
    Ok(())
}

#[tokio::test]
async fn etcd_14296_a_refused_watch_carries_id_minus_1() -> Result<()> {
    let Some(tested) = start("etcd 14296", &[]).await? else { return Ok(()) };
    let (mut stream, id) = tested.watch(watch_of("a", 0)).await?;
    assert_eq!(id, 0);
    let empty = WatchCreateRequest { range_end: Bytes::from_static(b"a"), ..watch_of("b", 0) };
    let duplicate = WatchCreateRequest { watch_id: 7, ..watch_of("a", 0) };
    stream.create(duplicate.clone()).await?;
    assert_eq!(stream.answer().await?.watch_id, 7);
    for refused in [empty, watch_of("a", -1), duplicate] {
        stream.create(refused.clone()).await?;
        let answer = stream.answer().await?;
        assert_eq!((answer.watch_id, answer.created, answer.canceled), (-1, true, true), "{refused:?}");
        assert!(!answer.cancel_reason.is_empty(), "{refused:?}");
    }
    assert!(stream.is_live(0));
    Ok(())
}

#[tokio::test]
async fn etcd_17247_each_change_is_one_event() -> Result<()> {
    let Some(mut tested) = start("etcd 17247", &[]).await? else { return Ok(()) };
    let all = WatchCreateRequest { range_end: Bytes::from_static(b"\0"), ..watch_of("\0", 0) };
    let (mut live, id) = tested.watch(all.clone()).await?;
    for round in 0..20 {
        let puts = (0..10).map(|n| Op::RequestPut(put_of(&format!("k{n}"), &format!("{round}"))));
        tested.client.kv.txn(ops(puts)).await?;
    }
    let last = tested.put("last", "").await?;
    let (mut replay, again) = tested.watch(WatchCreateRequest { start_revision: 1, ..all }).await?;
    for (stream, id) in [(&mut live, id), (&mut replay, again)] {
        stream.await_revision(id, last).await?;
        let events = stream.events(id);
        assert_eq!(events.len(), 201);
        let changes: BTreeSet<_> =
            events.iter().filter_map(|e| Some((revision_of(e), e.kv.as_ref()?.key.clone()))).collect();
        assert_eq!(changes.len(), 201);
        assert_eq!(stream.violations(), &[] as &[String]);
    }
    Ok(())
}

#[tokio::test]
async fn etcd_17557_a_replay_of_nothing_tells_progress() -> Result<()> {
    let Some(mut tested) = start("etcd 17557", &[]).await? else { return Ok(()) };
    let mut last = 0;
    for n in 0..50 {
        last = tested.put("busy", &n.to_string()).await?;
    }
    let (mut stream, _) = tested.watch(watch_of("quiet", 1)).await?;
    stream.await_note(last).await
}

#[tokio::test]
async fn etcd_18089_19179_compaction_at_a_delete_keeps_it() -> Result<()> {
    let Some(mut tested) = start("etcd 18089 and 19179", &[]).await? else { return Ok(()) };
    tested.put("a", "1").await?;
    let deleted = tested.delete("a").await?;
    tested.put("b", "1").await?;
    tested.compact(deleted).await?;
    let (mut stream, id) = tested.watch(watch_of("a", deleted)).await?;
    stream.await_revision(id, deleted).await?;
    assert_eq!(stream.events(id)[0].r#type, EventType::Delete as i32);
    Ok(())
}

#[tokio::test]
async fn etcd_18667_a_transaction_that_reads_a_compacted_revision_leaves_no_trace() -> Result<()> {
    let Some(mut tested) = start("etcd 18667", &[]).await? else { return Ok(()) };
    for n in 0..5 {
        tested.put("a", &n.to_string()).await?;
    }
    tested.compact(5).await?;
    let old = RangeRequest { key: Bytes::from_static(b"a"), revision: 2, ..RangeRequest::default() };
    let inner = ops([Op::RequestPut(put_of("c", "1")), Op::RequestRange(old.clone())]);
    for txn in [
        ops([Op::RequestPut(put_of("b", "1")), Op::RequestRange(old)]),
        ops([Op::RequestPut(put_of("b", "1")), Op::RequestTxn(inner)]),
    ] {
        let refused = tested.client.kv.txn(txn).await.err().context("not refused")?;
        assert_eq!(refused.message(), EtcdError::Compacted.text());
    }
    assert_eq!((tested.value("b").await?, tested.value("c").await?), (None, None));
    assert_eq!(tested.put("a", "next").await?, 7);
    Ok(())
}

#[tokio::test]
async fn etcd_20221_a_watch_of_the_future_gets_nothing_from_before() -> Result<()> {
    let Some(mut tested) = start("etcd 20221", &[]).await? else { return Ok(()) };
    let now = tested.put("a", "0").await?;
    let (mut stream, id) = tested.watch(watch_of("a", now + 10)).await?;
    stream.progress().await?;
    for n in 1..=12 {
        tested.put("a", &n.to_string()).await?;
    }
    stream.await_revision(id, now + 12).await?;
    let revisions: Vec<i64> = stream.events(id).iter().map(revision_of).collect();
    assert_eq!(revisions, [now + 10, now + 11, now + 12]);
    let early: Vec<i64> = stream.take_notes().iter().map(|note| note.revision).filter(|r| *r < now + 10).collect();
    assert_eq!(early, [] as [i64; 0]);
    Ok(())
}

#[tokio::test]
async fn etcd_15220_a_progress_note_never_overtakes_an_event() -> Result<()> {
    let Some(mut tested) = start("etcd 15220", &[]).await? else { return Ok(()) };
    let (mut stream, id) = tested.watch(watch_of("a", 0)).await?;
    let mut last = 0;
    for n in 0..200 {
        last = tested.put("a", &n.to_string()).await?;
        stream.progress().await?;
    }
    stream.await_revision(id, last).await?;
    stream.await_note(last).await?;
    let events = stream.events(id).to_vec();
    let notes = stream.take_notes();
    assert!(!notes.is_empty());
    for note in notes {
        let due = events.iter().filter(|event| revision_of(event) <= note.revision).count();
        let seen = note.seen.get(&id).copied().unwrap_or_default();
        assert!(seen >= due, "a note at {} after {seen} of {due} events", note.revision);
    }
    Ok(())
}

#[tokio::test]
async fn etcd_20693_a_negative_start_harms_no_other_watcher() -> Result<()> {
    let Some(mut tested) = start("etcd 20693", &[]).await? else { return Ok(()) };
    let mut last = 0;
    for n in 0..100 {
        last = tested.put("a", &n.to_string()).await?;
    }
    let mut stream = Stream::open(&tested.client);
    stream.create(watch_of("a", 2)).await?;
    stream.create(watch_of("a", -1)).await?;
    stream.create(watch_of("a", 50)).await?;
    let answers = [stream.answer().await?, stream.answer().await?, stream.answer().await?];
    assert_eq!(answers.clone().map(|answer| answer.watch_id), [0, -1, 1]);
    assert_eq!(answers[1].cancel_reason, EtcdError::Compacted.text());
    for (id, count) in [(0, last - 1), (1, last - 49)] {
        stream.await_revision(id, last).await?;
        assert_eq!(stream.events(id).len() as i64, count);
    }
    Ok(())
}

#[tokio::test]
async fn etcd_21174_many_watchers_below_a_compaction_are_told_once_each() -> Result<()> {
    const WATCHERS: usize = 2000;
    let Some(mut tested) = start("etcd 21174", &[]).await? else { return Ok(()) };
    for n in 0..20 {
        tested.put("a", &n.to_string()).await?;
    }
    tested.compact(15).await?;
    let mut stream = Stream::open(&tested.client);
    let (mut created, mut told) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..WATCHERS {
        stream.create(watch_of("a", 3)).await?;
    }
    while told.len() < WATCHERS {
        let answer = stream.answer().await?;
        if answer.created {
            assert!(created.insert(answer.watch_id), "created twice: {answer:?}");
        } else {
            assert_eq!((answer.canceled, answer.compact_revision), (true, 15));
            assert!(created.contains(&answer.watch_id) && told.insert(answer.watch_id), "told twice: {answer:?}");
        }
    }
    // Whatever was told too often has been told before this.
    stream.create(watch_of("a", 0)).await?;
    let next = stream.answer().await?;
    assert!(next.created, "{next:?}");
    let last = tested.put("a", "live").await?;
    stream.await_revision(next.watch_id, last).await
}

#[tokio::test]
async fn etcd_20590_no_keep_alive_succeeds_after_the_revoke() -> Result<()> {
    let Some(mut tested) = start("etcd 20590", &[]).await? else { return Ok(()) };
    for _ in 0..20 {
        let grant = LeaseGrantRequest { ttl: 60, id: 0 };
        let id = tested.client.lease.lease_grant(grant).await?.into_inner().id;
        tested.client.kv.put(PutRequest { lease: id, ..put_of("held", "x") }).await?;
        let (requests, to_send) = tokio::sync::mpsc::channel(64);
        for _ in 0..32 {
            requests.send(LeaseKeepAliveRequest { id }).await?;
        }
        let mut client = tested.client.lease.clone();
        let renewals = async {
            let mut answers = client.lease_keep_alive(ReceiverStream::new(to_send)).await?.into_inner();
            let mut seen = Vec::new();
            for _ in 0..32 {
                let answer = answers.message().await?.context("the keep-alive stream ended")?;
                seen.push((answer.header.context("no header")?.revision, answer.ttl));
            }
            anyhow::Ok(seen)
        };
        let mut revoker = tested.client.lease.clone();
        let (seen, revoked) = tokio::join!(renewals, revoker.lease_revoke(LeaseRevokeRequest { id }));
        let revoked = revoked?.into_inner().header.context("no header")?.revision;
        for (revision, ttl) in seen? {
            assert!(revision < revoked || ttl == 0, "TTL {ttl} at revision {revision}, revoked at {revoked}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn etcd_22139_nested_puts_count_against_the_quota() -> Result<()> {
    let Some(mut tested) = start("etcd 22139", &["--quota-backend-bytes", "400000"]).await? else { return Ok(()) };
    let value = "x".repeat(100_000);
    let mut refused = None;
    for n in 0..40 {
        let put = Op::RequestPut(put_of(&format!("k{n}"), &value));
        if let Err(status) = tested.client.kv.txn(ops([Op::RequestTxn(ops([put]))])).await {
            refused = Some(status);
            break;
        }
    }
    assert_eq!(refused.context("4 MB fit into a quota of 400 kB")?.message(), EtcdError::NoSpace.text());
    Ok(())
}

#[tokio::test]
async fn etcd_18879_a_client_that_vanishes_with_its_watchers_is_in_nobodys_way() -> Result<()> {
    let Some(mut tested) = start("etcd 18879", &[]).await? else { return Ok(()) };
    for n in 0..20 {
        tested.put("a", &n.to_string()).await?;
    }
    let other = Client::connect(&tested.server.endpoint()).await?;
    let stream = Stream::open(&other);
    for _ in 0..5000 {
        stream.create(watch_of("a", 1)).await?;
    }
    drop((stream, other));
    let (mut stream, id) = tested.watch(watch_of("a", 2)).await?;
    let last = tested.put("a", "last").await?;
    stream.await_revision(id, last).await?;
    assert_eq!(stream.events(id).len() as i64, last - 1);
    Ok(())
}

/// No issue of etcd's: its differential test found it. etcd loses the put and panics on the next read.
#[tokio::test]
async fn compaction_keeps_a_put_that_follows_a_delete_in_one_revision() -> Result<()> {
    let Some(mut tested) = start("delete and put in one revision", &[]).await? else { return Ok(()) };
    tested.put("k", "1").await?;
    let from_key =
        DeleteRangeRequest { key: Bytes::from_static(b"k"), range_end: Bytes::from_static(b"\0"), prev_kv: false };
    let txn = ops([Op::RequestDeleteRange(from_key), Op::RequestPut(put_of("k", "2"))]);
    let revision = tested.client.kv.txn(txn).await?.into_inner().header.context("no header")?.revision;
    tested.put("other", "1").await?;
    tested.compact(revision).await?;
    assert_eq!(tested.value("k").await?, Some(Bytes::from_static(b"2")));
    tested.server.kill();
    tested.server.restart()?;
    tested.client = Client::connect(&tested.server.endpoint()).await?;
    assert_eq!(tested.value("k").await?, Some(Bytes::from_static(b"2")));
    Ok(())
}

/// No issue of etcd's: its checks look at the state before, its put at the state then, and it stops.
#[tokio::test]
async fn a_put_that_ignores_what_was_just_deleted_stops_no_server() -> Result<()> {
    let Some(mut tested) = start("ignore_value after a delete", &[]).await? else { return Ok(()) };
    tested.put("k", "1").await?;
    let from_key =
        DeleteRangeRequest { key: Bytes::from_static(b"k"), range_end: Bytes::from_static(b"\0"), prev_kv: false };
    let ignoring = PutRequest { ignore_value: true, ..put_of("k", "") };
    // Either answer will do, as long as it is whole.
    let answer = tested.client.kv.txn(ops([Op::RequestDeleteRange(from_key), Op::RequestPut(ignoring)])).await;
    let value = tested.value("k").await?;
    match answer {
        Ok(_) => assert_ne!(value, Some(Bytes::from_static(b"1"))),
        Err(_) => assert_eq!(value, Some(Bytes::from_static(b"1"))),
    }
    tested.put("k", "2").await?;
    assert_eq!(tested.value("k").await?, Some(Bytes::from_static(b"2")));
    Ok(())
}
