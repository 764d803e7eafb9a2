use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};
use stentor_proto::{KeyRange as Interval, RangeEnd};

/// A set of keys to list or to watch.
///
/// ```
/// use stentor_client::KeyRange;
/// let task = KeyRange::segment("/task/10.0.0.1");
/// assert!(task.contains(b"/task/10.0.0.1") && task.contains(b"/task/10.0.0.1/log"));
/// assert!(!task.contains(b"/task/10.0.0.10") && !task.contains(b"/task/10.0.0.1-old"));
/// assert!(KeyRange::prefix("/task/10.0.0.1").contains(b"/task/10.0.0.10"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyRange(Kind);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Kind {
    Interval(Interval),
    /// A key and what lies below it. The protocol has no name for that: "-" and "." sort before "/", so
    /// the smallest interval that holds it holds neighbours too.
    Segment {
        key: Interval,
        below: Interval,
        both: Interval,
    },
}

impl KeyRange {
    /// One key.
    pub fn key(key: impl Into<Bytes>) -> KeyRange {
        KeyRange(Kind::Interval(Interval::key(key)))
    }

    /// A key and everything below it, with `/` between the parts of a name: the key itself, and all keys
    /// that begin with it and a slash. Give it without the slash. This is what a program wants that keeps
    /// one thing under `/task/10.0.0.1` and another under `/task/10.0.0.10`.
    ///
    /// A watch on it asks the server for the interval from the key up to the last key below it, and leaves
    /// out here what is not part of it.
    pub fn segment(key: impl Into<Bytes>) -> KeyRange {
        let key = key.into();
        let mut below = BytesMut::with_capacity(key.len() + 1);
        below.put_slice(&key);
        below.put_u8(b'/');
        let below = Interval::prefix(below.freeze());
        if key.is_empty() {
            return KeyRange(Kind::Interval(below));
        }
        let both = match below.end() {
            RangeEnd::Before(end) => Interval::interval(key.clone(), end.clone()),
            _ => Interval::from_key(key.clone()),
        };
        KeyRange(Kind::Segment { key: Interval::key(key), below, both })
    }

    /// Every key that begins with these bytes. `/task/10.0.0.1` has `/task/10.0.0.10` in it too: end the
    /// prefix with the separator, or use [`segment`](Self::segment).
    pub fn prefix(prefix: impl Into<Bytes>) -> KeyRange {
        KeyRange(Kind::Interval(Interval::prefix(prefix)))
    }

    /// From `start` to before `end`.
    pub fn interval(start: impl Into<Bytes>, end: impl Into<Bytes>) -> KeyRange {
        KeyRange(Kind::Interval(Interval::interval(start, end)))
    }

    /// Every key at or above `start`.
    pub fn from_key(start: impl Into<Bytes>) -> KeyRange {
        KeyRange(Kind::Interval(Interval::from_key(start)))
    }

    /// Every key.
    pub fn all() -> KeyRange {
        KeyRange(Kind::Interval(Interval::all()))
    }

    /// Whether `key` is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.0 {
            Kind::Interval(interval) => interval.contains(key),
            Kind::Segment { key: first, below, .. } => first.contains(key) || below.contains(key),
        }
    }

    /// With its key, or its interval, replaced.
    pub(crate) fn map<E>(&self, replace: impl Fn(&Interval) -> Result<Interval, E>) -> Result<KeyRange, E> {
        match &self.0 {
            Kind::Interval(interval) => Ok(KeyRange(Kind::Interval(replace(interval)?))),
            Kind::Segment { key, .. } => Ok(KeyRange::segment(replace(key)?.start().clone())),
        }
    }

    /// The one interval of the protocol that holds it.
    pub(crate) fn covering(&self) -> &Interval {
        match &self.0 {
            Kind::Interval(interval) => interval,
            Kind::Segment { both, .. } => both,
        }
    }

    /// Intervals that hold exactly it, in ascending order.
    pub(crate) fn parts(&self) -> Vec<Interval> {
        match &self.0 {
            Kind::Interval(interval) => vec![interval.clone()],
            Kind::Segment { key, below, .. } => vec![key.clone(), below.clone()],
        }
    }
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Interval(interval) => interval.fmt(f),
            Kind::Segment { key, .. } => write!(f, "{key:?} and below"),
        }
    }
}

impl From<&str> for KeyRange {
    /// One key.
    fn from(key: &str) -> KeyRange {
        KeyRange::key(key.to_owned())
    }
}

impl From<String> for KeyRange {
    /// One key.
    fn from(key: String) -> KeyRange {
        KeyRange::key(key)
    }
}

impl From<Bytes> for KeyRange {
    /// One key.
    fn from(key: Bytes) -> KeyRange {
        KeyRange::key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_a_key_and_what_is_below_it() {
        let all = ["a", "a!", "a-b", "a.b", "a/", "a/b", "a/b/c", "a0", "aa", "b"];
        let inside: Vec<_> = all.into_iter().filter(|key| KeyRange::segment("a").contains(key.as_bytes())).collect();
        assert_eq!(inside, ["a", "a/", "a/b", "a/b/c"]);
        // Both what covers it and what makes it up hold every one of them.
        let segment = KeyRange::segment("a");
        for key in all {
            let key = key.as_bytes();
            let of_parts = segment.parts().iter().any(|part| part.contains(key));
            assert_eq!(of_parts, segment.contains(key));
            assert!(!of_parts || segment.covering().contains(key));
        }
        assert!(!segment.covering().contains(b"a0"));
    }

    #[test]
    fn the_segment_of_nothing_is_below_the_root() {
        assert!(KeyRange::segment("").contains(b"/a") && !KeyRange::segment("").contains(b"a"));
    }
}
