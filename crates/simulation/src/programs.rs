//! The programs that write and read, through any member, and what each of them was answered.

use std::time::Duration;

use bytes::Bytes;
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::response_op::Response;
use stentor_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
    compare,
};
use stentor_proto::mvccpb::KeyValue;
use tonic::Status;
use tonic::transport::Channel;

use crate::calls::{Calls, answer};
use crate::history::{Answer, Ask, Keys, Pairs};
use crate::log::Pair;
use crate::random::Random;
use crate::workload::Workload;
use crate::world::World;

/// Runs one program until the run closes.
pub(crate) async fn run(world: World, name: String, calls: Calls, mut workload: Workload, mut random: Random) {
    for number in 0.. {
        let longest = if random.one_in(20) { 3_000 } else { 300 };
        // Now and then many at once.
        let pause = if random.one_in(4) { Duration::ZERO } else { random.millis(0, longest) };
        tokio::time::sleep(pause).await;
        let member = world.lock().some_host(&mut random);
        let Ok(channel) = calls.to(member) else { return };
        let kv = KvClient::new(channel);
        let compaction = workload.compaction(&world.lock().log);
        if let Some(revision) = compaction {
            compact(&world, kv.clone(), revision).await;
        }
        let Some((at, ask)) = draw(&world, &mut workload, &format!("{name}.{number} by m{member}")) else { return };
        let answered = perform(kv, &ask).await;
        let mut state = world.lock();
        match answered {
            Ok((revision, answer)) => {
                state.reached.count_answer(&ask, &answer);
                state.history.answer(at, revision, answer);
            }
            Err(error) => {
                state.reached.calls_failed += 1;
                state.note(crate::world::now(), format_args!("{name}.{number} by m{member}: {}", error.message()));
            }
        }
    }
}

/// The next operation and its place; none once nothing more is written.
fn draw(world: &World, workload: &mut Workload, name: &str) -> Option<(usize, Ask)> {
    let mut state = world.lock();
    if state.quiet {
        return None;
    }
    let place = state.history.operations.len();
    let ask = workload.next(&state.log, place);
    Some((state.history.ask(name.to_owned(), ask.clone()), ask))
}

async fn compact(world: &World, mut kv: KvClient<Channel>, revision: i64) {
    // What it did shows in the stores.
    if answer(kv.compact(CompactionRequest { revision, physical: false })).await.is_ok() {
        world.lock().reached.compactions += 1;
    }
}

/// Does one operation; returns its revision and its answer.
pub(crate) async fn perform(mut kv: KvClient<Channel>, ask: &Ask) -> Result<(i64, Answer), Status> {
    let (header, done) = match ask.clone() {
        Ask::Put { key, value, lease } => {
            let put = PutRequest { key: key.into(), value, lease, ..PutRequest::default() };
            (answer(kv.put(put)).await?.header, Answer::Done)
        }
        Ask::Delete(keys) => {
            let (key, range_end) = range(keys);
            let request = DeleteRangeRequest { key, range_end, ..DeleteRangeRequest::default() };
            let response = answer(kv.delete_range(request)).await?;
            (response.header, Answer::Deleted(response.deleted))
        }
        Ask::Read { keys, serializable } => {
            let (key, range_end) = range(keys);
            let request = RangeRequest { key, range_end, serializable, ..RangeRequest::default() };
            let response = answer(kv.range(request)).await?;
            (response.header, Answer::Read(pairs(response.kvs)?))
        }
        Ask::Txn { key, unless_changed_after, writes } => {
            let response = answer(kv.txn(txn(key, unless_changed_after, writes))).await?;
            (response.header, outcome(response)?)
        }
        Ask::Revoke(_) => return Err(Status::internal("that is no call of KV")),
    };
    Ok((header.unwrap_or_default().revision, done))
}

fn txn(key: String, modified: i64, writes: Vec<(String, Option<Bytes>)>) -> TxnRequest {
    let compare = Compare {
        key: key.clone().into(),
        target: compare::CompareTarget::Mod.into(),
        result: compare::CompareResult::Equal.into(),
        target_union: Some(compare::TargetUnion::ModRevision(modified)),
        ..Compare::default()
    };
    let write = |(key, value): (String, Option<Bytes>)| match value {
        Some(value) => Request::RequestPut(PutRequest { key: key.into(), value, ..PutRequest::default() }),
        None => Request::RequestDeleteRange(DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() }),
    };
    let op = |request| RequestOp { request: Some(request) };
    TxnRequest {
        compare: vec![compare],
        success: writes.into_iter().map(write).map(op).collect(),
        failure: vec![op(Request::RequestRange(RangeRequest { key: key.into(), ..RangeRequest::default() }))],
    }
}

fn outcome(response: TxnResponse) -> Result<Answer, Status> {
    let responses = response.responses.into_iter().filter_map(|one| one.response);
    if response.succeeded {
        let mut responses = responses;
        let did = |one| match one {
            Response::ResponsePut(_) => true,
            Response::ResponseDeleteRange(deleted) => deleted.deleted > 0,
            _ => false,
        };
        return Ok(Answer::Txn(Ok(responses.any(did))));
    }
    let read =
        responses.filter_map(|one| if let Response::ResponseRange(range) = one { Some(range.kvs) } else { None });
    Ok(Answer::Txn(Err(pairs(read.flatten().collect())?)))
}

fn range(keys: Keys) -> (Bytes, Bytes) {
    match keys {
        Keys::One(key) => (key.into(), Bytes::new()),
        // No key holds a character this high.
        Keys::Prefix(prefix) if prefix.is_empty() => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        Keys::Prefix(prefix) => (prefix.clone().into(), format!("{prefix}\u{7f}").into()),
    }
}

fn pairs(read: Vec<KeyValue>) -> Result<Pairs, Status> {
    let pair = |kv: KeyValue| {
        let key = String::from_utf8(kv.key.to_vec()).map_err(|error| Status::internal(error.to_string()))?;
        let pair = Pair {
            value: kv.value,
            created: kv.create_revision,
            modified: kv.mod_revision,
            version: u64::try_from(kv.version).unwrap_or_default(),
            lease: kv.lease,
        };
        Ok((key, pair))
    };
    read.into_iter().map(pair).collect()
}
