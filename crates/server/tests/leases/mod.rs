//! Leases, by a clock that moves only when nothing is left to do.

mod expiry;
mod failing;
mod races;

use std::time::Duration;

use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use crate::harness::{Rig, get, put, refused, revision};

const MILLISECOND: Duration = Duration::from_millis(1);

/// A keep-alive stream.
struct KeepAlive {
    requests: mpsc::UnboundedSender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
}

impl KeepAlive {
    async fn open(rig: &Rig) -> KeepAlive {
        let (requests, sent) = mpsc::unbounded_channel();
        let answers = rig.lease().lease_keep_alive(UnboundedReceiverStream::new(sent)).await.unwrap().into_inner();
        KeepAlive { requests, answers }
    }

    fn send(&self, id: i64) {
        self.requests.send(LeaseKeepAliveRequest { id }).unwrap();
    }

    async fn answer(&mut self) -> LeaseKeepAliveResponse {
        self.answers.message().await.unwrap().unwrap()
    }

    /// Renews once; the TTL of the answer.
    async fn renew(&mut self, id: i64) -> i64 {
        self.send(id);
        let answer = self.answer().await;
        assert_eq!(answer.id, id);
        answer.ttl
    }
}

async fn time_to_live(rig: &Rig, id: i64, keys: bool) -> LeaseTimeToLiveResponse {
    rig.lease().lease_time_to_live(LeaseTimeToLiveRequest { id, keys }).await.unwrap().into_inner()
}

async fn leases(rig: &Rig) -> Vec<i64> {
    let answer = rig.lease().lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner();
    answer.leases.iter().map(|lease| lease.id).collect()
}

/// Puts a key with a lease.
async fn attach(rig: &Rig, key: &str, lease: i64) -> i64 {
    let answer = rig.kv().put(PutRequest { lease, ..put(key, "v") }).await.unwrap();
    revision(answer.into_inner().header)
}

async fn is_there(rig: &Rig, key: &str) -> bool {
    rig.kv().range(get(key)).await.unwrap().into_inner().count == 1
}

#[tokio::test(start_paused = true)]
async fn a_grant_takes_an_id_and_raises_a_small_ttl() {
    let rig = Rig::start(&[]).await;
    let mut lease = rig.lease();
    for (id, ttl, granted) in
        [(7, 0, 2), (-5, -1, 2), (i64::MIN, 1, 2), (i64::MAX, 3, 3), (8, 9_000_000_000, 9_000_000_000)]
    {
        let answer = lease.lease_grant(LeaseGrantRequest { id, ttl }).await.unwrap().into_inner();
        assert_eq!((answer.id, answer.ttl), (id, granted));
        assert_eq!(revision(answer.header), 1, "a lease takes no revision");
        assert_eq!(answer.error, "");
    }
    for _ in 0..10 {
        let answer = lease.lease_grant(LeaseGrantRequest { id: 0, ttl: 60 }).await.unwrap().into_inner();
        assert!(answer.id > 0, "{}", answer.id);
    }
    let taken = LeaseGrantRequest { id: 7, ttl: 10 };
    refused(lease.lease_grant(taken).await, EtcdError::LeaseExist);
    // The TTL is looked at before the id.
    for id in [0, 7, 9] {
        let too_large = LeaseGrantRequest { id, ttl: 9_000_000_001 };
        refused(lease.lease_grant(too_large).await, EtcdError::LeaseTTLTooLarge);
    }
    let all = leases(&rig).await;
    assert_eq!(all.len(), 15);
    assert!(all.is_sorted() && all.contains(&-5) && all.contains(&i64::MIN));
}

#[tokio::test(start_paused = true)]
async fn the_smallest_ttl_follows_the_election_timeout() {
    for (election, smallest) in [("271", 1), ("2000", 3), ("50000", 75)] {
        let rig = Rig::start(&["--heartbeat-interval=29", "--election-timeout", election]).await;
        let answer = rig.lease().lease_grant(LeaseGrantRequest { id: 1, ttl: 1 }).await.unwrap().into_inner();
        assert_eq!(answer.ttl, smallest, "{election}");
    }
}

