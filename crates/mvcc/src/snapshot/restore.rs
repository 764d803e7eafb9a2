//! From a stream to a store.

use std::io::{self, Read};

use bytes::Bytes;
use prost::Message;
use stentor_proto::snapshot::{BLOCK, read_header};
use stentor_proto::storagepb::{Compaction, Progress, SnapshotEnd, SnapshotHeader};

use super::frame::{CHECKSUM, HEAD, Kind, check, parse_head, take_entry};
use super::{RestoreError, Trailer, damaged};
use crate::engine::{Batch, Durability, Engine, Family};
use crate::{ChangeId, LogPosition, Record, meta};

/// How a snapshot is restored.
///
/// ```
/// use stentor_mvcc::snapshot::{RestoreOptions, restore};
/// use stentor_mvcc::{Store, engine::memory};
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// # let mut snapshot = store.snapshot("example 1.0")?;
/// # let mut bytes = Vec::new();
/// # while let Some(chunk) = snapshot.next_chunk(32 << 10)? {
/// #     bytes.extend_from_slice(&chunk);
/// # }
/// # let engine = memory::MemoryEngine::open(&memory::Disk::new())?;
/// // Go on at a revision that no client has seen.
/// let options = RestoreOptions { bump_revision: 1000, mark_compacted: true, ..Default::default() };
/// restore(&mut &bytes[..], &engine, &options)?;
/// let view = Store::open(engine, Default::default())?.view();
/// assert_eq!((view.revision().get(), view.compacted()), (1001, Some(view.revision())));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RestoreOptions {
    /// The stream ends with its SHA-256 ([`Trailer`]): verify it.
    pub trailer: bool,
    /// Revisions to skip, so that none that clients have seen after the snapshot comes again.
    pub bump_revision: u64,
    /// Make all of history before the new revision unreadable, so that those who followed the old store
    /// notice.
    pub mark_compacted: bool,
    /// Leave alarms out.
    pub drop_alarms: bool,
    /// The place in a log to go on from, instead of the snapshot's own.
    pub applied: Option<LogPosition>,
}

/// What was restored.
///
/// ```
/// use stentor_mvcc::snapshot::{RestoreOptions, restore};
/// use stentor_mvcc::{Store, engine::memory};
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// # let mut snapshot = store.snapshot("example 1.0")?;
/// # let mut bytes = Vec::new();
/// # while let Some(chunk) = snapshot.next_chunk(32 << 10)? {
/// #     bytes.extend_from_slice(&chunk);
/// # }
/// # let engine = memory::MemoryEngine::open(&memory::Disk::new())?;
/// let options = RestoreOptions { bump_revision: 1000, ..Default::default() };
/// let restored = restore(&mut &bytes[..], &engine, &options)?;
/// assert_eq!((restored.header.revision, restored.revision), (1, 1001));
/// assert_eq!(restored.header.server_version, "example 1.0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// The snapshot's head.
    pub header: SnapshotHeader,
    /// The store's revision.
    pub revision: i64,
    /// The place in the log that it goes on from.
    pub applied: LogPosition,
}

/// Fills an empty engine from a snapshot. The records that make it a store are written last and together,
/// so what an interruption leaves is refused by [`Store::open`](crate::Store::open).
///
/// ```
/// use stentor_mvcc::snapshot::{RestoreOptions, Trailer, restore};
/// use stentor_mvcc::{Store, engine::memory};
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// let mut snapshot = store.snapshot("example 1.0")?;
/// let (mut bytes, mut trailer) = (Vec::new(), Trailer::default());
/// while let Some(chunk) = snapshot.next_chunk(32 << 10)? {
///     trailer.update(&chunk);
///     bytes.extend_from_slice(&chunk);
/// }
/// bytes.extend_from_slice(&trailer.finish());
///
/// let engine = memory::MemoryEngine::open(&memory::Disk::new())?;
/// restore(&mut &bytes[..], &engine, &RestoreOptions { trailer: true, ..Default::default() })?;
/// assert_eq!(Store::open(engine, Default::default())?.view().revision().get(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`RestoreError`]; nothing of the engine is to be used then.
pub fn restore(
    reader: &mut impl Read,
    engine: &dyn Engine,
    options: &RestoreOptions,
) -> Result<Restored, RestoreError> {
    refuse_unless_empty(engine)?;
    let mut source = Source { reader, position: 0, trailer: Trailer::default() };
    let header = read_header(&mut source)?;
    let mut batch = Batch::default();
    batch.put(Family::Meta, meta::RESTORING, &[][..]);
    engine.write(batch, Durability::Synced)?;
    let mut filling = Filling { engine, options, header, counts: SnapshotEnd::default(), last: None, progress: None };
    let mut compaction = None;
    loop {
        match source.frame()? {
            (Kind::Entries, payload) => filling.take_in(payload, &mut compaction)?,
            (Kind::End, payload) => {
                let end = SnapshotEnd::decode(payload).map_err(|_| damaged("its end is malformed"))?;
                if end != filling.counts {
                    return Err(damaged("entries are missing"));
                }
                break;
            }
        }
    }
    source.finish(options.trailer)?;
    filling.finish(compaction)
}

fn refuse_unless_empty(engine: &dyn Engine) -> Result<(), RestoreError> {
    for family in [Family::History, Family::Meta] {
        for entry in engine.scan(family, &[], None)? {
            if entry?.0 != meta::IDENTITY {
                return Err(RestoreError::NotEmpty);
            }
        }
    }
    Ok(())
}

