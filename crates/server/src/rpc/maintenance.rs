//! Maintenance: state, hashes, alarms, snapshots and space.

use std::pin::Pin;
use std::sync::Arc;

use async_stream::try_stream;
use bytes::Bytes;
use futures::Stream;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use stentor_mvcc::Answer;
use stentor_mvcc::snapshot::Trailer;
use stentor_proto::etcdserverpb::alarm_request::AlarmAction;
use stentor_proto::etcdserverpb::maintenance_server::Maintenance;
use stentor_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeInfo, DowngradeRequest,
    DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse, MoveLeaderRequest, MoveLeaderResponse,
    SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
};
use stentor_proto::storagepb::log_entry::Op;
use stentor_proto::{EtcdError, Revision};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use tracing::info;

use super::status::{not_built, of_propose, of_store};
use crate::node::Node;
use crate::version;

/// The service Maintenance.
#[derive(Clone)]
pub struct MaintenanceService {
    node: Arc<Node>,
}

impl MaintenanceService {
    /// Serves from `node`.
    pub fn new(node: Arc<Node>) -> MaintenanceService {
        MaintenanceService { node }
    }
}

/// A snapshot is sent in messages of this size, as etcd does.
const SEND_BYTES: usize = 32 << 10;

/// And read in steps of this.
const READ_BYTES: usize = 1 << 20;

fn part(blob: Bytes, remaining_bytes: u64) -> SnapshotResponse {
    let version = version::ETCD_VERSION.to_owned();
    SnapshotResponse { header: None, remaining_bytes, blob, version }
}

/// Measures what succeeds.
struct Timed {
    histogram: Histogram,
    begun: Instant,
}

impl Timed {
    fn begin(histogram: &Histogram) -> Timed {
        Timed { histogram: histogram.clone(), begun: Instant::now() }
    }

    fn done(self) {
        self.histogram.observe(self.begun.elapsed().as_secs_f64());
    }
}

/// Counted until it is dropped, however its call ends.
struct InFlight(Gauge);