#[tokio::test(start_paused = true)]
async fn keeping_alive_gives_the_full_ttl_and_zero_when_it_is_gone() {
    let rig = Rig::start(&[]).await;
    rig.grant(1, 10).await;
    attach(&rig, "k", 1).await;
    let mut stream = KeepAlive::open(&rig).await;
    let start = Instant::now();
    for round in 1..=5 {
        sleep_until(start + round * Duration::from_secs(9)).await;
        stream.send(1);
        let answer = stream.answer().await;
        assert_eq!((answer.id, answer.ttl, revision(answer.header)), (1, 10, 2));
        let status = time_to_live(&rig, 1, false).await;
        assert!((9..=10).contains(&status.ttl), "{}", status.ttl);
    }
    let last = start + 5 * Duration::from_secs(9);
    sleep_until(last + Duration::from_secs(10) - MILLISECOND).await;
    assert!(is_there(&rig, "k").await);
    sleep_until(last + Duration::from_secs(10) + MILLISECOND).await;
    assert!(!is_there(&rig, "k").await);
    // Gone, and never there: no error, and the stream goes on.
    assert_eq!(stream.renew(1).await, 0);
    assert_eq!(stream.renew(12345).await, 0);
    rig.grant(2, 10).await;
    assert_eq!(stream.renew(2).await, 10);
}

#[tokio::test(start_paused = true)]
async fn time_to_live_tells_whole_seconds_and_keys_on_request() {
    let rig = Rig::start(&[]).await;
    rig.grant(1, 10).await;
    let start = Instant::now();
    for key in ["c", "a", "b"] {
        attach(&rig, key, 1).await;
    }
    sleep_until(start + Duration::from_millis(2500)).await;
    let status = time_to_live(&rig, 1, false).await;
    assert_eq!((status.id, status.ttl, status.granted_ttl, status.keys.len()), (1, 7, 10, 0));
    assert_eq!(revision(status.header), 4);
    assert_eq!(time_to_live(&rig, 1, true).await.keys, ["a", "b", "c"]);
    // A put moves its key to another lease, or to none; a delete detaches it.
    rig.grant(2, 100).await;
    attach(&rig, "a", 2).await;
    attach(&rig, "b", 0).await;
    assert_eq!(time_to_live(&rig, 1, true).await.keys, ["c"]);
    assert_eq!(time_to_live(&rig, 2, true).await.keys, ["a"]);
    rig.kv().delete_range(DeleteRangeRequest { key: "c".into(), ..Default::default() }).await.unwrap();
    let empty = time_to_live(&rig, 1, true).await;
    assert_eq!((empty.ttl, empty.keys.len()), (7, 0));
    let missing = time_to_live(&rig, 3, true).await;
    assert_eq!((missing.id, missing.ttl, missing.granted_ttl, missing.keys.len()), (3, -1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_revoke_deletes_the_keys_in_one_revision() {
    let rig = Rig::start(&[]).await;
    let mut lease = rig.lease();
    refused(lease.lease_revoke(LeaseRevokeRequest { id: 1 }).await, EtcdError::LeaseNotFound);
    rig.grant(1, 10).await;
    let answer = lease.lease_revoke(LeaseRevokeRequest { id: 1 }).await.unwrap().into_inner();
    assert_eq!(revision(answer.header), 1, "without keys it takes no revision");
    refused(lease.lease_revoke(LeaseRevokeRequest { id: 1 }).await, EtcdError::LeaseNotFound);
    rig.grant(1, 10).await;
    for key in ["y", "x", "z"] {
        attach(&rig, key, 1).await;
    }
    let answer = lease.lease_revoke(LeaseRevokeRequest { id: 1 }).await.unwrap().into_inner();
    assert_eq!(revision(answer.header), 5);
    assert_eq!(rig.list("x").await.count, 0);
    assert_eq!(expiry::deletes_at(&rig, 5), ["x", "y", "z"]);
    refused(rig.kv().put(PutRequest { lease: 1, ..put("x", "") }).await, EtcdError::LeaseNotFound);
    assert_eq!(rig.revision(), 5);
}
