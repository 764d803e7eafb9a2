//! A watch stream with one watcher.

use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::client::Client;

/// The answers, and what keeps the stream open.
pub(super) struct Stream {
    answers: Streaming<WatchResponse>,
    _requests: mpsc::Sender<WatchRequest>,
}

impl Stream {
    /// The next answer; none at the stream's end. Cancel safe.
    pub(super) async fn message(&mut self) -> Result<Option<WatchResponse>, Status> {
        self.answers.message().await
    }
}

/// Opens a stream, of which the member is to end if it has no leader or not, and asks for a watch.
pub(super) async fn open(client: &Client, create: WatchCreateRequest, needs_leader: bool) -> Result<Stream, Status> {
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let (requests, to_send) = mpsc::channel(1);
    // The other end is here.
    let _ = requests.try_send(create);
    let mut request = Request::new(ReceiverStream::new(to_send));
    if needs_leader {
        request.metadata_mut().insert("hasleader", "true".parse().map_err(|_| Status::internal("no metadata"))?);
    }
    let answers = client.watch.clone().watch(request).await?.into_inner();
    Ok(Stream { answers, _requests: requests })
}
