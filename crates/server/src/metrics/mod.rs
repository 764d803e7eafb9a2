//! Metrics, under the names that etcd's dashboards and alerts read.

mod applied;
mod corruption;
mod grpc;
mod methods;
mod process;
mod text;
mod watch;

use std::ops::Deref;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

pub use corruption::CorruptionMetrics;
pub use grpc::GrpcMetrics;
pub(crate) use grpc::{Call, MethodMetrics};
pub use methods::MethodKind;
pub(crate) use text::CONTENT_TYPE;
pub use watch::WatchMetrics;

use crate::config::MetricsLevel;
use crate::version;

/// All handles; a clone is the same metrics. Reached by dereferencing: `metrics.mvcc.put.inc()`.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Handles>);

impl Deref for Metrics {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.0
    }
}

/// The handles by the part of the server they speak of.
#[derive(Debug)]
pub struct Handles {
    registry: Registry,
    /// `etcd_server_`.
    pub server: ServerMetrics,
    /// `etcd_disk_`.
    pub disk: DiskMetrics,
    /// `etcd_mvcc_` and `etcd_debugging_mvcc_`.
    pub mvcc: MvccMetrics,
    /// `stentor_watch_`.
    pub watch: WatchMetrics,
    /// Alarms, and comparisons of the members.
    pub corruption: CorruptionMetrics,
    /// `etcd_debugging_lease_`.
    pub lease: LeaseMetrics,
    /// `etcd_network_`.
    pub network: NetworkMetrics,
    /// `grpc_server_`.
    pub grpc: GrpcMetrics,
}

/// `etcd_server_` and its kin. Names without the prefix and `_total`.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct ServerMetrics {
    pub has_leader: Gauge,
    pub is_leader: Gauge,
    pub is_learner: Gauge,
    pub leader_changes_seen: Counter,
    pub proposals_committed: Gauge,
    pub proposals_applied: Gauge,
    pub proposals_pending: Gauge,
    pub proposals_failed: Counter,
    pub slow_apply: Counter,
    pub slow_read_indexes: Counter,
    pub read_indexes_failed: Counter,
    pub heartbeat_send_failures: Counter,
    pub learner_promote_successes: Counter,
    pub snapshot_apply_in_progress: Gauge,
    pub lease_expired: Counter,
    pub health_success: Counter,
    pub health_failures: Counter,
    pub quota_backend_bytes: Gauge,
    /// Ours: bytes left below the quota; an alert on it comes before the writes are refused.
    pub quota_bytes_left: Gauge,
    /// Ours: what large answers on their way to clients hold, when last measured.
    pub answer_bytes_in_flight: Gauge,
    /// Ours: clients' connections.
    pub connections: Gauge,
    id: Family<[(&'static str, String); 1], Gauge>,
}

impl ServerMetrics {
    /// Says this member's id, once it is known.
    pub fn set_id(&self, member_id: u64) {
        self.id.get_or_create(&[("server_id", format!("{member_id:x}"))]).set(1);
    }
}

/// `etcd_disk_`, in seconds.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct DiskMetrics {
    pub wal_fsync_duration: Histogram,
    pub backend_commit_duration: Histogram,
    pub backend_snapshot_duration: Histogram,
    pub backend_defrag_duration: Histogram,
    pub defrag_inflight: Gauge,
}

/// `etcd_mvcc_` and `etcd_debugging_mvcc_`. Names without the prefix and `_total`.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct MvccMetrics {
    pub put: Counter,
    pub delete: Counter,
    pub txn: Counter,
    pub range: Counter,
    pub db_total_size_in_bytes: Gauge,
    pub db_total_size_in_use_in_bytes: Gauge,
    pub db_open_read_transactions: Gauge,
    pub hash_duration: Histogram,
    pub hash_rev_duration: Histogram,
    pub keys: Gauge,
    pub current_revision: Gauge,
    pub compact_revision: Gauge,
    pub watch_stream: Gauge,
    pub watcher: Gauge,
    pub slow_watcher: Gauge,
    pub events: Counter,
    pub pending_events: Gauge,
    pub db_compaction_keys: Counter,
    pub db_compaction_last: Gauge,
    pub total_put_size_in_bytes: Gauge,
}

