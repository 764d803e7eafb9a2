//! The task that owns the replica and its log.
//!
//! A task though it blocks while the disk syncs: see docs/decisions/0006.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stentor_mvcc::{LogPosition, Store};
use stentor_proto::EtcdError;
use stentor_raft::log::Position;
use stentor_raft::{Change, Committed, Follower, Membership, Message, Outputs, Refused, Replica, Role, Standing};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::applier::{Applier, Progress, Work};
use super::arrived::Arrived;
use super::pending::Pending;
use super::proposer::{Halt, MAX_PENDING, Proposal, WriteHealth};
use super::reads::Reads;
use crate::metrics::Metrics;
use crate::peers::Peers;

/// Bytes after which a group is closed: what a sync writes at a time.
const MAX_GROUP_BYTES: usize = 1 << 20;

/// Entries that may wait to be applied before no more are taken.
const MAX_UNAPPLIED: u64 = MAX_PENDING as u64;

/// Ticks after which a round of reads counts as lost.
const READ_PATIENCE: u32 = 5;

/// Messages that are taken before the replica acts on them: they share a sync.
const MAX_EVENTS: usize = 256;

/// Entries are forgotten in steps of so many at most: each step asks the engine what survives a crash.
const MAX_PURGE_STEP: u64 = 4_096;

/// Drives the replica.
pub(crate) struct Driver {
    pub(super) replica: Replica,
    pub(super) proposals: mpsc::Receiver<Proposal>,
    pub(super) reads: Reads,
    pub(super) changes: mpsc::UnboundedReceiver<Change>,
    /// From other members, and about them.
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) work: mpsc::UnboundedSender<Work>,
    pub(super) peers: Arc<Peers>,
    /// A store whose message the replica is about to be handed.
    pub(super) arrived: Option<Arrived>,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) progress: Arc<Progress>,
    pub(super) pending: Arc<Pending>,
    pub(super) store: Arc<Store>,
    pub(super) heartbeat: Duration,
    pub(super) catch_up_entries: u64,
    /// Once this entry is applied, it is worth looking what may be forgotten.
    pub(super) purge_after: u64,
    pub(super) health: Arc<WriteHealth>,
    pub(super) metrics: Metrics,
}

/// What comes from other members, or concerns them.
pub(crate) enum Event {
    /// They say.
    Message(Message),
    /// They have sent a store, which is on disk.
    Received(Message, Arrived),
    /// A message to this member could not be carried.
    Unreachable(u64),
    /// A snapshot for this member was delivered, or was not.
    SnapshotSent(u64, bool),
    /// The leader is to hand its office over to this voter.
    Transfer(u64),
    /// How far are the others? Nobody, unless this is the leader.
    Followers(oneshot::Sender<(u64, Vec<Follower>)>),
}

/// What has happened.
enum Input {
    Event(Event),
    Stop,
    Tick,
    Applied,
    Changed(Change),
    Propose(Proposal),
    Read(super::reads::Waiter),
}

