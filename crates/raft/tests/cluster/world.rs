//! A cluster of members, its network and its time, which passes in ticks.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use stentor_raft::log::{Position, Unavailable};
use stentor_raft::{Change, Committed, Membership, Message, Payload, Refused, Role, Standing};

use crate::check::{self, Broken, Checker};
use crate::member::{Effect, Ending, Limits, Member, Store};
use crate::network::{Network, Parcel, Weather};
use crate::reached::Reached;
use crate::reads::Reads;

/// What a cluster begins after: its first members are there by agreement.
const START: Position = Position { term: 1, index: 1 };

pub(crate) struct World {
    pub random: SmallRng,
    pub now: u64,
    pub members: BTreeMap<u64, Member>,
    pub network: Network,
    pub check: Checker,
    pub reached: Reached,
    pub reads: Reads,
    pub limits: Limits,
    /// Of a hundred: how often a member with something to do does it in this tick, and not later.
    pub diligence: u32,
    pub next_id: u64,
    /// Whether things fail.
    pub is_harsh: bool,
    next_proposal: u64,
    /// Who waits for a proposal: the member and its life.
    waiting: BTreeMap<u64, (u64, u64)>,
    last_leader: Option<u64>,
    /// Sums up what has happened.
    pub trace: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut random = SmallRng::seed_from_u64(seed);
        let voters = [1, 3, 3, 3, 5][random.random_range(0..5)];
        let max_uncommitted_bytes = [200, 1 << 20, 1 << 20][random.random_range(0..3)];
        let limits = Limits {
            heartbeat_ticks: random.random_range(1..=3),
            max_message_bytes: [0, 200, 1 << 20][random.random_range(0..3)].min(max_uncommitted_bytes),
            max_inflight_messages: [2, 5, 256][random.random_range(0..3)],
            max_uncommitted_bytes,
            max_committed_bytes: [0, 100, 1 << 20][random.random_range(0..3)],
        };
        let weather = Weather {
            lost: [0, 20, 100][random.random_range(0..3)],
            repeated: [0, 20, 100][random.random_range(0..3)],
            delay: random.random_range(0..=4),
        };
        let diligence = [100, 100, 70, 40][random.random_range(0..4)];
        let membership = Membership::of_voters(1..=voters);
        let mut world = World {
            random,
            now: 0,
            members: BTreeMap::new(),
            network: Network::new(weather),
            check: Checker::new(START),
            reached: Reached::default(),
            reads: Reads::default(),
            limits,
            diligence,
            next_id: voters + 1,
            is_harsh: true,
            next_proposal: 1,
            waiting: BTreeMap::new(),
            last_leader: None,
            trace: 0,
        };
        for id in 1..=voters {
            world.add_member(id, Store { applied: START, chain: 0, membership: membership.clone() });
        }
        world
    }

    /// A member that is started in this tick.
    fn add_member(&mut self, id: u64, store: Store) {
        self.members.insert(id, Member::new(id, store, self.limits, &mut self.random));
    }

    /// A member that was added, with nothing of its own.
    pub(crate) fn join(&mut self, id: u64) {
        if !self.members.contains_key(&id) {
            let store = Store { applied: Position::default(), chain: 0, membership: Membership::default() };
            self.add_member(id, store);
        }
    }

    pub(crate) fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).expect("a member")
    }

    /// Those that run and are not paused.
    pub(crate) fn awake(&self) -> Vec<u64> {
        let awake = |member: &&Member| member.replica.is_some() && member.paused_until <= self.now;
        self.members.values().filter(awake).map(|member| member.id).collect()
    }

    /// One of the numbers.
    pub(crate) fn pick(&mut self, from: &[u64]) -> Option<u64> {
        (!from.is_empty()).then(|| from[self.random.random_range(0..from.len())])
    }

    pub(crate) fn chance(&mut self, of_a_thousand: u32) -> bool {
        self.random.random_ratio(of_a_thousand, 1000)
    }

    /// Lets a tick pass.
    pub(crate) fn tick(&mut self) -> Result<(), Broken> {
        self.now += 1;
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            self.start_if_due(id)?;
        }
        for id in self.awake() {
            // Clocks go differently.
            if !self.chance(30)
                && let Some(replica) = &mut self.member(id).replica
            {
                replica.tick();
                self.member(id).dirty = true;
            }
            self.advance(id)?;
        }
        while let Some(parcel) = self.network.next(self.now) {
            self.deliver(parcel)?;
        }
        for id in self.awake() {
            self.apply(id)?;
            self.keep(id)?;
            self.retire(id);
        }
        self.ask_again();
        Ok(())
    }

    fn start_if_due(&mut self, id: u64) -> Result<(), Broken> {
        let now = self.now;
        let World { members, random, check, reached, is_harsh, .. } = self;
        let Some(member) = members.get_mut(&id) else { return Ok(()) };
        if member.replica.is_some() || member.retired || member.down_until > now {
            return Ok(());
        }
        // A sole voter elects itself at one blow: that is where it must be struck.
        if *is_harsh && member.persisted.membership.is_only_voter(id) && random.random_ratio(1, 3) {
            member.strike = Some(random.random_range(0..6));
        }
        let started = member.start(random).map_err(|error| format!("{id} does not start: {error}"))?;
        for (what, is_so) in [
            ("failed opening", started.failed_opening),
            ("received store found at a restart", started.switched),
            ("received store dropped at a restart", started.dropped),
        ] {
            reached.count_if(what, is_so);
        }
        let Some(replica) = &member.replica else { return Ok(()) };
        check.restarted(id, member.kept, replica.log().hard_state())?;
        member.kept = replica.log().hard_state();
        if let Some(last) = member.failed.take() {
            let kept = replica.log().last() != last;
            reached.count(if kept { "failed append kept" } else { "failed append lost" });
        }
        if replica.log().last().index > member.store.applied.index && member.life > 1 {
            reached.count("restart replays entries");
        }
        self.look_at_log(id)?;
        self.advance(id)
    }

    /// Ends the life of a member for some ticks.
    pub(crate) fn crash(&mut self, id: u64, power: bool) {
        let down = if self.chance(100) { 40 } else { 8 };
        let until = self.now + self.random.random_range(1..=down);
        let World { members, random, reached, .. } = self;
        let Some(member) = members.get_mut(&id).filter(|member| member.replica.is_some()) else { return };
        reached.count(if power { "power loss" } else { "process crash" });
        member.crash(power.then_some(random));
        member.down_until = until;
    }

    /// Lets a member do what it has to do, now or later.
    pub(crate) fn advance(&mut self, id: u64) -> Result<(), Broken> {
        if self.random.random_range(0..100) < self.diligence { self.advance_now(id) } else { Ok(()) }
    }

    pub(crate) fn advance_now(&mut self, id: u64) -> Result<(), Broken> {
        let Some(member) = self.members.get_mut(&id).filter(|member| member.dirty) else { return Ok(()) };
        let before = member.replica.as_ref().map(|replica| replica.log().last());
        let (effects, ending) = member.advance();
        for effect in effects {
            self.take(id, effect)?;
        }
        let power = self.random.random_bool(0.6);
        match ending {
            Ending::Well => {
                self.look_at_log(id)?;
                let member = self.member(id);
                let unused = std::mem::take(&mut member.received).len() as u64;
                self.reached.add_many("snapshot not needed", unused);
            }
            Ending::Struck(what) => {
                self.reached.count(what);
                self.crash(id, power);
            }
            Ending::Failed(error) => {
                self.reached.count("disk failure");
                self.trace = check::digest(self.trace, error.to_string().as_bytes());
                self.member(id).failed = before;
                self.crash(id, power);
            }
        }
        Ok(())
    }

    fn take(&mut self, id: u64, effect: Effect) -> Result<(), Broken> {
        self.trace = check::digest(self.trace ^ id, &effect.trace());
        match effect {
            Effect::Send(messages) => {
                for message in messages {
                    self.check_promise(id, &message)?;
                    self.send(id, message);
                }
            }
            Effect::Commit(entries) => {
                if entries.len() > 1 {
                    self.reached.count("entries of one batch");
                }
                self.member(id).queue.extend(entries);
            }
            Effect::MayRead(round, index) => self.reads.may_read(id, round, index),
            Effect::Stands(standing) => self.stands(id, standing)?,
            Effect::Install(position, membership) => self.install(id, position, &membership)?,
        }
        Ok(())
    }

    /// A term in which a member leads must be on disk, and what was promised to a candidate.
    fn check_promise(&self, id: u64, message: &Message) -> Result<(), Broken> {
        let Some(replica) = self.members.get(&id).and_then(|member| member.replica.as_ref()) else { return Ok(()) };
        let standing = replica.standing();
        // An answer to who asks whether to stand for election is of the term to come.
        let is_new = message.term() > replica.log().hard_state().term;
        if standing.leader == Some(id) && is_new && !format!("{message:?}").contains("PreVote") {
            return Err(format!("{id} leads in term {} and keeps {:?}", message.term(), replica.log().hard_state()));
        }
        // Those that follow somebody do not vote, and what messages are is slow to tell.
        if standing.leader.is_some() {
            return Ok(());
        }
        let text = format!("{message:?}");
        let candidate = if text.contains("MsgRequestVoteResponse") && !text.contains("reject: true") {
            message.to()
        } else if text.contains("MsgRequestVote ") {
            id
        } else {
            return Ok(());
        };
        self.check.votes(id, message.term(), candidate, replica.log().hard_state())
    }

    fn send(&mut self, id: u64, mut message: Message) {
        let member = self.member(id);
        let mut store = None;
        if message.is_snapshot() {
            let copy = member.store.clone();
            message.set_snapshot(copy.applied, &copy.membership);
            store = Some(copy);
        }
        let (sender_life, to, is_snapshot) = (member.life, message.to(), store.is_some());
        let parcel = Parcel { message, store, sender_life };
        self.reached.count_if("snapshot sent", is_snapshot);
        match self.network.send(self.now, parcel, &mut self.random) {
            0 => {
                self.reached.count("message lost");
                self.failed_to_carry(id, to, is_snapshot);
            }
            1 => {}
            _ => self.reached.count("message repeated"),
        }
    }

    fn failed_to_carry(&mut self, id: u64, to: u64, is_snapshot: bool) {
        let tells = self.random.random_bool(0.5);
        let Some(replica) = &mut self.member(id).replica else { return };
        if is_snapshot {
            replica.snapshot_sent(to, false);
            self.reached.count("snapshot lost");
        } else if tells {
            replica.unreachable(to);
        }
    }

    fn deliver(&mut self, parcel: Parcel) -> Result<(), Broken> {
        let (from, to) = (parcel.message.from(), parcel.message.to());
        if let Some(paused) = self.members.get(&to).map(|member| member.paused_until).filter(|until| *until > self.now)
        {
            self.network.put(paused, parcel, &mut self.random);
            return Ok(());
        }
        let is_up = self.members.get(&to).is_some_and(|member| member.replica.is_some());
        let is_blocked = self.network.is_blocked(&parcel.message);
        let sender_lives = self.members.get(&from).is_some_and(|sender| sender.life == parcel.sender_life);
        let is_snapshot = parcel.store.is_some();
        self.reached.count_if("message blocked", is_blocked);
        if is_blocked || !is_up {
            if sender_lives {
                self.failed_to_carry(from, to, is_snapshot);
            }
            return Ok(());
        }
        if sender_lives
            && is_snapshot
            && let Some(sender) = self.members.get_mut(&from).and_then(|sender| sender.replica.as_mut())
        {
            sender.snapshot_sent(to, true);
        }
        if is_snapshot && self.is_harsh {
            self.spoil_installation(to);
        }
        let member = self.member(to);
        member.received.extend(parcel.store);
        member.dirty = true;
        if let Some(replica) = &mut member.replica {
            replica.step(parcel.message);
        }
        self.advance(to)
    }

    /// Lets something fail while a snapshot is installed, now and then.
    fn spoil_installation(&mut self, id: u64) {
        let (what, after) = (self.random.random_range(0..16), self.random.random_range(0..6));
        let member = self.member(id);
        match what {
            0 | 1 => member.strike = Some(after),
            2 => member.disk.fail_write(u64::from(after), ErrorKind::Other),
            3 => member.disk.fail_sync(u64::from(after), ErrorKind::Other),
            _ => {}
        }
    }

    fn stands(&mut self, id: u64, standing: Standing) -> Result<(), Broken> {
        if standing.role != Role::Leader {
            return Ok(());
        }
        self.reached.count("election");
        self.reached.count_if("change of leaders", self.last_leader.is_some_and(|last| last != id));
        self.last_leader = Some(id);
        self.check.leads(standing.term, id)?;
        let Some(replica) = self.members.get(&id).and_then(|member| member.replica.as_ref()) else { return Ok(()) };
        let log = replica.log();
        self.check.is_complete(standing.term, id, log.start().index, |index| log.term(index).ok())
    }

    fn install(&mut self, id: u64, position: Position, membership: &Membership) -> Result<(), Broken> {
        let member = self.member(id);
        let received = member.received.drain(..).find(|store| store.applied == position);
        let Some(received) = received else { return Err(format!("{id} installs {position:?}, which it has not got")) };
        if received.applied.index <= member.store.applied.index {
            return Err(format!("{id} installs {position:?} and has applied {:?}", member.store.applied));
        }
        member.store = received.clone();
        member.persisted = received;
        member.queue.clear();
        let chain = member.store.chain;
        self.reached.count("snapshot installed");
        self.check.installed(id, position, chain)?;
        if self.check.membership_at(position.index).is_some_and(|known| known != membership) {
            return Err(format!("{id} installs {membership:?} at {position:?}"));
        }
        Ok(())
    }

    /// Compares a log with all others, as far as it has changed.
    fn look_at_log(&mut self, id: u64) -> Result<(), Broken> {
        let World { members, check, reached, .. } = self;
        let Some(member) = members.get_mut(&id) else { return Ok(()) };
        let Some(replica) = &member.replica else { return Ok(()) };
        let (log, shadow) = (replica.log(), &mut member.shadow);
        if log.hard_state().term.max(log.last().term) != replica.standing().term {
            return Err(format!("{id} stands in {:?} and keeps {:?}", replica.standing(), log.hard_state()));
        }
        if replica.membership() != &member.store.membership {
            return Err(format!("{id} has {:?}, and its store {:?}", replica.membership(), member.store.membership));
        }
        let (start, last) = (log.start().index, log.last().index);
        member.kept = log.hard_state();
        let mut same = last;
        while same > start && shadow.get(&same).copied() != log.term(same).ok() {
            same -= 1;
        }
        let cut = shadow.split_off(&(same + 1));
        if !cut.is_empty() && same > start {
            reached.count("conflicting tail cut");
            check.truncated(id, same, member.store.applied.index)?;
        }
        let entries = log.entries(same + 1, last + 1, u64::MAX).map_err(|error| format!("{id} reads: {error}"))?;
        for entry in entries {
            let at = entry.position;
            let content = check::digest(check::digest(entry.kind as u64, &entry.context), &entry.data);
            let before: Result<u64, Unavailable> = log.term(at.index - 1);
            check.logged(at, content, before.ok())?;
            shadow.insert(at.index, at.term);
        }
        *shadow = shadow.split_off(&(start + 1));
        Ok(())
    }

    /// Applies some of what is committed.
    fn apply(&mut self, id: u64) -> Result<(), Broken> {
        let most = self.random.random_range(0..12_usize);
        for _ in 0..most {
            let Some(entry) = self.member(id).queue.pop_front() else { break };
            self.apply_one(id, &entry)?;
        }
        self.advance(id)?;
        let Some(member) = self.members.get(&id) else { return Ok(()) };
        let leads = member.replica.as_ref().is_some_and(|replica| replica.standing().role == Role::Leader);
        let who = if leads { "read answered by a leader" } else { "read answered by another" };
        let (applied, life) = (member.store.applied.index, member.life);
        let answered = self.reads.answer(id, life, applied, &mut self.check)?;
        self.reached.add_many(who, answered);
        Ok(())
    }

    fn apply_one(&mut self, id: u64, entry: &Committed) -> Result<(), Broken> {
        let World { members, check, reached, waiting, now, .. } = self;
        let Some(member) = members.get_mut(&id) else { return Ok(()) };
        let Some(replica) = &mut member.replica else { return Ok(()) };
        let store = &mut member.store;
        let chain = check::chained(store.chain, entry.position, check::digest_of(entry));
        check.applied(id, replica.standing().term, store.applied.index, entry, chain)?;
        reached.count("entry applied");
        if let Payload::Change(change, _) = &entry.payload {
            match replica.apply_change(*change) {
                Ok(membership) => {
                    count_change(reached, *change, &store.membership, replica.standing());
                    store.membership = membership;
                }
                // The same everywhere: the entry does nothing.
                Err(_) => reached.count("impossible change"),
            }
            check.takes_part(id, entry.position.index, &store.membership)?;
            if *change == Change::Remove(id) && !store.membership.contains(id) {
                member.removed_at.get_or_insert(*now);
            }
        }
        (store.applied, store.chain) = (entry.position, chain);
        replica.applied(entry.position);
        member.dirty = true;
        if let Some(proposal) = check::proposal_of(entry)
            && waiting.get(&proposal) == Some(&(id, member.life))
        {
            waiting.remove(&proposal);
            check.acknowledged(proposal, entry.position.index);
            reached.count("proposal acknowledged");
        }
        Ok(())
    }

    /// Persists the store now and then, and purges the log.
    fn keep(&mut self, id: u64) -> Result<(), Broken> {
        if !self.chance(100) {
            return Ok(());
        }
        let behind = self.random.random_range(0..12);
        let purges = self.chance(500);
        let Some(member) = self.members.get_mut(&id) else { return Ok(()) };
        member.persisted = member.store.clone();
        let through = member.persisted.applied.index.saturating_sub(behind);
        if let Some(replica) = &mut member.replica
            && purges
            && through > replica.log().start().index
        {
            let result = replica.purge(through);
            self.reached.count("purge");
            if result.is_err() {
                self.reached.count("disk failure");
                self.crash(id, true);
            }
        }
        Ok(())
    }

    /// Switches a member off for good that was removed, once a majority of the others know.
    fn retire(&mut self, id: u64) {
        let now = self.now;
        let Some(member) = self.members.get(&id).filter(|member| member.removed_at.is_some_and(|at| at + 15 < now))
        else {
            return;
        };
        let others = &member.store.membership.voters;
        let knows = |other: &&u64| {
            let membership = self.members.get(other).map(|other| &other.store.membership);
            membership.is_some_and(|membership| membership.contains(**other) && !membership.contains(id))
        };
        if 2 * others.iter().filter(knows).count() > others.len() {
            self.member(id).crash(None);
            self.member(id).retired = true;
        }
    }

    /// Proposes something, and says which proposal it is.
    pub(crate) fn propose(&mut self, id: u64, change: Option<Change>) -> Result<u64, Broken> {
        let proposal = self.next_proposal;
        self.next_proposal += 1;
        let context = Bytes::copy_from_slice(&proposal.to_be_bytes());
        let data = vec![proposal as u8; self.random.random_range(1..60)].into();
        let member = self.member(id);
        let life = member.life;
        let Some(replica) = &mut member.replica else { return Ok(proposal) };
        let leads = replica.standing().role == Role::Leader;
        let result = match change {
            None => replica.propose(context, data),
            Some(change) => replica.propose_change(context, change, data),
        };
        member.dirty = true;
        match result {
            Ok(()) => {
                self.reached.count(if leads { "proposal of a leader" } else { "proposal forwarded" });
                self.waiting.insert(proposal, (id, life));
            }
            Err(refused) => {
                let what = match refused {
                    Refused::NoLeader => "refused: no leader",
                    Refused::TooMuch => "refused: too much",
                };
                self.reached.count(what);
                self.check.refused(proposal)?;
            }
        }
        self.advance(id)?;
        Ok(proposal)
    }

    /// Begins a read.
    pub(crate) fn read(&mut self, id: u64) -> Result<(), Broken> {
        let (floor, now) = (self.check.floor(), self.now);
        let member = self.members.get_mut(&id).expect("a member");
        let Some(replica) = &mut member.replica else { return Ok(()) };
        let round = self.reads.begin(id, member.life, floor, now);
        replica.read_index(round);
        member.dirty = true;
        self.advance(id)
    }

    fn ask_again(&mut self) {
        for (id, life, round) in self.reads.overdue(self.now) {
            let Some(member) = self.members.get_mut(&id) else { continue };
            match &mut member.replica {
                Some(replica) if member.life == life => {
                    self.reached.count("read asked again");
                    replica.read_index(self.reads.again(round, self.now));
                    member.dirty = true;
                }
                _ => self.reads.give_up(round),
            }
        }
    }

    /// How many proposals were taken and never applied.
    pub(crate) fn lost_proposals(&self) -> u64 {
        self.waiting.keys().filter(|proposal| !self.check.is_placed(**proposal)).count() as u64
    }
}

fn count_change(reached: &mut Reached, change: Change, before: &Membership, standing: Standing) {
    reached.count(match change {
        Change::AddLearner(_) => "learner added",
        Change::AddVoter(id) if before.learners.contains(&id) => "learner promoted",
        Change::AddVoter(_) => "voter added",
        Change::Remove(id) if before.voters.contains(&id) => "voter removed",
        Change::Remove(_) => "learner removed",
    });
    reached.count_if("leader removed", change == Change::Remove(standing.leader.unwrap_or(0)));
    let adds = matches!(change, Change::AddVoter(_));
    reached.count_if("sole voter grows", adds && before.voters.len() == 1);
}
