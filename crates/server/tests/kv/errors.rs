//! Errors by exact code and text, and which comes first where several apply.

use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{
    CompactionRequest, HashKvRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use super::{always, delete, op, version_is};
use crate::harness::{Rig, get, put, refused};

#[tokio::test(start_paused = true)]
async fn of_puts() {
    let rig = Rig::start(&[]).await;
    let mut kv = rig.kv();
    let value = |ignore_value, ignore_lease| PutRequest { lease: 5, ignore_value, ignore_lease, ..put("k", "v") };
    let bare = |ignore_value, ignore_lease| PutRequest { ignore_value, ignore_lease, ..put("k", "") };
    // The key first, then the value, then the lease; then what is there.
    refused(kv.put(PutRequest { key: "".into(), ..value(true, true) }).await, EtcdError::EmptyKey);
    refused(kv.put(value(true, true)).await, EtcdError::ValueProvided);
    refused(kv.put(value(false, true)).await, EtcdError::LeaseProvided);
    refused(kv.put(value(false, false)).await, EtcdError::LeaseNotFound);
    refused(kv.put(PutRequest { lease: 5, ..bare(true, false) }).await, EtcdError::LeaseNotFound);
    refused(kv.put(bare(true, false)).await, EtcdError::KeyNotFound);
    refused(kv.put(bare(false, true)).await, EtcdError::KeyNotFound);
    assert_eq!(rig.revision(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_ranges_and_deletes() {
    let rig = Rig::start(&[]).await;
    for n in 2..=5 {
        assert_eq!(rig.put("k", format!("{n}")).await, n);
    }
    let mut kv = rig.kv();
    kv.compact(CompactionRequest { revision: 4, physical: false }).await.unwrap();
    refused(kv.delete_range(delete("")).await, EtcdError::EmptyKey);
    let unsorted = RangeRequest { sort_order: 7, revision: 99, ..get("") };
    refused(kv.range(unsorted.clone()).await, EtcdError::EmptyKey);
    refused(kv.range(RangeRequest { key: "k".into(), ..unsorted }).await, EtcdError::InvalidSortOption);
    refused(kv.range(RangeRequest { sort_target: -1, ..get("k") }).await, EtcdError::InvalidSortOption);
    for serializable in [false, true] {
        let at = |revision| RangeRequest { revision, serializable, ..get("k") };
        refused(kv.range(at(6)).await, EtcdError::FutureRev);
        refused(kv.range(at(3)).await, EtcdError::Compacted);
        assert_eq!(kv.range(at(4)).await.unwrap().into_inner().kvs[0].value, "4");
        assert_eq!(kv.range(at(0)).await.unwrap().into_inner().kvs[0].value, "5");
        assert_eq!(kv.range(at(-7)).await.unwrap().into_inner().kvs[0].value, "5");
        let counted = RangeRequest { count_only: true, ..at(3) };
        refused(kv.range(counted).await, EtcdError::Compacted);
    }
}

#[tokio::test(start_paused = true)]
async fn of_transactions() {
    let rig = Rig::start(&["--max-txn-ops=4"]).await;
    rig.put("k", "v").await;
    rig.put("l", "v").await;
    rig.kv().compact(CompactionRequest { revision: 3, physical: false }).await.unwrap();
    let mut kv = rig.kv();
    let range = |revision| Request::RequestRange(RangeRequest { revision, ..get("k") });
    let put_of = |key: &str| Request::RequestPut(put(key, "v"));
    let empty = RequestOp { request: None };

    // Too many comes before everything else, at each level and in either branch; others just fit.
    let many = |n: usize| (0..n).map(|n| op(put_of(&format!("{n}")))).collect::<Vec<_>>();
    refused(
        kv.txn(TxnRequest { success: vec![empty.clone(); 5], ..TxnRequest::default() }).await,
        EtcdError::TooManyOps,
    );
    refused(kv.txn(TxnRequest { failure: many(5), ..TxnRequest::default() }).await, EtcdError::TooManyOps);
    refused(
        kv.txn(TxnRequest { compare: vec![version_is("", 0); 5], ..TxnRequest::default() }).await,
        EtcdError::TooManyOps,
    );
    // A nested level has what the outer one left.
    let nested = |n| Request::RequestTxn(TxnRequest { success: many(n), ..TxnRequest::default() });
    refused(kv.txn(always(vec![put_of("x"), nested(3)])).await, EtcdError::TooManyOps);
    kv.txn(always(vec![put_of("x"), nested(2)])).await.unwrap();
    let four = TxnRequest { compare: vec![version_is("none", 0); 4], success: many(4), failure: many(4) };
    kv.txn(four).await.unwrap();

    // Then the compares' keys, then each operation by itself, then keys that meet.
    let wrong = TxnRequest { compare: vec![version_is("", 0)], success: vec![empty.clone()], failure: vec![] };
    refused(kv.txn(wrong).await, EtcdError::EmptyKey);
    refused(kv.txn(TxnRequest { success: vec![empty], ..TxnRequest::default() }).await, EtcdError::KeyNotFound);
    refused(kv.txn(always(vec![put_of("x"), put_of("x"), put_of("")])).await, EtcdError::EmptyKey);
    refused(kv.txn(always(vec![put_of("x"), put_of("x")])).await, EtcdError::DuplicateKey);
    refused(kv.txn(always(vec![Request::RequestDeleteRange(delete("x")), put_of("x")])).await, EtcdError::DuplicateKey);
    let ignoring = Request::RequestPut(PutRequest { ignore_value: true, ..put("k", "v") });
    refused(kv.txn(always(vec![ignoring])).await, EtcdError::ValueProvided);

    // What depends on the store: only the branch that runs counts, and a failing one leaves no trace.
    let before = rig.revision();
    let later = |request| always(vec![put_of("trace"), request]);
    refused(kv.txn(later(range(before + 9))).await, EtcdError::FutureRev);
    refused(kv.txn(later(range(2))).await, EtcdError::Compacted);
    refused(kv.txn(later(range(-1))).await, EtcdError::Compacted);
    let leased = Request::RequestPut(PutRequest { lease: 9, ..put("m", "v") });
    refused(kv.txn(later(leased.clone())).await, EtcdError::LeaseNotFound);
    let missing = Request::RequestPut(PutRequest { ignore_lease: true, ..put("none", "") });
    refused(kv.txn(later(missing)).await, EtcdError::KeyNotFound);
    refused(kv.txn(always(vec![range(2)])).await, EtcdError::Compacted);
    assert_eq!((rig.revision(), rig.list("trace").await.count), (before, 0));
    let other_branch = TxnRequest { failure: vec![op(leased), op(range(2))], ..later(range(0)) };
    assert_eq!(kv.txn(other_branch).await.unwrap().into_inner().header.unwrap().revision, before + 1);
}

#[tokio::test(start_paused = true)]
async fn of_compactions_hashes_and_leases() {
    let rig = Rig::start(&[]).await;
    let mut kv = rig.kv();
    let compact = |revision| CompactionRequest { revision, physical: false };
    refused(kv.compact(compact(-1)).await, EtcdError::Compacted);
    refused(kv.compact(compact(2)).await, EtcdError::FutureRev);
    for n in 2..=4 {
        assert_eq!(rig.put("k", "").await, n);
    }
    // Never compacted, a store can be compacted at 0 once.
    assert_eq!(kv.compact(compact(0)).await.unwrap().into_inner().header.unwrap().revision, 4);
    refused(kv.compact(compact(0)).await, EtcdError::Compacted);
    kv.compact(compact(3)).await.unwrap();
    refused(kv.compact(compact(3)).await, EtcdError::Compacted);
    refused(kv.compact(compact(2)).await, EtcdError::Compacted);
    kv.compact(compact(4)).await.unwrap();
    refused(kv.compact(compact(5)).await, EtcdError::FutureRev);
    let mut maintenance = rig.maintenance();
    refused(maintenance.hash_kv(HashKvRequest { revision: 5 }).await, EtcdError::FutureRev);
    refused(maintenance.hash_kv(HashKvRequest { revision: 3 }).await, EtcdError::Compacted);
    refused(rig.lease().lease_revoke(LeaseRevokeRequest { id: 1 }).await, EtcdError::LeaseNotFound);
}
