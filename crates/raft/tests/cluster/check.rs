//! What must hold of a cluster, whatever happens. Each method is told of something that was seen and says
//! what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use stentor_raft::log::{HardState, Position};
use stentor_raft::{Committed, Membership, Payload};

/// What was violated.
pub(crate) type Broken = String;

/// A number that stands for bytes.
pub(crate) fn digest(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = seed ^ 0xcbf2_9ce4_8422_2325;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^ (hash >> 29)
}

/// A number that stands for what an entry does.
pub(crate) fn digest_of(entry: &Committed) -> u64 {
    let hash = digest(1, &entry.context);
    match &entry.payload {
        Payload::Nothing => hash,
        Payload::Entry(data) => digest(hash ^ 2, data),
        Payload::Change(change, data) => digest(digest(hash ^ 3, format!("{change:?}").as_bytes()), data),
    }
}

/// What all applied entries up to one amount to.
pub(crate) fn chained(chain: u64, position: Position, digest: u64) -> u64 {
    let next = [chain, position.term, position.index, digest].map(u64::to_be_bytes).concat();
    self::digest(4, &next)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Applied {
    term: u64,
    digest: u64,
    chain: u64,
}

/// Everything that was seen of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// Term to leader.
    leaders: BTreeMap<u64, u64>,
    /// Index and term of each entry in any log, to its digest and the term before it if that was seen.
    logged: BTreeMap<(u64, u64), (u64, Option<u64>)>,
    /// By index.
    history: BTreeMap<u64, Applied>,
    /// Index of each entry, and the newest term that its first applier knew: it was not committed later.
    committed_by: BTreeMap<u64, u64>,
    /// By the index of the change.
    memberships: BTreeMap<u64, Membership>,
    refused: BTreeSet<u64>,
    /// Proposal to index.
    places: BTreeMap<u64, u64>,
    acknowledged: BTreeMap<u64, u64>,
    /// No later read may be answered before this index.
    floor: u64,
}

impl Checker {
    /// The first entry that is nobody's, before all others.
    pub(crate) fn new(start: Position) -> Checker {
        let mut checker = Checker { floor: start.index, ..Checker::default() };
        checker.history.insert(start.index, Applied { term: start.term, digest: 0, chain: 0 });
        checker
    }

    /// A member leads.
    pub(crate) fn leads(&mut self, term: u64, id: u64) -> Result<(), Broken> {
        match *self.leaders.entry(term).or_insert(id) {
            other if other != id => Err(format!("both {other} and {id} lead in term {term}")),
            _ => Ok(()),
        }
    }

    /// A new leader's log must have what was committed in earlier terms. `term_at` is its log's.
    pub(crate) fn is_complete(
        &self,
        term: u64,
        id: u64,
        start: u64,
        term_at: impl Fn(u64) -> Option<u64>,
    ) -> Result<(), Broken> {
        let earlier = self.committed_by.iter().rev().filter(|(index, by)| **by < term && **index > start);
        for (index, _) in earlier {
            let expected = self.history.get(index).map(|applied| applied.term);
            if term_at(*index) != expected {
                return Err(format!("{id} leads in term {term} without the committed entry {index}"));
            }
        }
        Ok(())
    }

    /// An entry is in a log, behind one of this term if that is known.
    pub(crate) fn logged(&mut self, at: Position, digest: u64, before: Option<u64>) -> Result<(), Broken> {
        let known = self.logged.entry((at.index, at.term)).or_insert((digest, before));
        let differs = known.0 != digest || known.1.zip(before).is_some_and(|(known, before)| known != before);
        known.1 = known.1.or(before);
        if differs { Err(format!("two logs differ at {at:?} or before it")) } else { Ok(()) }
    }

    /// A log was cut behind this entry, by a member that has applied so far.
    pub(crate) fn truncated(&self, id: u64, to: u64, applied: u64) -> Result<(), Broken> {
        if to < applied {
            return Err(format!("{id} has cut its log behind {to}, though it has applied {applied}"));
        }
        Ok(())
    }

    /// A member that knows of `member_term` has applied an entry after the one of index `after`.
    pub(crate) fn applied(
        &mut self,
        id: u64,
        member_term: u64,
        after: u64,
        entry: &Committed,
        chain: u64,
    ) -> Result<(), Broken> {
        let Position { term, index } = entry.position;
        if index != after + 1 {
            return Err(format!("{id} applies {index} after {after}"));
        }
        let applied = Applied { term, digest: digest_of(entry), chain };
        self.committed_by.entry(index).or_insert(member_term);
        if *self.history.entry(index).or_insert(applied) != applied {
            return Err(format!("{id} applies something else than others at {index}"));
        }
        self.floor = self.floor.max(index);
        match proposal_of(entry) {
            Some(proposal) => self.placed(proposal, index),
            None => Ok(()),
        }
    }

