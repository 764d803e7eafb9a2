use prost::Message;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use stentor_proto::mvccpb::KeyValue;

use super::*;
use crate::clients::Work;
use crate::scan::Answer;
use crate::wire::Keys;

fn turn(number: u64) -> Turn {
    Turn { number, client: number as usize % 3, start: 0x0102_0304_0506_0708 }
}

fn decoded<M: Message + Default>(work: &impl Work, turn: Turn) -> M {
    decoded_bytes(&work.request(turn))
}

fn decoded_bytes<M: Message + Default>(bytes: &[u8]) -> M {
    assert_eq!(bytes[0], 0, "not compressed");
    assert_eq!(u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize, bytes.len() - 5);
    M::decode(&bytes[5..]).unwrap()
}

fn answer(work: &impl Work, messages: &[impl Message]) -> Answer {
    let mut answer = Answer::default();
    for message in messages {
        answer.calls += 1;
        work.read(&message.encode_to_vec(), &mut answer).unwrap();
    }
    answer
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

fn range(pairs: usize, count: i64) -> RangeResponse {
    RangeResponse { header: header(7), kvs: vec![KeyValue::default(); pairs], more: pairs as i64 != count, count }
}

fn keys() -> Keys {
    Keys::new("k/", 1_050, 16)
}

#[test]
fn puts_carry_their_key_and_when_they_were_due() {
    let work = Puts::in_turn(keys(), 64).unwrap();
    let put: PutRequest = decoded(&work, turn(1_051));
    assert_eq!(put.key, keys().get(1), "around and around");
    assert_eq!((put.value.len(), &put.value[..8]), (64, &[8, 7, 6, 5, 4, 3, 2, 1][..]));
    assert!(work.is_right(turn(0), &answer(&work, &[PutResponse { header: header(2), prev_kv: None }])));
    assert!(!work.is_right(turn(0), &Answer::default()), "no revision");
    let random = Puts::random(keys(), 64).unwrap();
    let at = |n| decoded::<PutRequest>(&random, turn(n)).key;
    assert_eq!(at(5), at(5), "every run has the same sequence");
    let distinct: std::collections::BTreeSet<_> = (0..1_000).map(at).collect();
    assert!(distinct.len() > 500, "{}", distinct.len());
}

#[test]
fn a_delete_must_delete_once() {
    let work = Deletes::new(&keys()).unwrap();
    let delete: DeleteRangeRequest = decoded(&work, turn(12));
    assert_eq!((delete.key.to_vec(), delete.range_end.is_empty()), (keys().get(12), true));
    let deleted = |deleted| answer(&work, &[DeleteRangeResponse { header: header(9), deleted, prev_kvs: Vec::new() }]);
    assert!(work.is_right(turn(12), &deleted(1)));
    assert!(!work.is_right(turn(12), &deleted(0)));
    assert!(work.is_right(turn(1_062), &deleted(0)), "all are gone in the second turn");
}

#[test]
fn a_get_must_find_its_key() {
    for serializable in [false, true] {
        let work = Gets::new(&keys(), serializable).unwrap();
        let get: RangeRequest = decoded(&work, turn(3));
        assert_eq!((get.serializable, get.range_end.is_empty()), (serializable, true));
        assert!(get.key.starts_with(b"k/") && get.key.len() == 16, "{:?}", get.key);
        assert!(work.is_right(turn(3), &answer(&work, &[range(1, 1)])));
        assert!(!work.is_right(turn(3), &answer(&work, &[range(0, 0)])));
    }
}

#[test]
fn a_page_must_be_as_long_as_what_is_left_allows() {
    let work = Pages::new(&keys(), 1_000).unwrap();
    let (mut whole, mut short) = (0, 0);
    for number in 0..200 {
        let page: RangeRequest = decoded(&work, turn(number));
        let first: u64 = std::str::from_utf8(&page.key[2..]).unwrap().parse().unwrap();
        assert_eq!((page.limit, page.range_end.to_vec()), (1_000, b"k0".to_vec()));
        let left = 1_050 - first;
        let right = range(left.min(1_000) as usize, left as i64);
        assert!(work.is_right(turn(number), &answer(&work, &[right])));
        assert!(!work.is_right(turn(number), &answer(&work, &[range(999, left as i64)])) || left == 999);
        *(if left >= 1_000 { &mut whole } else { &mut short }) += 1;
    }
    assert!(whole > 0 && short > 0, "{whole}, {short}");
}

#[test]
fn a_count_must_be_of_all() {
    let work = Counts::new(&keys());
    let count: RangeRequest = decoded(&work, turn(0));
    assert!(count.count_only && count.key == b"k/"[..] && count.range_end == b"k0"[..]);
    assert!(work.is_right(turn(0), &answer(&work, &[range(0, 1_050)])));
    assert!(!work.is_right(turn(0), &answer(&work, &[range(0, 1_049)])));
}

#[test]
fn pagination_goes_on_at_the_first_revision_until_all_came() {
    let work = Paginate::new(keys(), 500);
    let first: RangeRequest = decoded(&work, turn(0));
    assert_eq!((first.revision, first.limit, first.key.to_vec()), (0, 500, keys().get(0)));
    let mut pages = vec![range(500, 1_050)];
    let next: RangeRequest = decoded_bytes(&work.more(turn(0), &answer(&work, &pages)).unwrap());
    assert_eq!((next.revision, next.key.to_vec()), (7, keys().get(500)));
    pages.push(range(500, 550));
    let last: RangeRequest = decoded_bytes(&work.more(turn(0), &answer(&work, &pages)).unwrap());
    assert_eq!(last.key, keys().get(1_000));
    let mut lost = pages.clone();
    pages.push(range(50, 50));
    assert!(work.more(turn(0), &answer(&work, &pages)).is_none());
    assert!(work.is_right(turn(0), &answer(&work, &pages)));
    lost.push(range(49, 50));
    assert!(work.more(turn(0), &answer(&work, &lost)).is_none(), "a server that loses keys must not keep us for ever");
    assert!(!work.is_right(turn(0), &answer(&work, &lost)));
}

#[test]
fn a_streamed_range_is_the_sum_of_its_messages() {
    let work = Streamed::new(&keys());
    let whole: RangeRequest = decoded(&work, turn(0));
    assert_eq!((whole.key.to_vec(), whole.limit), (b"k/".to_vec(), 0));
    let part = |pairs| RangeStreamResponse { range_response: Some(range(pairs, 1_050)) };
    assert!(work.is_right(turn(0), &answer(&work, &[part(1_000), part(50)])));
    assert!(!work.is_right(turn(0), &answer(&work, &[part(1_000), part(49)])));
}

#[test]
fn a_swap_compares_with_what_its_client_wrote_last() {
    let work = CompareAndSwap::new("cas/", 3, 32).unwrap();
    let revision = |number| {
        let txn: TxnRequest = decoded(&work, turn(number));
        let Some(Request::RequestPut(put)) = &txn.success[0].request else { panic!("no put") };
        let Some(Request::RequestRange(get)) = &txn.failure[0].request else { panic!("no get") };
        assert!(put.key == txn.compare[0].key && get.key == put.key);
        txn.compare[0].target_union.clone()
    };
    use stentor_proto::etcdserverpb::compare::TargetUnion::ModRevision;
    assert_eq!(revision(1), Some(ModRevision(0)), "it is not there yet");
    let done = |succeeded| answer(&work, &[TxnResponse { header: header(8), succeeded, responses: Vec::new() }]);
    assert!(work.is_right(turn(1), &done(true)));
    assert_eq!(revision(4), Some(ModRevision(8)), "the same client");
    assert_eq!(revision(2), Some(ModRevision(0)), "another");
    assert!(!work.is_right(turn(4), &done(false)));
}

fn put_keys(txn: &TxnRequest) -> Vec<Vec<u8>> {
    let key = |op: &stentor_proto::etcdserverpb::RequestOp| match &op.request {
        Some(Request::RequestPut(put)) => put.key.to_vec(),
        other => panic!("{other:?}"),
    };
    txn.success.iter().map(key).collect()
}

#[test]
fn a_transaction_of_many_puts_has_each_key_once() {
    let work = Multi::new(&keys(), 10, 32).unwrap();
    for number in 0..500 {
        let keys = put_keys(&decoded(&work, turn(number)));
        assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), 10, "{number}");
    }
    assert!(Multi::new(&Keys::new("k", 5, 8), 10, 32).is_err());
}

