//! The index checkpoint: the key index on disk, so that a restart need not read all of history.
//!
//! It begins with the line [`MAGIC`]. Blocks follow: the length of the payload (4 bytes, the most
//! significant first), its CRC-32C (4 bytes) and the payload. The first one says which state it is; the
//! others hold keys in order, with what the index has of each; an empty one is the end.
//!
//! A checkpoint is a help and never needed: one that is damaged, of another format, or does not fit is
//! ignored with a warning, and the index is built from history.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use prost::encoding::{decode_varint, encode_varint};
use stentor_proto::Revision;

use crate::engine::{Durability, Engine};
use crate::key_index::{BuildError, Builder, Generation, KeyChange, KeyEntry, KeyIndex};
use crate::lease::{LeaseId, Leases};
use crate::{ChangeId, Error, Store, View};

/// The engine keeps it under this name.
pub(crate) const NAME: &str = "index";
const MAGIC: &[u8] = b"STENTORIDX1\n";
/// A block is closed once it has this many bytes.
const BLOCK_BYTES: usize = 128 << 10;
/// No block is longer: the changes of one key, with much room.
const MAX_BLOCK: u32 = 1 << 30;
/// Checkpoints are worth it from this many changes on.
const MIN_CHANGES: u64 = 100_000;

/// The last checkpoint, as far as the store knows, and what has happened since.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Last {
    /// Of which revision; `None` if there is none that a restart could use.
    pub(crate) revision: Option<Revision>,
    /// The store's count of changes at that time.
    pub(crate) changes: u64,
}

impl Store {
    /// Whether a restart would be much faster after [`Store::checkpoint_index`]: there were many changes
    /// since the last one, or a compaction has made it useless.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// // Not for so few changes: reading them takes no time.
    /// assert!(!store.wants_index_checkpoint());
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    pub fn wants_index_checkpoint(&self) -> bool {
        let last = *self.checkpoint.lock();
        let view = self.view();
        let since = self.changes().saturating_sub(last.changes);
        let keys = view.state().index.keys();
        let overtaken = last.revision.is_none_or(|at| !is_usable(at, view.compacted()));
        since >= MIN_CHANGES.max(keys / 4) || (overtaken && keys >= MIN_CHANGES)
    }

    /// The revision of the checkpoint that opening the store would begin with.
    pub fn index_checkpoint(&self) -> Option<Revision> {
        let last = *self.checkpoint.lock();
        last.revision.filter(|at| is_usable(*at, self.view().compacted()))
    }

    /// Writes a checkpoint of the index as it is now, so that opening the store reads only that and the
    /// changes after it, until a compaction goes beyond it. Takes a second for a million keys; writes go
    /// on meanwhile. A store whose log is kept outside is flushed first.
    ///
    /// # Errors
    /// Engine errors. The store goes on, and the last checkpoint stays.
    ///
    /// # Example
    /// ```
    /// # use stentor_mvcc::{Store, engine::memory};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// // Now and then, on a thread that may take its time, such as when one is wanted:
    /// assert_eq!(store.index_checkpoint(), None);
    /// store.checkpoint_index()?;
    /// assert_eq!(store.index_checkpoint(), Some(store.view().revision()));
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    pub fn checkpoint_index(&self) -> Result<(), Error> {
        let _one_at_a_time = self.checkpointing.lock();
        let changes = self.changes();
        let view = self.view();
        let engine = &view.state().engine;
        if self.durability() == Durability::Buffered {
            // It must never be ahead of what a crash leaves.
            engine.flush()?;
        }
        engine.save_blob(NAME, &mut |out| write(&view, out))?;
        let mut last = self.checkpoint.lock();
        // Unless the store was replaced meanwhile: then it was one of the old engine.
        if Arc::ptr_eq(engine, &self.view().state().engine) {
            *last = Last { revision: Some(view.revision()), changes };
        }
        Ok(())
    }
}

/// Whether a checkpoint is of use under the compaction in force. What that has deleted after the
/// checkpoint's revision would be missing from the changes that are replayed upon it.
fn is_usable(at: Revision, compacted: Option<Revision>) -> bool {
    compacted.is_none_or(|compacted| compacted <= at.next())
}

