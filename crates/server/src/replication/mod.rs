//! The way of a write: proposed, in the log of a majority, applied in order, answered.
//!
//! - `proposer.rs`: what callers hold. It numbers a proposal and waits for its answer.
//! - `driver.rs`: the task that owns the replica and its log. It groups what is proposed: one group, one sync.
//! - `applier.rs`: the task that applies what is committed to the store, and answers.
//! - `arrived.rs`: a whole store that another member has sent, on its way through both.
//!
//! There is no timer in the way of a write: a lone one goes at once, and under load the group is what came
//! in during the last sync. While the driver waits for the disk, the applier works on the group before.

mod applier;
mod arrived;
mod driver;
mod pending;
mod proposer;
mod reads;

use std::sync::Arc;
use std::time::Duration;

use stentor_mvcc::{LogPosition, Store};
use stentor_proto::Revision;
use stentor_proto::storagepb::Identity;
use stentor_raft::log::{Durability, Log, Position};
use stentor_raft::{Membership, Options, Replica, Standing};
use tokio::sync::{mpsc, watch};

pub(crate) use self::applier::Applier;
use self::applier::Progress;
pub(crate) use self::arrived::Arrived;
pub(crate) use self::driver::{Driver, Event};
use self::pending::Pending;
pub(crate) use self::proposer::WriteHealth;
pub use self::proposer::{Halt, MAX_PENDING, ProposeError, Proposer};
pub(crate) use self::reads::Barrier;
use crate::cluster;
use crate::environment::Environment;
use crate::lessor::Lessor;
use crate::metrics::Metrics;
use crate::peers::{self, Peers};
use crate::storage::Received;

/// Messages of other members that wait to be taken; more wait outside.
const MAX_EVENTS: usize = 4_096;

/// How proposals are limited and warned of.
pub(crate) struct Limits {
    pub(crate) max_request_bytes: usize,
    /// How long a proposal or a linearizable read may take from start to answer.
    pub(crate) time_limit: Duration,
    /// A group that takes longer than this to apply is warned of.
    pub(crate) slow: Duration,
}

/// What a member's replication is made of.
pub(crate) struct Parts {
    pub(crate) store: Arc<Store>,
    pub(crate) lessor: Arc<Lessor>,
    pub(crate) log: Log,
    pub(crate) received: Arc<dyn Received>,
    pub(crate) identity: Identity,
    pub(crate) limits: Limits,
    /// Whether what was acknowledged survives a crash of the machine.
    pub(crate) durability: Durability,
    pub(crate) heartbeat: Duration,
    pub(crate) election_timeout: Duration,
    /// Make this member a cluster of its own: what its log says of others is not done.
    pub(crate) forces_new_cluster: bool,
    /// Entries that are kept for members that lag, though the store has them on disk.
    pub(crate) catch_up_entries: u64,
    /// Told of compactions that were accepted.
    pub(crate) compactions: watch::Sender<Revision>,
    pub(crate) health: Arc<WriteHealth>,
    pub(crate) metrics: Metrics,
}

/// Replication, ready to run.
pub(crate) struct Replication {
    pub(crate) handle: Handle,
    pub(crate) driver: Driver,
    pub(crate) applier: Applier,
}

/// What the rest of the member sees of it.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) proposer: Proposer,
    pub(crate) barrier: Barrier,
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) peers: Arc<Peers>,
    /// Whether this member was removed from its cluster.
    pub(crate) removed: watch::Receiver<bool>,
}

/// Joins the parts. A member that alone decides has caught up with its log when this returns.
///
/// # Errors
/// A log that the store's state does not fit, or that can't go on.
pub(crate) fn join(parts: Parts, environment: &Environment) -> Result<Replication, Halt> {
    let view = parts.store.view();
    let options = options(&parts);
    let (applied, member_id) = (options.applied, options.id);
    let (event_queue, events) = mpsc::channel(MAX_EVENTS);
    let (removed_sender, removed) = watch::channel(view.members().is_removed(member_id));
    let peers = Arc::new(Peers::new(peers::Parts {
        identity: parts.identity,
        store: parts.store.clone(),
        events: event_queue.clone(),
        removed: removed_sender.clone(),
        heartbeat: parts.heartbeat,
        environment: environment.clone(),
    }));
    peers.follow(view.members());
    let members_from = if parts.forces_new_cluster { parts.log.last().index + 1 } else { 0 };
    let random = environment.random.clone();
    let replica = Replica::new(parts.log, options, Box::new(move || random())).map_err(Arc::new)?;
    let pending = Arc::new(Pending::new(member_id, (environment.random)()));
    let progress = Arc::new(Progress::new(applied.index));
    let (queue, proposals) = mpsc::channel(MAX_PENDING);
    let (work_queue, work) = mpsc::unbounded_channel();
    let (changed, changes) = mpsc::unbounded_channel();
    let (reads, barrier) = reads::channel(parts.limits.time_limit);
    let standing = watch::Sender::new(replica.standing());
    let proposer = Proposer::new(queue, pending.clone(), &parts.limits, parts.health.clone(), &parts.metrics);
    let mut applier = Applier {
        work,
        changed,
        store: parts.store.clone(),
        received: parts.received,
        peers: peers.clone(),
        compactions: parts.compactions,
        removed: removed_sender,
        member_id,
        members_from,
        lessor: parts.lessor,
        pending: pending.clone(),
        progress: progress.clone(),
        slow: parts.limits.slow,
        health: parts.health.clone(),
        metrics: parts.metrics.clone(),
    };
    let handle = Handle {
        proposer,
        barrier,
        standing: standing.subscribe(),
        progress: progress.clone(),
        events: event_queue,
        peers: peers.clone(),
        removed,
    };
    let mut driver = Driver {
        replica,
        proposals,
        reads,
        changes,
        events,
        work: work_queue,
        peers,
        arrived: None,
        standing,
        progress,
        pending,
        store: parts.store,
        heartbeat: parts.heartbeat,
        catch_up_entries: parts.catch_up_entries,
        purge_after: 0,
        health: parts.health,
        metrics: parts.metrics,
    };
    driver.elect_alone(&mut applier)?;
    Ok(Replication { handle, driver, applier })
}

/// How the replica takes part, from where the store is.
fn options(parts: &Parts) -> Options {
    let view = parts.store.view();
    let applied = position(view.applied());
    // Before its first snapshot a member that joins knows whom to talk to, but takes no part.
    let takes_part = applied != Position::default();
    let membership = if takes_part { cluster::membership(view.members()) } else { Membership::default() };
    let ticks = (parts.election_timeout.as_millis() / parts.heartbeat.as_millis().max(1)).max(2);
    Options {
        durability: parts.durability,
        election_ticks: usize::try_from(ticks).unwrap_or(usize::MAX),
        ..Options::new(parts.identity.member_id, applied, membership)
    }
}

/// A place in the log, as the log says it.
pub(crate) fn position(position: LogPosition) -> Position {
    Position { term: position.term, index: position.index }
}
