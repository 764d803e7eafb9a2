//! What a watcher gets out of a chunk, encoded.

use std::sync::Arc;

use prost::Message;
use stentor_mvcc::Record;
use stentor_proto::Revision;
use stentor_proto::etcdserverpb::WatchResponse;

use super::Core;
use super::large::Large;
use crate::chunk::{Chunk, Selection};
use crate::outbox::{EncodedEvent, Outbox, PIECE_BYTES, append_head};
use crate::read::{ForWhom, Read, What};
use crate::recent::Previous;
use crate::span::Span;
use crate::watcher::{Key, Options};

/// What there is for a watcher.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// No event, up to before `next`.
    Nothing { next: Revision },
    /// Whole revisions, the last of them `last`; everything before `next` is in it. The events are in
    /// [`Served`].
    Events { last: Revision, next: Revision },
}

/// The events of a response, encoded, and for whom they can go out just so.
#[derive(Default)]
pub(super) struct Served {
    key: Option<ServedKey>,
    /// What the selection is of.
    chunk: Option<Arc<Chunk>>,
    selection: Selection,
    events: Vec<u8>,
    count: usize,
    /// Bytes of all events; `events` has them unless they are too many.
    bytes: usize,
    outcome: Option<Outcome>,
    head: Vec<u8>,
}

/// Equal for watchers that get the same events.
#[derive(PartialEq, Eq)]
struct ServedKey {
    span: Span,
    content: Options,
    from: Revision,
    to: Revision,
}

impl Served {
    /// The next one is looked for anew.
    pub(super) fn forget(&mut self) {
        if self.chunk.is_some() {
            *self = Served::default();
        }
    }

    fn is_for(&self, span: &Span, content: Options, (from, to): (Revision, Revision)) -> bool {
        self.key
            .as_ref()
            .is_some_and(|key| key.from == from && key.to == to && key.content == content && key.span == *span)
    }
}

impl Core {
    /// What a watcher gets next from a stretch of revisions; or the read that it takes first.
    pub(super) fn serve(
        &mut self,
        key: Key,
        stretch: (Revision, Revision),
        for_whom: ForWhom,
    ) -> Result<Outcome, Read> {
        let (from, to) = stretch;
        let nothing = Outcome::Nothing { next: to.next() };
        let Some(watcher) = self.watchers.get(key) else { return Ok(nothing) };
        let options = watcher.options;
        if self.served.is_for(&watcher.span, options.of_content(), stretch)
            && let Some(outcome) = &self.served.outcome
        {
            return Ok(outcome.clone());
        }
        let chunk = self.chunk_at(from, to, for_whom)?;
        let to = to.min(chunk.to);
        let Some(watcher) = self.watchers.get(key) else { return Ok(nothing) };
        let mut selection = std::mem::take(&mut self.served.selection);
        let pass = |record: &Record| options.pass(record);
        chunk.select(&watcher.span, (from, to), self.options.response_bytes, pass, &mut selection);
        if let (ForWhom::One(_), Some(first)) = (for_whom, chunk.stretch(from, to).first()) {
            self.behind.note_since(key, first.time_unix_ms);
        }
        if options.prev_kv() {
            let missing = self.missing_previous(&chunk, &selection.positions);
            if !missing.is_empty() {
                self.served.selection = selection;
                return Err(self.read(What::Previous { watcher: Some(key), chunk, positions: missing }));
            }
        }
        let outcome = self.pack(&chunk, &selection, options);
        self.served.selection = selection;
        let Some(watcher) = self.watchers.get(key) else { return Ok(nothing) };
        // A stretch that the chunk ends is served in full: so much is known without looking again.
        self.served.key = matches!(for_whom, ForWhom::Group).then(|| ServedKey {
            span: watcher.span.clone(),
            content: options.of_content(),
            from,
            to: stretch.1,
        });
        self.served.outcome = Some(outcome.clone());
        self.served.chunk = Some(chunk);
        Ok(outcome)
    }

