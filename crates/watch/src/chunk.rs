//! A stretch of history in memory, as deliveries take events from it.

use std::collections::HashMap;
use std::sync::OnceLock;

use parking_lot::Mutex;
use stentor_mvcc::{ChangeId, Record};
use stentor_proto::mvccpb::KeyValue;
use stentor_proto::{KeyRange, Revision};

/// A chunk takes no further revision at this many; nor beyond its bytes, but one revision that is larger
/// by itself is a chunk.
const MAX_REVISIONS: usize = 1000;

/// Beside its pair, what a record takes in memory, about.
const RECORD_OVERHEAD: usize = size_of::<Record>();

/// Up to this many records are looked through one by one.
const FEW: usize = 24;

/// All changes of some consecutive revisions.
pub(crate) struct Chunk {
    /// The first revision it covers.
    pub(crate) from: Revision,
    /// The last one.
    pub(crate) to: Revision,
    records: Vec<Record>,
    bytes: usize,
    /// Positions of the records, by key and then place; made when first needed.
    by_key: OnceLock<Vec<u32>>,
    /// Previous pairs that deliveries from this chunk have needed.
    previous: Mutex<HashMap<ChangeId, Option<KeyValue>>>,
}

impl Chunk {
    /// The record at a position that [`Chunk::select`] gave.
    pub(crate) fn get(&self, position: u32) -> Option<&Record> {
        self.records.get(position as usize)
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(crate) fn covers(&self, revision: Revision) -> bool {
        self.from <= revision && revision <= self.to
    }

    /// About what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Positions of the changes to keys of `range` in revisions `from` to `to`, in order.
    pub(crate) fn select(&self, range: &KeyRange, from: Revision, to: Revision) -> Vec<u32> {
        let start = self.records.partition_point(|r| r.id.revision < from);
        let end = self.records.partition_point(|r| r.id.revision <= to).max(start);
        if end - start <= FEW {
            let picked = self.records.iter().enumerate().take(end).skip(start);
            return picked.filter(|(_, r)| range.contains(r.key())).map(|(at, _)| at as u32).collect();
        }
        let by_key = self.by_key.get_or_init(|| self.sort_by_key());
        let first = by_key.partition_point(|&at| self.key(at) < &range.start()[..]);
        let rest = by_key.get(first..).unwrap_or_default();
        let inside = rest.iter().copied().take_while(|&at| !range.ends_before(self.key(at)));
        let mut picked: Vec<u32> = inside.filter(|&at| (start..end).contains(&(at as usize))).collect();
        picked.sort_unstable();
        picked
    }

    fn sort_by_key(&self) -> Vec<u32> {
        let mut positions: Vec<u32> = (0..self.records.len() as u32).collect();
        positions.sort_by(|&a, &b| self.key(a).cmp(self.key(b)));
        positions
    }

    fn key(&self, position: u32) -> &[u8] {
        self.get(position).map(Record::key).unwrap_or_default()
    }

    /// The previous pair of a change, if it was found before.
    pub(crate) fn previous(&self, of: ChangeId) -> Option<Option<KeyValue>> {
        self.previous.lock().get(&of).cloned()
    }

    pub(crate) fn remember_previous(&self, found: Vec<(ChangeId, Option<KeyValue>)>) {
        self.previous.lock().extend(found);
    }
}

/// Gathers whole revisions into a chunk until it is full.
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
        let bytes = self.records.iter().map(weight).sum();
        Chunk { from: self.from, to, records: self.records, bytes, by_key: OnceLock::new(), previous: Mutex::default() }
    }
}

/// What a record counts for in memory, in bytes.
pub(crate) fn weight(record: &Record) -> usize {
    record.encoded_pair().len() + RECORD_OVERHEAD
}
