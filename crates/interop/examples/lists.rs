//! Many clients that list a large key space over slow connections, while others put: what the server's
//! memory and its puts do meanwhile.
//!
//! `cargo build --release -p stentor-server`, then, with `STENTOR_TEST_SERVER` naming the binary:
//! `cargo run --release -p stentor-interop --example lists -- [CLIENTS] [KEYS] [VALUE-BYTES] [SECONDS]
//! [BYTES-PER-SECOND]`. The last is what each connection takes; 0: as fast as it can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use prost::Message as _;
use stentor_interop::client::Client;
use stentor_interop::peers;
use stentor_interop::process::Server;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

/// What answers in flight may hold.
const BUDGET: u64 = 512 << 20;
const GROUP: u64 = 100;
const WRITERS: usize = 4;
const BUDGET_METRIC: &str = "stentor_answer_bytes_in_flight";
const RSS_METRIC: &str = "process_resident_memory_bytes";

/// What the clients and the writers have done.
#[derive(Default)]
struct Counts {
    ended: AtomicBool,
    listed_bytes: AtomicU64,
    lists: AtomicU64,
    failed_lists: AtomicU64,
    puts: AtomicU64,
    slowest_put_us: AtomicU64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).map(|n| n.parse::<u64>());
    let mut number = |default| numbers.next().transpose().map(|n| n.unwrap_or(default));
    let (clients, keys, bytes, seconds) = (number(1000)?, number(1_000_000)?, number(256)?, number(60)?);
    let bytes_per_second = number(0)?;
    let binary = peers::binary(peers::SERVER).context("STENTOR_TEST_SERVER must name a binary")?;
    let server = Server::start(&binary, &["--quota-backend-bytes=8589934592"])?;
    fill(&server.endpoint(), keys, bytes as usize).await?;
    let address = server.endpoint().trim_start_matches("http://").to_owned();
    let before = metric(&address, RSS_METRIC).await?;
    println!("{keys} keys of {bytes} B; resident before: {} MiB", before >> 20);

    let alone = Arc::new(Counts::default());
    write_for(&server.endpoint(), &alone, Duration::from_secs(5)).await?;
    report("puts alone", &alone, 5);

    let counts = Arc::new(Counts::default());
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (address, counts) = (address.clone(), counts.clone());
        tasks.spawn(async move { list(&address, bytes_per_second, &counts).await });
    }
    let watch = {
        let (address, counts) = (address.clone(), counts.clone());
        tokio::spawn(async move { highest(&address, &counts).await })
    };
    write_for(&server.endpoint(), &counts, Duration::from_secs(seconds)).await?;
    counts.ended.store(true, Relaxed);
    tasks.shutdown().await;
    let (in_flight, resident) = watch.await??;
    report("puts beside the lists", &counts, seconds);
    println!(
        "{clients} clients: {} lists whole, {} failed, {} MiB taken",
        counts.lists.load(Relaxed),
        counts.failed_lists.load(Relaxed),
        counts.listed_bytes.load(Relaxed) >> 20
    );
    println!("highest: {} MiB of answers in flight, {} MiB resident", in_flight >> 20, resident >> 20);
    let idle = timeout(Duration::from_secs(10), async {
        while metric(&address, BUDGET_METRIC).await? > 0 {
            sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    });
    idle.await.context("clients that left still hold their share")??;
    println!("afterwards: {} MiB resident", metric(&address, RSS_METRIC).await? >> 20);
    ensure!(in_flight <= BUDGET, "answers in flight held more than their budget");
    ensure!(counts.puts.load(Relaxed) > 0, "no put went through");
    Ok(())
}

fn report(what: &str, counts: &Counts, seconds: u64) {
    let (puts, slowest) = (counts.puts.load(Relaxed), counts.slowest_put_us.load(Relaxed));
    println!("{what}: {}/s, slowest {:.1} ms", puts / seconds.max(1), slowest as f64 / 1000.0);
}

