//! Who the members of the cluster are: part of the store, so that at every place of the log it is the same
//! everywhere, and goes with every snapshot for a member.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;
use stentor_proto::EtcdError;
use stentor_proto::storagepb::member_change::Change;
use stentor_proto::storagepb::{MemberChange, MemberRecord};

use crate::engine::{Batch, Durability, Family};
use crate::group::Group;
use crate::{Error, Store, meta};

/// The members of a cluster, and the ids that were members.
///
/// ```
/// use stentor_mvcc::{Store, engine::memory};
/// use stentor_proto::storagepb::MemberRecord;
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// assert!(store.view().members().is_empty());
/// store.set_members(&[MemberRecord { id: 7, name: "a".into(), ..Default::default() }])?;
/// let view = store.view();
/// assert_eq!(view.members().get(7).map(|member| &member.name[..]), Some("a"));
/// assert!(view.members().voters().eq([7]) && !view.members().is_removed(7));
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    by_id: BTreeMap<u64, MemberRecord>,
    removed: BTreeSet<u64>,
}

impl Members {
    pub(crate) fn new(members: Vec<MemberRecord>, removed: BTreeSet<u64>) -> Members {
        Members { by_id: members.into_iter().map(|member| (member.id, member)).collect(), removed }
    }

    /// There are none: nothing was ever said of them.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// A member.
    pub fn get(&self, id: u64) -> Option<&MemberRecord> {
        self.by_id.get(&id)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &MemberRecord> {
        self.by_id.values()
    }

    /// The ids of those that vote, in order.
    pub fn voters(&self) -> impl Iterator<Item = u64> + '_ {
        self.iter().filter(|member| !member.is_learner).map(|member| member.id)
    }

    /// The ids of those that do not, in order.
    pub fn learners(&self) -> impl Iterator<Item = u64> + '_ {
        self.iter().filter(|member| member.is_learner).map(|member| member.id)
    }

    /// Whether a member had this id, and was removed.
    pub fn is_removed(&self, id: u64) -> bool {
        self.removed.contains(&id)
    }

    /// The ids of those that were removed, in order.
    pub fn removed(&self) -> impl Iterator<Item = u64> + '_ {
        self.removed.iter().copied()
    }

    /// Whether a change can be made.
    ///
    /// ```
    /// use stentor_mvcc::Members;
    /// use stentor_proto::EtcdError;
    /// use stentor_proto::storagepb::{MemberChange, member_change::Change};
    /// let remove = MemberChange { change: Some(Change::Remove(7)), ..Default::default() };
    /// assert_eq!(Members::default().check(&remove), Err(EtcdError::MemberNotFound));
    /// ```
    ///
    /// # Errors
    /// etcd's: `MemberExist`, `PeerURLExist`, `TooManyLearners`, `MemberNotFound`, `MemberNotLearner`,
    /// `MemberNotEnoughStarted` for the removal of the last voter.
    pub fn check(&self, change: &MemberChange) -> Result<(), EtcdError> {
        match &change.change {
            Some(Change::Add(member)) => {
                if member.id == 0 || self.by_id.contains_key(&member.id) || self.is_removed(member.id) {
                    return Err(EtcdError::MemberExist);
                }
                self.check_urls(member)?;
                let learners = self.learners().count();
                if member.is_learner && learners >= change.max_learners as usize {
                    return Err(EtcdError::TooManyLearners);
                }
                Ok(())
            }
            Some(Change::Remove(id)) => {
                self.find(*id)?;
                // Nobody would be left to decide anything.
                if self.voters().eq([*id]) { Err(EtcdError::MemberNotEnoughStarted) } else { Ok(()) }
            }
            Some(Change::Promote(id)) => match self.find(*id)?.is_learner {
                true => Ok(()),
                false => Err(EtcdError::MemberNotLearner),
            },
            Some(Change::UpdatePeerUrls(member)) => self.find(member.id).and_then(|_| self.check_urls(member)),
            Some(Change::Publish(member)) => self.find(member.id).map(drop),
            None => Ok(()),
        }
    }

    fn find(&self, id: u64) -> Result<&MemberRecord, EtcdError> {
        self.get(id).ok_or(EtcdError::MemberNotFound)
    }

    fn check_urls(&self, member: &MemberRecord) -> Result<(), EtcdError> {
        let mut others = self.iter().filter(|other| other.id != member.id);
        let is_taken = others.any(|other| other.peer_urls.iter().any(|url| member.peer_urls.contains(url)));
        if is_taken { Err(EtcdError::PeerURLExist) } else { Ok(()) }
    }

    /// Makes a checked change; the member that it changed, or what is left of it.
    fn make(&mut self, change: &MemberChange) -> Option<(u64, Option<MemberRecord>)> {
        let id = match change.change.as_ref()? {
            Change::Add(member) => {
                self.by_id.insert(member.id, member.clone());
                member.id
            }
            Change::Remove(id) => {
                self.by_id.remove(id);
                self.removed.insert(*id);
                *id
            }
            Change::Promote(id) => {
                self.by_id.get_mut(id)?.is_learner = false;
                *id
            }
            Change::UpdatePeerUrls(new) => {
                self.by_id.get_mut(&new.id)?.peer_urls.clone_from(&new.peer_urls);
                new.id
            }
            Change::Publish(new) => {
                let member = self.by_id.get_mut(&new.id)?;
                member.name.clone_from(&new.name);
                member.client_urls.clone_from(&new.client_urls);
                new.id
            }
        };
        Some((id, self.by_id.get(&id).cloned()))
    }
}

