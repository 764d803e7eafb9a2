//! A response that is too large to be encoded at once, or that goes out in fragments.
//!
//! Only its place in history is kept: whenever the outbox has room, the next piece is encoded from there. So
//! a client that stops in the midst of a gigabyte costs no more than one that stops elsewhere.

use stentor_mvcc::{ChangeId, Record};

use super::{Core, Rest, Work};
use crate::chunk::Chunk;
use crate::outbox::{EncodedEvent, Outbox, PIECE_BYTES, append_head, head_len};
use crate::read::{ForWhom, What};
use crate::span::Span;
use crate::watcher::{Options, Watcher};

pub(super) struct Large {
    span: Span,
    options: Options,
    watch_id: i64,
    /// The first field of each part.
    header: Vec<u8>,
    /// The next event, and how much of it was encoded already.
    next: ChangeId,
    offset: usize,
    /// The last event.
    last: ChangeId,
    /// The current part.
    part: Part,
    /// Parts stay below this size.
    fragment_bytes: Option<usize>,
}

/// A message: the whole response, or a fragment of it.
struct Part {
    /// Bytes that were not encoded yet.
    left: usize,
    /// Its head is among them.
    has_begun: bool,
    /// The response ends with it.
    is_last: bool,
}

impl Large {
    /// The events of `watcher` from the first to the last of `events`, of so many bytes.
    pub(super) fn new(
        watcher: &Watcher,
        header: Vec<u8>,
        (next, last): (ChangeId, ChangeId),
        bytes: usize,
        fragment_bytes: Option<usize>,
    ) -> Large {
        let whole = head_len(&header, watcher.id, false) + bytes;
        let part = match fragment_bytes {
            None => Part { left: whole, has_begun: false, is_last: true },
            Some(_) => Part { left: 0, has_begun: true, is_last: false },
        };
        Large {
            span: watcher.span.clone(),
            options: watcher.options,
            watch_id: watcher.id,
            header,
            next,
            offset: 0,
            last,
            part,
            fragment_bytes,
        }
    }

    /// The length of the current part.
    pub(super) fn len(&self) -> usize {
        self.part.left
    }

    /// Positions of the next events in a chunk, until they come to `enough` bytes.
    fn positions(&self, chunk: &Chunk, enough: usize) -> Vec<u32> {
        let mut bytes = 0;
        let mut positions = Vec::new();
        let mut at = chunk.position_of(self.next);
        while let Some(record) = chunk.get(at).filter(|record| record.id <= self.last && bytes < enough + self.offset) {
            if self.wants(record) {
                bytes += record.encoded_pair().len();
                positions.push(at);
            }
            at += 1;
        }
        positions
    }

    fn wants(&self, record: &Record) -> bool {
        self.span.contains(record.key()) && self.options.pass(record)
    }

    fn event<'a>(&self, record: &'a Record, previous: Option<&'a [u8]>) -> EncodedEvent<'a> {
        EncodedEvent::new(record, previous.filter(|_| self.options.prev_kv()))
    }

    /// The next fragment: as many events as stay below the limit, at least one.
    fn next_part(&self, chunk: &Chunk, positions: &[u32], limit: usize) -> Part {
        let head = head_len(&self.header, self.watch_id, true);
        let mut left = head;
        let mut is_last = false;
        for &at in positions {
            let Some(record) = chunk.get(at) else { continue };
            let previous = chunk.previous(record.id).flatten();
            let size = self.event(record, previous.as_deref()).len();
            if left + size >= limit && left > head {
                break;
            }
            left += size;
            is_last = record.id == self.last;
        }
        if is_last {
            left -= head - head_len(&self.header, self.watch_id, false);
        }
        Part { left, has_begun: false, is_last }
    }

    /// Encodes what comes next of the current part, about [`PIECE_BYTES`]. `None` if the history read for it
    /// is not the one that the part was begun with.
    fn next_piece(&mut self, chunk: &Chunk, positions: &[u32]) -> Option<Vec<u8>> {
        let mut piece = Vec::new();
        if !self.part.has_begun {
            append_head(&mut piece, &self.header, self.watch_id, !self.part.is_last);
            self.part.has_begun = true;
        }
        let mut is_over = false;
        for &at in positions {
            if piece.len() >= PIECE_BYTES || piece.len() >= self.part.left {
                break;
            }
            let Some(record) = chunk.get(at) else { continue };
            let previous = chunk.previous(record.id).flatten();
            let event = self.event(record, previous.as_deref());
            let before = piece.len();
            event.append_part(self.offset, PIECE_BYTES - before, &mut piece);
            self.offset += piece.len() - before;
            if self.offset == event.len() {
                is_over = record.id == self.last;
                self.offset = 0;
                self.next = ChangeId { sub: record.id.sub.saturating_add(1), ..record.id };
            }
        }
        if positions.is_empty() {
            // Nothing of it in the rest of this chunk.
            self.next = ChangeId { revision: chunk.to.next(), sub: 0 };
        }
        self.part.left = self.part.left.checked_sub(piece.len())?;
        let has_more = self.next.revision <= self.last.revision;
        (is_over == self.is_over() && (is_over || has_more)).then_some(piece)
    }

    /// All of the response is encoded.
    fn is_over(&self) -> bool {
        self.part.is_last && self.part.left == 0
    }
}

impl Core {
    /// Encodes the next piece.
    pub(super) fn large_work(&mut self, out: &mut dyn Outbox) -> Work {
        let Some(mut large) = self.large.take() else { return Work::None };
        let chunk = match self.chunk_at(large.next.revision, large.last.revision, ForWhom::Large) {
            Ok(chunk) => chunk,
            Err(read) => {
                self.large = Some(large);
                return Work::Read(read);
            }
        };
        let next_fragment = large.fragment_bytes.filter(|_| large.part.left == 0);
        let positions = large.positions(&chunk, next_fragment.unwrap_or(PIECE_BYTES));
        if large.options.prev_kv() {
            let missing = self.missing_previous(&chunk, &positions);
            if !missing.is_empty() {
                self.large = Some(large);
                return Work::Read(self.read(What::Previous { watcher: None, chunk, positions: missing }));
            }
        }
        if let Some(limit) = next_fragment.filter(|_| !positions.is_empty()) {
            large.part = large.next_part(&chunk, &positions, limit);
            out.begin(large.part.left);
        }
        let Some(piece) = large.next_piece(&chunk, &positions) else {
            // It can't be told to the client, and must not be hidden either.
            self.broken = true;
            return Work::Done;
        };
        if !large.is_over() {
            self.large = Some(large);
        }
        if !piece.is_empty() {
            self.rest = Rest { bytes: piece, taken: 0 };
            self.rest.pump(out);
        }
        Work::Done
    }
}
