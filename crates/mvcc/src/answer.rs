use stentor_proto::etcdserverpb::{DeleteRangeResponse, PutResponse, TxnResponse};
use stentor_proto::storagepb::MemberRecord;
use stentor_proto::{EtcdError, Revision};

use crate::alarm::Alarm;

/// What came of a log entry: an answer, or the reason for which it was refused and left no trace.
///
/// ```
/// use stentor_mvcc::{LogPosition, Outcome, Store, engine::memory};
/// use stentor_proto::EtcdError;
/// use stentor_proto::etcdserverpb::CompactionRequest;
/// use stentor_proto::storagepb::{LogEntry, log_entry::Op};
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// let beyond = Op::Compact(CompactionRequest { revision: 100, ..Default::default() });
/// let entry = LogEntry { op: Some(beyond), ..Default::default() };
/// let outcomes: Vec<Outcome> = store.apply(&[entry], LogPosition { term: 1, index: 1 })?;
/// assert_eq!(outcomes, [Err(EtcdError::FutureRev)]);
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
pub type Outcome = Result<Answer, EtcdError>;

/// The answer to a log entry. Headers carry the revision alone; who answers fills in the rest.
///
/// ```
/// use stentor_mvcc::{Answer, Store, engine::memory};
/// use stentor_proto::Revision;
/// use stentor_proto::etcdserverpb::LeaseGrantRequest;
/// use stentor_proto::storagepb::log_entry::Op;
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// let granted = store.execute(Op::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 60 }))?;
/// // A grant makes no revision.
/// assert_eq!(granted, Answer::LeaseGrant(Revision::FIRST));
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// To a put.
    Put(PutResponse),
    /// To a delete.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction: the store's revision.
    Compact(Revision),
    /// To a lease's grant: the store's revision.
    LeaseGrant(Revision),
    /// To a lease's end.
    LeaseRevoke {
        /// The revision that deleted its keys, or the store's if it had none.
        revision: Revision,
        /// How many keys it had.
        deleted: u64,
    },
    /// To a change of alarms: those that were raised or lifted by it.
    Alarm(Vec<Alarm>),
    /// To a change of the members: all of them.
    Members(Vec<MemberRecord>),
    /// To an entry of a later version, which did nothing.
    Nothing,
}