/// The stream, with what was read of it.
struct Source<'a, R> {
    reader: &'a mut R,
    position: u64,
    trailer: Trailer,
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(into)?;
        self.trailer.update(into.get(..len).unwrap_or_default());
        self.position += len as u64;
        Ok(len)
    }
}

impl<R: Read> Source<'_, R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes).map_err(read_error)?;
        Ok(bytes)
    }

    fn frame(&mut self) -> Result<(Kind, Bytes), RestoreError> {
        let head: [u8; HEAD] = self.array()?;
        let (kind, len) = parse_head(head)?;
        // Grows with what is there, not with what a damaged length says.
        let mut payload = Vec::new();
        self.by_ref().take(len.into()).read_to_end(&mut payload).map_err(read_error)?;
        if payload.len() < len as usize {
            return Err(damaged("it ends too early"));
        }
        check(head, &payload, self.array::<CHECKSUM>()?)?;
        Ok((kind, payload.into()))
    }

    /// What follows the last frame: zeros up to a whole block, the trailer, and nothing.
    fn finish(mut self, trailer: bool) -> Result<(), RestoreError> {
        let mut padding = Vec::new();
        let missing = self.position.next_multiple_of(BLOCK) - self.position;
        self.by_ref().take(missing).read_to_end(&mut padding).map_err(read_error)?;
        if padding.len() < missing as usize || padding.iter().any(|byte| *byte != 0) {
            return Err(damaged("its end is cut short or overwritten"));
        }
        if !trailer {
            return Ok(());
        }
        let expected = self.trailer.clone().finish();
        if self.array::<32>()? != expected {
            return Err(damaged("its SHA-256 is another one"));
        }
        match self.read(&mut [0]).map_err(RestoreError::Read)? {
            0 => Ok(()),
            _ => Err(damaged("something follows its end")),
        }
    }
}

fn read_error(error: io::Error) -> RestoreError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("it ends too early"),
        _ => RestoreError::Read(error),
    }
}

/// The engine while it is filled.
struct Filling<'a> {
    engine: &'a dyn Engine,
    options: &'a RestoreOptions,
    header: SnapshotHeader,
    counts: SnapshotEnd,
    /// The last change written.
    last: Option<ChangeId>,
    progress: Option<Progress>,
}

impl Filling<'_> {
    fn take_in(&mut self, mut payload: Bytes, compaction: &mut Option<Compaction>) -> Result<(), RestoreError> {
        let mut batch = Batch::default();
        while !payload.is_empty() {
            let (family, key, value) = take_entry(&mut payload)?;
            match family {
                Family::History => {
                    self.counts.history_entries += 1;
                    self.check_record(&key, &value)?;
                    batch.put(family, key, value);
                }
                Family::Meta => {
                    self.counts.meta_entries += 1;
                    match &key[..] {
                        meta::PROGRESS => self.progress = Some(decode(value)?),
                        meta::COMPACTION => *compaction = Some(decode(value)?),
                        key if !meta::is_small_record(key) => return Err(damaged("a record of an unknown kind")),
                        key if meta::is_alarm(key) && self.options.drop_alarms => {}
                        _ => batch.put(family, key, value),
                    }
                }
            }
        }
        Ok(self.engine.write(batch, Durability::Buffered)?)
    }

    fn check_record(&mut self, key: &Bytes, value: &Bytes) -> Result<(), RestoreError> {
        let id = ChangeId::from_bytes(key).ok_or_else(|| damaged("a change without a revision"))?;
        if self.last.is_some_and(|last| id <= last) || id.revision.get() > self.header.revision {
            return Err(damaged(format!("change {id} is out of place")));
        }
        self.last = Some(id);
        Record::decode(id, value.clone()).map(drop).map_err(|e| damaged(format!("change {id}: {e}")))
    }

    /// Makes what is there a store.
    fn finish(self, compaction: Option<Compaction>) -> Result<Restored, RestoreError> {
        let mut progress = self.progress.ok_or_else(|| damaged("it has no revision"))?;
        if progress.revision != self.header.revision {
            return Err(damaged("its revisions contradict each other"));
        }
        let bump = self.options.bump_revision;
        let beyond = || RestoreError::Bump { revision: self.header.revision, bump };
        progress.revision = progress.revision.checked_add_unsigned(bump).ok_or_else(beyond)?;
        if let Some(LogPosition { term, index }) = self.options.applied {
            (progress.applied_term, progress.applied_index) = (term, index);
        }
        let compaction = match self.options.mark_compacted {
            true => Some(Compaction { revision: progress.revision, ..compaction.unwrap_or_default() }),
            false => compaction,
        };
        let mut batch = Batch::default();
        batch.put(Family::Meta, meta::PROGRESS, progress.encode_to_vec());
        if let Some(compaction) = compaction {
            batch.put(Family::Meta, meta::COMPACTION, compaction.encode_to_vec());
        }
        batch.delete(Family::Meta, meta::RESTORING);
        self.engine.flush()?;
        self.engine.write(batch, Durability::Synced)?;
        self.engine.flush()?;
        let applied = LogPosition { term: progress.applied_term, index: progress.applied_index };
        Ok(Restored { revision: progress.revision, applied, header: self.header })
    }
}

fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, RestoreError> {
    M::decode(bytes).map_err(|_| damaged("a record is malformed"))
}
