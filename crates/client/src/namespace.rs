//! A part of the key space that is used as if it were all of it.

use bytes::{BufMut as _, Bytes, BytesMut};
use stentor_proto::{KeyRange as Interval, RangeEnd, mvccpb};

use crate::error::{Error, ErrorKind, Result};
use crate::{KeyRange, KeyValue};

/// What every key of a client begins with, unseen by the program; nothing for most clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Namespace(Bytes);

impl Namespace {
    /// One below this.
    pub(crate) fn below(&self, prefix: Bytes) -> Namespace {
        Namespace(join(&self.0, &prefix))
    }

    /// How many bytes of each key the program does not see.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The key in the store. An empty one is refused, as a store does: what it would name is the prefix
    /// itself, which is not in the namespace.
    pub(crate) fn key(&self, key: Bytes) -> Result<Bytes> {
        match (self.0.is_empty(), key.is_empty()) {
            (true, _) => Ok(key),
            (false, true) => Err(Error::with(ErrorKind::InvalidArgument, "the key is empty")),
            (false, false) => Ok(join(&self.0, &key)),
        }
    }

    /// The interval in the store. One without an upper end ends where the namespace does.
    pub(crate) fn interval(&self, interval: &Interval) -> Result<Interval> {
        if self.0.is_empty() {
            return Ok(interval.clone());
        }
        let start = self.key(interval.start().clone())?;
        Ok(match interval.end() {
            RangeEnd::Single => Interval::key(start),
            // An interval with an empty end has nothing in it, and so it is with the prefix before it.
            RangeEnd::Before(end) => Interval::interval(start, join(&self.0, end)),
            RangeEnd::Unbounded => match Interval::prefix(self.0.clone()).end() {
                RangeEnd::Before(end) => Interval::interval(start, end.clone()),
                // Nothing is above a prefix of 0xff alone.
                _ => Interval::from_key(start),
            },
        })
    }

    /// The range in the store.
    pub(crate) fn range(&self, range: &KeyRange) -> Result<KeyRange> {
        range.map(|interval| self.interval(interval))
    }

    /// `key` and `range_end` of a request.
    pub(crate) fn to_wire(&self, interval: &Interval) -> Result<(Bytes, Bytes)> {
        Ok(self.interval(interval)?.to_wire())
    }

    /// A pair of an answer, as the program sees it.
    pub(crate) fn pair(&self, pair: mvccpb::KeyValue) -> KeyValue {
        KeyValue::from(pair).without(self.len())
    }

    /// Pairs of an answer, as the program sees them.
    pub(crate) fn pairs(&self, pairs: Vec<mvccpb::KeyValue>) -> Vec<KeyValue> {
        pairs.into_iter().map(|pair| self.pair(pair)).collect()
    }

    /// A key of an answer, if it is in the namespace.
    pub(crate) fn seen(&self, key: &Bytes) -> Option<Bytes> {
        key.starts_with(&self.0).then(|| key.slice(self.len()..))
    }
}

fn join(prefix: &Bytes, key: &Bytes) -> Bytes {
    if prefix.is_empty() {
        return key.clone();
    }
    let mut joined = BytesMut::with_capacity(prefix.len() + key.len());
    joined.put_slice(prefix);
    joined.put_slice(key);
    joined.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(prefix: &'static [u8]) -> Namespace {
        Namespace::default().below(Bytes::from_static(prefix))
    }

    fn wire(prefix: &'static [u8], range: &Interval) -> (Vec<u8>, Vec<u8>) {
        let (key, end) = namespace(prefix).to_wire(range).unwrap();
        (key.to_vec(), end.to_vec())
    }

    #[test]
    fn without_a_prefix_nothing_changes() {
        for range in [Interval::key("a"), Interval::key(""), Interval::all(), Interval::interval("a", "b")] {
            assert_eq!(namespace(b"").interval(&range).unwrap(), range);
        }
    }

    #[test]
    fn ranges_end_where_the_namespace_does() {
        assert_eq!(wire(b"/t/", &Interval::key("a")), (b"/t/a".to_vec(), vec![]));
        assert_eq!(wire(b"/t/", &Interval::interval("a", "c")), (b"/t/a".to_vec(), b"/t/c".to_vec()));
        assert_eq!(wire(b"/t/", &Interval::from_key("a")), (b"/t/a".to_vec(), b"/t0".to_vec()));
        assert_eq!(wire(b"/t/", &Interval::all()), (b"/t/\0".to_vec(), b"/t0".to_vec()));
        // Nothing sorts after such a prefix, so the end is that of the key space.
        assert_eq!(wire(b"\xff\xff", &Interval::from_key("a")), (b"\xff\xffa".to_vec(), b"\0".to_vec()));
        assert_eq!(wire(b"a\xff", &Interval::from_key("a")), (b"a\xffa".to_vec(), b"b".to_vec()));
    }

    #[test]
    fn an_empty_range_stays_empty() {
        for range in [Interval::interval("b", "a"), Interval::interval("b", "b"), Interval::interval("b", "")] {
            assert!(namespace(b"/t/").interval(&range).unwrap().is_empty(), "{range:?}");
        }
    }

    #[test]
    fn the_empty_key_is_not_in_it() {
        for range in [Interval::key(""), Interval::from_key(""), Interval::interval("", "a")] {
            let error = namespace(b"/t/").interval(&range).unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn a_segment_of_a_namespace_is_one_of_the_store() {
        let segment = namespace(b"/t/").range(&KeyRange::segment("a")).unwrap();
        assert_eq!(segment, KeyRange::segment("/t/a"));
        let below = namespace(b"/t").range(&KeyRange::segment("")).unwrap();
        assert!(below.contains(b"/t/a") && !below.contains(b"/ta"));
    }

    #[test]
    fn namespaces_nest_and_keys_come_back() {
        let inner = namespace(b"/t/").below(Bytes::from_static(b"x/"));
        assert_eq!(inner.key(Bytes::from_static(b"k")).unwrap(), "/t/x/k");
        assert_eq!(inner.seen(&Bytes::from_static(b"/t/x/k")).unwrap(), "k");
        assert_eq!(inner.seen(&Bytes::from_static(b"/t/y")), None);
        let pair = mvccpb::KeyValue { key: Bytes::from_static(b"/t/x/k"), ..mvccpb::KeyValue::default() };
        assert_eq!(inner.pair(pair).key(), "k");
    }
}
