//! A whole store on its way to a member that the log alone can't bring up. Its memory is bounded: the store is
//! read as fast as it is taken.

use std::sync::Arc;

use async_stream::stream;
use bytes::Bytes;
use futures::Stream;
use stentor_mvcc::snapshot::SnapshotReader;
use stentor_proto::peerpb::peer_client::PeerClient;
use stentor_proto::peerpb::{RaftMessage, SnapshotRequest};
use stentor_raft::Message;
use tonic::Status;
use tracing::{info, warn};

use super::Shared;
use crate::cluster::membership;
use crate::replication::{Event, position};
use crate::version;

/// Bytes of the store in one request.
const CHUNK_BYTES: usize = 256 << 10;

/// Sends the store as it is now, and tells the driver how that went.
pub(super) async fn send(shared: Arc<Shared>, to: u64, urls: Vec<String>, message: Message) {
    let member = format!("{to:x}");
    let mut delivered = false;
    for url in &urls {
        match try_send(&shared, to, url, message.clone()).await {
            Ok(index) => {
                info!(member, index, "the store was sent to a member");
                delivered = true;
                break;
            }
            Err(error) => warn!(member, url, error = error.message(), "the store can't be sent to a member"),
        }
    }
    // Without a driver there is nobody to tell.
    let _ = shared.parts.events.send(Event::SnapshotSent(to, delivered)).await;
}

async fn try_send(shared: &Arc<Shared>, to: u64, url: &str, mut message: Message) -> Result<u64, Status> {
    let parts = &shared.parts;
    let channel = parts.environment.dialer.channel(url)?;
    let (store, workers) = (parts.store.clone(), parts.environment.workers);
    let begun = workers.blocking(move || store.member_snapshot(version::STENTOR_VERSION)).await;
    let reader = begun.map_err(|e| Status::unavailable(e.to_string()))?.map_err(internal)?;
    // The store may have gone on since the message was made: both must agree.
    let view = reader.view();
    let applied = position(view.applied());
    message.set_snapshot(applied, &membership(view.members()));
    let first = message.to_wire().map_err(|e| Status::internal(e.to_string()))?;
    info!(member = format!("{to:x}"), bytes = reader.total_len(), index = applied.index, "sending the store");
    let requests = requests(shared.clone(), to, first, reader);
    PeerClient::new(channel).snapshot(requests).await?;
    Ok(applied.index)
}

/// The store in pieces. It ends early if it can't be read, which the receiver notices.
fn requests(
    shared: Arc<Shared>,
    to: u64,
    first: RaftMessage,
    mut reader: SnapshotReader,
) -> impl Stream<Item = SnapshotRequest> + Send {
    let workers = shared.parts.environment.workers;
    stream! {
        yield SnapshotRequest { sender: Some(shared.sender(to)), message: Some(first), chunk: Bytes::new() };
        loop {
            let step = workers.blocking(move || {
                let chunk = reader.next_chunk(CHUNK_BYTES);
                (reader, chunk)
            });
            let Ok((rest, chunk)) = step.await else { return };
            reader = rest;
            match chunk {
                Ok(Some(chunk)) => yield SnapshotRequest { chunk, ..SnapshotRequest::default() },
                Ok(None) => return,
                Err(error) => {
                    warn!(%error, "the store can't be read to its end");
                    return;
                }
            }
        }
    }
}

fn internal(error: stentor_mvcc::Error) -> Status {
    Status::internal(error.to_string())
}
