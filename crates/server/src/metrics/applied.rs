//! What an applied write, or a transaction that was read, counts for.

use stentor_mvcc::Answer;
use stentor_proto::etcdserverpb::TxnResponse;
use stentor_proto::etcdserverpb::response_op::Response;

use super::Handles;

/// Operations that ran.
#[derive(Debug, Default)]
struct Ran {
    ranges: u64,
    puts: u64,
    deletes: u64,
}

impl Ran {
    fn add(&mut self, txn: &TxnResponse) {
        for op in &txn.responses {
            match &op.response {
                Some(Response::ResponseRange(_)) => self.ranges += 1,
                Some(Response::ResponsePut(_)) => self.puts += 1,
                Some(Response::ResponseDeleteRange(_)) => self.deletes += 1,
                Some(Response::ResponseTxn(nested)) => self.add(nested),
                None => {}
            }
        }
    }
}

impl Handles {
    /// Counts what a write did.
    pub(crate) fn count_applied(&self, answer: &Answer) {
        match answer {
            Answer::Put(_) => {
                self.mvcc.put.inc();
            }
            Answer::DeleteRange(_) => {
                self.mvcc.delete.inc();
            }
            Answer::Txn(txn) => self.count_txn(txn),
            Answer::LeaseGrant(_) => {
                self.lease.granted.inc();
            }
            Answer::LeaseRevoke { deleted, .. } => {
                self.lease.revoked.inc();
                self.mvcc.delete.inc_by(*deleted);
            }
            _ => {}
        }
    }

    /// Counts the operations of a transaction that ran; only one with several counts as a transaction,
    /// as etcd has it.
    pub(crate) fn count_txn(&self, txn: &TxnResponse) {
        let mut ran = Ran::default();
        ran.add(txn);
        self.mvcc.range.inc_by(ran.ranges);
        self.mvcc.put.inc_by(ran.puts);
        self.mvcc.delete.inc_by(ran.deletes);
        if ran.ranges + ran.puts + ran.deletes > 1 {
            self.mvcc.txn.inc();
        }
    }
}
