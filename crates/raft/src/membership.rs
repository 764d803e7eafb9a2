//! Who takes part.

use std::collections::BTreeSet;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeType, ConfState};

/// The members of a cluster by id, none of which is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Who votes; a majority of them commits.
    pub voters: BTreeSet<u64>,
    /// Who only receives the log.
    pub learners: BTreeSet<u64>,
}

impl Membership {
    /// A cluster of voters.
    pub fn of_voters(voters: impl IntoIterator<Item = u64>) -> Membership {
        Membership { voters: voters.into_iter().collect(), learners: BTreeSet::new() }
    }

    /// Whether a member takes part at all.
    pub fn contains(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id)
    }

    /// Whether this member alone decides.
    pub fn is_only_voter(&self, id: u64) -> bool {
        self.voters.len() == 1 && self.voters.contains(&id)
    }

    /// Who takes part after a change; the library's answer is the same.
    pub(crate) fn changed(&self, change: Change) -> Result<Membership, &'static str> {
        let mut changed = self.clone();
        changed.voters.remove(&change.id());
        changed.learners.remove(&change.id());
        match change {
            Change::AddVoter(id) => changed.voters.insert(id),
            Change::AddLearner(id) => changed.learners.insert(id),
            Change::Remove(_) => false,
        };
        if changed.voters.is_empty() { Err("removed all voters") } else { Ok(changed) }
    }

    pub(crate) fn to_raft(&self) -> ConfState {
        let mut state = ConfState::default();
        state.set_voters(self.voters.iter().copied().collect());
        state.set_learners(self.learners.iter().copied().collect());
        state
    }

    pub(crate) fn from_raft(state: &ConfState) -> Membership {
        Membership {
            voters: state.get_voters().iter().copied().collect(),
            learners: state.get_learners().iter().copied().collect(),
        }
    }
}

/// One change of the membership. They are made one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A new voter, or a learner that becomes one.
    AddVoter(u64),
    /// A new learner.
    AddLearner(u64),
    /// Whoever it was, it takes no part any more.
    Remove(u64),
}

impl Change {
    /// The member it is about.
    pub fn id(self) -> u64 {
        match self {
            Change::AddVoter(id) | Change::AddLearner(id) | Change::Remove(id) => id,
        }
    }

    /// As the data of an entry, with what was proposed beside it.
    pub(crate) fn encode(self, beside: Bytes) -> Result<Bytes, String> {
        let mut encoded = self.to_raft();
        encoded.context = beside;
        // The encoder fails on uninitialised messages only, of which this version of protobuf has none.
        encoded.write_to_bytes().map(Bytes::from).map_err(|error| error.to_string())
    }

    pub(crate) fn to_raft(self) -> ConfChange {
        let kind = match self {
            Change::AddVoter(_) => ConfChangeType::AddNode,
            Change::AddLearner(_) => ConfChangeType::AddLearnerNode,
            Change::Remove(_) => ConfChangeType::RemoveNode,
        };
        let mut change = ConfChange::default();
        change.set_change_type(kind);
        change.node_id = self.id();
        change
    }

    pub(crate) fn from_raft(change: &ConfChange) -> Change {
        match change.get_change_type() {
            ConfChangeType::AddNode => Change::AddVoter(change.node_id),
            ConfChangeType::AddLearnerNode => Change::AddLearner(change.node_id),
            ConfChangeType::RemoveNode => Change::Remove(change.node_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_go_to_the_library_and_back() {
        for change in [Change::AddVoter(3), Change::AddLearner(4), Change::Remove(5)] {
            assert_eq!(Change::from_raft(&change.to_raft()), change);
        }
        let membership = Membership { voters: [1, 2].into(), learners: [3].into() };
        assert_eq!(Membership::from_raft(&membership.to_raft()), membership);
        assert!(membership.contains(3) && !membership.contains(4) && !membership.is_only_voter(1));
        assert!(Membership::of_voters([7]).is_only_voter(7));
    }
}