impl Driver {
    /// Drives until the server stops, and what was accepted is in the log; or until the log fails.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        if let Err(halt) = self.drive(&stop).await {
            if self.health.set(&halt) {
                error!(error = %halt, "the log can't be written");
            }
            self.pending.fail(&halt);
            if self.has_others() {
                // They go on without it.
                self.standing.send_modify(|standing| (standing.leader, standing.role) = (None, Role::Follower));
            }
        }
        self.peers.close();
    }

    /// A member that alone decides is elected at once, and has applied all of its log when this returns. Others
    /// have applied what they know to be committed: that may say that it does not decide alone any more.
    pub(super) fn elect_alone(&mut self, applier: &mut Applier) -> Result<(), Halt> {
        let mut has_stood = false;
        loop {
            self.advance()?;
            let mut has_applied = false;
            while let Ok(work) = applier.work.try_recv() {
                applier.do_all(work)?;
                has_applied = true;
            }
            if has_applied {
                continue;
            }
            let decides = self.replica.membership().is_only_voter(self.replica.id());
            if has_stood || self.is_alone() || !decides {
                return Ok(());
            }
            has_stood = true;
            self.replica.campaign().map_err(Arc::new)?;
        }
    }

    /// Those of what was applied must come before the replica is told that it was.
    fn apply_changes(&mut self) {
        while let Ok(change) = self.changes.try_recv() {
            self.apply_change(change);
        }
    }

    /// One that can't be made does nothing, on every member alike.
    fn apply_change(&mut self, change: Change) {
        if let Err(error) = self.replica.apply_change(change) {
            warn!(?change, %error, "a change of the membership does nothing");
        }
    }

    async fn drive(&mut self, stop: &CancellationToken) -> Result<(), Halt> {
        let mut ticks = interval(self.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = false;
        loop {
            let input = tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => Input::Stop,
                () = self.progress.reached() => Input::Applied,
                Some(change) = self.changes.recv() => Input::Changed(change),
                proposal = self.proposals.recv(), if self.takes_proposals() => match proposal {
                    Some(proposal) => Input::Propose(proposal),
                    None => return Ok(()),
                },
                Some(read) = self.reads.queue.recv() => Input::Read(read),
                Some(event) = self.events.recv() => Input::Event(event),
                _ = ticks.tick(), if !self.is_alone() || self.has_others() => Input::Tick,
                // There is no leader to bring them into the log.
                () = std::future::ready(()), if stopping && !self.has_leader() => return Ok(()),
            };
            match input {
                Input::Stop => {
                    // What was accepted still goes into the log; nothing more is accepted.
                    self.proposals.close();
                    stopping = true;
                }
                Input::Tick => {
                    self.replica.tick();
                    self.reads.rounds.tick(READ_PATIENCE);
                    self.reads.rounds.retain(|read| !read.is_closed());
                    // More may be on disk by now.
                    self.purge_after = 0;
                }
                Input::Applied => {}
                Input::Event(event) => {
                    self.take(event)?;
                    for _ in 0..MAX_EVENTS {
                        let Ok(event) = self.events.try_recv() else { break };
                        self.take(event)?;
                    }
                }
                Input::Changed(change) => self.apply_change(change),
                Input::Propose(proposal) => {
                    // Whoever is ready runs before the disk is waited for; some of them will join the group.
                    tokio::task::yield_now().await;
                    self.propose_group(proposal);
                }
                Input::Read(read) => {
                    self.reads.rounds.add(read);
                    while let Ok(read) = self.reads.queue.try_recv() {
                        self.reads.rounds.add(read);
                    }
                }
            }
            self.advance()?;
            self.prepare_log().await?;
        }
    }

    fn take(&mut self, event: Event) -> Result<(), Halt> {
        match event {
            Event::Message(message) => self.replica.step(message),
            Event::Received(message, arrived) => {
                // What came before must not be mixed up with what it says.
                self.advance()?;
                self.arrived = Some(arrived.offered());
                self.replica.step(message);
                self.advance()?;
                // Not wanted any more: it goes with the next one, or at the next start.
                if let Some(refused) = self.arrived.take() {
                    refused.settle();
                }
            }
            Event::Unreachable(id) => self.replica.unreachable(id),
            Event::SnapshotSent(id, delivered) => self.replica.snapshot_sent(id, delivered),
            Event::Transfer(to) => self.replica.transfer_leader(to),
            Event::Followers(answer) => {
                // Whoever has asked may be gone.
                let _ = answer.send((self.replica.committed(), self.replica.followers()));
            }
        }
        Ok(())
    }

    /// While nothing is to be done, what later entries would wait for.
    async fn prepare_log(&mut self) -> Result<(), Halt> {
        if self.proposals.is_empty() && self.events.is_empty() {
            // The applier runs before, and whoever waits for its answers.
            tokio::task::yield_now().await;
            if self.proposals.is_empty() && self.events.is_empty() {
                self.replica.prepare_log().map_err(Arc::new)?;
            }
        }
        Ok(())
    }

    /// Without a leader they wait, and while the applier lags: then they are refused once too many wait.
    fn takes_proposals(&self) -> bool {
        self.has_leader() && self.applies_in_time()
    }

    fn applies_in_time(&self) -> bool {
        self.replica.log().last().index.saturating_sub(self.progress.applied()) < MAX_UNAPPLIED
    }

    fn has_leader(&self) -> bool {
        self.replica.standing().leader.is_some()
    }

    fn has_others(&self) -> bool {
        let membership = self.replica.membership();
        membership.voters.len() + membership.learners.len() > 1
    }

    fn is_alone(&self) -> bool {
        self.reads.alone.load(Ordering::SeqCst)
    }

    /// Proposes what has queued up, as far as it fits a group.
    fn propose_group(&mut self, first: Proposal) {
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(Proposal { id, change, data }) = next {
            bytes += data.len();
            let proposed = match change {
                Some(change) => self.replica.propose_change(bytes::Bytes::new(), change, data),
                None => self.replica.propose(bytes::Bytes::new(), data),
            };
            match proposed {
                Ok(()) => {}
                Err(Refused::TooMuch) => self.pending.refuse(id, EtcdError::RequestTooManyRequests),
                // The leader is handing over.
                Err(Refused::NoLeader) => self.pending.refuse(id, EtcdError::LeaderChanged),
            }
            next = if bytes < MAX_GROUP_BYTES { self.proposals.try_recv().ok() } else { None };
        }
    }

    /// Lets the replica do all it can, and hands on what comes of it.
    fn advance(&mut self) -> Result<(), Halt> {
        self.follow_applied()?;
        if let Some(round) = self.reads.rounds.next() {
            self.replica.read_index(round);
        }
        let start = Instant::now();
        let before = self.replica.log().last();
        let mut outputs = Sink {
            work: &self.work,
            standing: &self.standing,
            peers: &self.peers,
            arrived: &mut self.arrived,
            reads: &mut self.reads,
        };
        self.replica.advance(&mut outputs).map_err(Arc::new)?;
        if self.replica.log().last() != before {
            self.metrics.disk.wal_fsync_duration.observe(start.elapsed().as_secs_f64());
        }
        if self.work.is_closed() && self.has_others() {
            // One that can't apply must not lead: the others go on without it.
            return self.health.failure().map_or(Ok(()), Err);
        }
        self.progress.set_committed(self.replica.committed());
        self.progress.set_log_start(self.replica.log().start().index);
        self.metrics.server.proposals_committed.set(self.replica.committed() as i64);
        self.serve_reads();
        let alone = self.decide_alone();
        let lag = (!self.applies_in_time()).then(|| self.replica.log().last().index + 1 - MAX_UNAPPLIED);
        self.progress.want([alone, lag, self.reads.rounds.wanted()].into_iter().flatten().min());
        Ok(())
    }

    /// Takes notice of what was applied, and forgets entries that nobody needs.
    fn follow_applied(&mut self) -> Result<(), Halt> {
        let applied = self.progress.applied();
        self.apply_changes();
        if let Ok(term) = self.replica.log().term(applied) {
            self.replica.applied(Position { term, index: applied });
        }
        if applied < self.purge_after {
            return Ok(());
        }
        self.purge_after = applied + self.catch_up_entries.clamp(1, MAX_PURGE_STEP);
        let durable = self.store.persisted_position().map_err(Halt::Store)?;
        let needless = durable.index.min(applied.saturating_sub(self.catch_up_entries));
        if needless > self.replica.log().start().index {
            self.replica.purge(needless).map_err(Arc::new)?;
        }
        Ok(())
    }

    fn serve_reads(&mut self) {
        for read in self.reads.rounds.served(self.progress.applied()) {
            // Its caller may be gone.
            let _ = read.send(());
        }
    }

    /// Whether reads need not ask anybody. Once they need not, that stays so until another member votes.
    /// Returns the entry that must be applied first.
    fn decide_alone(&mut self) -> Option<u64> {
        let rules = self.replica.standing().role == Role::Leader
            && self.replica.membership().is_only_voter(self.replica.id())
            && self.replica.has_committed_in_term();
        if rules && !self.is_alone() && self.progress.applied() < self.replica.committed() {
            // What was acknowledged in former terms.
            return Some(self.replica.committed());
        }
        if rules != self.is_alone() {
            self.reads.alone.store(rules, Ordering::SeqCst);
        }
        None
    }
}

