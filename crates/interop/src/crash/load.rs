//! The load under which the server is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stentor_proto::etcdserverpb::request_op::Request as Op;
use stentor_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RequestOp,
    ResponseHeader, TxnRequest, WatchCreateRequest,
};
use stentor_proto::mvccpb::Event;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;

use super::journal::{Change, Journal};
use crate::client::Client;
use crate::stream::Stream;

const WRITERS: u64 = 5;
/// Keys a writer changes.
const KEYS: u64 = 12;
/// Seconds: no lease expires while the test runs.
const TTL: i64 = 100_000;

/// A hash that the server told before it was killed.
#[derive(Clone, Debug)]
pub(crate) struct Hash {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) hash: u32,
}

/// What the load has sent and seen, once the server is gone.
pub(crate) struct Found {
    pub(crate) journal: Journal,
    pub(super) events: Vec<Event>,
    pub(super) hashes: Vec<Hash>,
    /// The highest revision that the server said it has compacted.
    pub(super) compacted: i64,
}

/// The load, until the server is killed.
pub(crate) struct Load {
    writers: Vec<JoinHandle<Result<Journal>>>,
    keeper: JoinHandle<(Vec<Hash>, i64)>,
    watcher: JoinHandle<Result<Vec<Event>>>,
}

/// Fills a store, so that compaction and defragmentation have something to do.
pub(crate) async fn fill(client: &mut Client, journal: &mut Journal) -> Result<()> {
    for batch in 0..60 {
        let changes: Vec<Change> =
            (0..50).map(|n| (key("fill", batch * 50 + n), Some(vec![b'f'; 400].into()))).collect();
        let revision = transaction(client, &changes, 0).await.context("filling the store")?;
        journal.add(changes, Some(revision));
    }
    Ok(())
}

/// Starts the load. The watcher is there when this returns.
pub(crate) async fn start(endpoint: &str, round: u64, seed: u64) -> Result<Load> {
    let newest = Arc::new(AtomicI64::new(0));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let client = Client::connect(endpoint).await?;
        let rng = StdRng::seed_from_u64(seed.wrapping_add(writer + 1));
        let writer = Writer { client, rng, name: format!("w{writer}"), round, sent: 0, lease: 0, last: 0 };
        writers.push(tokio::spawn(writer.run(Arc::clone(&newest))));
    }
    let keeper = tokio::spawn(keep(Client::connect(endpoint).await?, newest));
    let (created, is_created) = oneshot::channel();
    let watcher = tokio::spawn(watch(Client::connect(endpoint).await?, created));
    // If not, it says why at the end.
    let _ = is_created.await;
    Ok(Load { writers, keeper, watcher })
}

impl Load {
    /// Collects what was sent and seen. The server must be gone.
    pub(crate) async fn finish(self) -> Result<Found> {
        let mut journal = Journal::default();
        for writer in self.writers {
            journal.extend(writer.await??);
        }
        let (hashes, compacted) = self.keeper.await?;
        Ok(Found { journal, events: self.watcher.await??, hashes, compacted })
    }
}

struct Writer {
    client: Client,
    rng: StdRng,
    name: String,
    round: u64,
    sent: u64,
    lease: i64,
    /// The last revision that it was told.
    last: i64,
}

impl Writer {
    /// Writes until the server is gone.
    async fn run(mut self, newest: Arc<AtomicI64>) -> Result<Journal> {
        let mut journal = Journal::default();
        loop {
            if self.rng.random_range(0..40) == 0 && !self.change_lease(&mut journal).await {
                return Ok(journal);
            }
            let changes = self.changes();
            let lease = if self.rng.random_range(0..3) == 0 { self.lease } else { 0 };
            match self.write(&changes, lease).await {
                Ok(Some(revision)) => {
                    ensure!(revision > self.last, "revision {revision} after {}", self.last);
                    self.last = revision;
                    newest.fetch_max(revision, Ordering::Relaxed);
                    journal.add(changes, Some(revision));
                }
                Ok(None) => {}
                Err(_) => {
                    journal.add(changes, None);
                    return Ok(journal);
                }
            }
        }
    }

    fn changes(&mut self) -> Vec<Change> {
        let count = if self.rng.random_range(0..3) == 0 { 3 } else { 1 };
        let first = self.rng.random_range(0..KEYS);
        let delete = self.rng.random_range(0..5) == 0;
        let mut changes = Vec::new();
        for n in 0..count {
            self.sent += 1;
            let value = format!("{} {} {} {}", self.name, self.round, self.sent, "x".repeat(100));
            let value = (!delete || count > 1).then(|| Bytes::from(value));
            changes.push((key(&self.name, (first + n) % KEYS), value));
        }
        changes
    }

