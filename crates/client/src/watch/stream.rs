//! One gRPC stream of watch: opened, read to its end, and reported on.

use stentor_proto::etcdserverpb::WatchRequest;
use stentor_proto::etcdserverpb::watch_client::WatchClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::call::{Core, stub};
use crate::endpoint::{Class, Connection, Route};
use crate::fault::Fault;
use crate::watch::hub::Report;

/// A stream to which requests can go.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    /// The number of the token it carries.
    pub(crate) token: u64,
}

/// Opens a stream and reports what comes, until it ends, by a fault, or nobody listens any more. The
/// receiver of requests holds at most what a lane has to send: two for each of its watchers.
pub(crate) async fn follow<E, Fut: Future<Output = Result<(), E>>>(
    core: &Core,
    route: Route,
    refused: Option<u64>,
    requests: mpsc::UnboundedReceiver<WatchRequest>,
    report: impl Fn(Report) -> Fut,
) -> Result<(), Fault> {
    let token = core.auth.token(&core.pool, refused).await?;
    let connection = core.pool.connection_by(Class::Watch, route).await;
    let endpoint = connection.endpoint.clone();
    let called = connection.clone();
    let fault = |status| called.fault(&status);
    let mut request = Request::new(UnboundedReceiverStream::new(requests));
    token.sign(&mut request);
    // A member without a leader would deliver nothing, and say nothing.
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    let mut stub = stub!(WatchClient<_>, connection.channel.clone());
    // Before the answer: a server may send nothing, headers included, before it has had a request.
    if report(Report::Opened(Opened { connection, token: token.number })).await.is_err() {
        return Ok(());
    }
    let mut responses = stub.watch(request).await.map_err(fault)?.into_inner();
    while let Some(response) = responses.message().await.map_err(fault)? {
        if report(Report::Response(response)).await.is_err() {
            return Ok(());
        }
    }
    Err(Fault::Connection { endpoint: endpoint.to_string(), reason: "the server ended the stream".to_owned() })
}