fn write(view: &View, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(MAGIC)?;
    let mut block = Vec::with_capacity(BLOCK_BYTES + 1024);
    for n in [view.revision().get() as u64, view.state().index.keys()] {
        encode_varint(n, &mut block);
    }
    write_block(out, &mut block)?;
    let mut last: &[u8] = &[];
    for entry in view.state().index.entries() {
        let lease = view.leases().of_key(entry.key()).map_or(0, LeaseId::get);
        encode_entry(last, &entry, lease, &mut block);
        last = entry.key();
        if block.len() >= BLOCK_BYTES {
            write_block(out, &mut block)?;
            // Each block can be read by itself.
            last = &[];
        }
    }
    if !block.is_empty() {
        write_block(out, &mut block)?;
    }
    write_block(out, &mut block)
}

fn write_block(out: &mut dyn Write, block: &mut Vec<u8>) -> io::Result<()> {
    let len = u32::try_from(block.len()).map_err(|_| io::Error::other("a block of the index is too long"))?;
    out.write_all(&len.to_be_bytes())?;
    out.write_all(&crc32c::crc32c(block).to_be_bytes())?;
    out.write_all(block)?;
    block.clear();
    Ok(())
}

/// How many bytes it shares with the key before, the rest, the number of changes, and those newest
/// first: how far each is below the one before it and whether it is a tombstone, and its sub-revision.
/// Of a live key then how far back it began, its version, and its lease.
fn encode_entry(last: &[u8], entry: &KeyEntry<'_>, lease: i64, out: &mut Vec<u8>) {
    let key = entry.key();
    let shared = last.iter().zip(key).take_while(|(a, b)| a == b).count();
    encode_varint(shared as u64, out);
    encode_varint((key.len() - shared) as u64, out);
    out.extend_from_slice(key.get(shared..).unwrap_or_default());
    encode_varint(entry.changes().count() as u64, out);
    let mut above = None;
    for change in entry.changes() {
        let revision = change.id.revision.get() as u64;
        let delta = above.map_or(revision, |above: u64| above - revision);
        encode_varint(delta << 1 | u64::from(change.tombstone), out);
        encode_varint(change.id.sub.into(), out);
        above = Some(revision);
    }
    if let (Some(generation), Some(newest)) = (entry.generation(), entry.changes().next()) {
        encode_varint((newest.id.revision.get() - generation.create.get()) as u64, out);
        encode_varint(generation.version as u64, out);
        encode_varint(lease as u64, out);
    }
}

/// Why a checkpoint is ignored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is damaged")]
    Damaged,
    #[error("it is of another format")]
    Format,
    #[error("it is of revision {0}, which the store has not reached")]
    Ahead(Revision),
    #[error("history after its revision {0} has been compacted")]
    Compacted(Revision),
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// What a checkpoint holds.
pub(crate) struct Loaded {
    pub(crate) revision: Revision,
    pub(crate) index: KeyIndex,
    /// Keys that a compaction may have something to do with.
    pub(crate) superseded: Vec<Bytes>,
    /// With the keys of the checkpoint attached; leases that ended later are among them.
    pub(crate) leases: Leases,
}

/// Reads the engine's checkpoint, if it has one that fits a store at `revision`.
pub(crate) fn load(
    engine: &dyn Engine,
    revision: Revision,
    compacted: Option<Revision>,
    leases: &Leases,
) -> Result<Option<Loaded>, Unusable> {
    let blob = engine.load_blob(NAME).map_err(io::Error::other)?;
    let Some(blob) = blob else { return Ok(None) };
    let mut blob = io::BufReader::with_capacity(2 * BLOCK_BYTES, blob);
    let mut magic = [0; MAGIC.len()];
    blob.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(Unusable::Format);
    }
    let mut block = Vec::new();
    read_block(&mut blob, &mut block)?;
    let mut head = &block[..];
    let (at, keys) = (take_revision(&mut head)?, take(&mut head)?);
    if at > revision {
        return Err(Unusable::Ahead(at));
    } else if !is_usable(at, compacted) {
        return Err(Unusable::Compacted(at));
    }
    let mut loading = Loading { at, builder: Builder::new(), superseded: Vec::new(), leases: leases.clone() };
    let mut found = 0;
    while read_block(&mut blob, &mut block)? {
        let mut rest = &block[..];
        let mut key = Vec::new();
        while !rest.is_empty() {
            loading.take_entry(&mut rest, &mut key)?;
            found += 1;
        }
    }
    if found != keys {
        return Err(Unusable::Damaged);
    }
    let Loading { builder, superseded, leases, .. } = loading;
    Ok(Some(Loaded { revision: at, index: builder.finish(), superseded, leases }))
}

