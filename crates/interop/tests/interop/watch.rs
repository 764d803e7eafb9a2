//! The same watches on Stentor and on each etcd there is, response by response: what the differential test,
//! which looks at answers and events apart, does not see.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use stentor_interop::client::Client;
use stentor_interop::peers::{ETCDS, SERVER, required};
use stentor_interop::process::Server;
use stentor_proto::etcdserverpb::request_op::Request as Op;
use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RequestOp, TxnRequest, WatchCancelRequest,
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use stentor_proto::mvccpb::Event;
use stentor_proto::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

/// For what takes milliseconds, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server, and what a watch stream of it said so far.
struct Side {
    client: Client,
    requests: Option<mpsc::UnboundedSender<WatchRequest>>,
    responses: mpsc::UnboundedReceiver<Result<WatchResponse, Status>>,
    said: Vec<String>,
}

/// An event in short: P or D, its key, its value, its revision and its version; in brackets what was before.
fn short(event: &Event) -> String {
    let kv = event.kv.clone().unwrap_or_default();
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let kind = if event.r#type == EventType::Put as i32 { 'P' } else { 'D' };
    let before = event.prev_kv.as_ref().map(|kv| format!(" [{}@{}]", text(&kv.value), kv.mod_revision));
    let (key, value) = (text(&kv.key), text(&kv.value));
    let revisions = format!("{}/{}/{}", kv.create_revision, kv.mod_revision, kv.version);
    format!("{kind} {key}={value} {revisions}{}", before.unwrap_or_default())
}

fn line(response: &WatchResponse) -> String {
    let WatchResponse { watch_id, created, canceled, compact_revision, cancel_reason, events, .. } = response;
    let revision = response.header.unwrap_or_default().revision;
    match (created, canceled, events.is_empty()) {
        (true, true, _) => format!("{watch_id} refused: {cancel_reason}"),
        (true, false, _) => format!("{watch_id} created @{revision}"),
        // The header of a cancel by compaction is 0 in etcd.
        (false, true, _) if *compact_revision != 0 => format!("{watch_id} compacted {compact_revision}"),
        (false, true, _) => format!("{watch_id} canceled @{revision} {cancel_reason}"),
        (false, false, true) => format!("{watch_id} note @{revision}"),
        _ => format!("{watch_id}: {}", events.iter().map(short).collect::<Vec<_>>().join(", ")),
    }
}

impl Side {
    async fn open(server: &Server) -> Result<Side> {
        let client = Client::connect(&server.endpoint()).await?;
        let (requests, responses) = Side::stream(&client);
        Ok(Side { client, requests: Some(requests), responses, said: Vec::new() })
    }

    fn stream(
        client: &Client,
    ) -> (mpsc::UnboundedSender<WatchRequest>, mpsc::UnboundedReceiver<Result<WatchResponse, Status>>) {
        let (requests, to_send) = mpsc::unbounded_channel();
        let (received, responses) = mpsc::unbounded_channel();
        let mut watch = client.watch.clone();
        // In a task of its own: etcd sends no headers before its first answer.
        tokio::spawn(async move {
            let mut stream = match watch.watch(UnboundedReceiverStream::new(to_send)).await {
                Ok(answer) => answer.into_inner(),
                Err(status) => return drop(received.send(Err(status))),
            };
            while let Some(response) = stream.message().await.transpose() {
                if received.send(response).is_err() {
                    return;
                }
            }
        });
        (requests, responses)
    }

    /// Goes on with a new stream.
    fn again(&mut self) {
        let (requests, responses) = Side::stream(&self.client);
        (self.requests, self.responses) = (Some(requests), responses);
    }

    fn send(&self, request_union: Option<RequestUnion>) -> Result<()> {
        Ok(self.requests.as_ref().context("half-closed")?.send(WatchRequest { request_union })?)
    }

    fn create(&self, create: WatchCreateRequest) -> Result<()> {
        self.send(Some(RequestUnion::CreateRequest(create)))
    }

