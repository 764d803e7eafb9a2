//! Writers, readers, watchers and leases, through all members.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stentor_proto::etcdserverpb::request_op::Request as Op;
use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, PutRequest,
    RangeRequest, RequestOp, ResponseHeader, TxnRequest, WatchCreateRequest, WatchRequest,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::check::{History, Read, put};
use crate::client::Client;
use crate::crash::journal::{Change, Journal};

const WRITERS: u64 = 4;
/// Keys of each writer.
const KEYS: u64 = 12;
/// How long a member may take to answer before another is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two requests of one caller, at most: what it has to remember is bounded by time, not by speed.
const PACE: u64 = 8;
/// Seconds; longer than any fault lasts.
const KEPT_TTL: i64 = 30;
/// Revisions that are never compacted away.
const KEEP: i64 = 500;

/// What all callers share.
pub(super) struct Shared {
    clients: Vec<Client>,
    /// The highest revision that anybody was told.
    newest: AtomicI64,
    over: AtomicBool,
    pub(super) history: Mutex<History>,
    /// The next revision that each member's watcher waits for.
    next: Vec<AtomicI64>,
    pub(super) reconnects: AtomicI64,
    pub(super) compactions: AtomicI64,
    pub(super) ended: AtomicI64,
}

/// The load, until it is told to stop.
pub(super) struct Load {
    pub(super) shared: Arc<Shared>,
    writers: Vec<JoinHandle<Result<Journal>>>,
    leases: JoinHandle<Result<Journal>>,
    readers: Vec<JoinHandle<Result<Vec<Read>>>>,
    watchers: Vec<JoinHandle<Result<()>>>,
    compacter: JoinHandle<()>,
}

/// What was sent and told.
pub(super) struct Found {
    pub(super) journal: Journal,
    pub(super) reads: Vec<Read>,
}

pub(super) fn start(clients: &[Client], seed: u64) -> Load {
    let shared = Arc::new(Shared {
        clients: clients.to_vec(),
        newest: AtomicI64::new(1),
        over: AtomicBool::new(false),
        history: Mutex::default(),
        next: clients.iter().map(|_| AtomicI64::new(2)).collect(),
        reconnects: AtomicI64::new(0),
        compactions: AtomicI64::new(0),
        ended: AtomicI64::new(0),
    });
    let caller = |n: u64| Caller { shared: Arc::clone(&shared), rng: StdRng::seed_from_u64(seed.wrapping_add(n)) };
    Load {
        writers: (0..WRITERS).map(|n| tokio::spawn(write(caller(n), n))).collect(),
        leases: tokio::spawn(keep_leases(caller(100))),
        readers: (0..2).map(|n| tokio::spawn(read(caller(200 + n)))).collect(),
        watchers: (0..clients.len()).map(|n| tokio::spawn(watch(Arc::clone(&shared), n))).collect(),
        compacter: tokio::spawn(compact(caller(300))),
        shared,
    }
}

impl Load {
    /// An error when a caller has found one.
    pub(super) async fn check(&mut self) -> Result<()> {
        for watcher in self.watchers.iter_mut().filter(|task| task.is_finished()) {
            watcher.await??;
        }
        ensure!(self.writers.iter().all(|task| !task.is_finished()), "a writer has stopped");
        ensure!(self.readers.iter().all(|task| !task.is_finished()), "a reader has stopped");
        ensure!(!self.leases.is_finished(), "whoever keeps leases has stopped");
        Ok(())
    }

    /// Ends the load, and the watchers once they have had everything up to what `newest` says then.
    pub(super) async fn finish(mut self) -> Result<Found> {
        self.shared.over.store(true, Ordering::SeqCst);
        let mut journal = self.leases.await??;
        for writer in self.writers {
            journal.extend(writer.await??);
        }
        let mut reads = Vec::new();
        for reader in self.readers {
            reads.extend(reader.await??);
        }
        self.compacter.abort();
        others_end(&self.shared.clients, &journal).await?;
        let newest = revision_of(&mut self.shared.clients.clone()).await?;
        let deadline = Instant::now() + Duration::from_secs(60);
        for (n, next) in self.shared.next.iter().enumerate() {
            while next.load(Ordering::SeqCst) <= newest {
                if let Some(watcher) = self.watchers.get_mut(n).filter(|task| task.is_finished()) {
                    watcher.await??;
                }
                let next = next.load(Ordering::SeqCst);
                ensure!(Instant::now() < deadline, "the watcher of member {n} waits for {next}, {newest} is there");
                sleep(Duration::from_millis(20)).await;
            }
        }
        self.watchers.iter().for_each(JoinHandle::abort);
        Ok(Found { journal, reads })
    }
}

