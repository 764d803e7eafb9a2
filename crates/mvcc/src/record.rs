//! A change as history keeps it, and as an event of it goes out.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};
use stentor_proto::Revision;
use stentor_proto::mvccpb::KeyValue;

use crate::ChangeId;

/// What a change did to its key.
///
/// ```
/// use stentor_mvcc::{ChangeId, ChangeKind, Record};
/// use stentor_proto::Revision;
/// let id = ChangeId { revision: Revision::FIRST, sub: 0 };
/// assert_eq!(Record::delete(id, 0, None, "k".into()).kind, ChangeKind::Delete);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// The key got a value.
    Put,
    /// The key was deleted; history keeps a tombstone.
    Delete,
}

/// One change of one key.
///
/// The pair is kept encoded, as an event or an answer carries it: for a put the whole `KeyValue`, for a
/// delete one with only key and mod_revision.
///
/// ```
/// use stentor_mvcc::{ChangeId, Record};
/// use stentor_proto::Revision;
/// let id = ChangeId { revision: Revision::new(5).ok_or("negative")?, sub: 0 };
/// let record = Record::delete(id, 1_700_000_000_000, None, "gone".into());
/// assert_eq!(Record::decode(id, record.encode()).as_ref(), Ok(&record));
/// assert!(record.is_delete() && record.key() == b"gone" && record.pair().is_ok());
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in history.
    pub id: ChangeId,
    /// What it did.
    pub kind: ChangeKind,
    /// Wall clock when the transaction came in, milliseconds since 1970.
    pub time_unix_ms: u64,
    /// The change of the same key that it superseded, a tombstone too; `None` for the first one, and
    /// where compaction had already forgotten it.
    pub previous: Option<ChangeId>,
    pair: Bytes,
    key_at: (u32, u32),
}

/// A record that cannot be read.
///
/// ```
/// use stentor_mvcc::{ChangeId, Record, RecordError};
/// use stentor_proto::Revision;
/// let id = ChangeId { revision: Revision::FIRST, sub: 0 };
/// assert_eq!(Record::decode(id, "".into()), Err(RecordError::Short));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end too early, or a length is beyond them.
    #[error("the record is cut short")]
    Short,
    /// A kind that this version does not know.
    #[error("the record has the unknown kind {0}")]
    UnknownKind(u8),
    /// The pair in it is no `KeyValue` with a key.
    #[error("the record's pair is malformed")]
    Pair,
}

const PUT: u8 = 0;
const DELETE: u8 = 1;
/// The tag of field 1, a length-delimited key, which the encoder writes first.
const KEY_TAG: u8 = 0x0a;

impl Record {
    /// A put of a whole pair; its mod_revision is `id.revision`.
    ///
    /// ```
    /// use stentor_mvcc::{ChangeId, Record};
    /// use stentor_proto::Revision;
    /// use stentor_proto::mvccpb::KeyValue;
    /// let id = ChangeId { revision: Revision::new(5).ok_or("negative")?, sub: 0 };
    /// let pair = KeyValue { key: "k".into(), value: "v".into(), mod_revision: 5, ..Default::default() };
    /// let record = Record::put(id, 1_700_000_000_000, None, &pair);
    /// assert_eq!((record.pair(), record.key_bytes()), (Ok(pair), "k".into()));
    /// // As the quota counts it: the pair, and the 12 bytes that it is stored under.
    /// assert_eq!(record.logical_bytes(), record.encoded_pair().len() as u64 + 12);
    /// # Ok::<(), &str>(())
    /// ```
    pub fn put(id: ChangeId, time_unix_ms: u64, previous: Option<ChangeId>, pair: &KeyValue) -> Record {
        Record::build(id, ChangeKind::Put, time_unix_ms, previous, pair)
    }

    /// A delete of a key.
    ///
    /// ```
    /// use stentor_mvcc::{ChangeId, Record};
    /// use stentor_proto::Revision;
    /// let id = ChangeId { revision: Revision::new(5).ok_or("negative")?, sub: 0 };
    /// let put = ChangeId { revision: id.revision.previous(), sub: 0 };
    /// let record = Record::delete(id, 1_700_000_000_000, Some(put), "k".into());
    /// assert!(record.is_delete() && record.previous == Some(put));
    /// assert_eq!(record.pair().map(|pair| (pair.key, pair.mod_revision)), Ok(("k".into(), 5)));
    /// # Ok::<(), &str>(())
    /// ```
    pub fn delete(id: ChangeId, time_unix_ms: u64, previous: Option<ChangeId>, key: Bytes) -> Record {
        let pair = KeyValue { key, mod_revision: id.revision.get(), ..KeyValue::default() };
        Record::build(id, ChangeKind::Delete, time_unix_ms, previous, &pair)
    }

    fn build(id: ChangeId, kind: ChangeKind, time_unix_ms: u64, previous: Option<ChangeId>, pair: &KeyValue) -> Record {
        let key_start = 1 + encoded_len_varint(pair.key.len() as u64);
        let key_at = (key_start as u32, (key_start + pair.key.len()) as u32);
        Record { id, kind, time_unix_ms, previous, pair: pair.encode_to_vec().into(), key_at }
    }

    /// The changed key.
    pub fn key(&self) -> &[u8] {
        // In bounds: both constructors derive it from the pair.
        self.pair.get(self.key_at.0 as usize..self.key_at.1 as usize).unwrap_or_default()
    }

    /// The changed key, sharing the record's memory.
    pub fn key_bytes(&self) -> Bytes {
        self.pair.slice_ref(self.key())
    }

    /// The pair as a protobuf `KeyValue`, encoded.
    pub fn encoded_pair(&self) -> &Bytes {
        &self.pair
    }