    fn cancel(&self, watch_id: i64) -> Result<()> {
        self.send(Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })))
    }

    async fn response(&mut self) -> Result<WatchResponse> {
        let next = tokio::time::timeout(PATIENCE, self.responses.recv()).await;
        let next = next.with_context(|| format!("nothing came after {:#?}", self.said))?;
        Ok(next.context("the stream ended")??)
    }

    /// Takes so many responses down.
    async fn hear(&mut self, responses: usize) -> Result<()> {
        for _ in 0..responses {
            let response = self.response().await?;
            self.said.push(line(&response));
        }
        Ok(())
    }

    /// Takes so many responses down that no order is promised of.
    async fn hear_any_order(&mut self, responses: usize) -> Result<()> {
        let before = self.said.len();
        self.hear(responses).await?;
        self.said[before..].sort();
        Ok(())
    }

    async fn put(&mut self, key: &str, value: &str) -> Result<()> {
        self.client.kv.put(put(key, value)).await?;
        Ok(())
    }

    async fn delete(&mut self, key: &str, end: &str) -> Result<()> {
        let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
        self.client.kv.delete_range(DeleteRangeRequest { key, range_end, prev_kv: false }).await?;
        Ok(())
    }

    async fn txn(&mut self, ops: impl IntoIterator<Item = Op>) -> Result<()> {
        let success = ops.into_iter().map(|op| RequestOp { request: Some(op) }).collect();
        self.client.kv.txn(TxnRequest { success, ..TxnRequest::default() }).await?;
        Ok(())
    }
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() }
}

fn range(key: &[u8], end: &[u8], start_revision: i64) -> WatchCreateRequest {
    let (key, range_end) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(end));
    WatchCreateRequest { key, range_end, start_revision, ..WatchCreateRequest::default() }
}

fn with_prev_kv(create: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest { prev_kv: true, ..create }
}

async fn half_closed(side: &mut Side) -> Result<()> {
    side.create(range(b"a", b"", 0))?;
    side.hear(1).await?;
    side.requests = None;
    for value in ["1", "2", "3"] {
        side.put("a", value).await?;
        side.hear(1).await?;
    }
    Ok(())
}

async fn ids_cancels_and_refusals(side: &mut Side) -> Result<()> {
    let with_id = |watch_id| WatchCreateRequest { watch_id, ..range(b"a", b"", 0) };
    side.send(None)?;
    for create in [with_id(0), with_id(7), with_id(7), range(b"b", b"a", 0), with_id(-5), with_id(0)] {
        side.create(create)?;
    }
    side.hear(6).await?;
    for id in [0, 0, 99, 7] {
        side.cancel(id)?;
    }
    side.hear(2).await?;
    side.create(with_id(7))?;
    side.create(with_id(0))?;
    side.hear(2).await?;
    side.put("a", "v").await?;
    side.hear_any_order(4).await
}

async fn ranges(side: &mut Side) -> Result<()> {
    let ranges: [(&[u8], &[u8]); 8] = [
        (b"a", b""),
        (b"a", b"c"),
        (b"a", b"\0"),
        (b"", b"\0"),
        (b"", b""),
        (b"\xff", b"\0"),
        (b"\xff", b"\xff\xff"),
        (b"b", b"c"),
    ];
    for (key, end) in ranges {
        side.create(range(key, end, 0))?;
    }
    side.hear(ranges.len()).await?;
    for key in [&b"a"[..], b"b", b"c", b"\0", b"\xff", b"\xff\xff"] {
        let put = PutRequest { key: Bytes::copy_from_slice(key), ..put("", "v") };
        side.client.kv.put(put).await?;
        let matching = ranges.iter().filter(|(start, end)| match (*start, *end) {
            (b"", b"") => key == b"\0",
            (start, b"") => key == start,
            (start, b"\0") => key >= start,
            (start, end) => key >= start && key < end,
        });
        side.hear_any_order(matching.count()).await?;
    }
    Ok(())
}

async fn changes(side: &mut Side) -> Result<()> {
    side.create(with_prev_kv(range(b"a", b"z", 0)))?;
    side.hear(1).await?;
    // One after the other: a response may hold several revisions.
    for key in ["b", "b", "a"] {
        side.put(key, "1").await?;
        side.delete("nothing", "").await?;
        side.hear(1).await?;
    }
    let delete = |key: &str, end: &str| {
        let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
        Op::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false })
    };
    side.txn([Op::RequestPut(put("d", "2")), delete("b", ""), Op::RequestPut(put("c", "2"))]).await?;
    side.hear(1).await?;
    side.delete("a", "d").await?;
    side.hear(1).await?;
    let leased = || ["y", "x"].map(|key| Op::RequestPut(PutRequest { lease: 7, ..put(key, "leased") }));
    side.client.lease.lease_grant(LeaseGrantRequest { id: 7, ttl: 1 }).await?;
    while side.txn(leased()).await.is_err() {
        // The machine stood still, and it has expired without a trace.
        side.client.lease.lease_grant(LeaseGrantRequest { id: 7, ttl: 1 }).await?;
    }
    side.hear(2).await
}

