//! What may differ between any two right answers: the order of sort ties, the seconds left of a lease, and
//! by how much a request is too large that names a lease.

use bytes::Bytes;
use stentor_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use stentor_proto::etcdserverpb::request_op::Request as Op;
use stentor_proto::etcdserverpb::response_op::Response as OpAnswer;
use stentor_proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use stentor_proto::mvccpb::KeyValue;

use super::answer::Answer;
use super::request::Request;

/// Seconds by which two servers' remaining TTLs may differ.
const TTL_TOLERANCE: i64 = 3;

/// Bytes by which two forms of a request may differ: a lease that a server chose has its own id there, which
/// takes nine or ten bytes, and in one transaction several may stand.
const LENGTH_TOLERANCE: u64 = 16;

/// How the refusal of a message begins that is too large; its length and the limit follow.
const TOO_LARGE: &str = "grpc: received message larger than max (";

/// Makes equal what may differ in two answers to `request`.
pub(crate) fn settle(request: &Request, left: &mut Answer, right: &mut Answer) {
    match (left, right) {
        (Answer::TimeToLive(left), Answer::TimeToLive(right)) => {
            if left.ttl >= 0 && right.ttl >= 0 && left.ttl.abs_diff(right.ttl) <= TTL_TOLERANCE as u64 {
                right.ttl = left.ttl;
            }
        }
        (Answer::Failed { text: left, .. }, Answer::Failed { text: right, .. }) => settle_lengths(left, right),
        (left, right) => for_ranges(request, left, right, &mut settle_ties),
    }
}

/// Of two refusals of a message that is too large, makes equal the lengths, unless they are far apart.
fn settle_lengths(left: &str, right: &mut String) {
    let length = |text: &str| {
        let (length, limit) = text.strip_prefix(TOO_LARGE)?.split_once(' ')?;
        Some((length.parse::<u64>().ok()?, limit.to_owned()))
    };
    let (Some(of_left), Some(of_right)) = (length(left), length(right)) else { return };
    if of_left.1 == of_right.1 && of_left.0.abs_diff(of_right.0) <= LENGTH_TOLERANCE {
        left.clone_into(right);
    }
}

/// Calls `visit` with every range of the request and both answers to it, in transactions too.
pub(crate) fn for_ranges(
    request: &Request,
    left: &mut Answer,
    right: &mut Answer,
    visit: &mut impl FnMut(&RangeRequest, &mut RangeResponse, &mut RangeResponse),
) {
    match (request, left, right) {
        (Request::Range(range), Answer::Range(left), Answer::Range(right)) => visit(range, left, right),
        (Request::RangeStream(range), Answer::RangeStream(left), Answer::RangeStream(right)) => {
            visit(range, left, right);
        }
        (Request::Txn(txn), Answer::Txn(left), Answer::Txn(right)) => in_txn(txn, left, right, visit),
        _ => {}
    }
}

fn in_txn(
    txn: &TxnRequest,
    left: &mut TxnResponse,
    right: &mut TxnResponse,
    visit: &mut impl FnMut(&RangeRequest, &mut RangeResponse, &mut RangeResponse),
) {
    if left.succeeded != right.succeeded {
        return;
    }
    let ops = if left.succeeded { &txn.success } else { &txn.failure };
    for ((op, left), right) in ops.iter().zip(&mut left.responses).zip(&mut right.responses) {
        match (&op.request, &mut left.response, &mut right.response) {
            (
                Some(Op::RequestRange(range)),
                Some(OpAnswer::ResponseRange(left)),
                Some(OpAnswer::ResponseRange(right)),
            ) => visit(range, left, right),
            (Some(Op::RequestTxn(txn)), Some(OpAnswer::ResponseTxn(left)), Some(OpAnswer::ResponseTxn(right))) => {
                in_txn(txn, left, right, visit);
            }
            _ => {}
        }
    }
}