/// Waits until no lease is left but those kept alive, which it keeps alive.
async fn others_end(clients: &[Client], journal: &Journal) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    for client in clients {
        let mut client = client.clone();
        loop {
            for id in journal.leases.iter().copied() {
                let left = keep_alive(&mut client, id).await;
                ensure!(left.is_none_or(|left| left > 0), "lease {id:x} was kept alive and is gone");
            }
            let leases = client.lease.lease_leases(LeaseLeasesRequest {}).await?.into_inner().leases;
            if leases.iter().all(|lease| journal.leases.contains(&lease.id)) {
                break;
            }
            ensure!(Instant::now() < deadline, "nobody keeps these leases alive, and they do not end: {leases:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

async fn revision_of(clients: &mut [Client]) -> Result<i64> {
    let mut newest = 0;
    for client in clients {
        newest = newest.max(crate::crash::store::revision(client).await?);
    }
    Ok(newest)
}

struct Caller {
    shared: Arc<Shared>,
    rng: StdRng,
}

impl Caller {
    fn client(&mut self) -> Client {
        let n = self.rng.random_range(0..self.shared.clients.len());
        self.shared.clients[n].clone()
    }

    fn is_over(&self) -> bool {
        self.shared.over.load(Ordering::SeqCst)
    }

    async fn pause(&mut self) {
        sleep(Duration::from_millis(self.rng.random_range(0..PACE))).await;
    }
}

impl Shared {
    fn told(&self, revision: i64) {
        self.newest.fetch_max(revision, Ordering::SeqCst);
    }
}

/// Its answer, if one comes in time.
async fn answer<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Option<T> {
    Some(timeout(PATIENCE, call).await.ok()?.ok()?.into_inner())
}

fn revision(header: Option<ResponseHeader>) -> Result<i64> {
    Ok(header.context("an answer without a header")?.revision)
}

async fn write(mut caller: Caller, name: u64) -> Result<Journal> {
    let mut journal = Journal::default();
    let (mut sent, mut last) = (0, 0);
    while !caller.is_over() {
        let count = if caller.rng.random_range(0..4) == 0 { 3 } else { 1 };
        let delete = count == 1 && caller.rng.random_range(0..5) == 0;
        let first = caller.rng.random_range(0..KEYS);
        let mut changes = Vec::new();
        for n in 0..count {
            sent += 1;
            let value = format!("{name} {sent} {}", "x".repeat(60));
            changes.push((key(name, (first + n) % KEYS), (!delete).then(|| Bytes::from(value))));
        }
        match send(caller.client(), &changes, 0).await {
            Some(Ok(revision)) => {
                ensure!(revision > last, "revision {revision} was told after {last}");
                last = revision;
                caller.shared.told(revision);
                journal.add(changes, Some(revision));
            }
            // A delete that found nothing.
            Some(Err(())) => {}
            None => journal.add(changes, None),
        }
        caller.pause().await;
    }
    Ok(journal)
}

/// The revision told, if an answer came; an error for a delete of nothing.
async fn send(mut client: Client, changes: &[Change], lease: i64) -> Option<Result<i64, ()>> {
    if let [(key, None)] = changes {
        let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
        let told = answer(client.kv.delete_range(delete)).await?;
        return Some(if told.deleted > 0 { Ok(told.header?.revision) } else { Err(()) });
    }
    let puts = changes.iter().map(|(key, value)| PutRequest {
        key: key.clone(),
        value: value.clone().unwrap_or_default(),
        lease,
        ..PutRequest::default()
    });
    if let [_] = changes {
        return Some(Ok(answer(client.kv.put(puts.last()?)).await?.header?.revision));
    }
    let success = puts.map(|put| RequestOp { request: Some(Op::RequestPut(put)) }).collect();
    Some(Ok(answer(client.kv.txn(TxnRequest { success, ..TxnRequest::default() })).await?.header?.revision))
}

async fn read(mut caller: Caller) -> Result<Vec<Read>> {
    let mut reads = Vec::new();
    while !caller.is_over() {
        let key = key(caller.rng.random_range(0..WRITERS), caller.rng.random_range(0..KEYS));
        let floor = caller.shared.newest.load(Ordering::SeqCst);
        let range = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        if let Some(told) = answer(caller.client().kv.range(range)).await {
            let revision = revision(told.header)?;
            caller.shared.told(revision);
            reads.push(Read { key, floor, revision, found: told.kvs.first().map_or(0, |pair| pair.mod_revision) });
        }
        caller.pause().await;
    }
    Ok(reads)
}

/// Watches everything on one member, from the first revision on, over any number of streams.
async fn watch(shared: Arc<Shared>, member: usize) -> Result<()> {
    loop {
        watch_once(&shared, member).await?;
        shared.reconnects.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(50)).await;
    }
}

async fn watch_once(shared: &Shared, member: usize) -> Result<()> {
    let next = &shared.next[member];
    let everything = Bytes::from_static(b"\0");
    let start_revision = next.load(Ordering::SeqCst);
    let create =
        WatchCreateRequest { key: everything.clone(), range_end: everything, start_revision, ..Default::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let (requests, to_send) = tokio::sync::mpsc::channel(1);
    let _ = requests.send(create).await;
    let mut client = shared.clients[member].watch.clone();
    let opened = client.watch(tokio_stream::wrappers::ReceiverStream::new(to_send)).await;
    let Ok(mut stream) = opened.map(tonic::Response::into_inner) else { return Ok(()) };
    while let Ok(Some(told)) = stream.message().await {
        if told.canceled {
            ensure!(told.compact_revision == 0, "what member {member}'s watcher waits for was compacted: {told:?}");
            return Ok(());
        }
        let mut history = shared.history.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = history.take(next.load(Ordering::SeqCst), &told.events);
        let taken = taken.with_context(|| format!("the watcher of member {member}"))?;
        next.store(taken, Ordering::SeqCst);
        shared.told(taken - 1);
    }
    Ok(())
}

/// Compacts what every watcher has had.
async fn compact(mut caller: Caller) {
    loop {
        sleep(Duration::from_secs(10)).await;
        let had = caller.shared.next.iter().map(|next| next.load(Ordering::SeqCst)).min().unwrap_or_default();
        if had > KEEP {
            let request = CompactionRequest { revision: had - KEEP, physical: false };
            if answer(caller.client().kv.compact(request)).await.is_some() {
                caller.shared.compactions.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// Keeps one lease alive through any member, and lets others end, each with a key.
async fn keep_leases(mut caller: Caller) -> Result<Journal> {
    let mut journal = Journal::default();
    let (mut kept, mut kept_at) = (0, Instant::now());
    let mut sent = 0;
    while !caller.is_over() {
        if kept == 0 {
            let begun = Instant::now();
            let granted = answer(caller.client().lease.lease_grant(LeaseGrantRequest { ttl: KEPT_TTL, id: 0 })).await;
            (kept, kept_at) = (granted.map_or(0, |granted| granted.id), begun);
        } else if let Some(ttl) = keep_alive(&mut caller.client(), kept).await {
            let since = kept_at.elapsed();
            // A fault may have kept every keep-alive away for longer than the lease lasts.
            let may_have_ended = since >= Duration::from_secs(KEPT_TTL.unsigned_abs());
            ensure!(
                ttl > 0 || may_have_ended,
                "lease {kept:x} of {KEPT_TTL} s has ended {since:?} after it was kept alive"
            );
            kept = if ttl > 0 { kept } else { 0 };
            kept_at = Instant::now();
        }
        if sent % 10 == 0
            && let Some(short) = answer(caller.client().lease.lease_grant(LeaseGrantRequest { ttl: 1, id: 0 })).await
        {
            let changes = vec![put(&format!("short/{}", sent % 4).into(), format!("{sent}").into())];
            let told = send(caller.client(), &changes, short.id).await.and_then(Result::ok);
            caller.shared.ended.fetch_add(i64::from(told.is_some()), Ordering::SeqCst);
            journal.add(changes, told);
        }
        sent += 1;
        sleep(Duration::from_millis(300)).await;
    }
    if kept != 0 {
        journal.leases.insert(kept);
    }
    Ok(journal)
}

async fn keep_alive(client: &mut Client, id: i64) -> Option<i64> {
    let once = tokio_stream::once(LeaseKeepAliveRequest { id });
    let mut stream = answer(client.lease.lease_keep_alive(once)).await?;
    Some(timeout(PATIENCE, stream.message()).await.ok()?.ok()??.ttl)
}

fn key(name: u64, n: u64) -> Bytes {
    format!("w{name}/{n}").into()
}