    /// Encodes whole revisions of the selected changes, at least one, up to the bound.
    fn pack(&mut self, chunk: &Chunk, selection: &Selection, options: Options) -> Outcome {
        let served = &mut self.served;
        served.events.clear();
        (served.count, served.bytes) = (0, 0);
        let mut last = Revision::ZERO;
        // What there was before the last revision began.
        let mut whole = (0, 0, Revision::ZERO);
        for &at in &selection.positions {
            let Some(record) = chunk.get(at) else { continue };
            if record.id.revision != last {
                whole = (served.count, served.bytes, last);
                last = record.id.revision;
            }
            let previous = if options.prev_kv() { chunk.previous(record.id).flatten() } else { None };
            let event = EncodedEvent::new(record, previous.as_deref());
            served.bytes += event.len();
            served.count += 1;
            if served.bytes > self.options.response_bytes && whole.0 > 0 {
                let next = last;
                (served.count, served.bytes, last) = whole;
                served.events.truncate(served.bytes);
                return Outcome::Events { last, next };
            }
            if served.bytes <= PIECE_BYTES {
                event.append_to(&mut served.events);
            }
        }
        let next = selection.to.next();
        if served.count == 0 { Outcome::Nothing { next } } else { Outcome::Events { last, next } }
    }

    /// The changes whose previous pair only history knows; what memory knows is noted in the chunk.
    pub(super) fn missing_previous(&self, chunk: &Chunk, positions: &[u32]) -> Vec<u32> {
        let mut missing = Vec::new();
        let mut known = Vec::new();
        for &at in positions {
            let Some(record) = chunk.get(at) else { continue };
            if chunk.previous(record.id).is_some() {
                continue;
            }
            if is_creation(record) {
                known.push((record.id, None));
                continue;
            }
            match self.hub.previous_in_memory(record) {
                Previous::Known(previous) => known.push((record.id, previous.map(|r| r.encoded_pair().clone()))),
                Previous::Unknown => missing.push(at),
            }
        }
        if !known.is_empty() {
            chunk.remember_previous(known);
        }
        missing
    }

    /// Sends a watcher the events it was just served.
    pub(super) fn send_events(&mut self, key: Key, revision: Revision, out: &mut dyn Outbox) {
        if self.header.0 != revision || self.header.1.is_empty() {
            let header = Some((self.options.header)(revision));
            self.header = (revision, WatchResponse { header, ..Default::default() }.encode_to_vec());
        }
        let (count, bytes) = (self.served.count, self.served.bytes);
        let Some(watcher) = self.watchers.get_mut(key) else { return };
        watcher.count(count as u64, bytes as u64);
        self.sent.events += count as u64;
        self.sent.bytes += bytes as u64;
        let mut head = std::mem::take(&mut self.served.head);
        head.clear();
        append_head(&mut head, &self.header.1, watcher.id, false);
        let split = watcher.options.fragment() && count > 1 && head.len() + bytes >= self.options.fragment_bytes;
        if !split && bytes <= PIECE_BYTES {
            let events = std::mem::take(&mut self.served.events);
            self.send(&head, &events, out);
            self.served.events = events;
        } else {
            self.begin_large(key, split, out);
        }
        self.served.head = head;
    }

    fn begin_large(&mut self, key: Key, split: bool, out: &mut dyn Outbox) {
        let Some(watcher) = self.watchers.get(key) else { return };
        let selected = self.served.selection.positions.iter().take(self.served.count);
        let Some(chunk) = self.served.chunk.clone() else { return };
        let ids = selected.filter_map(|at| chunk.get(*at)).map(|record| record.id);
        let Some((first, last)) = ids.fold(None, |all: Option<(_, _)>, id| Some((all.map_or(id, |a| a.0), id))) else {
            return;
        };
        let fragment_bytes = split.then_some(self.options.fragment_bytes);
        let large = Large::new(watcher, self.header.1.clone(), (first, last), self.served.bytes, fragment_bytes);
        self.large = Some(Box::new(large));
        if !split {
            let len = self.large.as_ref().map_or(0, |large| large.len());
            out.begin(len);
        }
    }
}

/// A creation has nothing before it, also where the key was deleted in the same revision just before.
fn is_creation(record: &Record) -> bool {
    !record.is_delete() && record.pair().is_ok_and(|pair| pair.create_revision == pair.mod_revision)
}
