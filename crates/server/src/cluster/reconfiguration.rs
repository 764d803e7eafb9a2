//! Which changes of the members are made: etcd's rules against losing the majority by mistake.
//!
//! A member counts as *started* once it has told its name.

use stentor_mvcc::Members;
use stentor_proto::EtcdError;
use stentor_proto::storagepb::member_change::Change as MemberChange;
use stentor_proto::storagepb::{LogEntry, log_entry::Op};
use stentor_raft::{Change, Follower};

/// A learner has caught up once it has so much of what the leader has: nine tenths.
const READY: (u64, u64) = (9, 10);

/// What an entry changes of who takes part in the log.
pub(crate) fn change_of(entry: &LogEntry) -> Option<Change> {
    let Some(Op::Member(change)) = &entry.op else { return None };
    match change.change.as_ref()? {
        MemberChange::Add(member) if member.is_learner => Some(Change::AddLearner(member.id)),
        MemberChange::Add(member) => Some(Change::AddVoter(member.id)),
        MemberChange::Remove(id) => Some(Change::Remove(*id)),
        MemberChange::Promote(id) => Some(Change::AddVoter(*id)),
        MemberChange::UpdatePeerUrls(_) | MemberChange::Publish(_) => None,
    }
}

/// Whether a voter may be added.
///
/// # Errors
/// `MemberNotEnoughStarted`, if those that have started would be no majority with one more; `Unhealthy`, if one
/// of the voters is not there.
pub(crate) fn may_add(members: &Members, is_active: impl Fn(u64) -> bool) -> Result<(), EtcdError> {
    let (voters, started) = (members.voters().count(), started(members, None));
    // One that is alone may always get a second.
    let is_first = voters == 1 && started == 1;
    if !is_first && started < majority(voters + 1) {
        return Err(EtcdError::MemberNotEnoughStarted);
    }
    if members.voters().all(is_active) { Ok(()) } else { Err(EtcdError::Unhealthy) }
}

/// Whether a member may be removed.
///
/// # Errors
/// `MemberNotEnoughStarted` and `Unhealthy`, if those that are left would be no majority.
pub(crate) fn may_remove(members: &Members, id: u64, is_active: impl Fn(u64) -> bool) -> Result<(), EtcdError> {
    if members.get(id).is_none_or(|member| member.is_learner) {
        return Ok(());
    }
    let voters = members.voters().count();
    if started(members, Some(id)) < majority(voters - 1) {
        return Err(EtcdError::MemberNotEnoughStarted);
    }
    // One that is down is no part of the majority anyway.
    let active = members.voters().filter(|voter| is_active(*voter)).count();
    if is_active(id) && active.saturating_sub(1) < majority(voters - 1) {
        return Err(EtcdError::Unhealthy);
    }
    Ok(())
}

/// Whether a learner may become a voter; `followers` are those of the leader, which has committed `committed`.
///
/// # Errors
/// `MemberNotFound`, `MemberNotLearner`, `LearnerNotReady`, `MemberNotEnoughStarted`.
pub(crate) fn may_promote(
    members: &Members,
    id: u64,
    committed: u64,
    followers: &[Follower],
    strict: bool,
) -> Result<(), EtcdError> {
    let member = members.get(id).ok_or(EtcdError::MemberNotFound)?;
    if !member.is_learner {
        return Err(EtcdError::MemberNotLearner);
    }
    let matched = followers.iter().find(|f| f.id == id && f.recent).map_or(0, |f| f.matched);
    if matched.saturating_mul(READY.1) < committed.saturating_mul(READY.0) {
        return Err(EtcdError::LearnerNotReady);
    }
    let voters = members.voters().count();
    // It counts as started itself: it has caught up.
    let is_enough = started(members, None) + 1 >= majority(voters + 1);
    if strict && !is_enough { Err(EtcdError::MemberNotEnoughStarted) } else { Ok(()) }
}

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

fn started(members: &Members, without: Option<u64>) -> usize {
    let is_started = |member: &&stentor_proto::storagepb::MemberRecord| {
        !member.is_learner && !member.name.is_empty() && Some(member.id) != without
    };
    members.iter().filter(is_started).count()
}

#[cfg(test)]
mod tests {
    use stentor_mvcc::Store;
    use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
    use stentor_proto::storagepb::MemberRecord;

    use super::*;

    /// Voters by whether they have started, and a learner 9.
    fn members(started: &[bool]) -> Members {
        let store = Store::open(MemoryEngine::open(&Disk::new()).unwrap(), Default::default()).unwrap();
        let name = |started: bool| if started { "m".to_owned() } else { String::new() };
        let voters = (1..).zip(started).map(|(id, s)| MemberRecord { id, name: name(*s), ..Default::default() });
        let learner = MemberRecord { id: 9, is_learner: true, ..MemberRecord::default() };
        store.set_members(&voters.chain([learner]).collect::<Vec<_>>()).unwrap();
        store.view().members().clone()
    }

    #[test]
    fn a_voter_is_added_to_a_majority_that_is_there() {
        let unfit = Err(EtcdError::MemberNotEnoughStarted);
        assert_eq!(may_add(&members(&[true]), |_| true), Ok(()));
        assert_eq!(may_add(&members(&[true, false]), |_| true), unfit);
        assert_eq!(may_add(&members(&[true, true]), |_| true), Ok(()));
        assert_eq!(may_add(&members(&[true, true, false]), |_| true), unfit);
        assert_eq!(may_add(&members(&[true, true, true]), |id| id != 2), Err(EtcdError::Unhealthy));
    }

    #[test]
    fn the_majority_is_not_removed() {
        assert_eq!(may_remove(&members(&[true, true, true]), 1, |_| true), Ok(()));
        assert_eq!(may_remove(&members(&[true, true, true]), 1, |id| id != 2), Err(EtcdError::Unhealthy));
        assert_eq!(may_remove(&members(&[true, true, true]), 2, |id| id != 2), Ok(()), "it is down");
        assert_eq!(may_remove(&members(&[true, true]), 1, |id| id != 2), Err(EtcdError::Unhealthy));
        let unfit = Err(EtcdError::MemberNotEnoughStarted);
        assert_eq!(may_remove(&members(&[true, false]), 1, |_| true), unfit);
        assert_eq!(may_remove(&members(&[true, false]), 2, |_| true), Ok(()));
        assert_eq!(may_remove(&members(&[true]), 1, |_| true), unfit);
        assert_eq!(may_remove(&members(&[true]), 9, |_| false), Ok(()), "learners are no part of it");
    }

    #[test]
    fn a_learner_that_has_caught_up_is_promoted() {
        let members = members(&[true]);
        let follower = |matched, recent| [Follower { id: 9, matched, recent, needs_snapshot: false }];
        let promote = |id, matched, recent| may_promote(&members, id, 100, &follower(matched, recent), true);
        assert_eq!(promote(9, 90, true), Ok(()));
        assert_eq!(promote(9, 89, true), Err(EtcdError::LearnerNotReady));
        assert_eq!(promote(9, 100, false), Err(EtcdError::LearnerNotReady));
        assert_eq!(promote(1, 100, true), Err(EtcdError::MemberNotLearner));
        assert_eq!(promote(7, 100, true), Err(EtcdError::MemberNotFound));
    }
}