#[test]
fn filling_puts_every_key_once() {
    for count in [1, 99, 100, 101, 1_050] {
        let keys = Keys::new("k/", count, 16);
        let work = Fill::new(&keys, 16).unwrap();
        let filled: Vec<_> = (0..work.transactions()).flat_map(|n| put_keys(&decoded(&work, turn(n)))).collect();
        assert_eq!(filled, (0..count).map(|n| keys.get(n)).collect::<Vec<_>>(), "{count}");
    }
}

#[test]
fn leases_are_granted_and_kept_by_their_ids() {
    let grants = Grants::from(1_000);
    let grant: LeaseGrantRequest = decoded(&grants, turn(5));
    assert_eq!(grant.id, 1_005);
    let granted = |id, ttl| LeaseGrantResponse { header: header(1), id, ttl, error: String::new() };
    assert!(grants.is_right(turn(5), &answer(&grants, &[granted(1_005, grant.ttl)])));
    assert!(!grants.is_right(turn(5), &answer(&grants, &[granted(1_006, grant.ttl)])));
    let keep = KeepAlive::of(1_000, 4);
    let kept: LeaseKeepAliveRequest = decoded(&keep, turn(5));
    assert_eq!(kept.id, 1_001, "around and around");
    assert!(keep.is_right(turn(5), &answer(&keep, &[granted(1_001, grant.ttl)])));
    assert!(!keep.is_right(turn(5), &answer(&keep, &[granted(1_001, 0)])), "it has ended");
}
