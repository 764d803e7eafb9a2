//! Where responses go, and how they are encoded.
//!
//! A response is `WatchResponse { header, watch_id, ..., events }`. What is the same for all watchers that
//! get an event, the event itself, was encoded when it was written to the store; the head in front of it is
//! some ten bytes. So delivering is copying.

use prost::encoding::{encode_varint, encoded_len_varint};
use stentor_mvcc::Record;

/// Takes the encoded responses of a stream. A transport puts its frame prefix in front of each.
///
/// Responses may be of any size, and one that does not fit is handed over in pieces, over several calls of
/// [`crate::WatchStream::fill`]: an outbox needs no more room than it likes to send at a time.
pub trait Outbox {
    /// Bytes that it still takes now. With 0 the stream waits.
    fn room(&self) -> usize;

    /// A response begins: a protobuf `WatchResponse` of `len` bytes, which follow.
    fn begin(&mut self, len: usize);

    /// The next bytes of it.
    fn put(&mut self, bytes: &[u8]);
}

/// A response is encoded in one piece up to this size, in bytes. So much is kept of one that its outbox
/// has no room for; of a larger one, a reference to history and a piece of this size.
pub(crate) const PIECE_BYTES: usize = 40 << 10;

const WATCH_ID_TAG: u8 = 2 << 3;
const FRAGMENT: [u8; 2] = [7 << 3, 1];
const EVENT_TAG: u8 = 11 << 3 | 2;
const DELETE_TYPE: [u8; 2] = [1 << 3, 1];
const PAIR_TAG: u8 = 2 << 3 | 2;
const PREVIOUS_TAG: u8 = 3 << 3 | 2;

/// A few bytes without an allocation.
#[derive(Clone, Copy, Default)]
struct Few {
    bytes: [u8; 24],
    len: u8,
}

impl Few {
    fn push(&mut self, bytes: &[u8]) {
        let at = usize::from(self.len);
        // All that is ever pushed are some tags and lengths: at most 4 + 3 * 5 bytes.
        if let Some(room) = self.bytes.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len() as u8;
        }
    }

    fn push_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.push(&[value as u8]);
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// An event as a field of a response, in pieces that need no copy.
pub(crate) struct EncodedEvent<'a> {
    head: Few,
    pair: &'a [u8],
    previous_head: Few,
    previous: &'a [u8],
}

impl<'a> EncodedEvent<'a> {
    pub(crate) fn new(record: &'a Record, previous: Option<&'a [u8]>) -> EncodedEvent<'a> {
        let pair: &[u8] = record.encoded_pair();
        let mut previous_head = Few::default();
        if let Some(previous) = previous {
            previous_head.push(&[PREVIOUS_TAG]);
            previous_head.push_varint(previous.len() as u64);
        }
        let previous = previous.unwrap_or_default();
        let mut inner = Few::default();
        if record.is_delete() {
            inner.push(&DELETE_TYPE);
        }
        inner.push(&[PAIR_TAG]);
        inner.push_varint(pair.len() as u64);
        let len = usize::from(inner.len) + pair.len() + usize::from(previous_head.len) + previous.len();
        let mut head = Few::default();
        head.push(&[EVENT_TAG]);
        head.push_varint(len as u64);
        head.push(inner.as_slice());
        EncodedEvent { head, pair, previous_head, previous }
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.head.len) + self.pair.len() + usize::from(self.previous_head.len) + self.previous.len()
    }

    pub(crate) fn append_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.len());
        for piece in [self.head.as_slice(), self.pair, self.previous_head.as_slice(), self.previous] {
            out.extend_from_slice(piece);
        }
    }

    /// Appends what comes behind the first `skip` bytes, at most `max` of it.
    pub(crate) fn append_part(&self, mut skip: usize, mut max: usize, out: &mut Vec<u8>) {
        for piece in [self.head.as_slice(), self.pair, self.previous_head.as_slice(), self.previous] {
            let rest = piece.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(piece.len());
            let taken = rest.get(..max.min(rest.len())).unwrap_or_default();
            out.extend_from_slice(taken);
            max -= taken.len();
        }
    }
}

/// Appends what comes in front of a response's events. `header` is its first field, encoded.
pub(crate) fn append_head(out: &mut Vec<u8>, header: &[u8], watch_id: i64, fragment: bool) {
    out.extend_from_slice(header);
    if watch_id != 0 {
        out.push(WATCH_ID_TAG);
        encode_varint(watch_id as u64, out);
    }
    if fragment {
        out.extend_from_slice(&FRAGMENT);
    }
}

/// The length of [`append_head`]'s work.
pub(crate) fn head_len(header: &[u8], watch_id: i64, fragment: bool) -> usize {
    let id = if watch_id == 0 { 0 } else { 1 + encoded_len_varint(watch_id as u64) };
    header.len() + id + if fragment { FRAGMENT.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use stentor_mvcc::ChangeId;
    use stentor_proto::Revision;
    use stentor_proto::etcdserverpb::{ResponseHeader, WatchResponse};
    use stentor_proto::mvccpb::{Event, KeyValue};

    use super::*;

    fn records() -> Vec<Record> {
        let id = |sub| ChangeId { revision: Revision::new(900).unwrap(), sub };
        let pair = |value: usize| KeyValue {
            key: "key".into(),
            value: vec![7; value].into(),
            mod_revision: 900,
            ..KeyValue::default()
        };
        vec![
            Record::put(id(0), 1, None, &pair(0)),
            Record::put(id(1), 1, None, &pair(70_000)),
            Record::delete(id(2), 1, None, "gone".into()),
        ]
    }

    #[test]
    fn it_is_what_prost_encodes() {
        let old = KeyValue { key: "key".into(), value: "old".into(), ..KeyValue::default() };
        for previous in [None, Some(old)] {
            for watch_id in [0, 5, 300, -4] {
                for fragment in [false, true] {
                    let header = ResponseHeader { cluster_id: 1 << 60, revision: 900, ..ResponseHeader::default() };
                    let field = WatchResponse { header: Some(header), ..Default::default() }.encode_to_vec();
                    let encoded_previous = previous.as_ref().map(Message::encode_to_vec);
                    let mut ours = Vec::new();
                    append_head(&mut ours, &field, watch_id, fragment);
                    assert_eq!(ours.len(), head_len(&field, watch_id, fragment));
                    let mut events = Vec::new();
                    for record in records() {
                        let event = EncodedEvent::new(&record, encoded_previous.as_deref());
                        let before = ours.len();
                        event.append_to(&mut ours);
                        assert_eq!(ours.len() - before, event.len());
                        events.push(Event {
                            r#type: i32::from(record.is_delete()),
                            kv: Some(record.pair().unwrap()),
                            prev_kv: previous.clone(),
                        });
                    }
                    let theirs =
                        WatchResponse { header: Some(header), watch_id, fragment, events, ..Default::default() };
                    assert_eq!(ours, theirs.encode_to_vec());
                }
            }
        }
    }

    #[test]
    fn parts_of_an_event_make_the_whole() {
        for record in records() {
            let event = EncodedEvent::new(&record, Some(b"what was there before"));
            let mut whole = Vec::new();
            event.append_to(&mut whole);
            for size in [1, 3, 17, 1000, 1 << 20] {
                let mut parts = Vec::new();
                while parts.len() < event.len() {
                    let before = parts.len();
                    event.append_part(before, size, &mut parts);
                    assert!(parts.len() > before && parts.len() - before <= size);
                }
                assert!(parts == whole);
            }
        }
    }
}
