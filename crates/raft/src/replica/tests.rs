//! What whole clusters have taught, each by itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::log::{self, memory};

const START: Position = Position { term: 1, index: 1 };

/// A member that applies what is committed at once.
struct Member {
    replica: Replica,
    disk: memory::Disk,
    committed: VecDeque<Committed>,
    sent: Vec<Message>,
    installed: Vec<Position>,
    /// The newest term of a message that was sent while the log on disk was of an older one.
    too_early: Option<u64>,
}

/// What [`Member`] takes, without its replica.
struct Taking<'a>(
    &'a mut Vec<Message>,
    &'a mut VecDeque<Committed>,
    &'a mut Vec<Position>,
    Vec<(u64, u64)>,
    memory::Disk,
);

impl Outputs for Taking<'_> {
    fn send(&mut self, messages: Vec<Message>) {
        let disk = self.4.copy();
        let kept = Log::open(Arc::new(disk), log::Options::default()).unwrap().unwrap().hard_state().term;
        self.3.extend(messages.iter().map(|message| (message.term(), kept)));
        self.0.extend(messages);
    }
    fn commit(&mut self, entries: Vec<Committed>) {
        self.1.extend(entries);
    }
    fn may_read(&mut self, _: u64, _: u64) {}
    fn stands(&mut self, _: Standing) {}
    fn install(&mut self, position: Position, _: &Membership) {
        self.1.clear();
        self.2.push(position);
    }
}

impl Member {
    fn new(id: u64, start: Position, membership: Membership) -> Member {
        let disk = memory::Disk::new();
        let log = Log::create(Arc::new(disk.clone()), start, log::Options::default()).unwrap();
        let replica = Replica::new(log, Options::new(id, start, membership), Box::new(move || id)).unwrap();
        Member { replica, disk, committed: VecDeque::new(), sent: Vec::new(), installed: Vec::new(), too_early: None }
    }

    fn advance(&mut self) {
        let mut taking =
            Taking(&mut self.sent, &mut self.committed, &mut self.installed, Vec::new(), self.disk.clone());
        self.replica.advance(&mut taking).unwrap();
        // Asking whether to stand for election, a member speaks of the term to come.
        let early = taking.3.into_iter().filter(|(term, kept)| *term > *kept + 1 || (*term > *kept && *kept > 0));
        self.too_early = self.too_early.max(early.map(|(term, _)| term).max());
    }

    fn apply(&mut self) {
        while let Some(entry) = self.committed.pop_front() {
            if let Payload::Change(change, _) = entry.payload {
                self.replica.apply_change(change).unwrap();
            }
            self.replica.applied(entry.position);
        }
    }

    fn propose(&mut self, entries: u64) {
        for _ in 0..entries {
            self.replica.propose(Bytes::new(), "data".into()).unwrap();
        }
    }
}

type Members = BTreeMap<u64, Member>;

fn voters(count: u64) -> Members {
    let membership = Membership::of_voters(1..=count);
    (1..=count).map(|id| (id, Member::new(id, START, membership.clone()))).collect()
}

/// Carries messages until there are none, except to members that are not there.
fn settle(members: &mut Members) {
    loop {
        for member in members.values_mut() {
            member.advance();
            member.apply();
            member.advance();
        }
        let sent: Vec<Message> = members.values_mut().flat_map(|member| member.sent.drain(..)).collect();
        if sent.is_empty() {
            return;
        }
        for message in sent {
            if let Some(member) = members.get_mut(&message.to()) {
                member.replica.step(message);
            }
        }
    }
}

fn get(members: &mut Members, id: u64) -> &mut Member {
    members.get_mut(&id).unwrap()
}

/// Makes one the leader.
fn elect(members: &mut Members, id: u64) {
    get(members, id).replica.campaign().unwrap();
    settle(members);
    assert_eq!(get(members, id).replica.standing().role, Role::Leader);
}

/// Lets a leader's heartbeat pass.
fn beat(members: &mut Members, id: u64) {
    get(members, id).replica.tick();
    settle(members);
}

/// A cluster of three whose third has got a snapshot from the first.
fn with_a_snapshot() -> Members {
    let mut members = voters(3);
    let third = members.remove(&3).unwrap();
    elect(&mut members, 1);
    get(&mut members, 1).propose(5);
    settle(&mut members);
    for member in members.values_mut() {
        let last = member.replica.log().last().index;
        member.replica.purge(last).unwrap();
    }
    members.insert(3, third);
    (0..4).for_each(|_| beat(&mut members, 1));
    members
}

