//! Messages and writes that are too large.

use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{DeleteRangeRequest, RangeRequest, TxnRequest};
use tonic::{Code, Response, Status};

use super::always;
use crate::harness::{Rig, get, put, refused};

const OVERHEAD: usize = 512 << 10;

/// gRPC's own refusal, as Go writes it.
#[track_caller]
fn too_large<T: std::fmt::Debug>(result: Result<Response<T>, Status>, found: usize, limit: usize) {
    let status = result.expect_err("a message above the limit");
    let text = format!("grpc: received message larger than max ({found} vs. {limit})");
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, text.as_str()));
}

#[tokio::test(start_paused = true)]
async fn a_message_above_the_limit_is_refused_by_grpc() {
    use prost::Message as _;
    for (flags, max_request) in [(&[][..], 1_572_864), (&["--max-request-bytes=1000"][..], 1000)] {
        let rig = Rig::start(flags).await;
        let limit = max_request + OVERHEAD;
        for more in [1, 100_000] {
            let key = "k".repeat(limit + more);
            let mut kv = rig.kv();
            // One that the generated stub takes in, and those with a way of their own.
            let request = put(&key, "");
            too_large(kv.put(request.clone()).await, request.encoded_len(), limit);
            let request = get(&key);
            too_large(kv.range(request.clone()).await, request.encoded_len(), limit);
            too_large(kv.range_stream(request.clone()).await, request.encoded_len(), limit);
            let request = DeleteRangeRequest { key: key.clone().into(), ..DeleteRangeRequest::default() };
            too_large(kv.delete_range(request.clone()).await, request.encoded_len(), limit);
            let request: TxnRequest = always(vec![Request::RequestRange(get(&key))]);
            too_large(kv.txn(request.clone()).await, request.encoded_len(), limit);
        }
        // A read just below it has no other limit.
        let none = rig.kv().range(RangeRequest { ..get(&"k".repeat(limit - 100)) }).await.unwrap().into_inner();
        assert_eq!(none.count, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_above_the_limit_is_refused_by_the_server() {
    let rig = Rig::start(&["--max-request-bytes=10000"]).await;
    let mut kv = rig.kv();
    kv.put(put("fits", vec![b'v'; 9_900])).await.unwrap();
    refused(kv.put(put("k", vec![b'v'; 10_000])).await, EtcdError::RequestTooLarge);
    let halves = always(vec![
        Request::RequestPut(put("a", vec![b'v'; 6_000])),
        Request::RequestPut(put("b", vec![b'v'; 6_000])),
    ]);
    refused(kv.txn(halves).await, EtcdError::RequestTooLarge);
    let long = DeleteRangeRequest { key: "k".repeat(10_000).into(), ..DeleteRangeRequest::default() };
    refused(kv.delete_range(long).await, EtcdError::RequestTooLarge);
    assert_eq!(rig.revision(), 2);
    // Reads are no writes, and answers have no limit.
    for n in 0..20 {
        rig.put(&format!("many/{n:02}"), vec![b'v'; 9_000]).await;
    }
    assert_eq!(rig.list("many/").await.kvs.len(), 20);
    let read = always(vec![Request::RequestRange(get(&"k".repeat(20_000)))]);
    assert!(kv.txn(read).await.unwrap().into_inner().succeeded);
}
