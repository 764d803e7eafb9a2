use std::sync::Arc;

use stentor_proto::etcdserverpb::watch_client::WatchClient;
use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::raw::call::stub;
use crate::raw::connection::Connection;
use crate::raw::{Error, Result};

/// Opens watch streams; see [`Client::watch`](crate::raw::Client::watch).
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    connection: &'a Arc<Connection>,
}

/// One stream, which carries any number of watchers. It ends with its connection and does not resume:
/// whoever reads it keeps the next revision of each watcher and opens another. Dropping it ends all its
/// watchers.
#[derive(Debug)]
pub struct WatchStream {
    connection: Arc<Connection>,
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

/// Requests queued before a sender waits.
const QUEUE: usize = 64;

impl<'a> Watch<'a> {
    pub(crate) fn new(connection: &'a Arc<Connection>) -> Watch<'a> {
        Watch { connection }
    }

    /// Opens a stream and creates its first watcher. The answer to the creation is the first response.
    ///
    /// # Errors
    /// See [`Error`]. A refusal of the watcher itself is no error but a response: created and canceled,
    /// with the reason.
    pub async fn open(self, first: WatchCreateRequest) -> Result<WatchStream> {
        let (requests, queue) = mpsc::channel(QUEUE);
        // In the queue before the call starts: some servers send no headers before the first request.
        let first = WatchRequest { request_union: Some(RequestUnion::CreateRequest(first)) };
        requests.send(first).await.map_err(|_| Error::Protocol("the request queue is closed"))?;
        let request = self.connection.request(ReceiverStream::new(queue));
        let mut stub = stub!(WatchClient<_>, self.connection);
        let answer = stub.watch(request).await.map_err(|s| self.connection.error(&s))?;
        Ok(WatchStream { connection: self.connection.clone(), requests, responses: answer.into_inner() })
    }
}

impl WatchStream {
    /// Adds a watcher.
    ///
    /// # Errors
    /// [`Error::Connection`] when the stream has ended; [`next`](Self::next) says why.
    pub async fn create(&self, request: WatchCreateRequest) -> Result<()> {
        self.send(RequestUnion::CreateRequest(request)).await
    }

    /// Ends a watcher. Responses already on their way still come, then one with `canceled`.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn cancel(&self, watch_id: i64) -> Result<()> {
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })).await
    }

    /// Asks for a progress note, which comes with id -1.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub async fn request_progress(&self) -> Result<()> {
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await
    }

    /// The next response; `None` when the server has ended the stream. Cancel safe.
    ///
    /// # Errors
    /// See [`Error`]; afterwards the stream is of no more use.
    pub async fn next(&mut self) -> Result<Option<WatchResponse>> {
        self.connection.next(&mut self.responses).await
    }

    async fn send(&self, request: RequestUnion) -> Result<()> {
        let request = WatchRequest { request_union: Some(request) };
        self.requests.send(request).await.map_err(|_| Error::Connection {
            endpoint: self.connection.endpoint.to_string(),
            reason: "the watch stream has ended".to_owned(),
        })
    }
}