impl InFlight {
    fn begin(gauge: &Gauge) -> InFlight {
        gauge.inc();
        InFlight(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// An alarm as Status tells it.
fn alarm_text(alarm: &AlarmMember) -> String {
    format!("memberID:{} alarm:{}", alarm.member_id, alarm.alarm().as_str_name())
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn alarm(&self, request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        let request = request.into_inner();
        let (alarms, revision) = if request.action() == AlarmAction::Get {
            let view = self.node.read(false).await.map_err(of_propose)?;
            (view.alarms(&request), view.revision())
        } else {
            let answer = self.node.propose(Op::Alarm(request)).await.map_err(of_propose)?;
            let alarms = if let Answer::Alarm(alarms) = answer { alarms } else { Vec::new() };
            (alarms, self.node.store.view().revision())
        };
        let alarms = alarms.into_iter().map(AlarmMember::from).collect();
        Ok(Response::new(AlarmResponse { header: Some(self.node.header(revision)), alarms }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let view = self.node.store.view();
        let sizes = self.node.store.sizes().map_err(of_store)?;
        let mut errors: Vec<_> = view.all_alarms().map(|alarm| alarm_text(&alarm.into())).collect();
        let leader = self.node.leader();
        if leader.is_none() {
            errors.push(EtcdError::NoLeader.to_string());
        }
        Ok(Response::new(StatusResponse {
            header: Some(self.node.header(view.revision())),
            version: version::ETCD_VERSION.to_owned(),
            db_size: sizes.total as i64,
            leader: leader.unwrap_or(0),
            raft_index: self.node.committed_index(),
            raft_term: self.node.term(),
            raft_applied_index: view.applied().index,
            errors,
            db_size_in_use: view.used_bytes() as i64,
            is_learner: self.node.is_learner(),
            storage_version: version::STORAGE_VERSION.to_owned(),
            db_size_quota: self.node.quota_bytes() as i64,
            downgrade_info: Some(DowngradeInfo::default()),
        }))
    }

    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let node = self.node.clone();
        // The view is taken when it is this call's turn, so that waiting holds nothing.
        let hash = move || {
            let (view, timed) = (node.store.view(), Timed::begin(&node.metrics.mvcc.hash_duration));
            let hash = view.hash_engine()?;
            timed.done();
            Ok((view.revision(), hash))
        };
        let hash = self.node.hashes.run(self.node.environment.workers, hash);
        let (revision, hash) = hash.await?.map_err(of_store)?;
        Ok(Response::new(HashResponse { header: Some(self.node.header(revision)), hash }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        let revision = request.into_inner().revision;
        let node = self.node.clone();
        let hash = move || {
            let timed = Timed::begin(&node.metrics.mvcc.hash_rev_duration);
            let hash = node.store.view().hash_kv(revision)?;
            timed.done();
            Ok(hash)
        };
        let hash = self.node.hashes.run(self.node.environment.workers, hash).await?.map_err(of_store)?;
        Ok(Response::new(HashKvResponse {
            // The revision hashed, not a newer one: members are compared by it.
            header: Some(self.node.header(hash.revision)),
            hash: hash.hash,
            compact_revision: hash.compacted.map_or(-1, Revision::get),
            hash_revision: hash.revision.get(),
        }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let timed = Timed::begin(&self.node.metrics.disk.backend_snapshot_duration);
        let store = self.node.store.clone();
        let (workers, gate) = (self.node.environment.workers, self.node.snapshots.clone());
        let begun = gate.run(workers, move || store.snapshot(version::STENTOR_VERSION));
        let mut snapshot = begun.await?.map_err(of_store)?;
        let mut remaining = snapshot.total_len();
        info!(bytes = remaining, "sending a snapshot");
        let chunks = try_stream! {
            let mut trailer = Trailer::default();
            loop {
                // Read in larger steps than are sent, since each goes to another thread.
                let step = gate.run(workers, move || {
                    let chunk = snapshot.next_chunk(READ_BYTES);
                    (snapshot, chunk)
                });
                let (rest, chunk) = step.await?;
                snapshot = rest;
                let Some(mut chunk) = chunk.map_err(of_store)? else { break };
                trailer.update(&chunk);
                while !chunk.is_empty() {
                    let blob = chunk.split_to(chunk.len().min(SEND_BYTES));
                    remaining = remaining.saturating_sub(blob.len() as u64);
                    yield part(blob, remaining);
                }
            }
            yield part(Bytes::copy_from_slice(&trailer.finish()), 0);
            timed.done();
        };
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn defragment(&self, _: Request<DefragmentRequest>) -> Result<Response<DefragmentResponse>, Status> {
        let store = self.node.store.clone();
        info!("defragmentation starts");
        let disk = &self.node.metrics.disk;
        let timed = Timed::begin(&disk.backend_defrag_duration);
        let _running = InFlight::begin(&disk.defrag_inflight);
        let done = self.node.defragmentations.run(self.node.environment.workers, move || store.defragment());
        done.await?.map_err(of_store)?;
        timed.done();
        info!("defragmentation is done");
        Ok(Response::new(DefragmentResponse::default()))
    }

    async fn move_leader(&self, request: Request<MoveLeaderRequest>) -> Result<Response<MoveLeaderResponse>, Status> {
        self.node.move_leader(request.into_inner().target_id).await?;
        Ok(Response::new(MoveLeaderResponse { header: Some(self.node.header_without_revision()) }))
    }

    async fn downgrade(&self, _: Request<DowngradeRequest>) -> Result<Response<DowngradeResponse>, Status> {
        Err(not_built("Maintenance.Downgrade"))
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::config::{self, Command};
    use crate::environment::{Environment, Workers};
    use crate::metrics::Metrics;
    use crate::node::MAX_SCANS;
    use crate::storage::Disks;

    fn node(stop: &CancellationToken) -> Arc<Node> {
        let Ok(Command::Run { config, .. }) = config::load([], []) else { panic!("the defaults are refused") };
        let storage = Disks::new().storage().unwrap();
        let environment = Environment { workers: Workers::Tasks, ..Environment::system() };
        let metrics = Metrics::new(config.metrics);
        Node::start(storage, &config, environment, metrics, None, stop).unwrap().0
    }

    #[tokio::test(start_paused = true)]
    async fn one_defragments_at_a_time_and_no_other_waits_for_ever() {
        let stop = CancellationToken::new();
        let node = node(&stop);
        let service = MaintenanceService::new(node.clone());
        let defragment = || service.defragment(Request::new(DefragmentRequest::default()));
        let another = node.defragmentations.enter(1).await.unwrap();
        assert_eq!(told(defragment().await), Some("etcdserver: request timed out".to_owned()));
        drop(another);
        assert_eq!(told(defragment().await), None);
        stop.cancel();
    }

    async fn hash_kv(service: &MaintenanceService) -> Result<(), Status> {
        service.hash_kv(Request::new(HashKvRequest::default())).await.map(drop)
    }

    /// A status without what is beside code and text.
    fn told<T>(result: Result<T, Status>) -> Option<String> {
        result.err().map(|status| status.message().to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn few_read_the_whole_store_at_a_time() {
        let stop = CancellationToken::new();
        let node = node(&stop);
        let service = MaintenanceService::new(node.clone());
        let timeout = Some(EtcdError::Timeout.to_string());
        let places = u32::try_from(MAX_SCANS).unwrap();

        let hashing = node.hashes.enter(places).await.unwrap();
        let begun = Instant::now();
        assert_eq!(told(hash_kv(&service).await), timeout);
        assert_eq!(begun.elapsed(), node.settings.time_limit);
        assert_eq!(told(service.hash(Request::new(HashRequest {})).await), timeout);
        assert_eq!(told(service.snapshot(Request::new(SnapshotRequest {})).await), None, "it is no hash");
        drop(hashing);
        assert_eq!(told(hash_kv(&service).await), None);

        let _reading = node.snapshots.enter(places).await.unwrap();
        assert_eq!(told(service.snapshot(Request::new(SnapshotRequest {})).await), timeout);
        assert_eq!(told(hash_kv(&service).await), None);
        stop.cancel();
    }
}
