//! The binary under signals, with clients in the middle of everything.

mod several;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use prost::Message as _;
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::lease_client::LeaseClient;
use stentor_proto::etcdserverpb::watch_client::WatchClient;
use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::harness::ports::free_port;
use crate::harness::{PATIENCE, get, prefixed, put};

/// How soon a server must be gone after SIGTERM, on a machine that lets it run.
const STOP_TIME: Duration = Duration::from_millis(1500);
/// How often it may fail to end all in time, since the machine was busy.
const STOP_ATTEMPTS: usize = 6;

/// A running server; killed when dropped.
struct Process {
    child: Child,
    port: u16,
    /// What it has logged.
    log: Arc<Mutex<Vec<String>>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts on a directory and a free port, and waits until it is ready.
    async fn start(data: &Path) -> Process {
        Process::start_with(data, free_port(), &[]).await
    }

    /// As [`Process::start`], on this port and with further flags.
    async fn start_with(data: &Path, port: u16, flags: &[String]) -> Process {
        let (process, is_ready) = Process::try_start(data, port, flags).await;
        assert!(is_ready, "it ended before it was ready");
        process
    }

    /// As [`Process::start_with`], for one that may end before it is ready, which is told.
    async fn try_start(data: &Path, port: u16, flags: &[String]) -> (Process, bool) {
        let url = format!("http://127.0.0.1:{port}");
        let mut child = Command::new(env!("CARGO_BIN_EXE_stentor"))
            .env_clear()
            .arg("--data-dir")
            .arg(data)
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let log = Arc::<Mutex<Vec<String>>>::default();
        let process = Process { child, port, log: log.clone() };
        let ready = tokio::task::spawn_blocking(move || {
            let is_ready = lines.by_ref().any(|line| {
                let is_ready = line.contains("ready to serve client requests");
                log.lock().unwrap().push(line);
                is_ready
            });
            // Read to its end, so that the server never waits for its log.
            std::thread::spawn(move || lines.for_each(|line| log.lock().unwrap().push(line)));
            is_ready
        });
        (process, timeout(PATIENCE, ready).await.unwrap().unwrap())
    }

    async fn channel(&self) -> Channel {
        Endpoint::try_from(format!("http://127.0.0.1:{}", self.port)).unwrap().connect().await.unwrap()
    }

    async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await).max_decoding_message_size(usize::MAX)
    }

    /// Lines of its log that contain this.
    fn logged(&self, what: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(what)).count()
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for its end.
    async fn ended(mut self) -> ExitStatus {
        tokio::task::spawn_blocking(move || self.child.wait().unwrap()).await.unwrap()
    }
}

/// Puts one key after the other, each once the one before was acknowledged, until an error.
struct Writer {
    acknowledged: Arc<AtomicU64>,
    end: JoinHandle<Status>,
}

impl Writer {
    async fn start(process: &Process, name: usize) -> Writer {
        let mut kv = process.kv().await;
        let acknowledged = Arc::new(AtomicU64::new(0));
        let count = acknowledged.clone();
        let end = tokio::spawn(async move {
            for n in 1.. {
                if let Err(status) = kv.put(put(&format!("w{name}/{n:08}"), format!("{n}"))).await {
                    return status;
                }
                count.store(n, Ordering::SeqCst);
            }
            unreachable!("an endless loop");
        });
        Writer { acknowledged, end }
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    async fn has_written(&self, more: u64) {
        let wanted = self.acknowledged() + more;
        let due = Instant::now() + PATIENCE;
        while self.acknowledged() < wanted {
            assert!(Instant::now() < due, "no writes");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Everything acknowledged to these writers is there, and at most one write more of each.
async fn all_are_there(process: &Process, acknowledged: &[u64]) {
    let mut kv = process.kv().await;
    for (name, acknowledged) in acknowledged.iter().enumerate() {
        let found = kv.range(prefixed(&format!("w{name}/"))).await.unwrap().into_inner().kvs;
        let expected = *acknowledged..=acknowledged + 1;
        assert!(expected.contains(&(found.len() as u64)), "writer {name}: {} of {expected:?}", found.len());
        for (n, pair) in found.iter().enumerate() {
            assert_eq!(pair.key, format!("w{name}/{:08}", n + 1));
        }
    }
}

/// A watch on everything, with the sender of its requests.
async fn open_watch(process: &Process) -> (mpsc::UnboundedSender<WatchRequest>, Streaming<WatchResponse>) {
    let (send, requests) = mpsc::unbounded_channel();
    let create = WatchCreateRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() };
    send.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).unwrap();
    let mut client = WatchClient::new(process.channel().await).max_decoding_message_size(usize::MAX);
    let mut responses = client.watch(UnboundedReceiverStream::new(requests)).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().unwrap().created);
    (send, responses)
}

/// Reads a watch to its end.
async fn watch(process: &Process) -> JoinHandle<Status> {
    let (send, mut responses) = open_watch(process).await;
    tokio::spawn(async move {
        let _send = send;
        loop {
            match responses.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a watch ended without an error"),
                Err(status) => return status,
            }
        }
    })
}