#[test]
fn a_member_can_stand_for_election_after_a_snapshot() {
    let mut members = with_a_snapshot();
    assert_eq!(get(&mut members, 3).installed.len(), 1);
    // Nothing was applied since: what it has comes from the snapshot alone.
    get(&mut members, 1).propose(1);
    settle(&mut members);
    let third = get(&mut members, 3);
    third.replica.campaign().unwrap();
    assert_eq!(third.replica.standing().role, Role::Follower);
    settle(&mut members);
}

#[test]
fn a_leader_that_is_removed_hands_over() {
    let mut members = voters(3);
    elect(&mut members, 1);
    let first = get(&mut members, 1);
    // What is before it is not committed everywhere when it applies its removal.
    first.propose(3);
    first.replica.propose_change(Bytes::new(), Change::Remove(1), Bytes::new()).unwrap();
    settle(&mut members);
    assert_ne!(get(&mut members, 1).replica.standing().role, Role::Leader);
    assert!(get(&mut members, 1).replica.propose(Bytes::new(), "late".into()).is_err());
    let leads = |member: &&mut Member| member.replica.standing().role == Role::Leader;
    let mut ticks = 0;
    while members.values_mut().filter(leads).count() == 0 {
        ticks += 1;
        assert!(ticks < 60, "nobody follows");
        members.values_mut().for_each(|member| member.replica.tick());
        settle(&mut members);
    }
    members.values_mut().find(leads).unwrap().propose(1);
    settle(&mut members);
    let last = get(&mut members, 2).replica.log().last();
    assert_eq!(
        (get(&mut members, 2).replica.committed(), get(&mut members, 3).replica.committed()),
        (last.index, last.index)
    );
}

#[test]
fn the_voter_that_is_left_can_be_elected_without_having_heard_of_it() {
    let mut members = voters(2);
    elect(&mut members, 1);
    get(&mut members, 2).propose(1);
    get(&mut members, 2).advance();
    let forwarded: Vec<Message> = get(&mut members, 2).sent.drain(..).collect();
    let first = get(&mut members, 1);
    first.replica.propose_change(Bytes::new(), Change::Remove(1), Bytes::new()).unwrap();
    assert_eq!(first.replica.propose(Bytes::new(), "late".into()), Err(Refused::NoLeader));
    forwarded.into_iter().for_each(|message| first.replica.step(message));
    let removal = {
        first.advance();
        first.replica.log().last()
    };
    // The second has the entry and says so, and then nothing of the first's arrives.
    for message in std::mem::take(&mut first.sent) {
        get(&mut members, 2).replica.step(message);
    }
    get(&mut members, 2).advance();
    let answers = std::mem::take(&mut get(&mut members, 2).sent);
    let first = get(&mut members, 1);
    answers.into_iter().for_each(|message| first.replica.step(message));
    first.advance();
    first.apply();
    first.advance();
    first.sent.clear();
    assert_eq!((first.replica.committed(), first.replica.log().last()), (removal.index, removal));
    assert!(get(&mut members, 2).replica.committed() < removal.index);
    for _ in 0..30 {
        members.values_mut().for_each(|member| member.replica.tick());
        settle(&mut members);
    }
    let second = &get(&mut members, 2).replica;
    assert_eq!((second.standing().role, second.membership()), (Role::Leader, &Membership::of_voters([2])));
}

#[test]
fn proposals_are_told_from_other_messages() {
    let mut members = voters(3);
    elect(&mut members, 1);
    let second = get(&mut members, 2);
    second.propose(1);
    second.replica.read_index(1);
    second.advance();
    let kinds: Vec<(u64, bool)> = second.sent.iter().map(|message| (message.to(), message.is_proposal())).collect();
    assert_eq!(kinds, [(1, true), (1, false)]);
}

#[test]
fn a_sole_voter_speaks_of_a_term_once_it_is_on_disk() {
    let membership = Membership { voters: [1].into(), learners: [2].into() };
    let mut members: Members = (1..=2).map(|id| (id, Member::new(id, START, membership.clone()))).collect();
    elect(&mut members, 1);
    assert_eq!(get(&mut members, 1).too_early, None);
    // Again, with a term that is on disk already.
    let first = get(&mut members, 1);
    first.replica.node.raft.become_follower(5, raft::INVALID_ID);
    first.advance();
    elect(&mut members, 1);
    assert_eq!(get(&mut members, 1).replica.standing().term, 6);
    assert_eq!(get(&mut members, 1).too_early, None);
}

