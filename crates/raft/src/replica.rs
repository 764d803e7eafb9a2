//! One member's state machine: what goes in, and what comes out.

mod error;
mod options;
mod outputs;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType};
use raft::{Config, GetEntriesContext, RawNode, StateRole};

pub use self::error::{Refused, ReplicaError};
pub use self::options::Options;
pub use self::outputs::{Committed, Follower, Outputs, Role, Standing};
use crate::failpoints;
use crate::log::{Durability, HardState, Log, LogError, Position};
use crate::logger::logger;
use crate::membership::{Change, Membership};
use crate::message::Message;
use crate::payload::Payload;
use crate::storage::{self, Storage};

/// One member.
pub struct Replica {
    node: RawNode<Storage>,
    id: u64,
    durability: Durability,
    election_ticks: usize,
    standing: Standing,
    /// Tells rounds of reads of this member from those of others and of its former lives.
    nonce: u64,
    random: Box<dyn FnMut() -> u64 + Send>,
    /// What was drawn last.
    election_timeout: usize,
    /// Whether a change by which this leader loses its vote is pending, in this term, up to this entry.
    leaving: Option<((u64, u64), bool)>,
}

impl Replica {
    /// A member that goes on with `log`. Its chance is `random`'s.
    ///
    /// # Errors
    /// A log and a store that do not fit together; bad options.
    pub fn new(
        log: Log,
        options: Options,
        mut random: Box<dyn FnMut() -> u64 + Send>,
    ) -> Result<Replica, ReplicaError> {
        let applied = options.applied;
        let (start, last) = (log.start(), log.last());
        if applied.index < start.index || applied.index > last.index {
            return Err(ReplicaError::Apart { applied, first: start.index + 1, last: last.index });
        }
        let config = Config {
            id: options.id,
            election_tick: options.election_ticks,
            heartbeat_tick: options.heartbeat_ticks,
            applied: applied.index,
            max_size_per_msg: options.max_message_bytes,
            max_inflight_msgs: options.max_inflight_messages,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: options.max_uncommitted_bytes,
            max_committed_size_per_ready: options.max_committed_bytes,
            ..Config::default()
        };
        let storage = Storage { log, membership: options.membership, applied, failure: RefCell::new(None) };
        let node = RawNode::new(&config, storage, &logger()).map_err(library)?;
        let nonce = random();
        let standing = Standing { term: node.raft.term, leader: None, role: Role::Follower };
        let (id, durability, election_ticks) = (options.id, options.durability, options.election_ticks);
        let mut replica = Replica {
            node,
            id,
            durability,
            election_ticks,
            standing,
            nonce,
            random,
            election_timeout: election_ticks,
            leaving: None,
        };
        replica.draw_election_timeout();
        Ok(replica)
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        self.keep_election_timeout();
        self.node.tick();
    }

    /// Stands for election now. A member that alone votes is elected at once.
    ///
    /// # Errors
    /// A mistake of the library's.
    pub fn campaign(&mut self) -> Result<(), ReplicaError> {
        self.node.campaign().map_err(library)
    }

    /// Proposes an entry, here or to the leader. Whether it was committed shows when it is.
    ///
    /// # Errors
    /// [`Refused`]: then it will not be. Without an error it may still be lost.
    pub fn propose(&mut self, context: Bytes, data: Bytes) -> Result<(), Refused> {
        let entry = Entry { data, context, ..Entry::default() };
        self.propose_entry(entry)
    }

    /// As [`Replica::propose`], for a change of the membership. While another one is on its way, an empty
    /// entry takes its place.
    ///
    /// # Errors
    /// As [`Replica::propose`].
    pub fn propose_change(&mut self, context: Bytes, change: Change, data: Bytes) -> Result<(), Refused> {
        let data = change.encode(data).map_err(|_| Refused::TooMuch)?;
        let mut entry = Entry { data, context, ..Entry::default() };
        entry.set_entry_type(EntryType::EntryConfChange);
        self.propose_entry(entry)
    }