    /// The revision of the write, or none when it changed nothing.
    async fn write(&mut self, changes: &[Change], lease: i64) -> Result<Option<i64>> {
        match changes {
            [(key, None)] => {
                let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
                let answer = self.client.kv.delete_range(delete).await?.into_inner();
                Ok((answer.deleted > 0).then_some(revision(answer.header)?))
            }
            [(key, Some(value))] => {
                let put = PutRequest { key: key.clone(), value: value.clone(), lease, ..PutRequest::default() };
                Ok(Some(revision(self.client.kv.put(put).await?.into_inner().header)?))
            }
            _ => Ok(Some(transaction(&mut self.client, changes, lease).await?)),
        }
    }

    /// Revokes the lease it has, if any, and grants another; false when the server is gone.
    async fn change_lease(&mut self, journal: &mut Journal) -> bool {
        if self.lease != 0 {
            journal.leases.remove(&self.lease);
            let id = std::mem::take(&mut self.lease);
            if self.client.lease.lease_revoke(LeaseRevokeRequest { id }).await.is_err() {
                // Its keys may be gone: deletes that nobody has acknowledged.
                journal.add((0..KEYS).map(|n| (key(&self.name, n), None)).collect(), None);
                return false;
            }
            journal.add((0..KEYS).map(|n| (key(&self.name, n), None)).collect(), None);
        }
        let Ok(granted) = self.client.lease.lease_grant(LeaseGrantRequest { ttl: TTL, id: 0 }).await else {
            return false;
        };
        self.lease = granted.into_inner().id;
        journal.leases.insert(self.lease);
        true
    }
}

/// Compacts and asks for hashes until the server is gone.
async fn keep(mut client: Client, newest: Arc<AtomicI64>) -> (Vec<Hash>, i64) {
    let mut hashes = Vec::new();
    let mut compacted = 0;
    loop {
        let newest = newest.load(Ordering::Relaxed);
        // Hashes of one revision before and after a compaction are not the same.
        if newest > compacted + 600 {
            let revision = newest - 200;
            match client.kv.compact(CompactionRequest { revision, physical: false }).await {
                Ok(_) => compacted = revision,
                // Others compact as well.
                Err(status) if status.code() == Code::OutOfRange => compacted = compacted.max(revision),
                Err(_) => return (hashes, compacted),
            }
            hashes.clear();
        }
        let answer = match client.maintenance.hash_kv(HashKvRequest { revision: newest }).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::OutOfRange => continue,
            Err(_) => return (hashes, compacted),
        };
        let revision = if newest == 0 { answer.hash_revision } else { newest };
        hashes.push(Hash { revision, compacted: answer.compact_revision, hash: answer.hash });
        if hashes.len() > 20 {
            hashes.remove(0);
        }
        tokio::task::yield_now().await;
    }
}

/// Everything that a watcher is told until the server is gone.
async fn watch(client: Client, created: oneshot::Sender<()>) -> Result<Vec<Event>> {
    let mut stream = Stream::open(&client);
    let everything = Bytes::from_static(b"\0");
    let create = WatchCreateRequest { key: everything.clone(), range_end: everything, ..WatchCreateRequest::default() };
    stream.create(create).await?;
    let id = stream.answer().await?.watch_id;
    // Whoever started the load may have given up.
    let _ = created.send(());
    stream.until_it_ends().await;
    ensure!(stream.violations().is_empty(), "the watch: {:?}", stream.violations());
    Ok(stream.events(id).to_vec())
}

async fn transaction(client: &mut Client, changes: &[Change], lease: i64) -> Result<i64> {
    let ops = changes.iter().map(|(key, value)| {
        let put = |value: &Bytes| PutRequest { key: key.clone(), value: value.clone(), lease, ..PutRequest::default() };
        let delete = || DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
        let op = value.as_ref().map_or_else(|| Op::RequestDeleteRange(delete()), |value| Op::RequestPut(put(value)));
        RequestOp { request: Some(op) }
    });
    let txn = TxnRequest { success: ops.collect(), ..TxnRequest::default() };
    revision(client.kv.txn(txn).await?.into_inner().header)
}

fn revision(header: Option<ResponseHeader>) -> Result<i64> {
    Ok(header.context("an answer without a header")?.revision)
}

fn key(name: &str, n: u64) -> Bytes {
    format!("{name}/{n}").into()
}
