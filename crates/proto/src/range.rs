use std::fmt;

use bytes::Bytes;

/// A set of keys as the protocol can name it: one key, or an interval, which may have no upper end.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyRange {
    start: Bytes,
    end: RangeEnd,
}

/// Where a [`KeyRange`] ends.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum RangeEnd {
    /// It is its start alone.
    Single,
    /// All keys below this one.
    Before(Bytes),
    /// All keys from the start on.
    Unbounded,
}

/// Stands for "from the key on" in `range_end`, and with the same key for every key.
const OPEN: &[u8] = b"\0";

impl KeyRange {
    /// One key.
    pub fn key(key: impl Into<Bytes>) -> KeyRange {
        KeyRange { start: key.into(), end: RangeEnd::Single }
    }

    /// From `start` to before `end`; empty if `end` is not above `start`.
    pub fn interval(start: impl Into<Bytes>, end: impl Into<Bytes>) -> KeyRange {
        KeyRange { start: start.into(), end: RangeEnd::Before(end.into()) }
    }

    /// Every key at or above `start`.
    pub fn from_key(start: impl Into<Bytes>) -> KeyRange {
        KeyRange { start: start.into(), end: RangeEnd::Unbounded }
    }

    /// Every key.
    pub fn all() -> KeyRange {
        KeyRange::from_key(OPEN)
    }

    /// Every key that begins with the bytes of `prefix`: `/task/10.0.0.1` has `/task/10.0.0.10` in
    /// it too.
    ///
    /// ```
    /// use stentor_proto::KeyRange;
    /// let tasks = KeyRange::prefix("/task/");
    /// assert!(tasks.contains(b"/task/7"));
    /// assert!(!tasks.contains(b"/tasks"));
    /// assert_eq!(KeyRange::prefix(""), KeyRange::all());
    /// ```
    pub fn prefix(prefix: impl Into<Bytes>) -> KeyRange {
        let prefix = prefix.into();
        if prefix.is_empty() {
            return KeyRange::all();
        }
        match prefix.iter().rposition(|&b| b != 0xff) {
            None => KeyRange::from_key(prefix),
            Some(at) => {
                let mut end = prefix[..=at].to_vec();
                end[at] += 1;
                KeyRange::interval(prefix, end)
            }
        }
    }

    /// The range that `key` and `range_end` of a request mean.
    pub fn from_wire(key: Bytes, range_end: Bytes) -> KeyRange {
        let end = if range_end.is_empty() {
            RangeEnd::Single
        } else if range_end == OPEN {
            RangeEnd::Unbounded
        } else {
            RangeEnd::Before(range_end)
        };
        KeyRange { start: key, end }
    }

    /// `key` and `range_end` for a request.
    pub fn to_wire(&self) -> (Bytes, Bytes) {
        let end = match &self.end {
            RangeEnd::Single => Bytes::new(),
            RangeEnd::Before(end) => end.clone(),
            RangeEnd::Unbounded => Bytes::from_static(OPEN),
        };
        (self.start.clone(), end)
    }

    /// Its first key, or a bound below it.
    pub fn start(&self) -> &Bytes {
        &self.start
    }

    /// Where it ends.
    pub fn end(&self) -> &RangeEnd {
        &self.end
    }

    /// The one key it is, if it was made as such.
    pub fn single(&self) -> Option<&Bytes> {
        matches!(self.end, RangeEnd::Single).then_some(&self.start)
    }

    /// No key can be in it.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, RangeEnd::Before(end) if end <= &self.start)
    }

    /// Whether `key` is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => self.start == key,
            RangeEnd::Before(end) => self.start <= key && key < &end[..],
            RangeEnd::Unbounded => self.start <= key,
        }
    }

    /// Whether `key` is past its upper end.
    pub fn ends_before(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => &self.start[..] < key,
            RangeEnd::Before(end) => &end[..] <= key,
            RangeEnd::Unbounded => false,
        }
    }

    /// Whether some key could be in both.
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        !self.is_empty() && !other.is_empty() && !self.ends_before(&other.start) && !other.ends_before(&self.start)
    }
}

impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.start.escape_ascii();
        match &self.end {
            RangeEnd::Single => write!(f, "\"{start}\""),
            RangeEnd::Before(end) => write!(f, "[\"{start}\", \"{}\")", end.escape_ascii()),
            RangeEnd::Unbounded => write!(f, "[\"{start}\", ..)"),
        }
    }
}

impl fmt::Debug for RangeEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RangeEnd::Single => write!(f, "Single"),
            RangeEnd::Before(end) => write!(f, "Before(\"{}\")", end.escape_ascii()),
            RangeEnd::Unbounded => write!(f, "Unbounded"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_where_the_protocol_says() {
        let end = |p: &'static [u8]| KeyRange::prefix(p).to_wire().1;
        assert_eq!(end(b"a"), "b");
        assert_eq!(end(b"a\xff\xff"), "b");
        assert_eq!(end(b"\xff\xff"), "\0");
        assert_eq!(KeyRange::prefix("").to_wire(), ("\0".into(), "\0".into()));
    }

    #[test]
    fn overlap_is_having_a_key_in_common() {
        let keys: Vec<Bytes> = ["a", "a\0", "aa", "b", "c"].into_iter().map(Bytes::from).collect();
        let mut ranges: Vec<KeyRange> = keys.iter().cloned().map(KeyRange::key).collect();
        ranges.extend(keys.iter().cloned().map(KeyRange::from_key));
        ranges.extend(keys.iter().flat_map(|a| keys.iter().map(|b| KeyRange::interval(a.clone(), b.clone()))));
        for a in &ranges {
            for b in &ranges {
                // Every pair of these that overlaps has one of the keys in common.
                let common = keys.iter().any(|k| a.contains(k) && b.contains(k));
                assert_eq!(a.overlaps(b), common, "{a:?} {b:?}");
            }
        }
    }
}