    fn propose_entry(&mut self, entry: Entry) -> Result<(), Refused> {
        let mut message = raft::eraftpb::Message::default();
        message.set_msg_type(raft::eraftpb::MessageType::MsgPropose);
        message.from = self.id;
        message.set_entries(vec![entry].into());
        if self.is_leaving() {
            return Err(Refused::NoLeader);
        }
        let is_leader = self.node.raft.state == StateRole::Leader;
        let handing_over = self.node.raft.lead_transferee.is_some();
        match self.node.raft.step(message) {
            Ok(()) => Ok(()),
            Err(_) if is_leader && !handing_over => Err(Refused::TooMuch),
            Err(_) => Err(Refused::NoLeader),
        }
    }

    /// Whether this leader may be about to lose its vote. Nothing must follow that change in its log: the last
    /// voter that is left must be as far as this one to be elected, if it has not heard of the commit.
    fn is_leaving(&mut self) -> bool {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader || !raft.has_pending_conf() {
            return false;
        }
        let key = (raft.term, raft.pending_conf_index);
        if let Some((_, is_leaving)) = self.leaving.filter(|(known, _)| *known == key) {
            return is_leaving;
        }
        // It is beyond the last entry if that change was refused as too much.
        let (from, last) = (raft.raft_log.applied + 1, raft.pending_conf_index.min(raft.raft_log.last_index()));
        let pending = match from <= last {
            true => raft.raft_log.slice(from, last + 1, None, GetEntriesContext::empty(false)).unwrap_or_default(),
            false => Vec::new(),
        };
        let is_leaving = pending.into_iter().filter_map(|entry| committed(entry).ok()).any(|entry| {
            let Payload::Change(change, _) = entry.payload else { return false };
            change.id() == self.id && !matches!(change, Change::AddVoter(_))
        });
        self.leaving = Some((key, is_leaving));
        is_leaving
    }

    /// Asks from which entry on a read that has arrived by now is linearizable. Without a leader, or before
    /// a new one has committed anything, the question is lost: ask again, in a new round.
    pub fn read_index(&mut self, round: u64) {
        self.node.read_index([self.id.to_be_bytes(), self.nonce.to_be_bytes(), round.to_be_bytes()].concat());
    }

    /// Takes a message of another member. One that makes no sense is ignored.
    pub fn step(&mut self, message: Message) {
        if message.is_proposal() && self.is_leaving() {
            return;
        }
        if let Err(error) = self.node.step(message.0) {
            tracing::debug!(%error, "a message was ignored");
        }
    }

    /// Entries up to this one are in the store.
    pub fn applied(&mut self, position: Position) {
        // A snapshot may have overtaken what was being applied.
        if position.index > self.node.raft.raft_log.applied {
            self.node.advance_apply_to(position.index);
        }
        let storage = self.node.mut_store();
        storage.applied = storage.applied.max(position);
    }

    /// A committed change of the membership takes effect; to be called for each, before [`Replica::applied`].
    /// A leader that has no vote any more ends being one.
    ///
    /// # Errors
    /// A change that can't be made, such as the removal of the last voter.
    pub fn apply_change(&mut self, change: Change) -> Result<Membership, ReplicaError> {
        if self.node.snap().is_some() {
            // The library has the snapshot's members already, of which this change is a part; the store has not.
            let membership = self.membership().changed(change).map_err(|e| ReplicaError::Library(e.to_owned()))?;
            self.node.mut_store().membership = membership.clone();
            return Ok(membership);
        }
        let state = self.node.apply_conf_change(&change.to_raft()).map_err(library)?;
        let membership = Membership::from_raft(&state);
        self.node.mut_store().membership = membership.clone();
        if self.node.raft.state == StateRole::Leader && !membership.voters.contains(&self.id) {
            self.resign();
        }
        Ok(membership)
    }

