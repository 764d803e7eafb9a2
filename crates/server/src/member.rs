//! One member of a cluster: the core, its services and its health, ready to be served on any listener.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use stentor_mvcc::{AlarmKind, Commit, Observer, Record, View};
use stentor_proto::etcdserverpb::RangeRequest;
use stentor_proto::peerpb::peer_server::PeerServer;
use stentor_watch::{Hub, HubOptions};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::cluster::Joined;
use crate::config::Config;
use crate::corruption::{self, InitialCheckError};
use crate::environment::Environment;
use crate::http::{self, Alarm, Probe, ProbeFuture};
use crate::metrics::Metrics;
use crate::net::{App, Standing};
use crate::node::{Node, Running, StartError};
use crate::peers::{PeerService, message_limit};
use crate::rpc::watch::WatchService;
use crate::services;
use crate::storage::Storage;
use crate::watchers::Sampler;

/// Why a member could not start.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// Its core can't.
    #[error(transparent)]
    Node(#[from] StartError),
    /// The descriptions of the services for reflection are damaged: the build is.
    #[error("the services' descriptions can't be read: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A running member.
pub struct Member {
    /// Its core.
    pub node: Arc<Node>,
    routes: Routes,
    peers: Routes,
    standing: Standing,
    probe: Arc<MemberProbe>,
    health: HealthReporter,
    running: Running,
    metrics: Metrics,
    /// Wakes watch streams, in the runtime that serves them.
    _waking: AbortOnDropHandle<()>,
    /// Follows the store as long as the member lives.
    _gauges: Arc<Gauges>,
}

impl Member {
    /// Opens store and log and starts what runs beside them, until `stop`; called within the runtime that
    /// serves it. It is served by
    /// [`crate::net::Server::serve`], and says that it can be once [`Member::set_serving`] was called.
    ///
    /// # Errors
    /// [`MemberError`].
    pub fn start(
        storage: impl Into<Storage>,
        config: &Config,
        environment: Environment,
        metrics: Metrics,
        stop: &CancellationToken,
    ) -> Result<Member, MemberError> {
        Member::start_joined(storage, config, environment, metrics, None, stop)
    }

    /// As [`Member::start`], for one that has joined a cluster and has no data yet.
    ///
    /// # Errors
    /// [`MemberError`].
    pub fn start_joined(
        storage: impl Into<Storage>,
        config: &Config,
        environment: Environment,
        metrics: Metrics,
        joined: Option<&Joined>,
        stop: &CancellationToken,
    ) -> Result<Member, MemberError> {
        let storage = storage.into();
        let received = storage.received.clone();
        let (node, mut running) = Node::start(storage, config, environment, metrics.clone(), joined, stop)?;
        let hub = Hub::follow(&node.store, HubOptions::default());
        let watch = WatchService::new(&node, hub.clone(), config, stop.clone());
        let (routes, health) = services::routes(&node, config, hub.clone(), watch, stop)?;
        let sampler = Sampler::new(hub.clone(), config.slow_watcher_time, metrics.clone(), node.environment.clone());
        let workers = node.environment.workers;
        let waking = stop.clone().run_until_cancelled_owned(hub.clone().wake_streams());
        let waking = AbortOnDropHandle::new(tokio::spawn(waking.map(|_| ())));
        running.also(workers.spawn("watchers", sampler.run(stop.clone())).map_err(StartError::Thread)?);
        let probe = Arc::new(MemberProbe { node: node.clone(), hub, is_serving: AtomicBool::new(false) });
        let gauges = Arc::new(Gauges { metrics: metrics.clone(), node: node.clone() });
        gauges.set(&node.store.observe(&gauges));
        metrics.server.set_id(node.identity().member_id);
        metrics.server.quota_backend_bytes.set(i64::try_from(node.quota_bytes()).unwrap_or(i64::MAX));
        let standing = Standing::new(node.clone(), config.learner_serves);
        let limit = message_limit(config.max_request_bytes);
        let peers = PeerService::new(node.clone(), received, stop.clone());
        let peers = PeerServer::new(peers).max_decoding_message_size(limit).max_encoding_message_size(limit);
        let peers = Routes::new(peers);
        Ok(Member { node, routes, peers, standing, probe, health, running, metrics, _waking: waking, _gauges: gauges })
    }

    /// Compares what this member has with what those other members have that answer, if it is told to; to be called
    /// before anybody is served.
    ///
    /// # Errors
    /// [`InitialCheckError`]: then nobody must be.
    pub async fn check_against_others(&self) -> Result<(), InitialCheckError> {
        if self.node.settings.checks_initially { corruption::check_initially(&self.node).await } else { Ok(()) }
    }

    /// What other members are served.
    pub fn peer_app(&self) -> App {
        App::grpc_only(self.peers.clone())
    }

    /// gRPC and HTTP on one port.
    pub fn app(&self) -> App {
        App::new(self.routes.clone(), self.http()).with_standing(self.standing.clone())
    }

    /// gRPC alone.
    pub fn grpc_app(&self) -> App {
        App::grpc_only(self.routes.clone()).with_standing(self.standing.clone())
    }

    /// HTTP alone.
    pub fn http_app(&self) -> App {
        App::http_only(self.http())
    }

    fn http(&self) -> axum::Router {
        http::router(self.probe.clone(), self.metrics.clone())
    }

    /// Says on gRPC health and the HTTP probes whether clients are served.
    pub async fn set_serving(&self, serving: bool) {
        self.probe.is_serving.store(serving, Ordering::Relaxed);
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.health.set_service_status("", status).await;
    }

    /// Waits until the work beside the services has ended, after the stop.
    pub async fn ended(self) {
        let Member { running, .. } = self;
        running.ended().await;
    }
}

/// The member as the health endpoints see it.
struct MemberProbe {
    node: Arc<Node>,
    hub: Arc<Hub>,
    is_serving: AtomicBool,
}

/// Reading the health key must work; there is normally no such key.
fn health_read(view: &View) -> Result<(), String> {
    let request = RangeRequest { key: "health".into(), limit: 1, ..RangeRequest::default() };
    view.range(&request).map(|_| ()).map_err(|e| e.to_string())
}

impl Probe for MemberProbe {
    fn alive(&self) -> Result<(), String> {
        if self.is_serving.load(Ordering::Relaxed) { Ok(()) } else { Err("not serving yet, or stopping".to_owned()) }
    }

    fn alarms(&self) -> Vec<Alarm> {
        let alarm = |kind| match kind {
            AlarmKind::NoSpace => Alarm::NoSpace,
            AlarmKind::Corrupt => Alarm::Corrupt,
        };
        self.node.store.view().all_alarms().map(|a| alarm(a.kind)).collect()
    }

    fn has_leader(&self) -> bool {
        self.node.leader().is_some()
    }

    fn is_learner(&self) -> bool {
        self.node.is_learner()
    }

    fn serializable_read(&self) -> ProbeFuture<'_> {
        Box::pin(async { health_read(&self.node.store.view()) })
    }

    fn linearizable_read(&self) -> ProbeFuture<'_> {
        Box::pin(async {
            let view = self.node.read(false).await.map_err(|e| e.to_string())?;
            // A member that can't write must not be sent clients, though it still reads.
            match self.node.write_health.failure() {
                Some(failure) => Err(failure.to_string()),
                None => health_read(&view),
            }
        })
    }

    fn measure(&self) {
        let metrics = &self.node.metrics;
        metrics.set_watchers(&self.hub.gauges());
        metrics.count_watching(self.hub.sent(), self.hub.canceled());
        metrics.mvcc.db_open_read_transactions.set(self.node.reads.running() as i64);
        metrics.corruption.set_alarms(self.node.store.view().all_alarms());
        metrics.server.answer_bytes_in_flight.set(self.node.answer_bytes_in_flight() as i64);
        // A size that can't be had stays what it was.
        if let Ok(sizes) = self.node.store.sizes() {
            metrics.mvcc.db_total_size_in_bytes.set(sizes.total as i64);
        }
    }
}

/// Keeps the gauges that follow the store.
struct Gauges {
    metrics: Metrics,
    node: Arc<Node>,
}

impl Gauges {
    fn set(&self, view: &View) {
        let mvcc = &self.metrics.mvcc;
        mvcc.keys.set(view.keys() as i64);
        mvcc.current_revision.set(view.revision().get());
        mvcc.compact_revision.set(view.compacted().map_or(-1, |r| r.get()));
        mvcc.db_total_size_in_use_in_bytes.set(view.used_bytes() as i64);
        let left = self.node.quota_bytes().saturating_sub(view.used_bytes());
        self.metrics.server.quota_bytes_left.set(i64::try_from(left).unwrap_or(i64::MAX));
    }
}

impl Observer for Gauges {
    fn committed(&self, commit: &Commit) {
        let put: u64 = commit.records.iter().filter(|record| !record.is_delete()).map(Record::logical_bytes).sum();
        self.metrics.mvcc.total_put_size_in_bytes.inc_by(i64::try_from(put).unwrap_or(i64::MAX));
        self.set(&self.node.store.view());
    }
}