/// `etcd_debugging_lease_`. Names without the prefix and `_total`.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct LeaseMetrics {
    pub granted: Counter,
    pub revoked: Counter,
    pub renewed: Counter,
}

/// `To` or `From` a member, by its id in hexadecimal.
pub type PeerLabel = [(&'static str, String); 1];

/// `etcd_network_`. Names without the prefix and `_total`.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct NetworkMetrics {
    pub client_grpc_received_bytes: Counter,
    pub client_grpc_sent_bytes: Counter,
    pub peer_sent_bytes: Family<PeerLabel, Counter>,
    pub peer_received_bytes: Family<PeerLabel, Counter>,
    pub peer_sent_failures: Family<PeerLabel, Counter>,
    pub peer_round_trip_time: Family<PeerLabel, Histogram, fn() -> Histogram>,
}

impl Default for NetworkMetrics {
    fn default() -> NetworkMetrics {
        NetworkMetrics {
            client_grpc_received_bytes: Counter::default(),
            client_grpc_sent_bytes: Counter::default(),
            peer_sent_bytes: Family::default(),
            peer_received_bytes: Family::default(),
            peer_sent_failures: Family::default(),
            // From 0.1 ms, doubling, as etcd has them.
            peer_round_trip_time: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0001, 2.0, 16))),
        }
    }
}

/// Registers a metric under its prefix and gives it back.
struct Scope<'r>(&'r mut Registry, &'static str);

impl Scope<'_> {
    fn add<M: Metric + Clone>(&mut self, metric: &M, name: &str, help: &str) {
        self.0.register(format!("{}{name}", self.1), help, metric.clone());
    }
}

impl Metrics {
    /// Fresh metrics, all at zero.
    pub fn new(level: MetricsLevel) -> Metrics {
        let mut registry = Registry::default();
        let handles = (
            server(&mut registry),
            disk(&mut registry),
            mvcc(&mut registry),
            lease(&mut registry),
            network(&mut registry),
            GrpcMetrics::new(&mut registry, level),
        );
        versions(&mut registry);
        registry.register_collector(Box::new(process::ProcessCollector));
        let (server, disk, mvcc, lease, network, grpc) = handles;
        let watch = WatchMetrics::new(&mut registry, &mvcc);
        let corruption = CorruptionMetrics::new(&mut registry);
        Metrics(Arc::new(Handles { registry, server, disk, mvcc, watch, corruption, lease, network, grpc }))
    }

    /// The text of /metrics, in Prometheus' classic format.
    pub fn text(&self) -> String {
        text::render(&self.registry)
    }
}

fn server(registry: &mut Registry) -> ServerMetrics {
    let metrics = ServerMetrics::default();
    let s = &mut Scope(registry, "etcd_server_");
    s.add(&metrics.has_leader, "has_leader", "Whether a leader is known");
    s.add(&metrics.is_leader, "is_leader", "Whether this member leads");
    s.add(&metrics.is_learner, "is_learner", "Whether this member is a learner");
    s.add(&metrics.leader_changes_seen, "leader_changes_seen", "Changes of leader seen");
    s.add(&metrics.proposals_committed, "proposals_committed_total", "Index of the last committed proposal");
    s.add(&metrics.proposals_applied, "proposals_applied_total", "Index of the last applied proposal");
    s.add(&metrics.proposals_pending, "proposals_pending", "Proposals that wait to be committed");
    s.add(&metrics.proposals_failed, "proposals_failed", "Proposals that failed");
    s.add(&metrics.slow_apply, "slow_apply", "Requests that took longer to apply than --warning-apply-duration");
    s.add(&metrics.slow_read_indexes, "slow_read_indexes", "Linearizable reads whose barrier timed out");
    s.add(&metrics.read_indexes_failed, "read_indexes_failed", "Linearizable reads whose barrier failed");
    s.add(&metrics.heartbeat_send_failures, "heartbeat_send_failures", "Heartbeats that could not be sent in time");
    s.add(&metrics.learner_promote_successes, "learner_promote_successes", "Learners promoted while leading");
    s.add(&metrics.snapshot_apply_in_progress, "snapshot_apply_in_progress_total", "Snapshots being installed");
    s.add(&metrics.health_success, "health_success", "Good answers of /health");
    s.add(&metrics.health_failures, "health_failures", "Bad answers of /health");
    s.add(&metrics.quota_backend_bytes, "quota_backend_bytes", "The space quota");
    s.add(&metrics.id, "id", "The id of this member, in hexadecimal");
    registry.register("etcd_debugging_server_lease_expired", "Leases expired", metrics.lease_expired.clone());
    registry.register("stentor_quota_bytes_left", "Bytes left below the space quota", metrics.quota_bytes_left.clone());
    registry.register(
        "stentor_answer_bytes_in_flight",
        "Bytes held by large answers on their way to clients",
        metrics.answer_bytes_in_flight.clone(),
    );
    registry.register("stentor_client_connections", "Open connections of clients", metrics.connections.clone());
    metrics
}

