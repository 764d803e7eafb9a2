//! A store that comes from another member, on its way to the disk.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use stentor_mvcc::engine::Engine;
use stentor_mvcc::snapshot::{RestoreError, RestoreOptions, Restored, restore};
use stentor_proto::peerpb::SnapshotRequest;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::environment::Workers;

/// Pieces that wait to be written.
const AHEAD: usize = 4;

/// Fills `engine` from what comes in; all of it is on disk when this returns.
pub(super) async fn receive(
    requests: &mut Streaming<SnapshotRequest>,
    engine: Arc<dyn Engine>,
    workers: Workers,
) -> Result<Restored, Status> {
    match workers {
        Workers::Threads => beside(requests, engine).await,
        // One thread does all: it can't wait for what it would have to fetch.
        Workers::Tasks => {
            let mut all = Vec::new();
            while let Some(request) = requests.message().await? {
                all.extend_from_slice(&request.chunk);
            }
            fill(&mut &all[..], &*engine).map_err(refused)
        }
    }
}

async fn beside(requests: &mut Streaming<SnapshotRequest>, engine: Arc<dyn Engine>) -> Result<Restored, Status> {
    let (pieces, incoming) = mpsc::channel(AHEAD);
    let filling = tokio::task::spawn_blocking(move || fill(&mut Pieces { incoming, piece: Bytes::new() }, &*engine));
    let feeding = async {
        while let Some(request) = requests.message().await? {
            // Nobody takes it: why that is, the other side says.
            if pieces.send(Ok(request.chunk)).await.is_err() {
                break;
            }
        }
        Ok::<_, Status>(())
    };
    let fed = feeding.await;
    if fed.is_err() {
        // Else what has come so far might pass for all.
        let _ = pieces.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
    }
    drop(pieces);
    let filled = filling.await.map_err(|_| Status::unavailable("the member is stopping"))?;
    fed?;
    filled.map_err(refused)
}

fn fill(reader: &mut impl Read, engine: &dyn Engine) -> Result<Restored, RestoreError> {
    restore(reader, engine, &RestoreOptions::default())
}

fn refused(error: RestoreError) -> Status {
    Status::internal(format!("the store that was sent can't be used: {error}"))
}

/// Pieces as a stream of bytes, for a thread that may wait.
struct Pieces {
    incoming: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.incoming.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let len = self.piece.len().min(into.len());
        self.piece.copy_to_slice(into.get_mut(..len).unwrap_or_default());
        Ok(len)
    }
}
