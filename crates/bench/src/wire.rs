//! Requests, encoded before the clock runs.

use anyhow::{Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use prost::Message;
use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{
    CompactionRequest, PutRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
};

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
        let mut key = vec![0; self.length()];
        self.write(index, &mut key);
        key
    }

    /// Writes key number `index` to a place of its length.
    pub fn write(&self, index: u64, place: &mut [u8]) {
        let mut rest = index % self.count;
        for byte in place.iter_mut().rev().take(self.digits) {
            *byte = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        place.iter_mut().zip(&self.prefix).for_each(|(byte, of_prefix)| *byte = *of_prefix);
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

/// A request with holes for keys, and one for the time if it puts values.
#[derive(Clone, Debug)]
pub struct Template {
    framed: Bytes,
    keys: Keys,
    holes: Vec<usize>,
    stamps: Vec<usize>,
}

/// How one of the places for keys is marked while a template is made: no key of ours has such bytes.
const MARKS: std::ops::RangeInclusive<u8> = 0x80..=0xff;

impl Template {
    /// A request that `build` makes of so many keys, in the order of its fields. Whatever it makes, the
    /// keys must be in it as they are, and each value begin with [`STAMP`] bytes of `s` for the time.
    ///
    /// # Errors
    /// When a key is not in the request, or more than once.
    pub fn new<M: Message>(keys: &Keys, count: usize, build: impl FnOnce(Vec<Vec<u8>>) -> M) -> Result<Template> {
        ensure!(count <= MARKS.len(), "a template has at most {} keys", MARKS.len());
        let marks: Vec<Vec<u8>> = MARKS.take(count).map(|mark| vec![mark; keys.length()]).collect();
        let framed = framed(&build(marks.clone()));
        let places = |wanted: &[u8]| -> Vec<usize> {
            let found = framed.windows(wanted.len().max(1)).enumerate().filter(|(_, window)| *window == wanted);
            found.map(|(at, _)| at).collect()
        };
        let mut holes = Vec::new();
        for mark in &marks {
            let &[at] = &places(mark)[..] else { bail!("a key is not in its request once") };
            holes.push(at);
        }
        let stamps = places(&[b's'; STAMP]);
        Ok(Template { keys: keys.clone(), holes, stamps, framed })
    }

    /// Puts of one key, with a value of so many bytes, at least [`STAMP`].
    ///
    /// # Errors
    /// When the value has no room for the stamp.
    pub fn put(keys: &Keys, value_size: usize) -> Result<Template> {
        let value = stamped_value(value_size)?;
        Template::new(keys, 1, |mut key| PutRequest {
            key: key.pop().unwrap_or_default().into(),
            value: value.into(),
            ..Default::default()
        })
    }

    /// The request for keys of these numbers, at the time `now`.
    pub fn fill(&self, numbers: impl IntoIterator<Item = u64>, now: u64) -> Bytes {
        let mut bytes = BytesMut::from(&self.framed[..]);
        for (at, number) in self.holes.iter().zip(numbers) {
            bytes.get_mut(*at..at + self.keys.length()).into_iter().for_each(|hole| self.keys.write(number, hole));
        }
        for at in &self.stamps {
            bytes.get_mut(*at..at + STAMP).into_iter().for_each(|hole| hole.copy_from_slice(&now.to_le_bytes()));
        }
        bytes.freeze()
    }

    /// The keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }
}

/// A value of so many bytes, with a place for the time of its put.
///
/// # Errors
/// When it has no room for that.
pub fn stamped_value(size: usize) -> Result<Vec<u8>> {
    ensure!(size >= STAMP, "a value must have {STAMP} bytes for the time of its put");
    let mut value = vec![b'v'; size];
    value.iter_mut().take(STAMP).for_each(|byte| *byte = b's');
    Ok(value)
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

/// A request to cancel a watcher.
pub fn cancel(watch_id: i64) -> Bytes {
    framed(&WatchRequest { request_union: Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })) })
}

/// A request to compact up to a revision, answered when it is done.
pub fn compaction(revision: i64) -> Bytes {
    framed(&CompactionRequest { revision, physical: true })
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
            let bytes = Template::put(&keys, size).unwrap().fill([count - 1], 0x0102_0304_0506_0708);
            let put = PutRequest::decode(&bytes[5..]).unwrap();
            assert_eq!(bytes.len() - 5, put.encoded_len());
            assert_eq!(put.key, keys.get(count - 1));
            assert_eq!(put.value.len(), size);
            assert_eq!(put.value[..8], [8, 7, 6, 5, 4, 3, 2, 1]);
            assert!(put.value[8..].iter().all(|b| *b == b'v'));
        }
        assert!(Template::put(&Keys::new("k", 1, 1), 7).is_err());
    }

    #[test]
    fn a_template_whose_keys_are_not_found_is_refused() {
        let keys = Keys::new("k", 10, 8);
        assert!(Template::new(&keys, 1, |_| PutRequest::default()).is_err(), "none");
        let twice = |keys: Vec<Vec<u8>>| PutRequest {
            key: keys[0].clone().into(),
            value: keys[0].clone().into(),
            ..Default::default()
        };
        assert!(Template::new(&keys, 1, twice).is_err());
        assert!(Template::new(&keys, 129, |_| PutRequest::default()).is_err(), "more than there are marks");
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
