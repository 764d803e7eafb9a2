//! Requests, encoded before the clock runs.

use anyhow::{Result, ensure};
use bytes::{Bytes, BytesMut};
use prost::Message;
use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest};

/// Bytes at the beginning of a value that hold when its put was sent ([`crate::clock`], little-endian).
pub const STAMP: usize = 8;

/// Numbered keys of one length: a prefix and decimal digits.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: Bytes,
    digits: usize,
    count: u64,
}

impl Keys {
    /// `count` keys, at least one, of `length` bytes or what the prefix and the number need.
    pub fn new(prefix: &str, count: u64, length: usize) -> Keys {
        let count = count.max(1);
        let needed = (count - 1).max(1).ilog10() as usize + 1;
        let digits = length.saturating_sub(prefix.len()).max(needed);
        Keys { prefix: Bytes::copy_from_slice(prefix.as_bytes()), digits, count }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of each.
    pub fn length(&self) -> usize {
        self.prefix.len() + self.digits
    }

    /// Key number `index`, around and around.
    pub fn get(&self, index: u64) -> Vec<u8> {
        let digits = self.digits;
        let mut key = self.prefix.to_vec();
        key.extend(format!("{:0digits$}", index % self.count).into_bytes());
        key
    }

    /// All of them, as the key and range end of a request.
    pub fn range(&self) -> (Vec<u8>, Vec<u8>) {
        (self.prefix.to_vec(), after_prefix(&self.prefix))
    }
}

/// The end of the range of all keys that begin with `prefix`.
pub fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// A put with holes for its key and the time.
#[derive(Clone, Debug)]
pub struct PutTemplate {
    framed: Bytes,
    key_at: usize,
    key_length: usize,
    value_at: usize,
}

impl PutTemplate {
    /// Puts of one of `keys`, with a value of so many bytes, at least [`STAMP`].
    ///
    /// # Errors
    /// When the value has no room for the stamp.
    pub fn new(keys: &Keys, value_size: usize) -> Result<PutTemplate> {
        ensure!(value_size >= STAMP, "a value must have {STAMP} bytes for the time of its put");
        let (key, value) = (vec![b'k'; keys.length()], vec![b'v'; value_size]);
        let message = PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        let framed = framed(&message);
        let key_at = 5 + 1 + varint_length(keys.length());
        let value_at = key_at + keys.length() + 1 + varint_length(value_size);
        Ok(PutTemplate { framed, key_at, key_length: keys.length(), value_at })
    }

    /// The request for a key, which must be of the length promised, sent at `now`.
    pub fn fill(&self, key: &[u8], now: u64) -> Bytes {
        let mut bytes = BytesMut::from(&self.framed[..]);
        if let Some(hole) = bytes.get_mut(self.key_at..self.key_at + self.key_length)
            && hole.len() == key.len()
        {
            hole.copy_from_slice(key);
        }
        if let Some(hole) = bytes.get_mut(self.value_at..self.value_at + STAMP) {
            hole.copy_from_slice(&now.to_le_bytes());
        }
        bytes.freeze()
    }
}

fn varint_length(value: usize) -> usize {
    (value.max(1).ilog2() as usize) / 7 + 1
}

/// A message behind gRPC's prefix.
pub fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    append(&mut bytes, message);
    bytes.freeze()
}

/// What a watcher is asked to be.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// The key, or where the range begins.
    pub key: Vec<u8>,
    /// Where the range ends; empty for one key.
    pub range_end: Vec<u8>,
    /// From which revision; 0 for now.
    pub start_revision: i64,
    /// Ask for the pair before each event.
    pub prev_kv: bool,
}

impl Watch {
    /// One key, from now.
    pub fn key(key: Vec<u8>) -> Watch {
        Watch { key, ..Watch::default() }
    }

    /// Every key with a prefix, from now.
    pub fn prefix(prefix: Vec<u8>) -> Watch {
        let range_end = after_prefix(&prefix);
        Watch { key: prefix, range_end, ..Watch::default() }
    }

    /// All of `keys`, from `start_revision`.
    pub fn all(keys: &Keys, start_revision: i64) -> Watch {
        let (key, range_end) = keys.range();
        Watch { key, range_end, start_revision, ..Watch::default() }
    }

    /// Adds the create request. The server chooses the id.
    pub fn append_to(self, bytes: &mut BytesMut) {
        let create = WatchCreateRequest {
            key: self.key.into(),
            range_end: self.range_end.into(),
            start_revision: self.start_revision,
            prev_kv: self.prev_kv,
            ..Default::default()
        };
        append(bytes, &WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
    }
}

/// A progress request.
pub fn progress() -> Bytes {
    framed(&WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) })
}

fn append(bytes: &mut BytesMut, message: &impl Message) {
    bytes.extend_from_slice(&[0]);
    // No message of ours comes near 4 GiB.
    bytes.extend_from_slice(&u32::try_from(message.encoded_len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&message.encode_to_vec());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_template_is_the_put() {
        for (count, length, size) in [(1, 1, 8), (10_000, 32, 256), (5, 200, 130), (3, 5, 20_000)] {
            let keys = Keys::new("k", count, length);
            let template = PutTemplate::new(&keys, size).unwrap();
            let key = keys.get(count - 1);
            let bytes = template.fill(&key, 0x0102_0304_0506_0708);
            let put = PutRequest::decode(&bytes[5..]).unwrap();
            assert_eq!(put.key, key);
            assert_eq!(put.value.len(), size);
            assert_eq!(put.value[..8], [8, 7, 6, 5, 4, 3, 2, 1]);
            assert!(put.value[8..].iter().all(|b| *b == b'v'));
        }
        assert!(PutTemplate::new(&Keys::new("k", 1, 1), 7).is_err());
    }

    #[test]
    fn keys_are_distinct_and_of_one_length() {
        let keys = Keys::new("p/", 1001, 4);
        let all: std::collections::BTreeSet<_> = (0..keys.count()).map(|i| keys.get(i)).collect();
        assert_eq!(all.len(), 1001);
        assert!(all.iter().all(|key| key.len() == keys.length()));
        assert_eq!(keys.get(1001), keys.get(0));
        let (from, to) = keys.range();
        assert!(all.iter().all(|key| *key >= from && *key < to));
    }
}
