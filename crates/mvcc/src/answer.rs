use stentor_proto::etcdserverpb::{DeleteRangeResponse, PutResponse, TxnResponse};
use stentor_proto::{EtcdError, Revision};

use crate::alarm::Alarm;

/// What came of a log entry: an answer, or the reason for which it was refused and left no trace.
pub type Outcome = Result<Answer, EtcdError>;

/// The answer to a log entry. Headers carry the revision alone; who answers fills in the rest.
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
    /// To an entry of a later version, which did nothing.
    Nothing,
}
