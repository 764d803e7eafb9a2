//! A range of keys as a watcher keeps it: one allocation, and told apart by how it can be looked up.

use std::hash::{Hash, Hasher};

use stentor_proto::{KeyRange, RangeEnd};

/// How a span's keys are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SpanKind {
    /// One key.
    Key,
    /// All keys that begin so.
    Prefix,
    /// All keys from this one on.
    From,
    /// From a start to before an end, which follows the start's bytes.
    Interval,
}

/// A range of keys, not empty.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Span {
    bytes: Box<[u8]>,
    start_len: u32,
    kind: SpanKind,
}

impl Span {
    pub(crate) fn of(range: &KeyRange) -> Span {
        let start = range.start();
        let (kind, bytes) = match range.end() {
            RangeEnd::Single => (SpanKind::Key, start.to_vec()),
            RangeEnd::Unbounded => (SpanKind::From, start.to_vec()),
            RangeEnd::Before(end) if is_prefix(start, end) => (SpanKind::Prefix, start.to_vec()),
            RangeEnd::Before(end) => (SpanKind::Interval, [&start[..], &end[..]].concat()),
        };
        // A key comes out of a request, whose size is limited far below 4 GiB.
        Span { bytes: bytes.into(), start_len: start.len() as u32, kind }
    }

    pub(crate) fn range(&self) -> KeyRange {
        let start = self.start().to_vec();
        match self.kind {
            SpanKind::Key => KeyRange::key(start),
            SpanKind::Prefix => KeyRange::prefix(start),
            SpanKind::From => KeyRange::from_key(start),
            SpanKind::Interval => KeyRange::interval(start, self.rest().to_vec()),
        }
    }

    pub(crate) fn kind(&self) -> SpanKind {
        self.kind
    }

    /// The key, the prefix, or where it begins.
    pub(crate) fn start(&self) -> &[u8] {
        self.bytes.get(..self.start_len as usize).unwrap_or_default()
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.start_len as usize..).unwrap_or_default()
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match self.kind {
            SpanKind::Key => self.start() == key,
            SpanKind::Prefix => key.starts_with(self.start()),
            SpanKind::From => self.start() <= key,
            SpanKind::Interval => self.start() <= key && key < self.rest(),
        }
    }

    /// Whether `key`, which is at or above the start, is past the upper end.
    pub(crate) fn ends_before(&self, key: &[u8]) -> bool {
        match self.kind {
            SpanKind::Key => self.start() < key,
            SpanKind::Prefix => !key.starts_with(self.start()),
            SpanKind::From => false,
            SpanKind::Interval => self.rest() <= key,
        }
    }

    /// Where it ends as an interval; `None` if it has no upper end.
    pub(crate) fn end(&self) -> Option<&[u8]> {
        match self.kind {
            SpanKind::Interval => Some(self.rest()),
            SpanKind::Key | SpanKind::Prefix | SpanKind::From => None,
        }
    }

    /// A prefix as a plain interval, for where prefixes can't be looked up as such.
    pub(crate) fn into_interval(self) -> Span {
        match self.range().end() {
            RangeEnd::Before(end) if self.kind == SpanKind::Prefix => Span {
                bytes: [&self.bytes[..], &end[..]].concat().into(),
                start_len: self.start_len,
                kind: SpanKind::Interval,
            },
            _ => self,
        }
    }
}

impl Hash for Span {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
        self.bytes.hash(state);
    }
}

/// Whether `end` is the least key above all that begin with `start`.
fn is_prefix(start: &[u8], end: &[u8]) -> bool {
    let Some(at) = start.iter().rposition(|&byte| byte != 0xff) else { return false };
    let (Some(head), Some((last, same))) = (start.get(..at), end.split_last()) else { return false };
    same == head && start.get(at).is_some_and(|&byte| byte + 1 == *last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_range_that_it_was_made_of() {
        let ranges = [
            (KeyRange::key("a"), SpanKind::Key),
            (KeyRange::prefix("a"), SpanKind::Prefix),
            (KeyRange::prefix(vec![b'a', 0xff, 0xff]), SpanKind::Prefix),
            (KeyRange::prefix(vec![0xff, 0xff]), SpanKind::From),
            (KeyRange::from_key("a"), SpanKind::From),
            (KeyRange::interval("a", "c"), SpanKind::Interval),
            (KeyRange::interval("a", "aa"), SpanKind::Interval),
            (KeyRange::interval("ab", "b"), SpanKind::Interval),
        ];
        let keys: [&[u8]; 10] =
            [b"a", b"a\0", b"a\xff\xff", b"a\xff\xff\0", b"ab", b"b", b"", b"\xff\xff\xff", b"c", b"aa"];
        for (range, kind) in ranges {
            let span = Span::of(&range);
            assert_eq!(span.kind(), kind, "{range:?}");
            assert_eq!(span.range(), range);
            for key in keys {
                assert_eq!(span.contains(key), range.contains(key), "{range:?} {key:?}");
                if key >= span.start() {
                    assert_eq!(span.ends_before(key), range.ends_before(key), "{range:?} {key:?}");
                }
            }
            assert_eq!(span.into_interval().range(), range);
        }
    }
}