/// Reads a block; false at the last one.
fn read_block(blob: &mut impl Read, block: &mut Vec<u8>) -> Result<bool, Unusable> {
    let mut head = [0; 8];
    blob.read_exact(&mut head)?;
    let [a, b, c, d, sum @ ..] = head;
    let len = u32::from_be_bytes([a, b, c, d]);
    if len > MAX_BLOCK {
        return Err(Unusable::Damaged);
    }
    block.clear();
    // Grows with what is there, not with what a damaged length says.
    blob.by_ref().take(len.into()).read_to_end(block)?;
    if block.len() < len as usize || crc32c::crc32c(block) != u32::from_be_bytes(sum) {
        return Err(Unusable::Damaged);
    }
    Ok(len > 0)
}

struct Loading {
    at: Revision,
    builder: Builder,
    superseded: Vec<Bytes>,
    leases: Leases,
}

impl Loading {
    /// Takes the next entry of a block; `key` is the key before it, and then its own.
    fn take_entry(&mut self, rest: &mut &[u8], key: &mut Vec<u8>) -> Result<(), Unusable> {
        let shared = take_len(rest)?;
        if shared > key.len() {
            return Err(Unusable::Damaged);
        }
        key.truncate(shared);
        let suffix = take_len(rest)?;
        key.extend_from_slice(rest.split_off(..suffix).ok_or(Unusable::Damaged)?);
        let count = take_len(rest)?;
        let mut changes: Vec<KeyChange> = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let change = take_change(rest, changes.last())?;
            changes.push(change);
        }
        let newest = *changes.first().ok_or(Unusable::Damaged)?;
        if newest.id.revision > self.at {
            return Err(Unusable::Damaged);
        }
        let mut generation = None;
        if !newest.tombstone {
            let age = i64::try_from(take(rest)?).map_err(|_| Unusable::Damaged)?;
            let create = Revision::new(newest.id.revision.get() - age).ok_or(Unusable::Damaged)?;
            let version = i64::try_from(take(rest)?).map_err(|_| Unusable::Damaged)?;
            generation = Some(Generation { create, version });
            if let Some(lease) = LeaseId::new(take(rest)? as i64) {
                self.leases.attach(&Bytes::copy_from_slice(key), Some(lease));
            }
        }
        self.builder.push(key, &changes, generation)?;
        if changes.len() > 1 || newest.tombstone {
            self.superseded.push(Bytes::copy_from_slice(key));
        }
        Ok(())
    }
}

fn take_change(rest: &mut &[u8], above: Option<&KeyChange>) -> Result<KeyChange, Unusable> {
    let packed = take(rest)?;
    let delta = i64::try_from(packed >> 1).map_err(|_| Unusable::Damaged)?;
    let revision = above.map_or(delta, |above| above.id.revision.get() - delta);
    let revision = Revision::new(revision).ok_or(Unusable::Damaged)?;
    let sub = u32::try_from(take(rest)?).map_err(|_| Unusable::Damaged)?;
    Ok(KeyChange { id: ChangeId { revision, sub }, tombstone: packed & 1 == 1 })
}

fn take(rest: &mut &[u8]) -> Result<u64, Unusable> {
    decode_varint(rest).map_err(|_| Unusable::Damaged)
}

fn take_len(rest: &mut &[u8]) -> Result<usize, Unusable> {
    usize::try_from(take(rest)?).map_err(|_| Unusable::Damaged)
}

fn take_revision(rest: &mut &[u8]) -> Result<Revision, Unusable> {
    let revision = i64::try_from(take(rest)?).map_err(|_| Unusable::Damaged)?;
    Revision::new(revision).ok_or(Unusable::Damaged)
}
