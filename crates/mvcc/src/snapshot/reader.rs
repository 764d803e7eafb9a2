//! From a store to a stream.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use prost::Message;
use stentor_proto::Revision;
use stentor_proto::snapshot::{BLOCK, FORMAT, encode_header};
use stentor_proto::storagepb::{LeaseRecord, SnapshotEnd, SnapshotHeader};

use super::frame::{Frame, Kind};
use crate::engine::Family;
use crate::store::{compaction, progress};
use crate::{ChangeId, Error, Record, Store, View, meta};

/// History is read this many frames at a time.
const FRAMES_AHEAD: usize = 16;

/// A snapshot on its way out, chunk by chunk. It holds a [`View`], so compaction keeps what is still to
/// be sent; memory is bounded by a megabyte and the largest entry.
///
/// ```
/// use stentor_mvcc::{Store, engine::memory};
/// use stentor_mvcc::snapshot::{RestoreOptions, restore};
/// use stentor_proto::etcdserverpb::PutRequest;
///
/// let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// store.put(PutRequest { key: "hello".into(), value: "world".into(), ..Default::default() })?;
/// let mut snapshot = store.snapshot("example 1.0")?;
/// let mut bytes = Vec::new();
/// while let Some(chunk) = snapshot.next_chunk(32 << 10)? {
///     bytes.extend_from_slice(&chunk);
/// }
/// assert_eq!((bytes.len() as u64, bytes.len() % 512), (snapshot.total_len(), 0));
///
/// let copy = memory::MemoryEngine::open(&memory::Disk::new())?;
/// restore(&mut &bytes[..], &copy, &RestoreOptions::default())?;
/// let copy = Store::open(copy, Default::default())?;
/// assert_eq!(copy.view().hash_kv(0)?, store.view().hash_kv(0)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SnapshotReader {
    total: u64,
    produced: u64,
    frames: Frames,
    /// Produced and not yet handed out.
    ready: BytesMut,
    header: SnapshotHeader,
}

impl Store {
    /// Begins a snapshot of the store as it is now. It looks at all of history once to learn the size of
    /// what is to come. `server_version` says who made it.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// let snapshot = store.snapshot("example 1.0")?;
    /// assert_eq!((snapshot.header().revision, snapshot.header().compacted_revision), (1, -1));
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Engine errors.
    pub fn snapshot(&self, server_version: &str) -> Result<SnapshotReader, Error> {
        self.begin_snapshot(server_version, false)
    }

    /// As [`Store::snapshot`], with the members of the cluster, for one of them: what is restored from it goes
    /// on with the cluster's log at [`SnapshotReader::view`]'s place.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// let snapshot = store.member_snapshot("example 1.0")?;
    /// assert_eq!(snapshot.view().applied(), store.view().applied());
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Engine errors.
    pub fn member_snapshot(&self, server_version: &str) -> Result<SnapshotReader, Error> {
        self.begin_snapshot(server_version, true)
    }

    fn begin_snapshot(&self, server_version: &str, with_members: bool) -> Result<SnapshotReader, Error> {
        let view = self.view();
        let measured = Frames::new(view.clone(), 0, with_members).measure()?;
        let header = SnapshotHeader {
            format: FORMAT,
            revision: view.revision().get(),
            compacted_revision: view.compacted().map_or(-1, Revision::get),
            total_keys: view.keys(),
            logical_bytes: measured.logical_bytes,
            created_unix_ms: self.now(),
            server_version: server_version.to_owned(),
        };
        let head = encode_header(&header);
        let frames = Frames::new(view, measured.logical_bytes, with_members);
        let bytes = head.len() as u64 + measured.history_bytes + frames.meta_frame().len() as u64 + measured.end_bytes;
        let ready = BytesMut::from(&head[..]);
        Ok(SnapshotReader { total: bytes.next_multiple_of(BLOCK), produced: head.len() as u64, frames, ready, header })
    }
}

impl SnapshotReader {
    /// Bytes of the whole stream, without a [trailer](super::Trailer).
    pub fn total_len(&self) -> u64 {
        self.total
    }

    /// What its head says.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// The state that it is of.
    pub fn view(&self) -> &View {
        &self.frames.view
    }

    /// The next `max` bytes, fewer only at the end; `None` after it.
    ///
    /// ```
    /// use stentor_mvcc::{Store, engine::memory};
    /// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
    /// let mut snapshot = store.snapshot("example 1.0")?;
    /// let mut left = snapshot.total_len();
    /// while let Some(chunk) = snapshot.next_chunk(100)? {
    ///     left -= chunk.len() as u64;
    ///     assert!(chunk.len() == 100 || left == 0);
    /// }
    /// assert_eq!(left, 0);
    /// # Ok::<(), stentor_mvcc::Error>(())
    /// ```
    ///
    /// # Errors
    /// Engine errors.
    pub fn next_chunk(&mut self, max: usize) -> Result<Option<Bytes>, Error> {
        let max = max.max(1);
        while self.ready.len() < max {
            let Some(frame) = self.frames.next()? else {
                let missing = (self.total - self.produced) as usize;
                self.ready.resize(self.ready.len() + missing, 0);
                self.produced = self.total;
                break;
            };
            self.produced += frame.len() as u64;
            if self.produced > self.total {
                return Err(Error::inconsistent("history grew below the revision of a snapshot"));
            }
            self.ready.extend_from_slice(&frame);
        }
        let len = self.ready.len().min(max);
        Ok((len > 0).then(|| self.ready.split_to(len).freeze()))
    }
}

