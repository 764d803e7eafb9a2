use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use stentor_mvcc::{ChangeId, Error, Record};
use stentor_proto::mvccpb::KeyValue;
use stentor_proto::{EtcdError, Revision};

use crate::chunk::{Builder, Chunk};
use crate::history::{History, Moment};
use crate::watcher::Key;

/// A bounded piece of reading from history that a stream needs before it can go on. It may read from disk:
/// run it where that disturbs nobody, and give the result to [`crate::WatchStream::read_done`].
#[must_use = "the stream waits for it"]
pub struct Read {
    pub(crate) history: Arc<dyn History>,
    pub(crate) chunk_bytes: usize,
    pub(crate) what: What,
}

pub(crate) enum What {
    /// A chunk of changes.
    Changes { for_whom: ForWhom, from: Revision, to: Revision },
    /// What the keys of these changes of a chunk were before, for a watcher, or for the rest of a response.
    Previous { watcher: Option<Key>, chunk: Arc<Chunk>, positions: Vec<u32> },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ForWhom {
    Group,
    One(Key),
    /// The rest of a response.
    Large,
}

/// What a [`Read`] found.
#[must_use = "the stream waits for it"]
pub struct ReadDone {
    pub(crate) what: Found,
}

pub(crate) enum Found {
    Changes { for_whom: ForWhom, from: Revision, result: Result<Option<Chunk>, ReadFailure> },
    Previous { watcher: Option<Key>, chunk: Arc<Chunk>, result: Result<Vec<(ChangeId, Option<Bytes>)>, ReadFailure> },
}

/// Why a watcher can't get an event.
#[derive(Clone, Debug)]
pub(crate) enum ReadFailure {
    /// It is compacted, at this revision.
    Compacted(Revision),
    /// It can't be read.
    Failed(String),
}

impl From<Error> for ReadFailure {
    fn from(error: Error) -> ReadFailure {
        ReadFailure::Failed(error.to_string())
    }
}

impl Read {
    /// Reads; blocks while the disk does.
    pub fn run(self) -> ReadDone {
        let now = self.history.now();
        let what = match self.what {
            What::Changes { for_whom, from, to } => {
                Found::Changes { for_whom, from, result: read_chunk(&*now, from, to, self.chunk_bytes) }
            }
            What::Previous { watcher, chunk, positions } => {
                let records = positions.iter().filter_map(|&at| chunk.get(at));
                let result = records.map(|record| {
                    let previous = previous(&*now, record)?;
                    Ok((record.id, previous.map(|pair| pair.encode_to_vec().into())))
                });
                let result = result.collect();
                Found::Previous { watcher, chunk, result }
            }
        };
        ReadDone { what }
    }
}

/// The changes from `from` on, at most up to `to`; `None` if history does not reach so far.
fn read_chunk(now: &dyn Moment, from: Revision, to: Revision, max_bytes: usize) -> Result<Option<Chunk>, ReadFailure> {
    if let Some(compacted) = now.compacted().filter(|&compacted| from < compacted) {
        return Err(ReadFailure::Compacted(compacted));
    }
    let to = to.min(now.revision());
    if from > to {
        return Ok(None);
    }
    let mut builder = Builder::new(from, max_bytes);
    now.changes(from, to, &mut |record| {
        if builder.push(record) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(Some(builder.finish(to)))
}

/// What the key of a change was at the end of the revision before: never silently nothing.
fn previous(now: &dyn Moment, record: &Record) -> Result<Option<KeyValue>, ReadFailure> {
    let at = record.id.revision.previous();
    let found = now.pair_at(record.key(), at);
    let Some(compacted) = now.compacted().filter(|&compacted| record.id.revision < compacted) else {
        return Ok(found?);
    };
    // Below the compacted revision history may have forgotten the pair, in whole. There was one: the
    // change would not have superseded anything else.
    match found {
        Ok(Some(pair)) => Ok(Some(pair)),
        Ok(None) | Err(Error::Record { .. } | Error::Refused(EtcdError::Compacted)) => {
            Err(ReadFailure::Compacted(compacted))
        }
        Err(error) => Err(error.into()),
    }
}