    fn placed(&mut self, proposal: u64, index: u64) -> Result<(), Broken> {
        if self.refused.contains(&proposal) {
            return Err(format!("proposal {proposal} was refused, and is at {index}"));
        }
        match *self.places.entry(proposal).or_insert(index) {
            other if other != index => Err(format!("proposal {proposal} is at {other} and at {index}")),
            _ => Ok(()),
        }
    }

    /// A store was received that stands here.
    pub(crate) fn installed(&mut self, id: u64, at: Position, chain: u64) -> Result<(), Broken> {
        match self.history.get(&at.index) {
            Some(known) if (known.term, known.chain) == (at.term, chain) => Ok(()),
            known => Err(format!("{id} installs a store at {at:?} that nobody has had: {known:?}")),
        }
    }

    /// Who takes part after a change, or after an installation.
    pub(crate) fn takes_part(&mut self, id: u64, index: u64, membership: &Membership) -> Result<(), Broken> {
        let known = self.memberships.entry(index).or_insert_with(|| membership.clone());
        if known != membership {
            return Err(format!("{id} has {membership:?} at {index}, and others {known:?}"));
        }
        Ok(())
    }

    /// The newest membership up to an index.
    pub(crate) fn membership_at(&self, index: u64) -> Option<&Membership> {
        self.memberships.range(..=index).next_back().map(|(_, membership)| membership)
    }

    /// A proposal was refused.
    pub(crate) fn refused(&mut self, proposal: u64) -> Result<(), Broken> {
        self.refused.insert(proposal);
        match self.places.get(&proposal) {
            Some(index) => Err(format!("proposal {proposal} is refused, though it is at {index}")),
            None => Ok(()),
        }
    }

    /// A proposal was applied where it was proposed.
    pub(crate) fn acknowledged(&mut self, proposal: u64, index: u64) {
        self.acknowledged.insert(proposal, index);
    }

    /// What a read that begins now must see.
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// A read that began when the floor was this one may see the store as of `index`.
    pub(crate) fn answered(&mut self, id: u64, floor: u64, index: u64) -> Result<(), Broken> {
        if index < floor {
            return Err(format!("{id} answers a read as of {index}, and {floor} was seen before it began"));
        }
        self.floor = self.floor.max(index);
        Ok(())
    }

    /// A member has come back with `now`, after it had `kept`.
    pub(crate) fn restarted(&self, id: u64, kept: HardState, now: HardState) -> Result<(), Broken> {
        let forgot_vote = now.term == kept.term && kept.vote != 0 && now.vote != kept.vote;
        if now.term < kept.term || forgot_vote {
            return Err(format!("{id} has forgotten {kept:?} and is at {now:?}"));
        }
        Ok(())
    }

    /// A member has told a candidate, maybe itself, that it votes for it, and now keeps this.
    pub(crate) fn votes(&self, id: u64, term: u64, candidate: u64, kept: HardState) -> Result<(), Broken> {
        let is_kept = kept.term > term || (kept.term == term && kept.vote == candidate);
        if is_kept { Ok(()) } else { Err(format!("{id} votes for {candidate} in term {term} and keeps {kept:?}")) }
    }

    /// At the end: what a member has applied must hold all that was acknowledged, and be what others have.
    pub(crate) fn ends(&self, id: u64, at: Position, chain: u64) -> Result<(), Broken> {
        for (proposal, index) in &self.acknowledged {
            if *index > at.index || self.places.get(proposal) != Some(index) {
                return Err(format!("{id} ends at {at:?} without proposal {proposal}, acknowledged at {index}"));
            }
        }
        match self.history.get(&at.index) {
            Some(known) if (known.term, known.chain) == (at.term, chain) => Ok(()),
            _ => Err(format!("{id} ends at {at:?} with another history than others")),
        }
    }

    /// Whether a proposal was applied anywhere.
    pub(crate) fn is_placed(&self, proposal: u64) -> bool {
        self.places.contains_key(&proposal)
    }
}

/// The number that the proposer has put beside an entry.
pub(crate) fn proposal_of(entry: &Committed) -> Option<u64> {
    entry.context.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}
