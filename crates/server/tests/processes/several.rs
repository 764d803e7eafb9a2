//! Three of them, a cluster.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use stentor_mvcc::engine::rocksdb::{Options, RocksDbEngine};
use stentor_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use stentor_proto::etcdserverpb::{DefragmentRequest, HashKvRequest, StatusRequest, StatusResponse};
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic::transport::Channel;

use super::Process;
use crate::harness::ports::free_port;
use crate::harness::{PATIENCE, corrupt, get, put};

const RECEIVED: &str = "a store was received and is in use";

/// Members on directories of their own.
struct Three {
    folder: tempfile::TempDir,
    ports: [u16; 3],
    flags: Vec<Vec<String>>,
    members: Vec<Process>,
}

impl Three {
    async fn start(more: &[&str]) -> Three {
        let (ports, peer_ports) = ([(); 3].map(|()| free_port()), [(); 3].map(|()| free_port()));
        let url = |member: usize| format!("http://127.0.0.1:{}", peer_ports[member]);
        let all: Vec<_> = (0..3).map(|member| format!("m{member}={}", url(member))).collect();
        let flags = |member: usize| {
            let own = [
                format!("--name=m{member}"),
                format!("--initial-cluster={}", all.join(",")),
                format!("--listen-peer-urls={}", url(member)),
                format!("--initial-advertise-peer-urls={}", url(member)),
            ];
            own.into_iter().chain(more.iter().map(ToString::to_string)).collect::<Vec<_>>()
        };
        let flags: Vec<_> = (0..3).map(flags).collect();
        let folder = tempfile::tempdir().unwrap();
        let data = |member: usize| folder.path().join(member.to_string());
        let data: Vec<_> = (0..3).map(data).collect();
        let starting = (0..3).map(|member| Process::start_with(&data[member], ports[member], &flags[member]));
        let members = join_all(starting).await;
        Three { folder, ports, flags, members }
    }

    fn data(&self, member: usize) -> impl AsRef<Path> + use<> {
        self.folder.path().join(member.to_string())
    }

