//! Who a member is, and who the others are: how that begins, and how it changes.

mod bootstrap;
mod ids;
mod join;
mod reconfiguration;

use stentor_mvcc::Members;
use stentor_raft::Membership;

pub(crate) use self::bootstrap::begin;
#[cfg(all(feature = "binary", feature = "rocksdb"))]
pub(crate) use self::bootstrap::{RestoredError, begin_restored};
pub(crate) use self::ids::member_id;
pub use self::join::{JoinError, Joined, join};
pub(crate) use self::reconfiguration::{change_of, may_add, may_promote, may_remove};

/// Who takes part in the log, as the store has it.
pub(crate) fn membership(members: &Members) -> Membership {
    Membership { voters: members.voters().collect(), learners: members.learners().collect() }
}
