//! Writes for watchers to see.

use bytes::Bytes;
use futures::future::join_all;
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use tonic::transport::Channel;

use crate::harness::{Rig, revision};

/// A client that writes.
#[derive(Clone)]
pub(crate) struct Writer {
    kv: KvClient<Channel>,
}

impl Writer {
    pub(crate) fn new(rig: &Rig) -> Writer {
        Writer { kv: rig.kv() }
    }

    /// The revision of the put.
    pub(crate) async fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> i64 {
        revision(self.kv.put(put_of(key, value)).await.unwrap().into_inner().header)
    }

    /// The revision after the delete, and how many keys it deleted.
    pub(crate) async fn delete(&mut self, key: &str, end: &str) -> (i64, i64) {
        let answer = self.kv.delete_range(delete_of(key, end)).await.unwrap().into_inner();
        (revision(answer.header), answer.deleted)
    }

    /// The revision of a transaction of these operations.
    pub(crate) async fn txn(&mut self, operations: impl IntoIterator<Item = Request>) -> i64 {
        let success = operations.into_iter().map(|request| RequestOp { request: Some(request) }).collect();
        let txn = TxnRequest { success, ..TxnRequest::default() };
        revision(self.kv.txn(txn).await.unwrap().into_inner().header)
    }

    /// Compacts, space and all.
    pub(crate) async fn compact(&mut self, revision: i64) {
        self.kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
    }

    /// Many puts at a time, in no order; the newest revision after them.
    pub(crate) async fn fill(&mut self, puts: impl IntoIterator<Item = (String, Bytes)>) -> i64 {
        let mut puts = puts.into_iter().peekable();
        let mut newest = 0;
        while puts.peek().is_some() {
            let group = puts.by_ref().take(200).map(|(key, value)| {
                let mut kv = self.kv.clone();
                let put = PutRequest { key: key.into(), value, ..PutRequest::default() };
                async move { revision(kv.put(put).await.unwrap().into_inner().header) }
            });
            newest = join_all(group).await.into_iter().fold(newest, i64::max);
        }
        newest
    }

    /// So many values of so many bytes for one key; the newest revision after them.
    pub(crate) async fn bulk(&mut self, key: &str, values: usize, bytes: usize) -> i64 {
        let value = Bytes::from(vec![b'v'; bytes]);
        self.fill((0..values).map(|_| (key.to_owned(), value.clone()))).await
    }
}

pub(crate) fn put_of(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> PutRequest {
    PutRequest { key: key.into().into(), value: value.into().into(), ..PutRequest::default() }
}

pub(crate) fn delete_of(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), prev_kv: false }
}
