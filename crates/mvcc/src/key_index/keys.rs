use std::cmp::Ordering;

/// Byte strings one behind the other in one buffer: copying all of them is two `memcpy`s, and each
/// costs four bytes beside its own. Positions handed in must be in bounds, as for a slice.
#[derive(Debug, Default)]
pub(super) struct Keys {
    bytes: Vec<u8>,
    /// Where each ends in `bytes`. Users split long before four gibibytes.
    ends: Vec<u32>,
}

impl Keys {
    pub(super) const EMPTY: Keys = Keys { bytes: Vec::new(), ends: Vec::new() };

    pub(super) fn with_capacity(keys: usize, bytes: usize) -> Keys {
        Keys { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(keys) }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of the first `n`.
    pub(super) fn bytes_before(&self, n: usize) -> usize {
        if n == 0 { 0 } else { self.ends[n - 1] as usize }
    }

    pub(super) fn get(&self, i: usize) -> &[u8] {
        &self.bytes[self.bytes_before(i)..self.ends[i] as usize]
    }

    pub(super) fn last(&self) -> Option<&[u8]> {
        self.len().checked_sub(1).map(|i| self.get(i))
    }

    /// How many at the front satisfy `pred`, which must hold for a prefix of them.
    pub(super) fn partition_point(&self, mut pred: impl FnMut(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if pred(self.get(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Where `key` is (`Ok`) or belongs (`Err`), if they are sorted.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle).cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    pub(super) fn push(&mut self, key: &[u8]) {
        self.insert(self.len(), key);
    }

    pub(super) fn insert(&mut self, i: usize, key: &[u8]) {
        let start = self.bytes_before(i);
        make_room(&mut self.bytes, key.len());
        let tail = self.bytes.len() - start;
        self.bytes.extend_from_slice(key);
        if tail > 0 {
            self.bytes[start..].rotate_right(key.len());
        }
        make_room(&mut self.ends, 1);
        self.ends.insert(i, start as u32);
        for end in &mut self.ends[i..] {
            *end += key.len() as u32;
        }
    }

    pub(super) fn remove(&mut self, i: usize) {
        let (start, end) = (self.bytes_before(i), self.ends[i] as usize);
        self.bytes.drain(start..end);
        self.ends.remove(i);
        for later in &mut self.ends[i..] {
            *later -= (end - start) as u32;
        }
    }

    /// Makes the first one empty.
    pub(super) fn clear_first(&mut self) {
        let first = self.ends[0];
        self.bytes.drain(..first as usize);
        for end in &mut self.ends {
            *end -= first;
        }
    }

    /// Takes those from `i` on.
    pub(super) fn split_off(&mut self, i: usize) -> Keys {
        let start = self.bytes_before(i);
        let bytes = self.bytes[start..].to_vec();
        let ends = self.ends[i..].iter().map(|end| end - start as u32).collect();
        self.bytes.truncate(start);
        self.ends.truncate(i);
        self.fit();
        Keys { bytes, ends }
    }

    /// Adds all of `other` at the end.
    pub(super) fn append(&mut self, other: &Keys) {
        let start = self.bytes.len() as u32;
        make_room(&mut self.bytes, other.bytes.len());
        self.bytes.extend_from_slice(&other.bytes);
        make_room(&mut self.ends, other.ends.len());
        self.ends.extend(other.ends.iter().map(|end| end + start));
    }

    /// Gives room that is not needed back.
    pub(super) fn fit(&mut self) {
        fit(&mut self.bytes);
        fit(&mut self.ends);
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        heap_bytes(&self.bytes) + heap_bytes(&self.ends)
    }
}

impl Clone for Keys {
    /// With a little room: what is copied is about to be changed.
    fn clone(&self) -> Keys {
        Keys { bytes: clone_with_room(&self.bytes), ends: clone_with_room(&self.ends) }
    }
}

/// Room for `extra` more, growing by an eighth: a tree is mostly nodes that rest between two growths,
/// so the doubling of `Vec` would be paid for all of them.
pub(super) fn make_room<T>(items: &mut Vec<T>, extra: usize) {
    if items.capacity() - items.len() < extra {
        items.reserve_exact(extra.max(items.len() / 8).max(4));
    }
}

/// Gives back more room than an eighth.
pub(super) fn fit<T>(items: &mut Vec<T>) {
    items.shrink_to(items.len() + items.len() / 8);
}

/// A copy with room for an eighth more, so that an insert after it need not copy again.
pub(super) fn clone_with_room<T: Clone>(items: &[T]) -> Vec<T> {
    let mut copy = Vec::with_capacity(items.len() + items.len() / 8);
    copy.extend_from_slice(items);
    copy
}

/// Bytes that a vector takes on the heap, with what an allocator adds to one block.
pub(super) fn heap_bytes<T>(items: &Vec<T>) -> usize {
    let bytes = items.capacity() * size_of::<T>();
    if bytes == 0 { 0 } else { bytes + ALLOCATION }
}

/// What one block of memory costs beside its bytes: rounding up to a size class, on average.
pub(super) const ALLOCATION: usize = 16;

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn all(keys: &Keys) -> Vec<Vec<u8>> {
        (0..keys.len()).map(|i| keys.get(i).to_vec()).collect()
    }

    #[test]
    fn are_as_a_vector_of_vectors() {
        let mut rng = StdRng::seed_from_u64(7);
        let (mut keys, mut model) = (Keys::default(), Vec::<Vec<u8>>::new());
        for _ in 0..2_000 {
            let key = vec![rng.random::<u8>(); rng.random_range(0..5)];
            let i = rng.random_range(0..=model.len());
            match rng.random_range(0..10) {
                0..6 => {
                    keys.insert(i, &key);
                    model.insert(i, key);
                }
                6..8 if i < model.len() => {
                    keys.remove(i);
                    model.remove(i);
                }
                8 => {
                    // Rotate: split and append the other way round.
                    let mut tail = keys.split_off(i);
                    tail.append(&keys);
                    keys = tail.clone();
                    model.rotate_left(i);
                }
                _ if !model.is_empty() => {
                    keys.clear_first();
                    model[0].clear();
                }
                _ => {}
            }
            assert_eq!(all(&keys), model);
            assert_eq!(keys.bytes(), model.concat().len());
        }
        assert!(keys.len() > 100);
    }

    #[test]
    fn searching_sorted_ones_finds_each_and_its_place() {
        let mut keys = Keys::default();
        for key in ["", "a", "ab", "b"] {
            keys.push(key.as_bytes());
        }
        assert_eq!(keys.search(b""), Ok(0));
        assert_eq!(keys.search(b"ab"), Ok(2));
        assert_eq!(keys.search(b"aa"), Err(2));
        assert_eq!(keys.search(b"c"), Err(4));
        assert_eq!(keys.partition_point(|key| key < &b"ab"[..]), 2);
        assert_eq!(Keys::EMPTY.search(b"x"), Err(0));
    }
}
