//! Who is how far behind, as the service Introspection and the metrics tell it.

use stentor_proto::introspectionpb::introspection_client::IntrospectionClient;
use stentor_proto::introspectionpb::watchers_request::Order;
use stentor_proto::introspectionpb::{WatcherState, WatchersRequest, WatchersResponse};

use super::client::{from, key, with_prev_kv};
use super::raw::{Connection, RawWatch};
use super::writes::Writer;
use crate::harness::{Rig, until};

async fn watchers(rig: &Rig, request: WatchersRequest) -> WatchersResponse {
    IntrospectionClient::new(rig.channel()).watchers(request).await.unwrap().into_inner()
}

fn ids(response: &WatchersResponse) -> Vec<(i64, WatcherState)> {
    response.watchers.iter().map(|watcher| (watcher.watch_id, watcher.state())).collect()
}

/// A stream whose client has stopped reading, with events due; its watchers are 0 (`a`), which has none of
/// them, and 1 (`quiet`).
async fn stalled(rig: &Rig, connection: &mut Connection) -> RawWatch {
    let mut stalled = connection.watch().await;
    stalled.watch(with_prev_kv(key("a"))).await;
    stalled.watch(key("quiet")).await;
    let mut writer = Writer::new(rig);
    for _ in 0..40 {
        writer.put("a", vec![b'v'; 20_000]).await;
    }
    stalled
}

#[tokio::test(start_paused = true)]
async fn the_furthest_behind_come_first_and_are_described() {
    let rig = Rig::start(&[]).await;
    rig.put("a", "first").await;
    let mut connection = Connection::open(&rig, 16 << 10).await;
    let mut stalled = stalled(&rig, &mut connection).await;
    let mut other = connection.watch().await;
    other.watch(from(0, key("b"))).await;
    tokio::time::advance(std::time::Duration::from_secs(5)).await;

    let all = watchers(&rig, WatchersRequest::default()).await;
    let newest = rig.revision();
    assert_eq!(all.header.unwrap().revision, newest);
    let totals = all.totals.unwrap();
    assert_eq!((totals.streams, totals.synced, totals.unsynced, totals.victims), (2, 2, 0, 1));
    assert_eq!((totals.matching, totals.compact_revision), (3, -1));
    assert_eq!(all.watchers.len(), 3);
    let slow = &all.watchers[0];
    assert_eq!((slow.watch_id, slow.state()), (0, WatcherState::Victim));
    assert_eq!((&slow.key[..], &slow.range_end[..]), (&b"a"[..], &b""[..]));
    assert!(slow.prev_kv && !slow.progress_notify && !slow.fragment);
    assert!(slow.next_revision > 2 && slow.next_revision < newest, "{slow:?}");
    assert_eq!(slow.lag_revisions, (newest + 1 - slow.next_revision) as u64);
    assert!((5_000..6_000).contains(&slow.lag_ms), "{slow:?}");
    assert!(slow.events > 0 && slow.bytes > 20_000 * slow.events, "{slow:?}");
    assert_eq!(totals.slowest_lag_revisions, slow.lag_revisions);
    for quiet in &all.watchers[1..] {
        assert_eq!((quiet.state(), quiet.lag_ms, quiet.events), (WatcherState::Synced, 0, 0), "{quiet:?}");
    }
    let stream = all.streams.iter().find(|stream| stream.id == slow.stream_id).unwrap();
    assert_eq!((stream.watchers, stream.synced, stream.victims), (2, 1, 1));
    assert!(!stream.peer.is_empty() && stream.events == slow.events, "{stream:?}");

    // Filters, and streams for rows.
    let victims = WatchersRequest { states: vec![WatcherState::Victim as i32], ..Default::default() };
    assert_eq!(ids(&watchers(&rig, victims).await), [(0, WatcherState::Victim)]);
    let prefix = WatchersRequest { key_prefix: "qu".into(), ..Default::default() };
    assert_eq!(ids(&watchers(&rig, prefix).await), [(1, WatcherState::Synced)]);
    let one = WatchersRequest { limit: 1, order: Order::LagTime as i32, ..Default::default() };
    assert_eq!(ids(&watchers(&rig, one).await), [(0, WatcherState::Victim)]);
    let rows = watchers(&rig, WatchersRequest { streams_only: true, ..Default::default() }).await;
    assert!(rows.watchers.is_empty() && rows.streams.len() == 2);
    assert_eq!(rows.streams[0].id, slow.stream_id);

    // It reads on, and is behind no more.
    stalled.until(|ledger| ledger.watchers[&0].last() == newest).await;
    let after = watchers(&rig, WatchersRequest::default()).await;
    assert!(after.watchers.iter().all(|watcher| watcher.state() == WatcherState::Synced && watcher.lag_ms == 0));
    assert_eq!(after.totals.unwrap().slowest_lag_revisions, 0);
}

#[tokio::test(start_paused = true)]
async fn metrics_tell_the_sums_and_who_is_slow_for_long() {
    let rig = Rig::start(&["--stentor-slow-watcher-time=3s"]).await;
    rig.put("a", "first").await;
    let mut connection = Connection::open(&rig, 16 << 10).await;
    let mut stalled = stalled(&rig, &mut connection).await;
    let text = async |line: &str| rig.http("/metrics").await.lines().any(|l| l == line);
    let slow = |count: u64| rig.metrics.text().contains(&format!("\nstentor_watch_slow_watchers {count}\n"));
    for line in [
        "stentor_watch_streams 1",
        "stentor_watch_watchers{state=\"victim\"} 1",
        "stentor_watch_watchers{state=\"synced\"} 1",
        "etcd_debugging_mvcc_slow_watcher_total 1",
        "etcd_debugging_mvcc_watcher_total 2",
    ] {
        assert!(text(line).await, "{line} in {}", rig.http("/metrics").await);
    }
    assert!(slow(0));
    until(|| slow(1)).await;
    let newest = rig.revision();
    stalled.until(|ledger| ledger.watchers[&0].last() == newest).await;
    until(|| slow(0)).await;
    stalled.cancel(0);
    stalled.until(|ledger| ledger.watchers[&0].cancel.is_some()).await;
    for line in ["stentor_watch_canceled_total{reason=\"client\"} 1", "etcd_debugging_mvcc_events_total 40"] {
        assert!(text(line).await, "{line} in {}", rig.http("/metrics").await);
    }
}