/// From 1 ms, doubling, as etcd has them.
fn disk_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 14))
}

/// From 100 ms, doubling, for what takes long.
fn long_buckets(count: u16) -> Histogram {
    Histogram::new(exponential_buckets(0.1, 2.0, count))
}

fn disk(registry: &mut Registry) -> DiskMetrics {
    let metrics = DiskMetrics {
        wal_fsync_duration: disk_buckets(),
        backend_commit_duration: disk_buckets(),
        backend_snapshot_duration: Histogram::new(exponential_buckets(0.01, 2.0, 17)),
        backend_defrag_duration: long_buckets(13),
        defrag_inflight: Gauge::default(),
    };
    let s = &mut Scope(registry, "etcd_disk_");
    s.add(&metrics.wal_fsync_duration, "wal_fsync_duration_seconds", "Time until a group of writes was on disk");
    s.add(&metrics.backend_commit_duration, "backend_commit_duration_seconds", "Time of a write of a group of changes");
    s.add(&metrics.backend_snapshot_duration, "backend_snapshot_duration_seconds", "Time of sending a snapshot");
    s.add(&metrics.backend_defrag_duration, "backend_defrag_duration_seconds", "Time of a defragmentation");
    s.add(&metrics.defrag_inflight, "defrag_inflight", "Whether a defragmentation runs");
    metrics
}

fn mvcc(registry: &mut Registry) -> MvccMetrics {
    let metrics = MvccMetrics {
        put: Counter::default(),
        delete: Counter::default(),
        txn: Counter::default(),
        range: Counter::default(),
        db_total_size_in_bytes: Gauge::default(),
        db_total_size_in_use_in_bytes: Gauge::default(),
        db_open_read_transactions: Gauge::default(),
        hash_duration: Histogram::new(exponential_buckets(0.01, 2.0, 15)),
        hash_rev_duration: Histogram::new(exponential_buckets(0.01, 2.0, 15)),
        keys: Gauge::default(),
        current_revision: Gauge::default(),
        compact_revision: Gauge::default(),
        watch_stream: Gauge::default(),
        watcher: Gauge::default(),
        slow_watcher: Gauge::default(),
        events: Counter::default(),
        pending_events: Gauge::default(),
        db_compaction_keys: Counter::default(),
        db_compaction_last: Gauge::default(),
        total_put_size_in_bytes: Gauge::default(),
    };
    let s = &mut Scope(registry, "etcd_mvcc_");
    s.add(&metrics.put, "put", "Puts seen by this member");
    s.add(&metrics.delete, "delete", "Deletes seen by this member");
    s.add(&metrics.txn, "txn", "Transactions seen by this member");
    s.add(&metrics.range, "range", "Ranges seen by this member");
    s.add(&metrics.db_total_size_in_bytes, "db_total_size_in_bytes", "Bytes the data takes");
    s.add(&metrics.db_total_size_in_use_in_bytes, "db_total_size_in_use_in_bytes", "Bytes of them in use");
    s.add(&metrics.db_open_read_transactions, "db_open_read_transactions", "Large reads that run");
    s.add(&metrics.hash_duration, "hash_duration_seconds", "Time of hashing the whole store");
    s.add(&metrics.hash_rev_duration, "hash_rev_duration_seconds", "Time of hashing the store at a revision");
    let s = &mut Scope(registry, "etcd_debugging_mvcc_");
    s.add(&metrics.keys, "keys_total", "Keys");
    s.add(&metrics.current_revision, "current_revision", "The current revision");
    s.add(&metrics.compact_revision, "compact_revision", "The compacted revision");
    s.add(&metrics.watch_stream, "watch_stream_total", "Watch streams");
    s.add(&metrics.watcher, "watcher_total", "Watchers");
    s.add(&metrics.slow_watcher, "slow_watcher_total", "Watchers that are behind");
    s.add(&metrics.events, "events", "Events sent");
    s.add(&metrics.pending_events, "pending_events_total", "Events that wait to be sent");
    s.add(&metrics.db_compaction_keys, "db_compaction_keys", "Versions removed by compaction");
    s.add(&metrics.db_compaction_last, "db_compaction_last", "Time of the last compaction, in Unix seconds");
    s.add(&metrics.total_put_size_in_bytes, "total_put_size_in_bytes", "Bytes put, keys and values");
    metrics
}

