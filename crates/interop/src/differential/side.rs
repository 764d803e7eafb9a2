//! One of the two servers: sends it a request and brings its answer into the shared form.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::request_op::Request as Op;
use stentor_proto::etcdserverpb::{
    HashKvRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, WatchCreateRequest,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::answer::{Answer, LeaseIds};
use super::request::Request;
use crate::client::Client;
use crate::peers::Version;
use crate::process::Server;
use crate::stream::{PATIENCE, Stream};

/// Between two looks at a lease that should expire.
const LOOK: Duration = Duration::from_millis(50);
/// The keys of a lease that is left to expire.
const EXPIRING: [&[u8]; 2] = [b"b", b"expiring"];
/// Watch streams that a run uses, besides the observer's.
pub(crate) const STREAMS: usize = 3;

/// A running server and what is open to it.
pub(crate) struct Side {
    /// What it is.
    pub(crate) version: Version,
    /// The revision below which the run has compacted.
    pub(crate) compacted: i64,
    /// Watches everything from the beginning.
    pub(crate) observer: Stream,
    /// The streams of the run's watchers.
    pub(crate) streams: Vec<Stream>,
    /// The ids that it chose.
    pub(crate) leases: LeaseIds,
    client: Client,
    keep_alive: KeepAlive,
    server: Server,
}

struct KeepAlive {
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    responses: mpsc::UnboundedReceiver<Result<LeaseKeepAliveResponse, Status>>,
}

impl Side {
    /// Starts a server and opens everything to it.
    ///
    /// # Errors
    /// When it does not start, or refuses the watcher that observes everything.
    pub(crate) async fn start(binary: &Path, version: Version) -> Result<Side> {
        // Durability is not what is compared here.
        let server = Server::start(binary, &["--unsafe-no-fsync"])?;
        let client = Client::connect(&server.endpoint()).await?;
        let mut observer = Stream::open(&client);
        let everything = Bytes::from_static(b"\0");
        observer
            .create(WatchCreateRequest {
                key: everything.clone(),
                range_end: everything,
                start_revision: 2,
                prev_kv: true,
                ..WatchCreateRequest::default()
            })
            .await?;
        let created = observer.answer().await?;
        if created.canceled || created.watch_id != 0 {
            bail!("{version}: the first watcher was answered with {created:?}");
        }
        let streams = (0..STREAMS).map(|_| Stream::open(&client)).collect();
        let keep_alive = KeepAlive::open(&client);
        Ok(Side { version, compacted: 0, observer, streams, leases: LeaseIds::default(), client, keep_alive, server })
    }

    /// The end of the server's log.
    pub(crate) fn log_tail(&self) -> String {
        self.server.log_tail()
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// When no answer comes in time, or a stream breaks. A refusal is an answer.
    pub(crate) async fn execute(&mut self, request: &Request) -> Result<Answer> {
        let to_send = request.with_leases(|id| self.leases.to_server(id));
        let sent = timeout(PATIENCE * 2, self.send(to_send)).await;
        let answer = sent.map_err(|_| anyhow!("no answer")).flatten();
        let answer = answer.with_context(|| format!("{}, asked for {request:?}", self.version))?;
        if let (Request::Grant(grant), Answer::Grant(answer)) = (request, &answer)
            && grant.id == 0
        {
            self.leases.chose(answer.id);
        }
        Ok(answer.shared(&self.leases))
    }

    async fn send(&mut self, request: Request) -> Result<Answer> {
        let Client { kv, lease, maintenance, .. } = &mut self.client;
        Ok(match request {
            Request::Range(range) => unary(kv.range(range), Answer::Range).await,
            Request::RangeStream(range) => self.range_stream(range).await,
            Request::Put(put) => unary(kv.put(put), Answer::Put).await,
            Request::DeleteRange(delete) => unary(kv.delete_range(delete), Answer::DeleteRange).await,
            Request::Txn(txn) => unary(kv.txn(txn), Answer::Txn).await,
            Request::Compact(compact) => unary(kv.compact(compact), Answer::Compact).await,
            Request::Grant(grant) => unary(lease.lease_grant(grant), Answer::Grant).await,
            Request::Revoke(id) => unary(lease.lease_revoke(LeaseRevokeRequest { id }), Answer::Revoke).await,
            Request::TimeToLive(ask) => unary(lease.lease_time_to_live(ask), Answer::TimeToLive).await,
            Request::Leases => unary(lease.lease_leases(LeaseLeasesRequest {}), Answer::Leases).await,
            Request::HashKv(revision) => unary(maintenance.hash_kv(HashKvRequest { revision }), Answer::HashKv).await,
            Request::KeepAlive(id) => self.keep_alive.renew(id).await?,
            Request::Expire(id) => Answer::Expired(self.expire(id).await?),
            Request::Watch(stream, create) => self.watch(stream, create).await?,
            Request::Cancel(stream, id) => self.cancel(stream, id).await?,
            Request::Progress(stream) => {
                self.stream(stream)?.progress().await?;
                Answer::Watch(Vec::new())
            }
            Request::Nothing(stream) => {
                self.stream(stream)?.nothing().await?;
                Answer::Watch(Vec::new())
            }
        })
    }

    async fn range_stream(&mut self, range: RangeRequest) -> Answer {
        let mut stream = match self.client.kv.range_stream(range).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return failed(&status),
        };
        let mut joined = RangeResponse::default();
        loop {
            match stream.message().await {
                Err(status) => return failed(&status),
                Ok(None) => return Answer::RangeStream(joined),
                Ok(Some(chunk)) => {
                    let chunk = chunk.range_response.unwrap_or_default();
                    if joined.header.is_some() {
                        return Answer::Failed { code: -1, text: "a chunk after the one with the header".into() };
                    }
                    joined.kvs.extend(chunk.kvs);
                    (joined.header, joined.count, joined.more) = (chunk.header, chunk.count, chunk.more);
                }
            }
        }
    }

    /// Grants a lease of the smallest TTL, gives it keys and waits until they are gone.
    async fn expire(&mut self, id: i64) -> Result<i64> {
        let deadline = Instant::now() + PATIENCE;
        self.client.lease.lease_grant(LeaseGrantRequest { ttl: 1, id }).await?;
        while let Err(status) = self.client.kv.txn(expiring(id)).await {
            // On a machine that stood still it expired before; without keys that left no trace.
            if status.message() != EtcdError::LeaseNotFound.text() || Instant::now() >= deadline {
                return Err(status.into());
            }
            self.client.lease.lease_grant(LeaseGrantRequest { ttl: 1, id }).await?;
        }
        loop {
            let range = RangeRequest { key: Bytes::from_static(EXPIRING[1]), ..RangeRequest::default() };
            let answer = self.client.kv.range(range).await?.into_inner();
            if answer.count == 0 {
                return Ok(answer.header.unwrap_or_default().revision);
            }
            if Instant::now() >= deadline {
                bail!("lease {id} did not expire");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn watch(&mut self, stream: usize, create: WatchCreateRequest) -> Result<Answer> {
        let told_later = (1..self.compacted).contains(&create.start_revision);
        let stream = self.stream(stream)?;
        stream.create(create).await?;
        let mut answers = vec![stream.answer().await?];
        if told_later && answers.iter().all(|answer| !answer.canceled) {
            answers.push(stream.answer().await?);
        }
        Ok(Answer::Watch(answers))
    }

    async fn cancel(&mut self, stream: usize, id: i64) -> Result<Answer> {
        let stream = self.stream(stream)?;
        let live = stream.is_live(id);
        stream.cancel(id).await?;
        let answers = if live { vec![stream.answer().await?] } else { Vec::new() };
        Ok(Answer::Watch(answers))
    }

    fn stream(&mut self, stream: usize) -> Result<&mut Stream> {
        self.streams.get_mut(stream).with_context(|| format!("there is no stream {stream}"))
    }
}

/// Puts [`EXPIRING`] in one revision.
fn expiring(lease: i64) -> TxnRequest {
    let puts = EXPIRING.map(|key| {
        let (key, value) = (Bytes::from_static(key), Bytes::from_static(b"x"));
        RequestOp { request: Some(Op::RequestPut(PutRequest { key, value, lease, ..PutRequest::default() })) }
    });
    TxnRequest { success: puts.into(), ..TxnRequest::default() }
}

impl KeepAlive {
    fn open(client: &Client) -> KeepAlive {
        let (requests, to_send) = mpsc::channel(16);
        let (received, responses) = mpsc::unbounded_channel();
        let mut client = client.lease.clone();
        tokio::spawn(async move {
            let mut stream = match client.lease_keep_alive(ReceiverStream::new(to_send)).await {
                Ok(answer) => answer.into_inner(),
                Err(status) => return drop(received.send(Err(status))),
            };
            while let Some(response) = stream.message().await.transpose() {
                let ended = response.is_err();
                if received.send(response).is_err() || ended {
                    return;
                }
            }
        });
        KeepAlive { requests, responses }
    }

    async fn renew(&mut self, id: i64) -> Result<Answer> {
        let sent = self.requests.send(LeaseKeepAliveRequest { id }).await;
        sent.map_err(|_| anyhow!("the keep-alive stream has ended"))?;
        match self.responses.recv().await.context("the keep-alive stream ended without an error")? {
            Ok(answer) => Ok(Answer::KeepAlive(answer)),
            Err(status) => Ok(failed(&status)),
        }
    }
}

async fn unary<T>(call: impl Future<Output = Result<Response<T>, Status>>, answer: impl FnOnce(T) -> Answer) -> Answer {
    match call.await {
        Ok(response) => answer(response.into_inner()),
        Err(status) => failed(&status),
    }
}

fn failed(status: &Status) -> Answer {
    Answer::Failed { code: i32::from(status.code()), text: status.message().to_owned() }
}
