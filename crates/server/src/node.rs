//! The core of a member: the store with everything that proposes to it and reads from it, below any
//! protocol.

mod leadership;
mod leases;
mod members;

use std::sync::Arc;
use std::time::Duration;

use stentor_mvcc::engine::{self, Engine, EngineError};
use stentor_mvcc::{Alarm, AlarmKind, Answer, Options, Store, View, applied_position};
use stentor_proto::etcdserverpb::alarm_request::AlarmAction;
use stentor_proto::etcdserverpb::{AlarmRequest, CompactionRequest, ResponseHeader};
use stentor_proto::storagepb::{Identity, LogEntry, log_entry::Op};
use stentor_proto::{EtcdError, Revision};
use stentor_raft::Role;
use stentor_raft::log::{self, Log};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) use self::leadership::LeaderWatch;
pub(crate) use self::members::Rules;
use crate::cluster::{self, Joined};
use crate::config::Config;
use crate::environment::{Environment, Worker, Workers};
use crate::gate::Gate;
use crate::lessor::Lessor;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::quota::SpaceQuota;
use crate::reads::ReadAdmission;
use crate::replication::{self, Applier, Driver, Halt, Handle, Limits, Parts, ProposeError, Replication, WriteHealth};
use crate::storage::{Received, Storage};
use crate::{checkpoints, compactor, corruption, quota};

/// etcd lets a write or linearizable read take this long, and two election timeouts.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// Calls that read the whole store at a time, of each kind: each holds a thread.
pub(crate) const MAX_SCANS: usize = 4;

/// What the core needs of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest time a write may take.
    pub time_limit: Duration,
    /// A lease gets this on top of its TTL after a restart, and its TTL is at least one and a half of it.
    pub election_timeout: Duration,
    /// Bytes of the largest write.
    pub max_request_bytes: usize,
    /// Operations allowed in a transaction, per level and list.
    pub max_txn_ops: usize,
    /// Records looked at in one step of a compaction.
    pub compaction_batch_limit: usize,
    /// Pause between two steps.
    pub compaction_sleep_interval: Duration,
    /// Whether what is here is compared with what other members have before any of it is served.
    pub checks_initially: bool,
    quota: SpaceQuota,
    slow_apply: Duration,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Settings {
        Settings {
            time_limit: REQUEST_TIME + 2 * config.election_timeout,
            election_timeout: config.election_timeout,
            max_request_bytes: config.max_request_bytes,
            max_txn_ops: config.max_txn_ops,
            compaction_batch_limit: config.compaction_batch_limit,
            compaction_sleep_interval: config.compaction_sleep_interval,
            checks_initially: config.corruption_checks.initial,
            quota: SpaceQuota::new(config.quota),
            slow_apply: config.warning_apply_duration,
        }
    }
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] stentor_mvcc::Error),
    /// What another member has sent can't be opened or put to use.
    #[error("the store received from another member can't be used: {0}")]
    Received(#[from] EngineError),
    /// A thread can't be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The log can't be opened.
    #[error("the log can't be opened: {0}")]
    Log(#[from] log::LogError),
    /// The store had a log, which is not there.
    #[error(
        "the log of this store is missing: put it back, restore a snapshot, or remove this member from its cluster \
         and add it anew with an empty directory"
    )]
    LogMissing,
    /// The log can't be followed.
    #[error(transparent)]
    Halted(#[from] Halt),
}

/// The core of a member.
pub struct Node {
    /// The store; write to it through the node only.
    pub store: Arc<Store>,
    pub(crate) metrics: Metrics,
    pub(crate) settings: Settings,
    pub(crate) environment: Environment,
    pub(crate) lessor: Arc<Lessor>,
    pub(crate) reads: ReadAdmission,
    /// For calls that hash the whole store.
    pub(crate) hashes: Gate,
    /// For calls that give space back to the system, which one can do for all.
    pub(crate) defragmentations: Gate,
    /// For the steps in which snapshots are read; a client that takes its snapshot slowly keeps nobody out.
    pub(crate) snapshots: Gate,
    pub(crate) write_health: Arc<WriteHealth>,
    replication: Handle,
    identity: Identity,
    /// Whether there was no leader for three election timeouts.
    leaderless: watch::Sender<bool>,
    /// Holds off a second change of the members: they are made one at a time.
    reconfiguring: tokio::sync::Mutex<()>,
    compactions: watch::Sender<Revision>,
    space_work: watch::Sender<SpaceWork>,
}

/// How far the space work of compactions is.
#[derive(Debug)]
struct SpaceWork {
    finished: Revision,
    /// What keeps it from going on.
    obstacle: Option<ProposeError>,
}