async fn keep_alive(process: &Process) -> JoinHandle<Status> {
    let mut lease = LeaseClient::new(process.channel().await);
    let id = lease.lease_grant(LeaseGrantRequest { id: 0, ttl: 60 }).await.unwrap().into_inner().id;
    let (send, requests) = mpsc::unbounded_channel();
    send.send(LeaseKeepAliveRequest { id }).unwrap();
    let mut answers = lease.lease_keep_alive(UnboundedReceiverStream::new(requests)).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl, 60);
    tokio::spawn(async move {
        let _send = send;
        answers.message().await.expect_err("a keep-alive stream that ended without an error")
    })
}

/// A list of which nothing is taken, for as long as this is held.
async fn stalled_list(port: u16) -> impl Sized {
    let socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut send, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(async move { drop(connection.await) });
    let head = http::Request::post("http://test/etcdserverpb.KV/Range").header("content-type", "application/grpc");
    let (response, mut body) = send.send_request(head.body(()).unwrap(), false).unwrap();
    let message = prefixed("large").encode_to_vec();
    let prefix = [&[0][..], &(message.len() as u32).to_be_bytes()].concat();
    body.send_data(Bytes::from([prefix, message].concat()), true).unwrap();
    (response.await.unwrap(), send, connection)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_amid_watches_leases_a_stalled_reader_and_writes() {
    let mut late = Vec::new();
    while late.len() < STOP_ATTEMPTS {
        match sigterm_amid_everything().await {
            Ok(()) => return,
            Err(what) => late.push(what),
        }
    }
    panic!("never all in time: {late:#?}");
}

/// The error is what may come of a machine that gives the server no time to end its streams.
async fn sigterm_amid_everything() -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path()).await;
    let mut kv = process.kv().await;
    for n in 0..20 {
        kv.put(put(&format!("large{n}"), vec![b'v'; 1 << 20])).await.unwrap();
    }
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(watch(&process).await);
        streams.push(keep_alive(&process).await);
    }
    let _unread = open_watch(&process).await;
    let _stalled = stalled_list(process.port).await;
    let writers = join_all((0..4).map(|name| Writer::start(&process, name))).await;
    join_all(writers.iter().map(|writer| writer.has_written(20))).await;

    process.signal("-TERM");
    let begun = Instant::now();
    let status = timeout(PATIENCE, process.ended()).await.expect("it stays");
    let took = begun.elapsed();
    assert_eq!(status.code(), Some(0));
    let mut ends = Vec::new();
    for stream in streams {
        let end = timeout(PATIENCE, stream).await.unwrap().unwrap();
        ends.push((end.code(), end.message().to_owned()));
    }
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.push(writer.acknowledged());
        let end = timeout(PATIENCE, writer.end).await.unwrap().unwrap();
        // Refused, or cut before it was answered: never a wrong success.
        assert!(matches!(end.code(), Code::Unavailable | Code::Cancelled | Code::Unknown), "{end:?}");
    }
    let process = Process::start(folder.path()).await;
    all_are_there(&process, &acknowledged).await;
    if took >= STOP_TIME {
        return Err(format!("it took {took:?}"));
    }
    let stopped = (Code::Unavailable, "etcdserver: server stopped".to_owned());
    ends.into_iter().find(|end| *end != stopped).map_or(Ok(()), |end| Err(format!("a stream ended with {end:?}")))
}