async fn fill(endpoint: &str, keys: u64, bytes: usize) -> Result<()> {
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let mut kv = Client::connect(endpoint).await?.kv;
        writers.spawn(async move {
            for first in (writer * GROUP..keys).step_by(8 * GROUP as usize) {
                let puts = (first..keys.min(first + GROUP)).map(|n| {
                    let (key, value) = (format!("/registry/{n:08}").into(), vec![b'v'; bytes].into());
                    let put = PutRequest { key, value, ..PutRequest::default() };
                    RequestOp { request: Some(Request::RequestPut(put)) }
                });
                kv.txn(TxnRequest { success: puts.collect(), ..TxnRequest::default() }).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Puts with a few clients at a time.
async fn write_for(endpoint: &str, counts: &Arc<Counts>, time: Duration) -> Result<()> {
    let due = Instant::now() + time;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut kv = Client::connect(endpoint).await?.kv;
        let counts = counts.clone();
        writers.spawn(async move {
            while Instant::now() < due {
                let begun = Instant::now();
                let (key, value) = (format!("other/{writer}").into(), vec![b'v'; 256].into());
                kv.put(PutRequest { key, value, ..PutRequest::default() }).await?;
                counts.puts.fetch_add(1, Relaxed);
                counts.slowest_put_us.fetch_max(begun.elapsed().as_micros() as u64, Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Lists everything again and again, each time on a connection of its own.
async fn list(address: &str, bytes_per_second: u64, counts: &Counts) {
    while !counts.ended.load(Relaxed) {
        match list_once(address, bytes_per_second, counts).await {
            Ok(()) => counts.lists.fetch_add(1, Relaxed),
            Err(_) => counts.failed_lists.fetch_add(1, Relaxed),
        };
    }
}

/// Lists everything and drops it as it comes: a client that kept it would need the memory.
async fn list_once(address: &str, bytes_per_second: u64, counts: &Counts) -> Result<()> {
    // The windows of tonic's clients.
    let mut client = h2::client::Builder::new();
    client.initial_window_size(2 << 20).initial_connection_window_size(5 << 20);
    let (mut send, connection) = client.handshake::<_, bytes::Bytes>(TcpStream::connect(address).await?).await?;
    let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let head = http::Request::post(format!("http://{address}/etcdserverpb.KV/Range"));
    let (response, mut request) =
        send.send_request(head.header("content-type", "application/grpc").body(())?, false)?;
    let all = RangeRequest { key: "/registry/".into(), range_end: "/registry0".into(), ..RangeRequest::default() };
    let message = all.encode_to_vec();
    let prefix = [&[0][..], &(message.len() as u32).to_be_bytes()].concat();
    request.send_data([prefix, message].concat().into(), true)?;
    let mut body = response.await?.into_body();
    let begun = Instant::now();
    let mut taken = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        taken += data.len() as u64;
        counts.listed_bytes.fetch_add(data.len() as u64, Relaxed);
        body.flow_control().release_capacity(data.len())?;
        if let Some(due) = (taken * 1000).checked_div(bytes_per_second) {
            sleep(Duration::from_millis(due).saturating_sub(begun.elapsed())).await;
        }
    }
    let trailers = body.trailers().await?.context("a call without an end")?;
    ensure!(trailers.get("grpc-status").is_some_and(|status| status == "0"), "a call that failed");
    Ok(())
}

/// The highest values of the metrics until the lists end.
async fn highest(address: &str, counts: &Counts) -> Result<(u64, u64)> {
    let (mut in_flight, mut resident) = (0, 0);
    let mut ticks = interval(Duration::from_millis(200));
    while !counts.ended.load(Relaxed) {
        ticks.tick().await;
        let text = metrics(address).await?;
        in_flight = in_flight.max(value(&text, BUDGET_METRIC)?);
        resident = resident.max(value(&text, RSS_METRIC)?);
    }
    Ok((in_flight, resident))
}

async fn metric(address: &str, name: &str) -> Result<u64> {
    value(&metrics(address).await?, name)
}

async fn metrics(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

fn value(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {name}"))?.parse::<f64>()? as u64)
}
