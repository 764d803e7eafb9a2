//! A stretch of history in memory, as deliveries take events from it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use stentor_mvcc::{ChangeId, Record};
use stentor_proto::Revision;

use crate::span::{Span, SpanKind};
use crate::sync::Mutex;

/// A chunk takes no further revision at this many; nor beyond its bytes, but one revision that is larger
/// by itself is a chunk.
const MAX_REVISIONS: usize = 4096;

/// Beside its pair, what a record takes in memory, about.
const RECORD_OVERHEAD: usize = size_of::<Record>();

/// Up to this many records are looked through one by one.
const FEW: usize = 256;

/// All changes of some consecutive revisions: of one commit, or of as many as are read at a time.
pub(crate) struct Chunk {
    /// The first revision it covers.
    pub(crate) from: Revision,
    /// The last one.
    pub(crate) to: Revision,
    records: Arc<[Record]>,
    bytes: usize,
    /// Positions of the records, by key and then place; made when first needed.
    by_key: OnceLock<Vec<u32>>,
    /// What the keys of changes were before, encoded, as deliveries from this chunk have needed it.
    previous: Mutex<HashMap<ChangeId, Option<Bytes>>>,
}

/// Positions of records that a watcher wants.
#[derive(Default)]
pub(crate) struct Selection {
    pub(crate) positions: Vec<u32>,
    /// They are all that there is up to this revision.
    pub(crate) to: Revision,
}

impl Chunk {
    /// All changes of `from` to `to`.
    pub(crate) fn new(from: Revision, to: Revision, records: Arc<[Record]>) -> Chunk {
        let bytes = records.iter().map(weight).sum::<usize>() + size_of::<Chunk>();
        Chunk { from, to, records, bytes, by_key: OnceLock::new(), previous: Mutex::default() }
    }

    /// The record at a position that [`Chunk::select`] gave.
    pub(crate) fn get(&self, position: u32) -> Option<&Record> {
        self.records.get(position as usize)
    }

    /// The position of the first record at or behind a place.
    pub(crate) fn position_of(&self, id: ChangeId) -> u32 {
        self.records.partition_point(|r| r.id < id) as u32
    }

    /// The records of revisions `from` to `to`.
    pub(crate) fn stretch(&self, from: Revision, to: Revision) -> &[Record] {
        let start = self.records.partition_point(|r| r.id.revision < from);
        let rest = self.records.get(start..).unwrap_or_default();
        let end = rest.partition_point(|r| r.id.revision <= to);
        rest.get(..end).unwrap_or_default()
    }

    pub(crate) fn covers(&self, revision: Revision) -> bool {
        self.from <= revision && revision <= self.to
    }

    /// About what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Selects the changes in `span` that `pass`, of revisions `from` to `to`; some of the first of them,
    /// whole revisions, if they come to about `enough` bytes.
    pub(crate) fn select(
        &self,
        span: &Span,
        (from, to): (Revision, Revision),
        enough: usize,
        pass: impl Fn(&Record) -> bool,
        selection: &mut Selection,
    ) {
        selection.positions.clear();
        selection.to = to.min(self.to);
        let start = self.records.partition_point(|r| r.id.revision < from);
        let mut bytes = 0;
        let mut last = Revision::ZERO;
        for (at, record) in self.records.iter().enumerate().skip(start) {
            if record.id.revision > to {
                return;
            }
            if bytes > enough && record.id.revision != last {
                selection.to = record.id.revision.previous();
                return;
            }
            if at - start >= FEW {
                return self.select_by_key(span, at, to, pass, selection);
            }
            last = record.id.revision;
            if span.contains(record.key()) && pass(record) {
                bytes += record.encoded_pair().len();
                selection.positions.push(at as u32);
            }
        }
    }

    fn select_by_key(
        &self,
        span: &Span,
        start: usize,
        to: Revision,
        pass: impl Fn(&Record) -> bool,
        selection: &mut Selection,
    ) {
        let end = self.records.partition_point(|r| r.id.revision <= to).max(start);
        let by_key = self.by_key.get_or_init(|| self.sort_by_key());
        let first = by_key.partition_point(|&at| self.key(at) < span.start());
        let rest = by_key.get(first..).unwrap_or_default();
        let kept = selection.positions.len();
        let inside = rest.iter().copied().take_while(|&at| match span.kind() {
            SpanKind::Key => self.key(at) == span.start(),
            SpanKind::Prefix | SpanKind::From | SpanKind::Interval => !span.ends_before(self.key(at)),
        });
        let wanted = inside.filter(|&at| (start..end).contains(&(at as usize)) && self.get(at).is_some_and(&pass));
        selection.positions.extend(wanted);
        if let Some(added) = selection.positions.get_mut(kept..) {
            added.sort_unstable();
        }
    }

    fn sort_by_key(&self) -> Vec<u32> {
        let mut positions: Vec<u32> = (0..self.records.len() as u32).collect();
        positions.sort_by(|&a, &b| self.key(a).cmp(self.key(b)));
        positions
    }

    fn key(&self, position: u32) -> &[u8] {
        self.get(position).map(Record::key).unwrap_or_default()
    }

    /// What the key of a change was before, if that was found out; `None` inside if it is a creation.
    pub(crate) fn previous(&self, of: ChangeId) -> Option<Option<Bytes>> {
        self.previous.lock().get(&of).cloned()
    }

    /// Remembers what keys of changes were before.
    pub(crate) fn remember_previous(&self, found: impl IntoIterator<Item = (ChangeId, Option<Bytes>)>) {
        self.previous.lock().extend(found);
    }
}

/// Puts a chunk together, whole revisions at a time.
pub(crate) struct Builder {
    from: Revision,
    max_bytes: usize,
    records: Vec<Record>,
    bytes: usize,
    revisions: usize,
    /// Where the revision that is being added begins, and what it weighs.
    open_at: usize,
    open_bytes: usize,
    open: Option<Revision>,
    full: bool,
}

impl Builder {
    pub(crate) fn new(from: Revision, max_bytes: usize) -> Builder {
        Builder {
            from,
            max_bytes,
            records: Vec::new(),
            bytes: 0,
            revisions: 0,
            open_at: 0,
            open_bytes: 0,
            open: None,
            full: false,
        }
    }

    /// Adds the next record; false when the chunk is full and the record is not in it.
    pub(crate) fn push(&mut self, record: Record) -> bool {
        if self.open != Some(record.id.revision) {
            self.close();
            if self.bytes >= self.max_bytes || self.revisions >= MAX_REVISIONS {
                self.full = true;
                return false;
            }
            self.open = Some(record.id.revision);
        }
        self.open_bytes += weight(&record);
        self.records.push(record);
        if self.revisions > 0 && self.bytes + self.open_bytes > self.max_bytes {
            // This revision would make it too large: it begins the next chunk.
            self.records.truncate(self.open_at);
            self.full = true;
            return false;
        }
        true
    }

    fn close(&mut self) {
        if self.open.take().is_some() {
            self.revisions += 1;
            self.bytes += self.open_bytes;
        }
        self.open_at = self.records.len();
        self.open_bytes = 0;
    }

    /// The chunk; `end` is how far the records were complete if it did not fill up before.
    pub(crate) fn finish(self, end: Revision) -> Chunk {
        let last = self.records.last().map_or(self.from.previous(), |r| r.id.revision);
        let to = if self.full { last } else { end.max(last) };
        Chunk::new(self.from, to, self.records.into())
    }
}

/// What a record counts for in memory, in bytes.
pub(crate) fn weight(record: &Record) -> usize {
    record.encoded_pair().len() + RECORD_OVERHEAD
}
