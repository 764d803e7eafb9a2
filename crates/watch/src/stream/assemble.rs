//! Makes responses of what a chunk holds.

use std::collections::VecDeque;

use prost::Message;
use prost::encoding::encoded_len_varint;
use stentor_mvcc::Record;
use stentor_proto::Revision;
use stentor_proto::etcdserverpb::WatchResponse;
use stentor_proto::mvccpb::event::EventType;
use stentor_proto::mvccpb::{Event, KeyValue};

use super::WatchStream;
use crate::chunk::Chunk;
use crate::read::{ForWhom, Read, ReadFailure, What};
use crate::recent::Previous;
use crate::watcher::Key;

/// What a watcher gets out of a chunk.
pub(super) enum Served {
    /// No event, up to before `next`.
    Nothing {
        next: Revision,
    },
    /// Whole revisions, the last of them `last`; everything before `next` is in it.
    Events {
        events: Vec<Event>,
        last: Revision,
        next: Revision,
    },
    Lost(ReadFailure),
}

/// A response on its way out in fragments.
pub(super) struct Parts {
    /// All but the events and the mark.
    head: WatchResponse,
    events: VecDeque<Event>,
}

impl WatchStream {
    /// What a watcher gets next from `from` on, at most up to `to`; or the read that it takes first.
    pub(super) fn serve(&mut self, key: Key, from: Revision, to: Revision, for_whom: ForWhom) -> Result<Served, Read> {
        let chunk = self.chunk_at(from, to, for_whom)?;
        let to = to.min(chunk.to);
        let Some(watcher) = self.watchers.get(&key) else { return Ok(Served::Nothing { next: to.next() }) };
        let mut picked = chunk.select(&watcher.range, from, to);
        picked.retain(|&at| chunk.get(at).is_some_and(|record| watcher.options.pass(record)));
        if picked.is_empty() {
            return Ok(Served::Nothing { next: to.next() });
        }
        let prev_kv = watcher.options.prev_kv;
        if prev_kv {
            let missing = self.missing_previous(&chunk, &picked);
            if !missing.is_empty() {
                return Err(self.read(What::Previous { watcher: key, chunk, positions: missing }));
            }
        }
        Ok(pack(&chunk, &picked, prev_kv, to, self.options.response_bytes))
    }

    /// The changes whose previous pair only history knows; what memory knows is noted in the chunk.
    fn missing_previous(&self, chunk: &Chunk, picked: &[u32]) -> Vec<u32> {
        let mut missing = Vec::new();
        let mut known = Vec::new();
        for &at in picked {
            let Some(record) = chunk.get(at) else { continue };
            if chunk.previous(record.id).is_some() {
                continue;
            }
            match self.hub.previous_in_memory(record) {
                Previous::Known(None) => known.push((record.id, None)),
                Previous::Known(Some(previous)) => match previous.pair() {
                    Ok(pair) => known.push((record.id, Some(pair))),
                    Err(_) => missing.push(at),
                },
                Previous::Unknown => missing.push(at),
            }
        }
        if !known.is_empty() {
            chunk.remember_previous(known);
        }
        missing
    }

    /// The response that brings a watcher its events, or its first fragment.
    pub(super) fn send_events(&mut self, key: Key, events: Vec<Event>, revision: Revision) -> WatchResponse {
        let header = self.header(revision);
        let Some(watcher) = self.watchers.get_mut(&key) else { return WatchResponse::default() };
        watcher.active = true;
        let mut response = WatchResponse { header, watch_id: watcher.id, events, ..Default::default() };
        let split = watcher.options.fragment
            && response.events.len() > 1
            && response.encoded_len() >= self.options.fragment_bytes;
        if !split {
            return response;
        }
        let events = std::mem::take(&mut response.events).into();
        response.fragment = true;
        self.parts = Some(Parts { head: response, events });
        self.next_part().unwrap_or_default()
    }

    /// The next fragment of the response that is being sent in such.
    pub(super) fn next_part(&mut self) -> Option<WatchResponse> {
        let parts = self.parts.as_mut()?;
        let mut size = parts.head.encoded_len();
        let mut response = parts.head.clone();
        while let Some(event) = parts.events.pop_front() {
            let bytes = event.encoded_len();
            size += 1 + encoded_len_varint(bytes as u64) + bytes;
            if size >= self.options.fragment_bytes && !response.events.is_empty() {
                parts.events.push_front(event);
                return Some(response);
            }
            response.events.push(event);
        }
        self.parts = None;
        response.fragment = false;
        Some(response)
    }
}

/// Whole revisions of the picked changes, at least one, up to the bound.
fn pack(chunk: &Chunk, picked: &[u32], prev_kv: bool, to: Revision, max_bytes: usize) -> Served {
    let mut events: Vec<Event> = Vec::with_capacity(picked.len());
    let mut last = Revision::ZERO;
    let mut whole = 0;
    let mut bytes = 0;
    for &at in picked {
        let Some(record) = chunk.get(at) else { continue };
        if record.id.revision != last {
            whole = events.len();
        }
        let event = match event(chunk, record, prev_kv) {
            Ok(event) => event,
            Err(failure) => return Served::Lost(failure),
        };
        bytes += event.encoded_len();
        if bytes > max_bytes && whole > 0 {
            events.truncate(whole);
            let next = record.id.revision;
            let last = events.last().and_then(|e| e.kv.as_ref()).and_then(|kv| Revision::new(kv.mod_revision));
            return Served::Events { events, last: last.unwrap_or(next.previous()), next };
        }
        last = record.id.revision;
        events.push(event);
    }
    Served::Events { events, last, next: to.next() }
}

fn event(chunk: &Chunk, record: &Record, prev_kv: bool) -> Result<Event, ReadFailure> {
    let pair = record.pair().map_err(|e| ReadFailure::Failed(format!("change {} is not readable: {e}", record.id)))?;
    let kind = if record.is_delete() { EventType::Delete } else { EventType::Put };
    let prev_kv = if prev_kv { previous(chunk, record, &pair) } else { None };
    Ok(Event { r#type: kind as i32, kv: Some(pair), prev_kv })
}

fn previous(chunk: &Chunk, record: &Record, pair: &KeyValue) -> Option<KeyValue> {
    // A creation has none, also where the key was deleted in the same revision just before.
    let creation = !record.is_delete() && pair.create_revision == pair.mod_revision;
    if creation { None } else { chunk.previous(record.id).flatten() }
}
