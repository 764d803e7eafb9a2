//! An answer in the form in which two servers' answers are compared: ids and terms taken out, lease
//! ids that a server chose replaced by numbers that both share.

use std::collections::HashMap;

use stentor_proto::etcdserverpb::response_op::Response as OpAnswer;
use stentor_proto::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, HashKvResponse, LeaseGrantResponse, LeaseKeepAliveResponse,
    LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse, PutResponse, RangeResponse, ResponseHeader,
    TxnResponse,
};
use stentor_proto::mvccpb::{Event, KeyValue};

use crate::stream::WatchAnswer;

/// One server's answer to one request.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub(crate) enum Answer {
    Range(RangeResponse),
    /// The chunks joined: all pairs, and the header, count and more of the last.
    RangeStream(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactionResponse),
    Grant(LeaseGrantResponse),
    Revoke(LeaseRevokeResponse),
    TimeToLive(LeaseTimeToLiveResponse),
    Leases(LeaseLeasesResponse),
    KeepAlive(LeaseKeepAliveResponse),
    HashKv(HashKvResponse),
    /// The lease and its keys are gone; the revision then.
    Expired(i64),
    /// The answers on a watch stream, in order.
    Watch(Vec<WatchAnswer>),
    /// A failure: the code's number and the text.
    Failed {
        code: i32,
        text: String,
    },
}

/// The first of the numbers that stand for the ids that servers choose.
pub(crate) const CHOSEN: i64 = 0x4000_0000_0000_0000;

/// The ids that one server chose, in the order of its grants.
#[derive(Default)]
pub(crate) struct LeaseIds {
    chosen: Vec<i64>,
    numbers: HashMap<i64, i64>,
}

impl LeaseIds {
    /// Takes note of an id that the server chose.
    pub(crate) fn chose(&mut self, id: i64) {
        self.numbers.insert(id, CHOSEN + self.chosen.len() as i64);
        self.chosen.push(id);
    }

    /// The server's id for a shared one.
    pub(crate) fn to_server(&self, id: i64) -> i64 {
        let number = id.checked_sub(CHOSEN).and_then(|n| usize::try_from(n).ok());
        number.and_then(|n| self.chosen.get(n)).copied().unwrap_or(id)
    }

    /// The shared id for the server's.
    pub(crate) fn to_shared(&self, id: i64) -> i64 {
        self.numbers.get(&id).copied().unwrap_or(id)
    }

    /// Replaces the ids of a pair.
    pub(crate) fn share_pair(&self, pair: &mut KeyValue) {
        pair.lease = self.to_shared(pair.lease);
    }

    /// Replaces the ids of an event.
    pub(crate) fn share_event(&self, event: &mut Event) {
        event.kv.iter_mut().chain(&mut event.prev_kv).for_each(|pair| self.share_pair(pair));
    }
}

impl Answer {
    /// The answer with its ids and terms taken out and lease ids replaced.
    pub(crate) fn shared(mut self, leases: &LeaseIds) -> Answer {
        match &mut self {
            Answer::Range(range) | Answer::RangeStream(range) => share_range(range, leases),
            Answer::Put(put) => share_put(put, leases),
            Answer::DeleteRange(delete) => share_delete(delete, leases),
            Answer::Txn(txn) => share_txn(txn, leases),
            Answer::Compact(answer) => blank(&mut answer.header),
            Answer::Grant(answer) => {
                blank(&mut answer.header);
                answer.id = leases.to_shared(answer.id);
            }
            Answer::Revoke(answer) => blank(&mut answer.header),
            Answer::TimeToLive(answer) => {
                blank(&mut answer.header);
                answer.id = leases.to_shared(answer.id);
                answer.keys.sort();
            }
            Answer::Leases(answer) => {
                blank(&mut answer.header);
                answer.leases.iter_mut().for_each(|lease| lease.id = leases.to_shared(lease.id));
                answer.leases.sort_by_key(|lease| lease.id);
            }
            Answer::KeepAlive(answer) => {
                blank(&mut answer.header);
                answer.id = leases.to_shared(answer.id);
            }
            // The hash itself is each implementation's own.
            Answer::HashKv(answer) => {
                blank(&mut answer.header);
                answer.hash = 0;
            }
            Answer::Expired(_) | Answer::Watch(_) | Answer::Failed { .. } => {}
        }
        self
    }

    /// The header's revision, where the answer has one.
    pub(crate) fn revision(&self) -> Option<i64> {
        let header = match self {
            Answer::Range(answer) | Answer::RangeStream(answer) => answer.header,
            Answer::Put(answer) => answer.header,
            Answer::DeleteRange(answer) => answer.header,
            Answer::Txn(answer) => answer.header,
            Answer::Compact(answer) => answer.header,
            Answer::Grant(answer) => answer.header,
            Answer::Revoke(answer) => answer.header,
            Answer::TimeToLive(answer) => answer.header,
            Answer::Leases(answer) => answer.header,
            Answer::KeepAlive(answer) => answer.header,
            Answer::Expired(revision) => return Some(*revision),
            // Its header tells the revision that was hashed.
            Answer::HashKv(_) | Answer::Watch(_) | Answer::Failed { .. } => None,
        };
        header.map(|header| header.revision)
    }
}

/// Keeps of the ids and the term only whether they are set.
fn blank(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        header.cluster_id = header.cluster_id.min(1);
        header.member_id = header.member_id.min(1);
        header.raft_term = header.raft_term.min(1);
    }
}

fn share_pairs(pairs: &mut [KeyValue], leases: &LeaseIds) {
    pairs.iter_mut().for_each(|pair| leases.share_pair(pair));
}

fn share_range(range: &mut RangeResponse, leases: &LeaseIds) {
    blank(&mut range.header);
    share_pairs(&mut range.kvs, leases);
}

fn share_put(put: &mut PutResponse, leases: &LeaseIds) {
    blank(&mut put.header);
    put.prev_kv.iter_mut().for_each(|pair| leases.share_pair(pair));
}

fn share_delete(delete: &mut DeleteRangeResponse, leases: &LeaseIds) {
    blank(&mut delete.header);
    share_pairs(&mut delete.prev_kvs, leases);
}

fn share_txn(txn: &mut TxnResponse, leases: &LeaseIds) {
    blank(&mut txn.header);
    for answer in &mut txn.responses {
        match &mut answer.response {
            Some(OpAnswer::ResponseRange(range)) => share_range(range, leases),
            Some(OpAnswer::ResponsePut(put)) => share_put(put, leases),
            Some(OpAnswer::ResponseDeleteRange(delete)) => share_delete(delete, leases),
            Some(OpAnswer::ResponseTxn(txn)) => share_txn(txn, leases),
            None => {}
        }
    }
}
