//! The SHA-256 at the end of a snapshot.

use sha2::{Digest as _, Sha256};

const LENGTH: usize = 32;

/// Compares the last 32 bytes of a stream with the SHA-256 of all before them.
#[derive(Default)]
pub(crate) struct Checksum {
    hash: Sha256,
    /// The last bytes so far, at most 32, which are not in the hash yet.
    last: Vec<u8>,
}

impl Checksum {
    /// Takes the next bytes, in pieces of any length.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(LENGTH);
        let (settled, kept) = bytes.split_at(bytes.len() - kept);
        let surplus = (self.last.len() + kept.len()).saturating_sub(LENGTH);
        self.hash.update(&self.last[..surplus]);
        self.last.drain(..surplus);
        self.hash.update(settled);
        self.last.extend_from_slice(kept);
    }

    /// Whether what was taken is whole and unchanged.
    pub(crate) fn is_right(&self) -> bool {
        self.hash.clone().finalize()[..] == self.last[..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_compared_however_the_bytes_are_cut() {
        let body: Vec<u8> = (0..200).collect();
        let whole = [&body[..], &Sha256::digest(&body)[..]].concat();
        let is_right = |bytes: &[u8], length: usize| {
            let mut sum = Checksum::default();
            bytes.chunks(length).for_each(|piece| sum.add(piece));
            sum.is_right()
        };
        for length in 1..=whole.len() {
            assert!(is_right(&whole, length), "{length}");
            for changed in [0, 100, body.len() - 1, body.len(), whole.len() - 1] {
                let mut damaged = whole.clone();
                damaged[changed] ^= 1;
                assert!(!is_right(&damaged, length), "{length} {changed}");
            }
            assert!(!is_right(&whole[..whole.len() - 1], length) && !is_right(&whole[1..], length));
        }
        assert!(!is_right(&[], 1));
    }
}