    /// The pair.
    ///
    /// # Errors
    /// [`RecordError::Pair`] where its bytes are no pair.
    pub fn pair(&self) -> Result<KeyValue, RecordError> {
        KeyValue::decode(self.pair.clone()).map_err(|_| RecordError::Pair)
    }

    /// Whether the key was deleted.
    pub fn is_delete(&self) -> bool {
        self.kind == ChangeKind::Delete
    }

    /// As it is stored, under [`ChangeId::to_bytes`].
    ///
    /// ```
    /// use stentor_mvcc::{ChangeId, Record};
    /// use stentor_proto::Revision;
    /// let id = ChangeId { revision: Revision::new(5).ok_or("negative")?, sub: 0 };
    /// let stored = Record::delete(id, 0, None, "k".into()).encode();
    /// // Kind, time and previous change take a byte each here; the pair follows.
    /// assert_eq!(stored[..3], [1, 0, 0]);
    /// # Ok::<(), &str>(())
    /// ```
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.pair.len() + 24);
        out.put_u8(match self.kind {
            ChangeKind::Put => PUT,
            ChangeKind::Delete => DELETE,
        });
        encode_varint(self.time_unix_ms, &mut out);
        // 0 stands for none: no change is at revision 0.
        let (revision, sub) = self.previous.map_or((0, 0), |p| (p.revision.get() as u64, p.sub));
        encode_varint(revision, &mut out);
        if revision != 0 {
            encode_varint(sub.into(), &mut out);
        }
        out.put_slice(&self.pair);
        out.freeze()
    }

    /// Reads what [`Record::encode`] wrote.
    ///
    /// ```
    /// use stentor_mvcc::{ChangeId, Record, RecordError};
    /// use stentor_proto::Revision;
    /// let id = ChangeId { revision: Revision::new(5).ok_or("negative")?, sub: 0 };
    /// let stored = Record::delete(id, 0, None, "k".into()).encode();
    /// assert!(Record::decode(id, stored.clone())?.is_delete());
    /// assert_eq!(Record::decode(id, stored.slice(..4)), Err(RecordError::Pair));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(id: ChangeId, mut bytes: Bytes) -> Result<Record, RecordError> {
        let kind = match bytes.try_get_u8().map_err(|_| RecordError::Short)? {
            PUT => ChangeKind::Put,
            DELETE => ChangeKind::Delete,
            unknown => return Err(RecordError::UnknownKind(unknown)),
        };
        let time_unix_ms = varint(&mut bytes)?;
        let revision = i64::try_from(varint(&mut bytes)?).map_err(|_| RecordError::Short)?;
        let previous = match Revision::new(revision) {
            Some(revision) if revision > Revision::ZERO => {
                let sub = u32::try_from(varint(&mut bytes)?).map_err(|_| RecordError::Short)?;
                Some(ChangeId { revision, sub })
            }
            _ => None,
        };
        let key_at = key_position(&bytes)?;
        Ok(Record { id, kind, time_unix_ms, previous, pair: bytes, key_at })
    }

    /// What the record counts for against the space quota: its key and its pair.
    pub fn logical_bytes(&self) -> u64 {
        (self.pair.len() + size_of::<[u8; 12]>()) as u64
    }
}

fn varint(bytes: &mut Bytes) -> Result<u64, RecordError> {
    decode_varint(bytes).map_err(|_| RecordError::Short)
}

/// Where the key lies within an encoded pair.
fn key_position(pair: &Bytes) -> Result<(u32, u32), RecordError> {
    let mut rest = &pair[..];
    if rest.try_get_u8() != Ok(KEY_TAG) {
        return Err(RecordError::Pair);
    }
    let len = decode_varint(&mut rest).map_err(|_| RecordError::Pair)?;
    let start = pair.len() - rest.len();
    // A damaged length may be anything up to the largest number.
    if len == 0 || len > rest.len() as u64 {
        return Err(RecordError::Pair);
    }
    let end = start as u64 + len;
    Ok((u32::try_from(start).map_err(|_| RecordError::Pair)?, u32::try_from(end).map_err(|_| RecordError::Pair)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(revision: i64, sub: u32) -> ChangeId {
        ChangeId { revision: Revision::new(revision).unwrap(), sub }
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let pair = KeyValue {
            key: Bytes::from(vec![7; 300]),
            create_revision: 3,
            mod_revision: 9,
            version: 4,
            value: "v".into(),
            lease: -5,
        };
        for record in [
            Record::put(id(9, 2), 1_700_000_000_000, Some(id(8, 0)), &pair),
            Record::put(id(9, 2), 0, None, &pair),
            Record::delete(id(9, 2), 5, Some(id(9, 1)), "k".into()),
        ] {
            let back = Record::decode(record.id, record.encode()).unwrap();
            assert_eq!(back, record);
            assert_eq!(back.key(), back.pair().unwrap().key);
        }
    }

    #[test]
    fn damage_is_an_error() {
        let good = Record::delete(id(9, 2), 5, Some(id(9, 1)), "key".into()).encode();
        for len in 0..good.len() {
            // Cutting the pair behind its key is not seen here: decoding the pair finds it.
            let cut = Record::decode(id(9, 2), good.slice(..len));
            assert!(cut.is_err() || cut.is_ok_and(|r| r.key() == b"key"), "cut at {len}");
        }
        assert_eq!(Record::decode(id(1, 0), Bytes::from_static(&[9, 0, 0])), Err(RecordError::UnknownKind(9)));
        let longest = [&[PUT, 0, 0, KEY_TAG][..], &[0xff; 9], &[1], b"key"].concat();
        assert_eq!(Record::decode(id(1, 0), longest.into()), Err(RecordError::Pair));
    }
}