    async fn maintenance(&self, member: usize) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.members[member].channel().await)
    }

    async fn status(&self, member: usize) -> StatusResponse {
        self.maintenance(member).await.status(StatusRequest {}).await.unwrap().into_inner()
    }

    /// Which one leads, as this one knows.
    async fn leader(&self, asked: usize) -> usize {
        let due = Instant::now() + PATIENCE;
        loop {
            let leader = self.status(asked).await.leader;
            for member in 0..3 {
                let status = timeout(Duration::from_secs(2), self.status(member)).await;
                if status.is_ok_and(|status| status.header.unwrap().member_id == leader) {
                    return member;
                }
            }
            assert!(Instant::now() < due, "there is no leader");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Puts a pair by a member, as soon as that goes.
    async fn put(&self, member: usize, key: &str, value: impl Into<Vec<u8>>) {
        let (mut kv, put) = (self.members[member].kv().await, put(key, value));
        let due = Instant::now() + PATIENCE;
        while let Err(error) = kv.put(put.clone()).await {
            assert!(Instant::now() < due, "{error}");
        }
    }

    /// Kills a member and starts it again.
    async fn kill(&mut self, member: usize) {
        let process = self.members.remove(member);
        process.signal("-KILL");
        assert_eq!(timeout(PATIENCE, process.ended()).await.unwrap().code(), None);
        let again = Process::start_with(self.data(member).as_ref(), self.ports[member], &self.flags[member]).await;
        self.members.insert(member, again);
    }

    /// Waits until all have the same revision; then they must have the same hash.
    async fn are_one(&self) {
        let due = Instant::now() + PATIENCE;
        loop {
            let mut hashes = Vec::new();
            for member in 0..3 {
                let answer = self.maintenance(member).await.hash_kv(HashKvRequest::default()).await.unwrap();
                let answer = answer.into_inner();
                hashes.push((answer.hash_revision, answer.compact_revision, answer.hash));
            }
            if hashes.iter().all(|(revision, ..)| *revision == hashes[0].0) {
                assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
                return;
            }
            assert!(Instant::now() < due, "{hashes:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// etcd 20418: a leader that had been paused, and replaced meanwhile, served reads as linearizable at once. The read
/// waits in its socket when it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_paused_reads_nothing_stale() {
    let three = Three::start(&[]).await;
    let mut answered = 0;
    for round in 0..4 {
        let leader = three.leader(0).await;
        let other = (leader + 1) % 3;
        three.put(leader, "k", format!("before {round}")).await;
        let mut kv = three.members[leader].kv().await;
        kv.range(get("k")).await.unwrap();
        let process = &three.members[leader];
        process.signal("-STOP");
        // All its threads stop soon, not at once.
        let due = Instant::now() + PATIENCE;
        while timeout(Duration::from_millis(200), kv.range(get("k"))).await.is_ok() {
            assert!(Instant::now() < due, "a stopped process answers");
        }
        let mut asks = kv.clone();
        let read = tokio::spawn(async move { asks.range(get("k")).await });
        three.put(other, "k", format!("after {round}")).await;
        assert!(!read.is_finished());
        process.signal("-CONT");
        match timeout(PATIENCE, read).await.unwrap().unwrap() {
            Ok(answer) => {
                assert_eq!(answer.into_inner().kvs[0].value, format!("after {round}"));
                answered += 1;
            }
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
    }
    assert!(answered > 0, "no read was answered");
}

/// etcd 20271: a defragmentation during the installation of a snapshot left a member with files that were deleted, so
/// that it had lost what it wrote after that when it started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_defragmentation_while_a_store_is_received_loses_nothing() {
    let mut three = Three::start(&["--snapshot-count=10", "--snapshot-catchup-entries=10"]).await;
    let (mut received, mut rounds) = (0, 0);
    while received < 2 {
        assert!(rounds < 20, "{received} stores received in {rounds} rounds");
        let leader = three.leader(0).await;
        let (lagging, other) = ((leader + 1) % 3, (leader + 2) % 3);
        let before = three.members[lagging].logged(RECEIVED);
        three.members[lagging].signal("-STOP");
        for n in 0..200 {
            three.put(leader, &format!("k{n}"), vec![b'v'; 4 << 10]).await;
        }
        three.members[lagging].signal("-CONT");
        let mut maintenance = three.maintenance(lagging).await;
        let defragmenting = tokio::spawn(async move {
            loop {
                maintenance.defragment(DefragmentRequest::default()).await.unwrap();
            }
        });
        let newest = three.status(other).await.raft_applied_index;
        let due = Instant::now() + PATIENCE;
        while three.status(lagging).await.raft_applied_index < newest {
            assert!(Instant::now() < due, "it does not catch up");
        }
        for n in 0..20 {
            three.put(lagging, &format!("k-after-{rounds}-{n}"), "v").await;
        }
        assert!(!defragmenting.is_finished());
        defragmenting.abort();
        received += three.members[lagging].logged(RECEIVED) - before;
        three.kill(lagging).await;
        three.are_one().await;
        rounds += 1;
    }
}

/// What others have is asked for before anybody is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_starts_with_other_data_ends_with_an_error() {
    let mut three = Three::start(&["--snapshot-count=10", "--experimental-initial-corrupt-check"]).await;
    let victim = (three.leader(0).await + 1) % 3;
    let data = three.data(victim);
    for _ in 0..30 {
        three.put(victim, "k", "v").await;
    }
    // What is in its log alone would be right again at its start.
    three.maintenance(victim).await.defragment(DefragmentRequest {}).await.unwrap();
    let process = three.members.remove(victim);
    process.signal("-TERM");
    assert_eq!(timeout(PATIENCE, process.ended()).await.unwrap().code(), Some(0));
    let store = data.as_ref().join("store");
    assert!(corrupt(&RocksDbEngine::open(&store, &Options::replayed()).unwrap(), 2), "it is not on disk");
    let (refused, is_ready) = Process::try_start(data.as_ref(), three.ports[victim], &three.flags[victim]).await;
    assert!(!is_ready);
    assert_eq!(refused.logged("found data inconsistency with peers"), 1);
    assert_eq!(timeout(PATIENCE, refused.ended()).await.unwrap().code(), Some(1));
}
