//! A change as history keeps it.

use bytes::Bytes;
use stentor_mvcc::{ChangeId, Record};
use stentor_proto::Revision;
use stentor_proto::mvccpb::KeyValue;

use crate::{Outcome, Target};

/// Input: the 12 bytes that a record stands under, and the record.
pub const HISTORY_RECORD: Target = Target { name: "history_record", decode, samples, refuses: true, cost: 1 };

const ID_LEN: usize = 12;

fn decode(bytes: &[u8]) -> Outcome {
    let (id, record) = bytes.split_at(ID_LEN.min(bytes.len()));
    let Some(id) = ChangeId::from_bytes(id) else { return Outcome::Refused };
    assert_eq!(ChangeId::from_bytes(&id.to_bytes()), Some(id));
    let Ok(record) = Record::decode(id, Bytes::copy_from_slice(record)) else { return Outcome::Refused };
    assert_eq!(Record::decode(id, record.encode()), Ok(record.clone()), "what was read is written the same");
    assert!(!record.key().is_empty(), "a change has a key");
    assert_eq!(record.key(), record.key_bytes());
    Outcome::of(&record.pair())
}

fn samples() -> Vec<Vec<u8>> {
    let id = |revision, sub| ChangeId { revision: Revision::new(revision).unwrap_or(Revision::FIRST), sub };
    let pair = KeyValue {
        key: "hello".into(),
        value: "world".into(),
        create_revision: 2,
        mod_revision: 300,
        version: 7,
        lease: 1 << 60,
    };
    let long = KeyValue { key: vec![b'k'; 200].into(), value: vec![b'v'; 500].into(), ..pair.clone() };
    let records = [
        Record::put(id(2, 0), 0, None, &pair),
        Record::put(id(300, 5), 1_790_000_000_000, Some(id(299, 1)), &pair),
        Record::put(id(i64::MAX, u32::MAX), u64::MAX, Some(id(i64::MAX, 0)), &long),
        Record::delete(id(301, 0), 1_790_000_000_000, Some(id(300, 5)), "hello".into()),
    ];
    records.map(|record| [&record.id.to_bytes()[..], &record.encode()].concat()).to_vec()
}
