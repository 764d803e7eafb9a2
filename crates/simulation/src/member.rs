//! A member: the whole server on the memory engine, and what brings it the log.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use stentor_server::config::{self, Command, Config};
use stentor_server::environment::{Barrier, Environment, Workers};
use stentor_server::member::Member;
use stentor_server::metrics::Metrics;
use stentor_server::net::{Listener, Server};
use tokio::io::DuplexStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use turmoil::net::{TcpListener, TcpStream};

use crate::log::Op;
use crate::random::Random;
use crate::world::{World, now};

const PORT: u16 = 2379;

/// The host's name of a member.
pub(crate) fn name(member: usize) -> String {
    format!("m{member}")
}

/// Where clients find it.
pub(crate) fn endpoint(member: usize) -> String {
    format!("{}:{PORT}", name(member))
}

/// How often a member looks for new entries, and a read for what was applied.
const STEP: Duration = Duration::from_millis(10);

/// A linearizable read gives up after this.
const BARRIER_TIME: Duration = Duration::from_secs(5);

/// What a pipe within a member holds.
const PIPE_BYTES: usize = 1 << 20;

/// Runs a member from what its disk holds, until its host is killed.
pub(crate) async fn run(world: World, number: usize, mut random: Random) -> turmoil::Result {
    let (disks, cluster) = {
        let state = world.lock();
        let member = state.members.get(number).ok_or("no such member")?;
        (member.disks.clone(), state.cluster)
    };
    let config = config(number, cluster)?;
    let metrics = Metrics::new(config.metrics);
    let stop = CancellationToken::new();
    let environment = environment(&world, number, random.next());
    let member = Member::start(disks.storage()?, &config, environment, metrics.clone(), &stop)?;
    let server = Server::new(&config, metrics, stop);
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    server.serve(Pipe(Some(far)), member.app());
    server.serve(Network(TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?), member.app());
    member.set_serving(true).await;
    let applied = world.lock().entries_at(member.node.store.view().revision().get());
    world.lock().note(now(), format_args!("m{number} starts after entry {applied}"));
    follow(&world, number, applied, kv(near), random).await
}

fn config(number: usize, cluster: u64) -> Result<Config, String> {
    let Ok(Command::Run { mut config, .. }) = config::load([], []) else { return Err("no configuration".to_owned()) };
    config.cluster_id = Some(cluster);
    config.member_id = Some(number as u64 + 1);
    config.max_request_bytes = 1 << 20;
    Ok(*config)
}

fn environment(world: &World, number: usize, seed: u64) -> Environment {
    let drawn = AtomicU64::new(seed);
    let world = world.clone();
    let barrier: Barrier = Arc::new(move || Box::pin(caught_up(world.clone(), number)));
    Environment {
        wall_unix_ms: Arc::new(|| 1_700_000_000_000 + now().as_millis() as u64),
        random: Arc::new(move || Random::new(drawn.fetch_add(1, Ordering::Relaxed)).next()),
        workers: Workers::Tasks,
        barrier: Some(barrier),
        dialer: stentor_server::peers::Dialer::system(),
    }
}

/// Waits until the member has applied all that was written before.
async fn caught_up(world: World, number: usize) -> Result<(), EtcdError> {
    let end = world.lock().length;
    let reached = async {
        while world.lock().members.get(number).is_none_or(|member| member.applied < end) {
            tokio::time::sleep(STEP).await;
        }
    };
    tokio::time::timeout(BARRIER_TIME, reached).await.map_err(|_| EtcdError::Timeout)
}

/// Applies the log as it comes.
async fn follow(
    world: &World,
    number: usize,
    mut applied: usize,
    mut kv: KvClient<Channel>,
    mut random: Random,
) -> turmoil::Result {
    loop {
        if let Some(member) = world.lock().members.get_mut(number) {
            member.applied = applied;
        }
        let due = world.lock().due(number, applied, now());
        let Some(op) = due else {
            tokio::time::sleep(STEP).await;
            continue;
        };
        apply(&mut kv, op).await?;
        applied += 1;
        if random.one_in(8)
            && let Some(member) = world.lock().members.get(number)
        {
            member.disks.engine().write_back();
        }
    }
}

async fn apply(kv: &mut KvClient<Channel>, op: Op) -> Result<(), tonic::Status> {
    match op {
        Op::One(key, Some(value)) => drop(kv.put(put(key, value)).await?),
        Op::One(key, None) => drop(kv.delete_range(delete(key)).await?),
        Op::DeletePrefix(prefix) => {
            // No key holds a character this high.
            let range_end = format!("{prefix}\u{7f}").into();
            drop(kv.delete_range(DeleteRangeRequest { range_end, ..delete(prefix) }).await?);
        }
        Op::Several(writes) => {
            let op = |(key, value)| match value {
                Some(value) => Request::RequestPut(put(key, value)),
                None => Request::RequestDeleteRange(delete(key)),
            };
            let success = writes.into_iter().map(op).map(|request| RequestOp { request: Some(request) }).collect();
            drop(kv.txn(TxnRequest { success, ..TxnRequest::default() }).await?);
        }
        Op::Compact(revision) => match kv.compact(CompactionRequest { revision, physical: false }).await {
            // Before it crashed.
            Err(status) if status.code() == Code::OutOfRange => {}
            answer => drop(answer?),
        },
    }
    Ok(())
}

fn put(key: String, value: bytes::Bytes) -> PutRequest {
    PutRequest { key: key.into(), value, ..PutRequest::default() }
}

fn delete(key: String) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() }
}

/// The member's own way to itself.
fn kv(pipe: DuplexStream) -> KvClient<Channel> {
    let mut pipe = Some(pipe);
    let connect = tower::service_fn(move |_| {
        let pipe = pipe.take().ok_or_else(|| io::Error::other("there is one pipe"));
        async { pipe.map(TokioIo::new) }
    });
    KvClient::new(Endpoint::from_static("http://pipe").connect_with_connector_lazy(connect))
}

/// Accepts one pipe.
struct Pipe(Option<DuplexStream>);

impl Listener for Pipe {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.take() {
            Some(pipe) => Ok((pipe, self.local_addr())),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 1).into()
    }
}

/// Accepts what comes over the simulated network.
struct Network(TcpListener);

impl Listener for Network {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }

    fn local_addr(&self) -> SocketAddr {
        self.0.local_addr().unwrap_or((IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT).into())
    }
}