/// Where the replica's outputs go.
struct Sink<'a> {
    work: &'a mpsc::UnboundedSender<Work>,
    standing: &'a watch::Sender<Standing>,
    peers: &'a Arc<Peers>,
    arrived: &'a mut Option<Arrived>,
    reads: &'a mut Reads,
}

impl Outputs for Sink<'_> {
    fn send(&mut self, messages: Vec<Message>) {
        self.peers.send(messages);
    }

    fn commit(&mut self, entries: Vec<Committed>) {
        // Without an applier the member stops.
        let _ = self.work.send(Work::Apply(entries));
    }

    fn may_read(&mut self, round: u64, index: u64) {
        self.reads.rounds.answered(round, index);
    }

    fn stands(&mut self, standing: Standing) {
        if standing.role != Role::Leader {
            // Before a vote of this member leaves it.
            self.reads.alone.store(false, Ordering::SeqCst);
        }
        // A new leader does not know of rounds that the old one was asked for.
        self.reads.rounds.give_up();
        info!(term = standing.term, leader = standing.leader.map(|id| format!("{id:x}")), role = ?standing.role, "raft");
        self.standing.send_replace(standing);
    }

    fn install(&mut self, position: Position, _: &Membership) {
        // The replica takes no snapshot but the one that has arrived.
        if let Some(arrived) = self.arrived.take() {
            let position = LogPosition { term: position.term, index: position.index };
            // Without an applier the member stops.
            let _ = self.work.send(Work::Install(arrived, position));
        }
    }
}