/// What a node runs beside its callers; ends when its token is cancelled.
pub struct Running {
    store: Arc<Store>,
    /// Brings what was accepted into the log, then ends.
    driver: Worker,
    /// Applies all of that, then ends.
    applier: Worker,
    others: Vec<Worker>,
}

impl Running {
    /// More work to wait for.
    pub(crate) fn also(&mut self, worker: Worker) {
        self.others.push(worker);
    }

    /// Waits until all work has ended: first what writes, then, cut short, what only tidies up.
    pub async fn ended(self) {
        self.driver.ended().await;
        self.applier.ended().await;
        self.store.interrupt();
        for worker in self.others {
            worker.ended().await;
        }
    }
}

impl Node {
    /// Opens store and log and starts what runs beside them, until `stop`. A member that is a cluster of its
    /// own has applied all of its log when this returns.
    ///
    /// # Errors
    /// A store or a log that can't be opened, or do not belong together; a thread that can't be started.
    pub fn start(
        storage: Storage,
        config: &Config,
        environment: Environment,
        metrics: Metrics,
        joined: Option<&Joined>,
        stop: &CancellationToken,
    ) -> Result<(Arc<Node>, Running), StartError> {
        let (store, log, identity) = open(&storage, config, joined, &environment)?;
        let settings = Settings::from(config);
        let lessor = Arc::new(Lessor::new(metrics.clone()));
        let limits = Limits {
            max_request_bytes: settings.max_request_bytes,
            time_limit: settings.time_limit,
            slow: settings.slow_apply,
        };
        let write_health = Arc::new(WriteHealth::default());
        let compactions = watch::Sender::new(store.view().compacted().unwrap_or_default());
        let parts = Parts {
            store: store.clone(),
            lessor: lessor.clone(),
            log,
            received: storage.received.clone(),
            identity,
            limits,
            durability: if config.unsafe_no_fsync { log::Durability::Buffered } else { log::Durability::Synced },
            heartbeat: config.heartbeat_interval,
            election_timeout: settings.election_timeout,
            forces_new_cluster: config.force_new_cluster,
            catch_up_entries: if config.keeps_log { u64::MAX } else { config.snapshot_catchup_entries },
            compactions: compactions.clone(),
            health: write_health.clone(),
            metrics: metrics.clone(),
        };
        let Replication { handle, driver, applier } = replication::join(parts, &environment)?;
        if config.force_new_cluster {
            // What was not done must not be met again.
            store.flush()?;
        }
        let standing = *handle.standing.borrow();
        if standing.role == Role::Leader {
            // One that decides alone has applied all there is.
            lessor.take_office(standing.term, || store.view(), settings.election_timeout);
        }
        let received = storage.received;
        let node = Arc::new(Node {
            compactions,
            leaderless: watch::Sender::new(false),
            reconfiguring: tokio::sync::Mutex::default(),
            space_work: watch::Sender::new(SpaceWork { finished: store.compaction_finished(), obstacle: None }),
            reads: ReadAdmission::new(config.max_answer_bytes, settings.time_limit),
            hashes: Gate::new(MAX_SCANS, settings.time_limit),
            snapshots: Gate::new(MAX_SCANS, settings.time_limit),
            defragmentations: Gate::new(1, settings.time_limit),
            store,
            metrics,
            settings,
            lessor,
            write_health,
            replication: handle,
            identity,
            environment,
        });
        let running = node.run(driver, applier, received, config, stop)?;
        Ok((node, running))
    }

    /// Starts what runs beside the callers, until `stop`.
    fn run(
        self: &Arc<Node>,
        driver: Driver,
        applier: Applier,
        received: Arc<dyn Received>,
        config: &Config,
        stop: &CancellationToken,
    ) -> Result<Running, StartError> {
        let workers = self.environment.workers;
        let automatic = compactor::run_automatic(self.clone(), config.auto_compaction, stop.clone());
        let checkpoints = checkpoints::run(self.store.clone(), received, config.snapshot_count, stop.clone());
        let proposer = self.replication.proposer.clone();
        let comparing = corruption::run(self.clone(), config.corruption_checks, stop.clone());
        let leases = self.lessor.clone().run(proposer, self.environment.clone(), stop.clone());
        Ok(Running {
            store: self.store.clone(),
            // Tasks though they block while the disk works: see docs/decisions/0006.
            driver: Workers::Tasks.spawn("log", driver.run(stop.clone()))?,
            applier: Workers::Tasks.spawn("apply", applier.run())?,
            others: vec![
                workers.spawn("compaction", compactor::run(self.clone(), stop.clone()))?,
                workers.spawn("checkpoints", checkpoints)?,
                Workers::Tasks.spawn("auto-compaction", automatic)?,
                Workers::Tasks.spawn("leases", leases)?,
                Workers::Tasks.spawn("corruption", comparing)?,
                Workers::Tasks.spawn("leadership", leadership::follow(self.clone(), stop.clone()))?,
                Workers::Tasks.spawn("publish", members::publish(self.clone(), config.clone(), stop.clone()))?,
            ],
        })
    }