/// What a pair is sorted by. Keys have no ties.
fn sorted_by(target: i32, pair: &KeyValue) -> Option<(i64, Bytes)> {
    match SortTarget::try_from(target).ok()? {
        SortTarget::Key => None,
        SortTarget::Version => Some((pair.version, Bytes::new())),
        SortTarget::Create => Some((pair.create_revision, Bytes::new())),
        SortTarget::Mod => Some((pair.mod_revision, Bytes::new())),
        SortTarget::Value => Some((0, pair.value.clone())),
    }
}

/// Brings pairs that tie into key order. Of a tie that the limit cuts, any members are right: the left
/// ones are put in place of the right ones.
fn settle_ties(range: &RangeRequest, left: &mut RangeResponse, right: &mut RangeResponse) {
    if left.kvs == right.kvs || left.kvs.len() != right.kvs.len() {
        return;
    }
    let key = |pair: &KeyValue| sorted_by(range.sort_target, pair);
    if left.kvs.iter().any(|pair| key(pair).is_none()) || left.kvs.iter().map(key).ne(right.kvs.iter().map(key)) {
        return;
    }
    // Sorted by value with values left out, all that is visible ties.
    let descending = range.sort_order == SortOrder::Descend as i32;
    for pairs in [&mut left.kvs, &mut right.kvs] {
        pairs.sort_by(|a, b| {
            let order = key(a).cmp(&key(b));
            (if descending { order.reverse() } else { order }).then_with(|| a.key.cmp(&b.key))
        });
    }
    if left.more && right.more {
        let last = left.kvs.last().map(key);
        let cut = left.kvs.iter().position(|pair| Some(key(pair)) == last).unwrap_or(0);
        for (left, right) in left.kvs.iter().zip(&mut right.kvs).skip(cut) {
            right.clone_from(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &'static str, version: i64) -> KeyValue {
        KeyValue { key: Bytes::from_static(key.as_bytes()), version, ..KeyValue::default() }
    }

    fn settled(more: bool, left: &[KeyValue], right: &[KeyValue]) -> bool {
        let range = RangeRequest {
            sort_target: SortTarget::Version as i32,
            sort_order: SortOrder::Ascend as i32,
            ..RangeRequest::default()
        };
        let answer = |kvs: &[KeyValue]| Answer::Range(RangeResponse { kvs: kvs.to_vec(), more, ..Default::default() });
        let (mut left, mut right) = (answer(left), answer(right));
        settle(&Request::Range(range), &mut left, &mut right);
        left == right
    }

    fn refused_alike(left: &str, right: &str) -> bool {
        let answer = |text: &str| Answer::Failed { code: 8, text: format!("{TOO_LARGE}{text}") };
        let (mut left, mut right) = (answer(left), answer(right));
        settle(&Request::Range(RangeRequest::default()), &mut left, &mut right);
        left == right
    }

    #[test]
    fn a_request_that_is_too_large_may_be_a_little_larger_on_one_side() {
        assert!(refused_alike("2200052 vs. 2097152)", "2200051 vs. 2097152)"));
        assert!(!refused_alike("2200052 vs. 2097152)", "2200000 vs. 2097152)"));
        assert!(!refused_alike("2200052 vs. 2097152)", "2200052 vs. 2097153)"));
        assert!(!refused_alike("2200052 vs. 2097152)", "many"));
    }

    #[test]
    fn ties_may_come_in_any_order() {
        assert!(settled(false, &[pair("a", 1), pair("b", 1)], &[pair("b", 1), pair("a", 1)]));
        assert!(!settled(false, &[pair("a", 1), pair("b", 2)], &[pair("b", 2), pair("a", 1)]));
        assert!(!settled(false, &[pair("a", 1), pair("b", 1)], &[pair("c", 1), pair("a", 1)]));
    }

    #[test]
    fn a_cut_tie_may_hold_any_of_its_members() {
        assert!(settled(true, &[pair("a", 1), pair("b", 2)], &[pair("a", 1), pair("c", 2)]));
        assert!(!settled(true, &[pair("a", 1), pair("b", 2)], &[pair("x", 1), pair("b", 2)]));
    }
}
