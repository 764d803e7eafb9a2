//! How long a server takes from its start after kill -9 to its first linearizable read, Stentor beside
//! etcd, in one run on the same keys.
//!
//! `cargo build --release -p stentor-server`, then, with `STENTOR_TEST_SERVER` and `STENTOR_TEST_ETCD_35`
//! naming the binaries: `cargo run --release -p stentor-interop --example restart -- [KEYS] [VALUE-BYTES]
//! [REWRITES]`. REWRITES random keys are put again after all are there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stentor_interop::client::Client;
use stentor_interop::peers;
use stentor_interop::process::Server;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest};
use tokio::task::JoinSet;

const ROUNDS: usize = 5;
/// Puts of one transaction, which spares time: what is measured is the restart.
const GROUP: u64 = 100;
const WRITERS: u64 = 8;
/// Stentor may take this share of etcd's time.
const GOAL: f64 = 1.0 / 6.0;

#[tokio::main]
async fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).map(|n| n.parse::<u64>());
    let keys = numbers.next().transpose()?.unwrap_or(1_000_000);
    let bytes = numbers.next().transpose()?.unwrap_or(256) as usize;
    let rewrites = numbers.next().transpose()?.unwrap_or(0);
    let binary = |variable| peers::binary(variable).with_context(|| format!("{variable} must name a binary"));
    let servers: [(&str, PathBuf); 2] = [("etcd", binary(peers::ETCDS[1])?), ("Stentor", binary(peers::SERVER)?)];
    let mut medians = Vec::new();
    for (name, binary) in &servers {
        let times = measure(name, binary, keys, bytes, rewrites).await?;
        println!("{name}: first linearizable read after {times:.2?}");
        medians.push(times.get(ROUNDS / 2).copied().unwrap_or_default());
    }
    let &[etcd, stentor] = &medians[..] else { bail!("two servers are compared") };
    let share = stentor.as_secs_f64() / etcd.as_secs_f64();
    println!("medians: etcd {etcd:.2?}, Stentor {stentor:.2?}: 1/{:.1} of etcd's time", 1.0 / share);
    ensure!(share <= GOAL, "more than a sixth");
    Ok(())
}

/// The times of all rounds, shortest first.
async fn measure(name: &str, binary: &Path, keys: u64, bytes: usize, rewrites: u64) -> Result<Vec<Duration>> {
    let mut server = Server::start(binary, &["--quota-backend-bytes=8589934592"])?;
    let begun = Instant::now();
    fill(&server, keys, bytes).await?;
    rewrite(&server, keys, bytes, rewrites).await?;
    println!("{name}: {keys} keys of {bytes} B and {rewrites} puts more, written in {:.1?}", begun.elapsed());
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        server.kill();
        let begun = Instant::now();
        // It says that it is ready; what counts is the read.
        server.restart()?;
        let mut client = Client::connect(&server.endpoint()).await?;
        let request = RangeRequest { key: key(keys / 2).into(), ..RangeRequest::default() };
        let answer = client.kv.range(request).await?.into_inner();
        times.push(begun.elapsed());
        ensure!(answer.count == 1, "{name} has lost a key");
        let all =
            RangeRequest { key: vec![0].into(), range_end: vec![0].into(), count_only: true, ..Default::default() };
        ensure!(client.kv.range(all).await?.into_inner().count == keys as i64, "{name} has lost keys");
    }
    times.sort_unstable();
    Ok(times)
}

fn key(n: u64) -> String {
    format!("/registry/pods/namespace-{:03}/{n:08}", n % 500)
}

async fn fill(server: &Server, keys: u64, bytes: usize) -> Result<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut kv = Client::connect(&server.endpoint()).await?.kv;
        writers.spawn(async move {
            let mut random = StdRng::seed_from_u64(writer);
            for first in (writer * GROUP..keys).step_by((WRITERS * GROUP) as usize) {
                let puts = (first..keys.min(first + GROUP)).map(|n| {
                    let mut value = vec![0; bytes];
                    random.fill(&mut value[..]);
                    let put = PutRequest { key: key(n).into(), value: value.into(), ..PutRequest::default() };
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

/// Puts random keys again, one by one: what was written last, and may not be in any checkpoint.
async fn rewrite(server: &Server, keys: u64, bytes: usize, rewrites: u64) -> Result<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut kv = Client::connect(&server.endpoint()).await?.kv;
        writers.spawn(async move {
            let mut random = StdRng::seed_from_u64(WRITERS + writer);
            for _ in 0..rewrites / WRITERS {
                let mut value = vec![0; bytes];
                random.fill(&mut value[..]);
                let key = key(random.random_range(0..keys)).into();
                kv.put(PutRequest { key, value: value.into(), ..PutRequest::default() }).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(())
}