    /// Who answers: cluster, member and term, with a revision.
    pub fn header(&self, revision: Revision) -> ResponseHeader {
        ResponseHeader { revision: revision.get(), ..self.header_without_revision() }
    }

    /// Who answers: cluster, member and term.
    pub fn header_without_revision(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.identity.cluster_id,
            member_id: self.identity.member_id,
            revision: 0,
            raft_term: self.term(),
        }
    }

    /// This cluster and member.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The other members.
    pub(crate) fn peers(&self) -> &Peers {
        &self.replication.peers
    }

    /// The newest term that this member knows.
    pub fn term(&self) -> u64 {
        self.replication.standing.borrow().term
    }

    /// The leader that this member follows, which may be itself.
    pub fn leader(&self) -> Option<u64> {
        self.replication.standing.borrow().leader
    }

    /// Whether this member is the leader, as far as it knows.
    pub(crate) fn is_leader(&self) -> bool {
        self.replication.standing.borrow().role == Role::Leader
    }

    /// The last entry of the log that is known here to be committed.
    pub fn committed_index(&self) -> u64 {
        self.replication.progress.committed()
    }

    /// The space quota in bytes; 0 for none.
    pub fn quota_bytes(&self) -> u64 {
        self.settings.quota.bytes()
    }

    /// Bytes held by large answers on their way to clients.
    pub fn answer_bytes_in_flight(&self) -> u64 {
        self.reads.in_flight_bytes()
    }

    /// Proposes a write whose form was checked.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub(crate) async fn propose(&self, op: Op) -> Result<Answer, ProposeError> {
        let time_unix_ms = (self.environment.wall_unix_ms)();
        self.replication.proposer.propose(LogEntry { time_unix_ms, op: Some(op), ..LogEntry::default() }).await
    }

    /// Waits until a read of the store sees every write acknowledged before this call. A member that alone
    /// decides need not wait: what is acknowledged is published.
    ///
    /// # Errors
    /// `Timeout` without a leader for too long; `Stopped`.
    pub(crate) async fn barrier(&self) -> Result<(), ProposeError> {
        Ok(self.replication.barrier.pass().await?)
    }

    /// A view for a read: linearizable, or at once.
    pub(crate) async fn read(&self, serializable: bool) -> Result<View, ProposeError> {
        if !serializable {
            if self.is_learner() {
                return Err(EtcdError::NotSupportedForLearner.into());
            }
            self.barrier().await?;
        }
        Ok(self.store.view())
    }

    /// Refuses a write that the quota has no room for, and raises the alarm.
    pub(crate) async fn check_space(&self, op: &Op) -> Result<(), ProposeError> {
        let view = self.store.view();
        let used = view.used_bytes();
        let quota = self.settings.quota;
        if quota.fits(op, used) {
            return Ok(());
        }
        let overwrites = |put: &stentor_proto::etcdserverpb::PutRequest| {
            view.pair_at(&put.key, view.revision()).is_ok_and(|pair| pair.is_some())
        };
        let overwrites_only = match op {
            Op::Put(put) => overwrites(put),
            Op::Txn(txn) => quota::all_puts(txn, &overwrites),
            _ => false,
        };
        if overwrites_only && quota.fits_head_room(op, used) {
            return Ok(());
        }
        // A write that is too large for an almost empty store is no reason to refuse others.
        if !quota.is_well_above(used) {
            self.raise(Alarm { member_id: self.identity.member_id, kind: AlarmKind::NoSpace }).await;
        }
        Err(EtcdError::NoSpace.into())
    }

    /// Raises an alarm, unless it is raised.
    pub(crate) async fn raise(&self, alarm: Alarm) {
        if self.store.view().all_alarms().any(|a| a == alarm) {
            return;
        }
        let member = format!("{:x}", alarm.member_id);
        warn!(member, alarm = alarm.kind.to_wire().as_str_name(), "an alarm is raised");
        self.change_alarm(AlarmAction::Activate, alarm).await;
    }

    async fn change_alarm(&self, action: AlarmAction, alarm: Alarm) {
        let request =
            AlarmRequest { action: action.into(), member_id: alarm.member_id, alarm: alarm.kind.to_wire().into() };
        if let Err(error) = self.propose(Op::Alarm(request)).await {
            warn!(%error, "an alarm could not be changed");
        }
    }

    /// Accepts a compaction and starts its space work.
    ///
    /// # Errors
    /// `Compacted`, `FutureRev`; [`ProposeError`].
    pub(crate) async fn compact(&self, revision: Revision) -> Result<Revision, ProposeError> {
        self.compact_request(CompactionRequest { revision: revision.get(), physical: false }).await
    }

    /// As [`Node::compact`], from a request; a physical one waits for the space work, or for what keeps it
    /// from going on.
    pub(crate) async fn compact_request(&self, request: CompactionRequest) -> Result<Revision, ProposeError> {
        let mut space_work = self.space_work.subscribe();
        let (revision, physical) = (request.revision, request.physical);
        let current = match self.propose(Op::Compact(request)).await? {
            Answer::Compact(current) => current,
            _ => Revision::ZERO,
        };
        let revision = Revision::new(revision).unwrap_or_default();
        if physical {
            let ended = space_work.wait_for(|work| work.finished >= revision || work.obstacle.is_some()).await;
            // The node holds the sender.
            let ended = ended.map_err(|_| EtcdError::Stopped)?;
            if let Some(obstacle) = ended.obstacle.as_ref().filter(|_| ended.finished < revision) {
                return Err(obstacle.clone());
            }
        }
        Ok(current)
    }

    /// Tells of accepted compactions.
    pub(crate) fn compactions(&self) -> watch::Receiver<Revision> {
        self.compactions.subscribe()
    }

    /// The space work of compactions does not go on.
    pub(crate) fn compaction_stopped(&self, obstacle: ProposeError) {
        self.space_work.send_modify(|work| work.obstacle = Some(obstacle));
    }

    /// The space work of a compaction is done.
    pub(crate) fn compaction_finished(self: &Arc<Self>, revision: Revision) {
        self.space_work.send_modify(|work| {
            work.finished = revision.max(work.finished);
            work.obstacle = None;
        });
        let own = Alarm { member_id: self.identity.member_id, kind: AlarmKind::NoSpace };
        let view = self.store.view();
        if self.settings.quota.is_well_above(view.used_bytes()) && view.all_alarms().any(|a| a == own) {
            info!("space is free again: the alarm is lifted");
            let node = self.clone();
            tokio::spawn(async move { node.change_alarm(AlarmAction::Deactivate, own).await });
        }
    }
}