#[test]
fn a_change_that_a_snapshot_has_overtaken_does_not_alter_who_takes_part() {
    let mut members = voters(3);
    elect(&mut members, 1);
    // The third has the change committed, and not applied, when the snapshot comes.
    get(&mut members, 1).replica.propose_change(Bytes::new(), Change::AddLearner(4), Bytes::new()).unwrap();
    for _ in 0..6 {
        for member in members.values_mut() {
            member.advance();
        }
        let sent: Vec<Message> = members.values_mut().flat_map(|member| member.sent.drain(..)).collect();
        for message in sent {
            if let Some(member) = members.get_mut(&message.to()) {
                member.replica.step(message);
            }
        }
    }
    let mut third = members.remove(&3).unwrap();
    assert_eq!(third.committed.len(), 1, "{:?}", third.committed);
    settle(&mut members);
    get(&mut members, 1).replica.propose_change(Bytes::new(), Change::Remove(4), Bytes::new()).unwrap();
    settle(&mut members);
    let first = get(&mut members, 1);
    let (last, term) = (first.replica.log().last(), first.replica.standing().term);
    let mut message = raft::eraftpb::Message::default();
    message.set_msg_type(raft::eraftpb::MessageType::MsgSnapshot);
    (message.from, message.to, message.term) = (1, 3, term);
    let mut message = Message(message);
    message.set_snapshot(last, &Membership::of_voters(1..=3));
    third.replica.step(message);
    third.apply();
    third.advance();
    assert_eq!(third.installed, [last]);
    assert_eq!(third.replica.membership(), &Membership::of_voters(1..=3));
    let known: Vec<u64> = {
        let mut known: Vec<u64> = third.replica.node.raft.prs().iter().map(|(id, _)| *id).collect();
        known.sort_unstable();
        known
    };
    assert_eq!(known, [1, 2, 3]);
}

#[test]
fn chance_is_only_drawn_from_what_was_given() {
    let mut members = voters(3);
    let first = get(&mut members, 1);
    // It stands for election, and gives up before anybody has looked.
    for _ in 0..5 {
        first.replica.campaign().unwrap();
        first.replica.node.raft.become_follower(0, raft::INVALID_ID);
        first.advance();
        assert_eq!(first.replica.node.raft.randomized_election_timeout(), 11);
    }
}

#[test]
fn a_crash_right_after_an_installation_leaves_a_log_to_go_on_with() {
    use raft::eraftpb::MessageType;

    let mut member = Member::new(3, START, Membership::of_voters(1..=3));
    let at = Position { term: 2, index: 7 };
    let message = |kind| {
        let mut message = raft::eraftpb::Message::default();
        message.set_msg_type(kind);
        (message.from, message.to, message.term) = (1, 3, 2);
        message
    };
    let mut snapshot = Message(message(MessageType::MsgSnapshot));
    snapshot.set_snapshot(at, &Membership::of_voters(1..=3));
    // With an entry behind it, committed, before it is installed.
    let mut append = message(MessageType::MsgAppend);
    (append.log_term, append.index, append.commit) = (at.term, at.index, at.index + 1);
    append.set_entries(vec![Entry { term: 2, index: at.index + 1, ..Entry::default() }].into());
    member.replica.step(snapshot);
    member.replica.step(Message(append));
    member.disk.fail_write(1, std::io::ErrorKind::Other);
    let mut taking =
        Taking(&mut member.sent, &mut member.committed, &mut member.installed, Vec::new(), member.disk.clone());
    assert!(matches!(member.replica.advance(&mut taking), Err(ReplicaError::Log(_))));
    let disk = member.disk.clone();
    drop(member);
    disk.crash(&mut || 0);
    let log = Log::open(Arc::new(disk), log::Options::default()).unwrap().unwrap();
    assert_eq!((log.start(), log.last(), log.hard_state().commit), (at, at, at.index));
    let options = Options::new(3, at, Membership::of_voters(1..=3));
    assert_eq!(Replica::new(log, options, Box::new(|| 0)).unwrap().committed(), at.index);
}