async fn compaction(side: &mut Side) -> Result<()> {
    for value in ["1", "2", "3"] {
        side.put("a", value).await?;
    }
    side.delete("a", "").await?;
    side.put("a", "4").await?;
    side.client.kv.compact(CompactionRequest { revision: 4, physical: true }).await?;
    side.create(range(b"a", b"", 3))?;
    side.hear(2).await?;
    // One of the answer, one of the replay.
    for start in [4, 5, 6] {
        side.again();
        side.create(range(b"a", b"", start))?;
        side.hear(2).await?;
    }
    Ok(())
}

async fn filters(side: &mut Side) -> Result<()> {
    for filters in [vec![0], vec![1], vec![0, 1], vec![7]] {
        side.create(WatchCreateRequest { filters, ..range(b"a", b"", 0) })?;
    }
    side.hear(4).await?;
    for _ in 0..2 {
        side.put("a", "v").await?;
        side.hear_any_order(2).await?;
        side.delete("a", "").await?;
        side.hear_any_order(2).await?;
    }
    side.send(Some(RequestUnion::ProgressRequest(WatchProgressRequest {})))?;
    side.hear(1).await
}

/// One revision larger than the limit: how it is cut differs, what the parts say together does not.
async fn fragments(side: &mut Side) -> Result<()> {
    const LIMIT: usize = 2 << 20;
    let value = "v".repeat(15_000);
    let fragment = |fragment| WatchCreateRequest { fragment, ..with_prev_kv(range(b"k", b"l", 0)) };
    side.create(fragment(true))?;
    side.hear(1).await?;
    let puts = || (0..100).map(|n| Op::RequestPut(put(&format!("k{n:02}"), &value)));
    for _ in 0..2 {
        side.txn(puts()).await?;
        let (mut events, mut parts, mut more) = (Vec::new(), 0, true);
        while more {
            let part = side.response().await?;
            ensure!(prost::Message::encoded_len(&part) < LIMIT && !part.events.is_empty(), "part {parts}");
            (parts, more) = (parts + 1, part.fragment);
            events.extend(part.events);
        }
        let keys: Vec<_> = events.iter().filter_map(|event| Some(event.kv.as_ref()?.key.clone())).collect();
        ensure!(keys.is_sorted() && keys.len() == 100, "{keys:?}");
        let before = events.iter().filter(|event| event.prev_kv.is_some()).count();
        side.said.push(format!("split: {}, previous values: {before}", parts > 1));
    }
    Ok(())
}

/// What is quiet is told the store's revision now and then, under its own id.
async fn periodic_notes(side: &mut Side) -> Result<()> {
    side.create(range(b"quiet", b"", 0))?;
    side.create(WatchCreateRequest { progress_notify: true, ..range(b"quiet", b"", 0) })?;
    side.hear(2).await?;
    side.put("other", "v").await?;
    let mut told = 0;
    while told < 2 {
        let note = side.response().await?;
        ensure!(note.watch_id == 1 && note.events.is_empty() && !note.created && !note.canceled, "{note:?}");
        told = note.header.unwrap_or_default().revision;
    }
    side.said.push(format!("told {told}"));
    Ok(())
}

/// What a server says in all of that, each on an empty store.
async fn all(binary: &Path) -> Result<Vec<(&'static str, Vec<String>)>> {
    let mut all = Vec::new();
    macro_rules! say {
        ($($scenario:ident),*) => {$({
            let server = Server::start(binary, &["--watch-progress-notify-interval=100ms", "--unsafe-no-fsync"]);
            // Before 3.6 etcd knows that only by another name.
            let server = server.or_else(|_| {
                let old = ["--experimental-watch-progress-notify-interval=100ms", "--unsafe-no-fsync"];
                Server::start(binary, &old)
            })?;
            let mut side = Side::open(&server).await?;
            let name = stringify!($scenario);
            $scenario(&mut side).await.with_context(|| format!("{name} on {}, after {:#?}", binary.display(), side.said))?;
            all.push((name, side.said));
        })*};
    }
    say!(half_closed, ids_cancels_and_refusals, ranges, changes, compaction, filters, fragments, periodic_notes);
    Ok(all)
}

async fn beside(variable: &str) -> Result<()> {
    let test = format!("watches beside {variable}");
    let (Some(server), Some(etcd)) = (required(SERVER, &test), required(variable, &test)) else { return Ok(()) };
    let (ours, theirs) = (all(&server).await?, all(&etcd).await?);
    for ((name, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs, "{name}: left is ours, right is that of {}", etcd.display());
    }
    assert_eq!(ours.len(), theirs.len());
    Ok(())
}

#[tokio::test]
async fn responses_are_those_of_etcd_3_5() -> Result<()> {
    beside(ETCDS[1]).await
}

#[tokio::test]
async fn responses_are_those_of_etcd_3_7() -> Result<()> {
    beside(ETCDS[2]).await
}