    /// Ends leading without a vote, which the library does not survive for long: the voter that has most
    /// stands for election.
    fn resign(&mut self) {
        let voters = &self.node.store().membership.voters;
        let progress = self.node.raft.prs().iter().filter(|(id, _)| voters.contains(id));
        let next = progress.map(|(id, progress)| (progress.matched, *id)).max();
        if let Some((_, id)) = next {
            self.node.raft.send_timeout_now(id);
        }
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, raft::INVALID_ID);
    }

    /// Writes what must be kept, and hands out what is to be done, until there is no more.
    ///
    /// # Errors
    /// The log has failed: this member must stop.
    pub fn advance(&mut self, outputs: &mut impl Outputs) -> Result<(), ReplicaError> {
        while self.node.has_ready() {
            self.advance_once(outputs)?;
        }
        match self.node.store().failure.borrow_mut().take() {
            Some(error) => Err(ReplicaError::Read(error)),
            None => Ok(()),
        }
    }

    fn advance_once(&mut self, outputs: &mut impl Outputs) -> Result<(), ReplicaError> {
        let mut ready = self.node.ready();
        self.follow_standing(outputs);
        // A leader's messages need not wait for its own disk, but for its term: a sole voter has elected itself
        // in this round, and would lead once more in the same term, with other entries, if that was lost.
        let (is_kept, messages) = (self.is_term_kept(), ready.take_messages());
        let (now, once_kept) = if is_kept { (messages, Vec::new()) } else { (Vec::new(), messages) };
        if self.standing.role == Role::Leader {
            failpoints::BEFORE_LEADER_SEND.hit();
        }
        send(outputs, now);
        for state in ready.take_read_states() {
            if let Some(round) = self.own_round(&state.request_ctx) {
                outputs.may_read(round, state.index);
            }
        }
        commit(outputs, ready.take_committed_entries())?;
        let installed = ready.snapshot().get_metadata().index;
        if installed > 0 {
            self.install(&ready, outputs)?;
        }
        if ready.must_sync() {
            self.save(&ready)?;
        }
        if self.standing.role != Role::Leader {
            failpoints::BEFORE_FOLLOWER_SEND.hit();
        }
        send(outputs, once_kept);
        send(outputs, ready.take_persisted_messages());
        failpoints::BEFORE_ADVANCE.hit();
        let mut light = self.node.advance_append(ready);
        if installed > self.node.raft.raft_log.applied {
            // Else the library looks for entries that the snapshot has replaced when it stands for election.
            self.node.advance_apply_to(installed);
        }
        send(outputs, light.take_messages());
        commit(outputs, light.take_committed_entries())
    }

    fn save(&mut self, ready: &raft::Ready) -> Result<(), LogError> {
        let kept = self.hard_state();
        let entries: Vec<_> = ready.entries().iter().map(storage::from_raft).collect();
        if let Some(why) = failpoints::BEFORE_SAVE.hit_value() {
            return Err(LogError::Io { action: "write", file: "log".into(), source: io::Error::other(why) });
        }
        self.node.mut_store().log.append(Some(kept), &entries, self.durability)?;
        failpoints::AFTER_SAVE.hit();
        Ok(())
    }

    fn install(&mut self, ready: &raft::Ready, outputs: &mut impl Outputs) -> Result<(), ReplicaError> {
        let metadata = ready.snapshot().get_metadata();
        let position = Position { term: metadata.term, index: metadata.index };
        let membership = Membership::from_raft(metadata.get_conf_state());
        // Entries behind it may be committed already, and are only appended after this.
        let commit = position.index;
        let kept = HardState { commit, ..self.hard_state() };
        let storage = self.node.mut_store();
        failpoints::BEFORE_SNAPSHOT.hit();
        storage.log.reset(position, kept)?;
        failpoints::AFTER_SNAPSHOT.hit();
        storage.applied = position;
        storage.membership = membership.clone();
        outputs.install(position, &membership);
        Ok(())
    }

    fn is_term_kept(&self) -> bool {
        self.node.store().log.hard_state().term == self.node.raft.term
    }

    fn hard_state(&self) -> HardState {
        let state = self.node.raft.hard_state();
        HardState { term: state.term, vote: state.vote, commit: state.commit }
    }

    fn follow_standing(&mut self, outputs: &mut impl Outputs) {
        let raft = &self.node.raft;
        let role = match raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        };
        let leader = Some(raft.leader_id).filter(|id| *id != raft::INVALID_ID);
        let standing = Standing { term: raft.term, leader, role };
        if standing != self.standing {
            self.standing = standing;
            self.draw_election_timeout();
            outputs.stands(standing);
        }
        self.keep_election_timeout();
    }

    /// The library draws from the system's chance; ours must repeat itself.
    fn draw_election_timeout(&mut self) {
        let spread = (self.random)() % self.election_ticks.max(1) as u64;
        self.election_timeout = self.election_ticks + spread as usize;
        self.keep_election_timeout();
    }

    /// The library draws anew whenever it begins a role, even if it ends that before anybody looks.
    fn keep_election_timeout(&mut self) {
        self.node.raft.set_randomized_election_timeout(self.election_timeout);
    }

    fn own_round(&self, context: &[u8]) -> Option<u64> {
        let (id, rest) = context.split_first_chunk::<8>()?;
        let (nonce, round) = rest.split_first_chunk::<8>()?;
        let is_own = u64::from_be_bytes(*id) == self.id && u64::from_be_bytes(*nonce) == self.nonce;
        is_own.then(|| u64::from_be_bytes(*round.first_chunk::<8>().unwrap_or(&[0; 8])))
    }

    /// Hands the office over to another voter, if this is the leader: it is told to stand for election once it
    /// has all entries. Until then, or for an election timeout, proposals are refused.
    pub fn transfer_leader(&mut self, to: u64) {
        self.node.transfer_leader(to);
    }

    /// A message to this member could not be carried.
    pub fn unreachable(&mut self, id: u64) {
        self.node.report_unreachable(id);
    }

    /// A snapshot for this member was delivered, or was not.
    pub fn snapshot_sent(&mut self, id: u64, delivered: bool) {
        let status = if delivered { raft::SnapshotStatus::Finish } else { raft::SnapshotStatus::Failure };
        self.node.report_snapshot(id, status);
    }

    /// Entries up to this one are in the store and survive a crash there, and no member is thought to need
    /// them: they may be forgotten.
    ///
    /// # Errors
    /// The log has failed.
    pub fn purge(&mut self, through: u64) -> Result<(), ReplicaError> {
        Ok(self.node.mut_store().log.purge(through)?)
    }

    /// Does a piece of the work on the log that later entries would wait for otherwise. To be called when there
    /// is nothing else to do, until it says `false`; a call takes milliseconds.
    ///
    /// # Errors
    /// The log has failed. No room on the disk is no error yet.
    pub fn prepare_log(&mut self) -> Result<bool, ReplicaError> {
        match self.node.mut_store().log.prepare() {
            Err(LogError::Full(_)) => Ok(false),
            prepared => Ok(prepared?),
        }
    }

    /// This member.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The last entry that a majority has, as far as this member knows.
    pub fn committed(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// Whether a leader has committed an entry of its own term, from which on it knows what is committed.
    pub fn has_committed_in_term(&self) -> bool {
        self.node.raft.commit_to_current_term()
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.node.store().log
    }

    /// Who takes part, as of the last change applied.
    pub fn membership(&self) -> &Membership {
        &self.node.store().membership
    }

    /// The others as this leader knows them; empty if it is none.
    pub fn followers(&self) -> Vec<Follower> {
        if self.node.raft.state != StateRole::Leader {
            return Vec::new();
        }
        let others = self.node.raft.prs().iter().filter(|(id, _)| **id != self.id);
        let mut others: Vec<_> = others
            .map(|(id, progress)| Follower {
                id: *id,
                matched: progress.matched,
                recent: progress.recent_active,
                needs_snapshot: progress.state == raft::ProgressState::Snapshot,
            })
            .collect();
        others.sort_by_key(|other| other.id);
        others
    }
}

fn send(outputs: &mut impl Outputs, messages: Vec<raft::eraftpb::Message>) {
    if !messages.is_empty() {
        outputs.send(messages.into_iter().map(Message).collect());
    }
}

fn commit(outputs: &mut impl Outputs, entries: Vec<Entry>) -> Result<(), ReplicaError> {
    if entries.is_empty() {
        return Ok(());
    }
    outputs.commit(entries.into_iter().map(committed).collect::<Result<_, _>>()?);
    Ok(())
}

fn committed(entry: Entry) -> Result<Committed, ReplicaError> {
    let entry = storage::from_raft(&entry);
    Ok(Committed { position: entry.position, context: entry.context.clone(), payload: Payload::of(entry)? })
}

fn library(error: raft::Error) -> ReplicaError {
    ReplicaError::Library(error.to_string())
}
