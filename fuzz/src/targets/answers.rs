//! What a server sends to the client library: HTTP/2 and gRPC, down to the messages of answers.

use std::io;
use std::time::Duration;

use prost::Message;
use stentor_client::{Client, ErrorKind, KeyRange, Revision, Watch, WatchItem};
use stentor_proto::etcdserverpb::{RangeResponse, ResponseHeader, WatchResponse};
use stentor_proto::mvccpb::{Event, KeyValue, event::EventType};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::http2;
use crate::{Outcome, Target};

/// Input: a byte for what is asked (a key, or a watch), then the bytes of every connection from its server,
/// sent once it was asked; then it only listens.
pub const ANSWERS: Target = Target { name: "answers", decode, samples, refuses: true, cost: 40 };

/// By tokio's clock, which goes on when nothing is left to do.
const PATIENCE: Duration = Duration::from_secs(2);
/// The client has asked when it is silent for so long.
const SILENCE: Duration = Duration::from_millis(1);
/// Bytes on their way in each direction.
const PIPE_BYTES: usize = 1 << 20;
const GET: u8 = 0;
const WATCH: u8 = 1;

fn decode(bytes: &[u8]) -> Outcome {
    let Some((asked, bytes)) = bytes.split_first() else { return Outcome::Refused };
    let panics = crate::panics();
    let answered = match tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build() {
        Ok(runtime) => runtime.block_on(ask(*asked, bytes.to_vec())),
        Err(e) => unreachable!("no runtime: {e}"),
    };
    // A panic of a task does not end the process: it is counted.
    assert_eq!(crate::panics(), panics, "the client panics");
    if answered { Outcome::Accepted } else { Outcome::Refused }
}

/// Whether the client took the answers for something.
async fn ask(asked: u8, bytes: Vec<u8>) -> bool {
    let connect = move |_| {
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        tokio::spawn(serve(server, bytes.clone()));
        async { Ok::<_, io::Error>(client) }
    };
    let builder = Client::builder(["a:1"]).connector(connect).seed(1).call_timeout(PATIENCE).try_timeout(PATIENCE / 2);
    let Ok(client) = builder.build() else { return false };
    if asked % 2 == GET {
        return client.get("a").await.is_ok();
    }
    // A revision to begin at spares the read that finds out where "now" is.
    match client.watch(KeyRange::all()).from(Revision::FIRST).prev_kv().progress().await {
        Ok(watch) => tokio::time::timeout(PATIENCE, follow(watch)).await.unwrap_or(true),
        Err(error) => matches!(error.kind(), ErrorKind::Compacted { .. }),
    }
}

/// Whatever a server sends, revisions are told whole, in order and once.
async fn follow(mut watch: Watch) -> bool {
    let mut reached = Revision::ZERO;
    while let Some(Ok(item)) = watch.next().await {
        match item {
            WatchItem::Events(batch) => {
                for (revision, events) in batch.revisions() {
                    assert!(revision > reached && !events.is_empty(), "{revision} after {reached}");
                    reached = revision;
                }
            }
            WatchItem::Progress(revision) => {
                assert!(revision >= reached, "a note of {revision} after {reached}");
                reached = revision;
            }
            _ => {}
        }
    }
    true
}

async fn serve(mut pipe: DuplexStream, bytes: Vec<u8>) {
    let mut ignored = vec![0; 4 << 10];
    // An answer is one only after the request.
    while let Ok(Ok(1..)) = tokio::time::timeout(SILENCE, pipe.read(&mut ignored)).await {}
    // The client hangs up on what it cannot read.
    let _ = pipe.write_all(&bytes).await;
    while let Ok(1..) = pipe.read(&mut ignored).await {}
}

fn samples() -> Vec<Vec<u8>> {
    let header = |revision| Some(ResponseHeader { cluster_id: 7, member_id: 8, revision, raft_term: 2 });
    let pair = |revision| KeyValue {
        key: "a".into(),
        value: "1".into(),
        create_revision: 2,
        mod_revision: revision,
        version: revision - 1,
        lease: 0,
    };
    let range = RangeResponse { header: header(3), kvs: vec![pair(3)], more: false, count: 1 };
    let put = |revision| Event {
        r#type: EventType::Put as i32,
        kv: Some(pair(revision)),
        prev_kv: (revision > 2).then(|| pair(revision - 1)),
    };
    let created = WatchResponse { header: header(1), created: true, ..WatchResponse::default() };
    let events = |revisions: &[i64], fragment| WatchResponse {
        header: header(9),
        events: revisions.iter().map(|revision| put(*revision)).collect(),
        fragment,
        ..WatchResponse::default()
    };
    let note = WatchResponse { header: header(9), watch_id: -1, ..WatchResponse::default() };
    let compacted =
        WatchResponse { header: header(9), canceled: true, compact_revision: 5, ..WatchResponse::default() };
    vec![
        call(GET, &[range.encode_to_vec()], Some("0")),
        call(GET, &[RangeResponse { header: header(3), ..RangeResponse::default() }.encode_to_vec()], Some("0")),
        call(WATCH, &[created.encode_to_vec(), events(&[2, 3, 4], false).encode_to_vec()], None),
        call(WATCH, &[&created, &events(&[2], true), &events(&[2, 3], false), &note].map(Message::encode_to_vec), None),
        call(WATCH, &[created.encode_to_vec(), compacted.encode_to_vec()], Some("0")),
    ]
}

/// What is asked, and a connection of HTTP/2 that answers its first call.
fn call(asked: u8, messages: &[Vec<u8>], status: Option<&str>) -> Vec<u8> {
    let head = http2::headers(1, &[(":status", "200"), ("content-type", "application/grpc")], false);
    let body: Vec<u8> = messages.iter().flat_map(|message| http2::message(message)).collect();
    let tail = status.map(|status| http2::headers(1, &[("grpc-status", status)], true)).unwrap_or_default();
    [&[asked][..], &http2::settings(), &head, &http2::data(1, &body, false), &tail].concat()
}