/// Opens store and log, which say from now on that they belong together and whose they are.
fn open(
    storage: &Storage,
    config: &Config,
    joined: Option<&Joined>,
    environment: &Environment,
) -> Result<(Arc<Store>, Log, Identity), StartError> {
    // The log answers for what was acknowledged.
    let durability = engine::Durability::Buffered;
    let options = Options { durability, max_txn_ops: config.max_txn_ops, ..Options::default() };
    let log = Log::open(storage.log.clone(), log::Options::default())?;
    let store = Arc::new(Store::open_shared(choose(storage, log.as_ref())?, options)?);
    let mut identity = cluster::begin(&store, config, joined, environment)?;
    let log = with_log(log, storage.log.clone(), &store, &identity)?;
    if !identity.has_log {
        identity.has_log = true;
        store.set_identity(&identity)?;
    }
    Ok((store, log, identity))
}

/// The store to use: the present one, unless another member has sent one and the log was reset to it already.
fn choose(storage: &Storage, log: Option<&Log>) -> Result<Arc<dyn Engine>, StartError> {
    if let Some(received) = storage.received.find()? {
        let applied = applied_position(&*received)?.map(replication::position);
        if applied.is_some() && applied == log.map(Log::start) {
            storage.received.adopt()?;
            return Ok(received);
        }
    }
    Ok(storage.engine.clone())
}

/// The log that goes with the store, or a new one that goes on where the store is.
fn with_log(log: Option<Log>, disk: Arc<dyn log::Disk>, store: &Store, identity: &Identity) -> Result<Log, StartError> {
    match log {
        Some(log) => Ok(log),
        // A second one in its place would forget whom this member has voted for, and what it has acknowledged.
        None if identity.has_log => Err(StartError::LogMissing),
        None => Ok(Log::create(disk, replication::position(store.view().applied()), log::Options::default())?),
    }
}