/// Each of the streams of ten thousand watchers is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_with_ten_thousand_watchers() {
    let mut late = Vec::new();
    while late.len() < STOP_ATTEMPTS {
        match sigterm_with_watchers(10, 10, 100).await {
            Ok(()) => return,
            Err(what) => late.push(what),
        }
    }
    panic!("never all in time: {late:#?}");
}

/// The error is what may come of a machine that gives the server no time to end its streams.
async fn sigterm_with_watchers(connections: usize, streams: usize, watchers: usize) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path()).await;
    let mut reading = Vec::new();
    for _ in 0..connections {
        let channel = process.channel().await;
        for _ in 0..streams {
            let (send, requests) = mpsc::unbounded_channel();
            for n in 0..watchers {
                let key = format!("k{n}").into();
                let create = WatchCreateRequest { key, progress_notify: n % 2 == 0, ..Default::default() };
                send.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).unwrap();
            }
            let mut client = WatchClient::new(channel.clone());
            let mut responses = client.watch(UnboundedReceiverStream::new(requests)).await.unwrap().into_inner();
            for _ in 0..watchers {
                assert!(timeout(PATIENCE, responses.message()).await.unwrap().unwrap().unwrap().created);
            }
            reading.push(async move {
                let _send = send;
                loop {
                    match responses.message().await {
                        Ok(Some(_)) => {}
                        Ok(None) => panic!("a watch ended without an error"),
                        Err(status) => return (status.code(), status.message().to_owned()),
                    }
                }
            });
        }
    }
    let reading = tokio::spawn(join_all(reading));
    process.kv().await.put(put("k0", "v")).await.unwrap();
    process.signal("-TERM");
    let begun = Instant::now();
    let status = timeout(PATIENCE, process.ended()).await.expect("it stays");
    let took = begun.elapsed();
    assert_eq!(status.code(), Some(0));
    let ends = timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert_eq!(ends.len(), connections * streams);
    if took >= STOP_TIME {
        return Err(format!("it took {took:?}"));
    }
    let stopped = (Code::Unavailable, "etcdserver: server stopped".to_owned());
    ends.into_iter().find(|end| *end != stopped).map_or(Ok(()), |end| Err(format!("a stream ended with {end:?}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigkill_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = vec![0; 4];
    for _ in 0..3 {
        let process = Process::start(folder.path()).await;
        all_are_there(&process, &acknowledged).await;
        let writers = join_all((0..4).map(|name| Writer::start(&process, name))).await;
        join_all(writers.iter().map(|writer| writer.has_written(30))).await;
        process.signal("-KILL");
        assert_eq!(timeout(PATIENCE, process.ended()).await.unwrap().code(), None);
        for (known, writer) in acknowledged.iter_mut().zip(writers) {
            timeout(PATIENCE, writer.end).await.unwrap().unwrap();
            // A writer begins anew each round, so that what it wrote before is overwritten.
            *known = writer.acknowledged.load(Ordering::SeqCst).max(*known);
        }
    }
    let process = Process::start(folder.path()).await;
    all_are_there(&process, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_process_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path()).await;
    let writer = Writer::start(&process, 0).await;
    let watching = watch(&process).await;
    let mut kv = process.kv().await;
    for _ in 0..3 {
        writer.has_written(10).await;
        process.signal("-STOP");
        // All its threads stop soon, not at once.
        let due = Instant::now() + PATIENCE;
        while timeout(Duration::from_millis(200), kv.range(get("w0/00000001"))).await.is_ok() {
            assert!(Instant::now() < due, "a stopped process answers");
        }
        process.signal("-CONT");
        let read = timeout(PATIENCE, kv.range(get("w0/00000001"))).await.unwrap().unwrap().into_inner();
        assert_eq!(read.count, 1);
        writer.has_written(10).await;
    }
    assert!(!writer.end.is_finished() && !watching.is_finished());
    writer.end.abort();
    let acknowledged = writer.acknowledged();
    let found = kv.range(prefixed("w0/")).await.unwrap().into_inner().count as u64;
    assert!(found >= acknowledged, "{found} of {acknowledged}");
}
