//! Recent entries, in memory: what followers and the application ask for is most often new.

use std::collections::VecDeque;

use super::Entry;

/// Entries that follow one another and end with the log's last one, or none.
#[derive(Debug)]
pub(super) struct Cache {
    entries: VecDeque<Entry>,
    bytes: u64,
    most: u64,
}

impl Cache {
    /// Keeps at most so many bytes.
    pub(super) fn new(most: u64) -> Cache {
        Cache { entries: VecDeque::new(), bytes: 0, most }
    }

    /// The index of the first entry.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.position.index)
    }

    pub(super) fn get(&self, index: u64) -> Option<&Entry> {
        let at = index.checked_sub(self.first()?)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// Adds entries in place of those from the first one's index on.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        while self.entries.back().is_some_and(|entry| entry.position.index >= first.position.index) {
            self.bytes -= self.entries.pop_back().as_ref().map_or(0, weight);
        }
        for entry in entries {
            self.bytes += weight(entry);
            self.entries.push_back(entry.clone());
            while self.bytes > self.most {
                let Some(old) = self.entries.pop_front() else { break };
                self.bytes -= weight(&old);
            }
        }
    }

    /// Forgets the entries up to this index.
    pub(super) fn purge(&mut self, through: u64) {
        while self.entries.front().is_some_and(|entry| entry.position.index <= through) {
            self.bytes -= self.entries.pop_front().as_ref().map_or(0, weight);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Cache::new(self.most);
    }
}

fn weight(entry: &Entry) -> u64 {
    (size_of::<Entry>() + entry.context.len() + entry.data.len()) as u64
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::Position;
    use super::*;

    fn entries(indexes: std::ops::Range<u64>, data: usize) -> Vec<Entry> {
        let entry = |index| Entry {
            position: Position { term: 1, index },
            data: Bytes::from(vec![0; data]),
            ..Entry::default()
        };
        indexes.map(entry).collect()
    }

    #[test]
    fn keeps_the_newest_that_fit() {
        let one = weight(&entries(0..1, 10)[0]);
        let mut cache = Cache::new(3 * one);
        cache.append(&entries(5..10, 10));
        assert_eq!((cache.first(), cache.bytes), (Some(7), 3 * one));
        cache.append(&entries(8..9, 10));
        assert_eq!((cache.first(), cache.bytes, cache.get(9)), (Some(7), 2 * one, None));
        cache.purge(7);
        assert_eq!((cache.first(), cache.bytes), (Some(8), one));
        // Larger than all that may be kept.
        cache.append(&entries(9..10, 1_000));
        assert_eq!((cache.first(), cache.bytes), (None, 0));
        cache.append(&entries(10..11, 0));
        assert_eq!(cache.get(10), Some(&entries(10..11, 0)[0]));
        cache.append(&entries(2..3, 0));
        assert_eq!((cache.first(), cache.get(10)), (Some(2), None));
    }
}