fn lease(registry: &mut Registry) -> LeaseMetrics {
    let metrics = LeaseMetrics::default();
    let s = &mut Scope(registry, "etcd_debugging_lease_");
    s.add(&metrics.granted, "granted", "Leases granted");
    s.add(&metrics.revoked, "revoked", "Leases revoked");
    s.add(&metrics.renewed, "renewed", "Leases renewed");
    metrics
}

fn network(registry: &mut Registry) -> NetworkMetrics {
    let metrics = NetworkMetrics::default();
    let s = &mut Scope(registry, "etcd_network_");
    s.add(&metrics.client_grpc_received_bytes, "client_grpc_received_bytes", "Bytes from clients of gRPC");
    s.add(&metrics.client_grpc_sent_bytes, "client_grpc_sent_bytes", "Bytes to clients of gRPC");
    s.add(&metrics.peer_sent_bytes, "peer_sent_bytes", "Bytes to each member");
    s.add(&metrics.peer_received_bytes, "peer_received_bytes", "Bytes from each member");
    s.add(&metrics.peer_sent_failures, "peer_sent_failures", "Messages that could not be sent to each member");
    s.add(&metrics.peer_round_trip_time, "peer_round_trip_time_seconds", "Time of a message to each member and back");
    metrics
}

fn versions(registry: &mut Registry) {
    for (name, help, label, text) in [
        ("etcd_server_version", "The version of the interface", "server_version", version::ETCD_VERSION),
        ("etcd_cluster_version", "The version of the cluster", "cluster_version", version::CLUSTER_VERSION),
        ("stentor_version", "The version of Stentor", "version", version::STENTOR_VERSION),
    ] {
        let family = Family::<[(&'static str, &'static str); 1], Gauge>::default();
        family.get_or_create(&[(label, text)]).set(1);
        registry.register(name, help, family);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of one metric, with their labels.
    fn lines<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
        text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name)).collect()
    }

    #[test]
    fn names_are_those_of_the_dashboards() {
        let text = Metrics::new(MetricsLevel::Basic).text();
        for name in [
            "etcd_server_has_leader",
            "etcd_server_is_leader",
            "etcd_server_leader_changes_seen_total",
            "etcd_server_proposals_committed_total",
            "etcd_server_proposals_applied_total",
            "etcd_server_proposals_pending",
            "etcd_server_proposals_failed_total",
            "etcd_server_slow_apply_total",
            "etcd_server_quota_backend_bytes",
            "etcd_server_is_learner",
            "etcd_server_health_success",
            "etcd_disk_wal_fsync_duration_seconds_bucket",
            "etcd_disk_backend_commit_duration_seconds_count",
            "etcd_mvcc_db_total_size_in_bytes",
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "etcd_mvcc_put_total",
            "etcd_mvcc_delete_total",
            "etcd_mvcc_txn_total",
            "etcd_mvcc_range_total",
            "etcd_debugging_mvcc_keys_total",
            "etcd_debugging_mvcc_current_revision",
            "etcd_debugging_mvcc_compact_revision",
            "etcd_debugging_mvcc_watch_stream_total",
            "etcd_debugging_mvcc_watcher_total",
            "etcd_debugging_mvcc_slow_watcher_total",
            "etcd_debugging_mvcc_events_total",
            "etcd_debugging_mvcc_pending_events_total",
            "etcd_debugging_mvcc_db_compaction_keys_total",
            "stentor_watch_streams",
            "stentor_watch_slow_watchers",
            "stentor_watch_slowest_lag_revisions",
            "stentor_watch_slowest_lag_seconds",
            "stentor_watch_held_bytes",
            "stentor_watch_events_total",
            "stentor_watch_sent_bytes_total",
            "stentor_watch_stream_lag_seconds_bucket",
            "etcd_network_client_grpc_received_bytes_total",
            "etcd_network_client_grpc_sent_bytes_total",
            "grpc_server_started_total",
            "grpc_server_handled_total",
            "grpc_server_msg_sent_total",
            "grpc_server_msg_received_total",
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_max_fds",
            "process_start_time_seconds",
            "process_virtual_memory_bytes",
        ] {
            assert!(!lines(&text, name).is_empty(), "{name} is missing in\n{text}");
        }
        assert_eq!(lines(&text, "etcd_server_version"), ["etcd_server_version{server_version=\"3.7.3\"} 1"]);
        assert_eq!(lines(&text, "etcd_cluster_version"), ["etcd_cluster_version{cluster_version=\"3.7\"} 1"]);
        assert!(lines(&text, "grpc_server_handling_seconds_count").is_empty(), "extensive only");
        let text = Metrics::new(MetricsLevel::Extensive).text();
        assert!(!lines(&text, "grpc_server_handling_seconds_count").is_empty());
    }

    #[test]
    fn other_members_are_told_apart_and_absent_until_there_are_some() {
        let metrics = Metrics::new(MetricsLevel::Basic);
        assert!(!metrics.text().contains("etcd_network_peer_"), "as with etcd's cluster of one");
        let network = &metrics.network;
        network.peer_sent_bytes.get_or_create(&[("To", "ab".to_owned())]).inc_by(2);
        network.peer_received_bytes.get_or_create(&[("From", "ab".to_owned())]).inc_by(3);
        network.peer_sent_failures.get_or_create(&[("To", "ab".to_owned())]).inc();
        network.peer_round_trip_time.get_or_create(&[("To", "ab".to_owned())]).observe(0.01);
        let text = metrics.text();
        for line in [
            "etcd_network_peer_sent_bytes_total{To=\"ab\"} 2",
            "etcd_network_peer_received_bytes_total{From=\"ab\"} 3",
            "etcd_network_peer_sent_failures_total{To=\"ab\"} 1",
            "etcd_network_peer_round_trip_time_seconds_count{To=\"ab\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn handles_move_the_lines() {
        let metrics = Metrics::new(MetricsLevel::Basic);
        metrics.clone().mvcc.put.inc_by(3);
        metrics.mvcc.keys.set(2);
        metrics.server.set_id(0xab);
        let text = metrics.text();
        assert_eq!(lines(&text, "etcd_mvcc_put_total"), ["etcd_mvcc_put_total 3"]);
        assert_eq!(lines(&text, "etcd_debugging_mvcc_keys_total"), ["etcd_debugging_mvcc_keys_total 2"]);
        metrics.mvcc.events.inc_by(5);
        metrics.watch.canceled_by_compaction.inc();
        let text = metrics.text();
        assert_eq!(lines(&text, "etcd_debugging_mvcc_events_total"), ["etcd_debugging_mvcc_events_total 5"]);
        assert_eq!(lines(&text, "stentor_watch_events_total"), ["stentor_watch_events_total 5"]);
        assert_eq!(
            lines(&text, "stentor_watch_canceled_total").into_iter().collect::<std::collections::BTreeSet<_>>(),
            [
                "stentor_watch_canceled_total{reason=\"client\"} 0",
                "stentor_watch_canceled_total{reason=\"compaction\"} 1"
            ]
            .into()
        );
        assert_eq!(lines(&text, "stentor_watch_watchers").len(), 3, "one a state");
        assert_eq!(lines(&text, "etcd_server_id"), ["etcd_server_id{server_id=\"ab\"} 1"]);
    }

    #[test]
    fn text_is_the_classic_format() {
        let text = Metrics::new(MetricsLevel::Extensive).text();
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
        let mut families = std::collections::HashMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(families.insert(name, kind), None, "{name} comes twice");
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').unwrap();
                value.parse::<f64>().unwrap();
                let name = series.split('{').next().unwrap();
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
                let known = families.contains_key(name)
                    || base.is_some_and(|base| families.get(base).copied() == Some("histogram"));
                assert!(known, "no TYPE for {line}");
            }
        }
        assert!(families.len() > 50);
    }
}
