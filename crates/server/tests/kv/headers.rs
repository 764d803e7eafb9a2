//! Who answers, and at which revision.

use stentor_proto::etcdserverpb::auth_client::AuthClient;
use stentor_proto::etcdserverpb::cluster_client::ClusterClient;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::response_op::Response;
use stentor_proto::etcdserverpb::{
    AlarmRequest, AuthStatusRequest, DefragmentRequest, DeleteRangeRequest, DowngradeRequest, HashKvRequest,
    MemberListRequest, RangeRequest, ResponseHeader, StatusRequest,
};

use super::{always, delete};
use crate::harness::{Rig, get, prefixed, put};

#[tokio::test(start_paused = true)]
async fn every_answer_names_cluster_member_term_and_revision() {
    let rig = Rig::start(&["--stentor-cluster-id=0xc1", "--stentor-member-id=0xa1"]).await;
    let header = |revision| Some(ResponseHeader { cluster_id: 0xc1, member_id: 0xa1, revision, raft_term: 2 });
    let mut kv = rig.kv();
    assert_eq!(kv.range(get("a")).await.unwrap().into_inner().header, header(1));
    assert_eq!(kv.put(put("a", "1")).await.unwrap().into_inner().header, header(2));
    assert_eq!(kv.put(put("b", "1")).await.unwrap().into_inner().header, header(3));
    // A read of an old revision is told the newest; a write that changes nothing too.
    let old = RangeRequest { revision: 2, ..prefixed("a") };
    assert_eq!(kv.range(old).await.unwrap().into_inner().header, header(3));
    let nothing = kv.delete_range(delete("none")).await.unwrap().into_inner();
    assert_eq!((nothing.header, nothing.deleted), (header(3), 0));
    let deleted = DeleteRangeRequest { prev_kv: true, ..delete("b") };
    let deleted = kv.delete_range(deleted).await.unwrap().into_inner();
    assert_eq!((deleted.header, deleted.prev_kvs.len()), (header(4), 1));
    let read = kv.txn(always(vec![Request::RequestRange(get("a"))])).await.unwrap().into_inner();
    assert_eq!(read.header, header(4));
    let status = rig.maintenance().status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.header, status.storage_version.as_str()), (header(4), "3.7.0"));
    assert_eq!(rig.maintenance().alarm(AlarmRequest::default()).await.unwrap().into_inner().header, header(4));
    let hash = rig.maintenance().hash_kv(HashKvRequest { revision: 2 }).await.unwrap().into_inner();
    assert_eq!(hash.header, header(2), "the revision hashed");
    assert_eq!(rig.maintenance().defragment(DefragmentRequest {}).await.unwrap().into_inner().header, None);
    let auth = AuthClient::new(rig.channel()).auth_status(AuthStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((auth.header, auth.enabled, auth.auth_revision), (header(4), false, 1));
    for linearizable in [false, true] {
        let mut cluster = ClusterClient::new(rig.channel());
        let list = cluster.member_list(MemberListRequest { linearizable }).await.unwrap().into_inner();
        assert_eq!(list.header, header(0));
        assert_eq!(list.members[0].id, 0xa1);
    }
    // Ids stay, the term goes up.
    let rig = rig.restart().await;
    let after = rig.kv().range(get("a")).await.unwrap().into_inner().header.unwrap();
    assert_eq!((after.cluster_id, after.member_id, after.revision), (0xc1, 0xa1, 4));
    let term = after.raft_term;
    assert!(term >= 2);
    rig.put("c", "").await;
    let rig = rig.crash().await;
    let after = rig.kv().range(get("a")).await.unwrap().into_inner().header.unwrap();
    assert!(after.raft_term > term && after.revision == 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_built_is_named() {
    let rig = Rig::start(&[]).await;
    let refused = rig.maintenance().downgrade(DowngradeRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
    assert!(refused.message().contains("Maintenance.Downgrade"), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn random_ids_stay_over_restarts() {
    let rig = Rig::start(&[]).await;
    let before = rig.list("a").await.header.unwrap();
    assert!(before.cluster_id != 0 && before.member_id != 0 && before.cluster_id != before.member_id);
    let rig = rig.crash().await;
    let after = rig.list("a").await.header.unwrap();
    assert_eq!((after.cluster_id, after.member_id), (before.cluster_id, before.member_id));
}

/// Answers inside a transaction carry the revision alone; a nested one's header is empty.
#[tokio::test(start_paused = true)]
async fn inner_headers_of_a_transaction() {
    let rig = Rig::start(&[]).await;
    rig.put("a", "1").await;
    let nested = always(vec![Request::RequestPut(put("c", "1")), Request::RequestRange(get("c"))]);
    let txn = always(vec![
        Request::RequestRange(get("a")),
        Request::RequestPut(put("b", "1")),
        Request::RequestDeleteRange(delete("a")),
        Request::RequestTxn(nested),
    ]);
    let answer = rig.kv().txn(txn).await.unwrap().into_inner();
    assert_eq!(answer.header.unwrap().revision, 3);
    assert!(answer.succeeded);
    let inner = |response: &Response| match response {
        Response::ResponseRange(r) => r.header,
        Response::ResponsePut(r) => r.header,
        Response::ResponseDeleteRange(r) => r.header,
        Response::ResponseTxn(r) => r.header,
    };
    let responses: Vec<_> = answer.responses.into_iter().map(|r| r.response.unwrap()).collect();
    let revision = |revision| Some(ResponseHeader { revision, ..ResponseHeader::default() });
    let headers: Vec<_> = responses.iter().map(inner).collect();
    // A read within sees the revision that its transaction makes, from its first change on.
    assert_eq!(headers, [revision(2), revision(3), revision(3), Some(ResponseHeader::default())]);
    let Some(Response::ResponseTxn(nested)) = responses.last() else { panic!("{responses:?}") };
    let nested: Vec<_> = nested.responses.iter().map(|r| inner(r.response.as_ref().unwrap())).collect();
    assert_eq!(nested, [revision(3), revision(3)]);
}