impl Store {
    /// Says who the members are before the first entry of the log, or in the place of what it led to: then
    /// those that are not named any more count as removed.
    ///
    /// # Errors
    /// Engine errors.
    pub fn set_members(&self, members: &[MemberRecord]) -> Result<(), Error> {
        self.publish_members(|base| {
            let mut batch = Batch::default();
            let mut removed = base.members.removed.clone();
            for id in base.members.by_id.keys().filter(|id| !members.iter().any(|member| member.id == **id)) {
                batch.delete(Family::Meta, meta::member_key(*id));
                batch.put(Family::Meta, meta::removed_member_key(*id), &[][..]);
                removed.insert(*id);
            }
            // Whoever is named is there, whatever was before.
            for id in members.iter().map(|member| member.id).filter(|id| removed.remove(id)) {
                batch.delete(Family::Meta, meta::removed_member_key(id));
            }
            for member in members {
                batch.put(Family::Meta, meta::member_key(member.id), member.encode_to_vec());
            }
            base.engine.write(batch, Durability::Synced)?;
            // It comes from no log: an engine without one must not keep it in memory alone.
            base.engine.flush()?;
            Ok(Members::new(members.to_vec(), removed))
        })
    }
}

impl Group<'_> {
    /// Changes who the members are; the answer is all of them.
    pub(crate) fn change_members(&mut self, change: &MemberChange) -> Result<Vec<MemberRecord>, EtcdError> {
        self.members.check(change)?;
        match Arc::make_mut(&mut self.members).make(change) {
            Some((id, Some(member))) => self.meta.put(Family::Meta, meta::member_key(id), member.encode_to_vec()),
            Some((id, None)) => {
                self.meta.delete(Family::Meta, meta::member_key(id));
                self.meta.put(Family::Meta, meta::removed_member_key(id), &[][..]);
            }
            None => {}
        }
        Ok(self.members.iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use stentor_proto::storagepb::{LogEntry, log_entry::Op};

    use super::*;
    use crate::engine::memory::{Disk, MemoryEngine};
    use crate::snapshot::{RestoreOptions, restore};
    use crate::{Answer, LogPosition};

    fn member(id: u64, url: &str, is_learner: bool) -> MemberRecord {
        MemberRecord { id, peer_urls: vec![url.to_owned()], is_learner, ..MemberRecord::default() }
    }

    fn apply(store: &Store, change: Change) -> Result<usize, EtcdError> {
        let op = Op::Member(MemberChange { change: Some(change), max_learners: 1 });
        let index = store.view().applied().index + 1;
        let entry = LogEntry { op: Some(op), ..LogEntry::default() };
        let outcome = store.apply(&[entry], LogPosition { term: 1, index }).unwrap().remove(0);
        outcome.map(|answer| if let Answer::Members(members) = answer { members.len() } else { 0 })
    }

    fn open(disk: &Disk) -> Store {
        Store::open(MemoryEngine::open(disk).unwrap(), Default::default()).unwrap()
    }

    #[test]
    fn members_come_and_go_and_ids_never_come_back() {
        let disk = Disk::new();
        let store = open(&disk);
        store.set_members(&[member(1, "a", false)]).unwrap();
        assert_eq!(apply(&store, Change::Add(member(1, "b", false))), Err(EtcdError::MemberExist));
        assert_eq!(apply(&store, Change::Add(member(0, "b", false))), Err(EtcdError::MemberExist));
        assert_eq!(apply(&store, Change::Add(member(2, "a", false))), Err(EtcdError::PeerURLExist));
        assert_eq!(apply(&store, Change::Remove(1)), Err(EtcdError::MemberNotEnoughStarted));
        assert_eq!(apply(&store, Change::Add(member(2, "b", true))), Ok(2));
        assert_eq!(apply(&store, Change::Add(member(3, "c", true))), Err(EtcdError::TooManyLearners));
        assert_eq!(
            apply(&store, Change::Remove(1)),
            Err(EtcdError::MemberNotEnoughStarted),
            "a learner decides nothing"
        );
        assert_eq!(apply(&store, Change::Promote(1)), Err(EtcdError::MemberNotLearner));
        assert_eq!(apply(&store, Change::Promote(9)), Err(EtcdError::MemberNotFound));
        assert_eq!(apply(&store, Change::Promote(2)), Ok(2));
        assert_eq!(apply(&store, Change::UpdatePeerUrls(member(2, "a", false))), Err(EtcdError::PeerURLExist));
        assert_eq!(apply(&store, Change::UpdatePeerUrls(member(2, "d", true))), Ok(2));
        let named = MemberRecord { name: "two".into(), client_urls: vec!["u".into()], ..member(2, "ignored", true) };
        assert_eq!(apply(&store, Change::Publish(named)), Ok(2));
        assert_eq!(apply(&store, Change::Publish(member(9, "z", false))), Err(EtcdError::MemberNotFound));
        assert_eq!(apply(&store, Change::Remove(1)), Ok(1));
        assert_eq!(apply(&store, Change::Add(member(1, "a", false))), Err(EtcdError::MemberExist));

        let members = store.view().members().clone();
        assert!(members.is_removed(1));
        let two = MemberRecord { name: "two".into(), client_urls: vec!["u".into()], ..member(2, "d", false) };
        assert_eq!(members.iter().collect::<Vec<_>>(), [&two]);
        assert!(members.removed().eq([1]));
        drop(store);
        let store = open(&disk);
        assert_eq!(store.view().members(), &members, "it is on disk");
        // From outside of the log one can be brought back, in the place of all others.
        store.set_members(&[member(1, "a", false)]).unwrap();
        let alone = store.view().members().clone();
        assert!(alone.voters().eq([1]) && alone.removed().eq([2]));
        drop(store);
        assert_eq!(open(&disk).view().members(), &alone);
    }

    #[test]
    fn only_a_members_snapshot_has_them() {
        let store = open(&Disk::new());
        store.set_members(&[member(1, "a", false), member(2, "b", true)]).unwrap();
        store.set_members(&[member(1, "a", false)]).unwrap();
        for of_member in [false, true] {
            let reader = if of_member { store.member_snapshot("t") } else { store.snapshot("t") };
            let mut reader = reader.unwrap();
            let mut bytes = Vec::new();
            while let Some(chunk) = reader.next_chunk(1 << 20).unwrap() {
                bytes.extend_from_slice(&chunk);
            }
            let disk = Disk::new();
            let engine = MemoryEngine::open(&disk).unwrap();
            restore(&mut &bytes[..], &engine, &RestoreOptions::default()).unwrap();
            let found = Store::open(engine, Default::default()).unwrap().view();
            let (all, none) = (store.view(), Members::default());
            assert_eq!(found.members(), if of_member { all.members() } else { &none });
        }
    }
}