/// What comes next.
enum Stage {
    Meta,
    /// The rest of history, from here.
    History(ChangeId),
    End,
    Done,
}

/// The frames of a snapshot. They depend on the view alone, so making them twice gives the same.
struct Frames {
    view: View,
    /// Those of the cluster.
    with_members: bool,
    /// What the progress record states: bytes of all that is kept.
    logical_bytes: u64,
    /// Bytes of what was kept so far.
    kept_bytes: u64,
    stage: Stage,
    ready: VecDeque<Bytes>,
    counts: SnapshotEnd,
}

/// What a first pass over all frames finds.
struct Measured {
    history_bytes: u64,
    end_bytes: u64,
    logical_bytes: u64,
}

impl Frames {
    fn new(view: View, logical_bytes: u64, with_members: bool) -> Frames {
        let counts = SnapshotEnd::default();
        Frames { view, with_members, logical_bytes, kept_bytes: 0, stage: Stage::Meta, ready: VecDeque::new(), counts }
    }

    /// Makes all frames, and throws them away.
    fn measure(mut self) -> Result<Measured, Error> {
        self.next()?;
        let mut bytes = 0;
        while let Some(frame) = self.next()? {
            bytes += frame.len() as u64;
        }
        let end_bytes = self.end_frame().len() as u64;
        Ok(Measured { history_bytes: bytes - end_bytes, end_bytes, logical_bytes: self.kept_bytes })
    }

    fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Ok(Some(frame));
            }
            match self.stage {
                Stage::Meta => {
                    let frame = self.meta_frame();
                    self.counts.meta_entries = self.meta().len() as u64;
                    self.stage = Stage::History(ChangeId { revision: Revision::ZERO, sub: 0 });
                    self.ready.push_back(frame);
                }
                Stage::History(from) => {
                    self.stage = self.read_history(from)?.map_or(Stage::End, Stage::History);
                }
                Stage::End => {
                    self.stage = Stage::Done;
                    self.ready.push_back(self.end_frame());
                }
                Stage::Done => return Ok(None),
            }
        }
    }

    fn end_frame(&self) -> Bytes {
        let mut frame = Frame::new(Kind::End);
        frame.put(&self.counts.encode_to_vec());
        frame.finish()
    }

    fn meta_frame(&self) -> Bytes {
        let mut frame = Frame::new(Kind::Entries);
        for (key, value) in self.meta() {
            frame.entry(Family::Meta, &key, &value);
        }
        frame.finish()
    }

    /// The records beside history, from the state in memory: those on disk may be ahead of the view.
    fn meta(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let view = &self.view;
        let progress = progress(view.revision(), self.logical_bytes, view.applied());
        let mut meta = vec![(meta::PROGRESS.to_vec(), progress.encode_to_vec())];
        if let Some(compacted) = view.compacted() {
            // What its space work would delete is left out.
            meta.push((meta::COMPACTION.to_vec(), compaction(compacted, compacted).encode_to_vec()));
        }
        for (id, lease) in view.leases().iter() {
            let record = LeaseRecord { id: id.get(), ttl_seconds: lease.ttl_seconds };
            meta.push((meta::lease_key(id), record.encode_to_vec()));
        }
        meta.extend(view.all_alarms().map(|alarm| (meta::alarm_key(alarm), Vec::new())));
        if self.with_members {
            let members = view.members();
            meta.extend(members.iter().map(|member| (meta::member_key(member.id), member.encode_to_vec())));
            meta.extend(members.removed().map(|id| (meta::removed_member_key(id), Vec::new())));
        }
        meta.sort_unstable();
        meta
    }

    /// Reads some of history into frames; the place to go on from, if there is more.
    fn read_history(&mut self, from: ChangeId) -> Result<Option<ChangeId>, Error> {
        let end = ChangeId { revision: self.view.revision().next(), sub: 0 };
        let mut frame = Frame::new(Kind::Entries);
        for record in self.view.records_between(from, end)? {
            let record = record?;
            if !self.is_kept(&record) {
                continue;
            }
            frame.entry(Family::History, &record.id.to_bytes(), &record.encode());
            self.kept_bytes += record.logical_bytes();
            self.counts.history_entries += 1;
            if frame.is_full() {
                let full = std::mem::replace(&mut frame, Frame::new(Kind::Entries));
                self.ready.push_back(full.finish());
                if self.ready.len() == FRAMES_AHEAD {
                    return Ok(Some(ChangeId { sub: record.id.sub + 1, ..record.id }));
                }
            }
        }
        if !frame.is_empty() {
            self.ready.push_back(frame.finish());
        }
        Ok(None)
    }

    /// Whether a record is there for as long as the view is held: all but what the space work of the
    /// compaction in force deletes.
    fn is_kept(&self, record: &Record) -> bool {
        let Some(compacted) = self.view.compacted().filter(|c| record.id.revision < *c) else { return true };
        let last = self.view.state().index.change_at(record.key(), compacted.previous());
        last.is_some_and(|last| last.id == record.id && !last.tombstone)
    }
}
