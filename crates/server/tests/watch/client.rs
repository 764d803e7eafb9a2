//! A client of the Watch call that checks what comes.

use stentor_proto::etcdserverpb::watch_client::WatchClient;
use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use stentor_proto::mvccpb::Event;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::ledger::{Ledger, NOBODY, Seen};
use crate::harness::{PATIENCE, Rig};

/// One stream as a client has it; dropping `requests` half-closes it.
pub(crate) struct Watching {
    pub(crate) requests: Option<mpsc::UnboundedSender<WatchRequest>>,
    responses: Streaming<WatchResponse>,
    pub(crate) ledger: Ledger,
}

impl Watching {
    pub(crate) async fn open(channel: Channel) -> Watching {
        Watching::open_with(channel, |_| ()).await.unwrap()
    }

    pub(crate) async fn open_with(
        channel: Channel,
        prepare: impl FnOnce(&mut Request<UnboundedReceiverStream<WatchRequest>>),
    ) -> Result<Watching, Status> {
        let (requests, receiver) = mpsc::unbounded_channel();
        let mut request = Request::new(UnboundedReceiverStream::new(receiver));
        prepare(&mut request);
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let responses = client.watch(request).await?.into_inner();
        Ok(Watching { requests: Some(requests), responses, ledger: Ledger::default() })
    }

    pub(crate) fn ask(&mut self, request: RequestUnion) {
        self.ledger.sent(&request);
        self.send(Some(request));
    }

    /// Sends anything, or nothing.
    pub(crate) fn send(&self, request_union: Option<RequestUnion>) {
        self.requests.as_ref().unwrap().send(WatchRequest { request_union }).unwrap();
    }

    pub(crate) fn create(&mut self, request: WatchCreateRequest) {
        self.ask(RequestUnion::CreateRequest(request));
    }

    pub(crate) fn cancel(&mut self, watch_id: i64) {
        self.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }

    pub(crate) fn progress(&mut self) {
        self.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    /// The next response, or how the stream ended.
    pub(crate) async fn next(&mut self) -> Result<WatchResponse, Status> {
        let next = timeout(PATIENCE, self.responses.message()).await;
        let response = next.expect("nothing came")?.expect("the stream ended without a status");
        self.ledger.took(&response);
        Ok(response)
    }

    /// The next response, on a stream that must not end.
    pub(crate) async fn response(&mut self) -> WatchResponse {
        self.next().await.unwrap()
    }

    /// Creates a watcher, whose answer must be the next response; its id.
    pub(crate) async fn watch(&mut self, request: WatchCreateRequest) -> i64 {
        self.create(request);
        let created = self.response().await;
        assert!(created.created && !created.canceled, "{created:?}");
        created.watch_id
    }

    /// Reads until a condition on what came holds.
    pub(crate) async fn until(&mut self, mut condition: impl FnMut(&Ledger) -> bool) {
        while !condition(&self.ledger) {
            self.response().await;
        }
    }

    /// Reads until a watcher has got an event at this revision or above.
    pub(crate) async fn until_revision(&mut self, id: i64, revision: i64) {
        self.until(|ledger| ledger.watchers.get(&id).is_some_and(|seen| seen.last() >= revision)).await;
    }

    /// Reads until a watcher is cancelled; the compacted revision that it is told.
    pub(crate) async fn until_compacted(&mut self, id: i64) -> i64 {
        self.until(|ledger| ledger.watchers.get(&id).is_some_and(|seen| seen.cancel.is_some())).await;
        let cancel = self.seen(id).cancel.as_ref().unwrap();
        assert_eq!(cancel.cancel_reason, "", "a cancel by compaction gives no reason");
        assert_ne!(cancel.compact_revision, 0, "{cancel:?}");
        cancel.compact_revision
    }

    /// Asks for progress and reads on to the answer: everything due has come; its revision.
    pub(crate) async fn settle(&mut self) -> i64 {
        self.progress();
        loop {
            let response = self.response().await;
            if response.watch_id == NOBODY && !response.created {
                return response.header.unwrap().revision;
            }
        }
    }

    /// Events until there are so many, as (watcher, revision).
    pub(crate) async fn events(&mut self, count: usize) -> Vec<(i64, i64)> {
        let mut events = Vec::new();
        while events.len() < count {
            let response = self.response().await;
            let revisions = response.events.iter().filter_map(|e| e.kv.as_ref()).map(|kv| kv.mod_revision);
            events.extend(revisions.map(|revision| (response.watch_id, revision)));
        }
        events
    }

    pub(crate) fn seen(&self, id: i64) -> &Seen {
        self.ledger.watchers.get(&id).unwrap()
    }

    pub(crate) fn revisions(&self, id: i64) -> Vec<i64> {
        self.seen(id).revisions()
    }
}

/// Every event from a revision on, with previous values.
pub(crate) async fn history(rig: &Rig, first: i64) -> Vec<Event> {
    let newest = rig.revision();
    let mut watching = Watching::open(rig.channel()).await;
    let id = watching.watch(WatchCreateRequest { prev_kv: true, ..from(first, everything()) }).await;
    if newest >= first.max(2) {
        watching.until_revision(id, newest).await;
    }
    watching.ledger.watchers.remove(&id).unwrap().events
}

pub(crate) fn key(key: impl Into<Vec<u8>>) -> WatchCreateRequest {
    WatchCreateRequest { key: key.into().into(), ..WatchCreateRequest::default() }
}

pub(crate) fn range(start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) -> WatchCreateRequest {
    WatchCreateRequest { range_end: end.into().into(), ..key(start) }
}

pub(crate) fn everything() -> WatchCreateRequest {
    range([0], [0])
}

pub(crate) fn from(start_revision: i64, request: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest { start_revision, ..request }
}

pub(crate) fn with_prev_kv(request: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest { prev_kv: true, ..request }
}

pub(crate) fn with_notes(request: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest { progress_notify: true, ..request }
}

/// The value of one series of the member's metrics.
pub(crate) fn metric(rig: &Rig, name: &str) -> u64 {
    let text = rig.metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).expect(name);
    line.parse::<f64>().unwrap() as u64
}

pub(crate) const WATCHERS: &str = "etcd_debugging_mvcc_watcher_total";
pub(crate) const STREAMS: &str = "etcd_debugging_mvcc_watch_stream_total";
pub(crate) const SENT_BYTES: &str = "etcd_network_client_grpc_sent_bytes_total";
pub(crate) const RECEIVED_BYTES: &str = "etcd_network_client_grpc_received_bytes_total";
pub(crate) const SLOW_WATCHERS: &str = "etcd_debugging_mvcc_slow_watcher_total";
