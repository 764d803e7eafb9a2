//! Snapshot files: what can be told of one from outside.
//!
//! A file is the store's part, a multiple of 512 bytes, and then its SHA-256 in 32 bytes. That much holds
//! for etcd's snapshots too; Stentor's own begin with [`MAGIC`].

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};
pub use stentor_proto::snapshot::MAGIC;
use stentor_proto::snapshot::read_header;
use stentor_proto::storagepb::SnapshotHeader;

const HASH: u64 = 32;
const BLOCK: u64 = 512;
const BUFFER: usize = 1 << 20;

/// Why a file is not to be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// By its length it can be no snapshot, or not all of one.
    #[error("{0} bytes are no multiple of {BLOCK} and a hash of {HASH}")]
    Length(u64),
    /// It is not what was once written.
    #[error("the snapshot is damaged: expected sha256 {stated}, got {actual}; fetch it again")]
    Damaged {
        /// The hash that it says it has.
        stated: String,
        /// The hash that it has.
        actual: String,
    },
}

/// What a look at a file found.
#[derive(Debug)]
pub struct Summary {
    /// Bytes of the store's part.
    pub size: u64,
    /// The SHA-256 that the store's part has.
    pub actual: [u8; HASH as usize],
    /// The SHA-256 that the file says it has.
    pub stated: [u8; HASH as usize],
    /// It begins as a snapshot of Stentor does.
    pub ours: bool,
    /// What its head says, if this version can read that.
    pub head: Option<SnapshotHeader>,
}

impl Summary {
    /// Checks that the file is what was once written.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`].
    pub fn verify(&self) -> Result<(), SnapshotError> {
        if self.actual == self.stated {
            return Ok(());
        }
        Err(SnapshotError::Damaged { stated: hex(&self.stated), actual: hex(&self.actual) })
    }

    /// The beginning of the hash, as a number to compare snapshots by.
    pub fn short_hash(&self) -> u32 {
        let [a, b, c, d, ..] = self.actual;
        u32::from_be_bytes([a, b, c, d])
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Reads the whole file, of this length; `seen` is told of every piece's.
///
/// # Errors
/// A length that no snapshot has; what reading meets.
pub fn summarize(file: &mut impl Read, length: u64, mut seen: impl FnMut(u64)) -> Result<Summary, SnapshotError> {
    let size = length.checked_sub(HASH).filter(|size| *size > 0 && size % BLOCK == 0);
    let size = size.ok_or(SnapshotError::Length(length))?;
    let (mut hash, mut ours, mut head) = (Sha256::new(), false, None);
    let mut buffer = vec![0; BUFFER];
    let mut left = size;
    while left > 0 {
        let piece = &mut buffer[..left.min(BUFFER as u64) as usize];
        file.read_exact(piece)?;
        if left == size {
            ours = piece.starts_with(MAGIC);
            head = read_header(&mut &*piece).ok();
        }
        hash.update(&piece);
        left -= piece.len() as u64;
        seen(piece.len() as u64);
    }
    let mut stated = [0; HASH as usize];
    file.read_exact(&mut stated)?;
    Ok(Summary { size, actual: hash.finalize().into(), stated, ours, head })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(body: &[u8], trailer: &[u8], seen: impl FnMut(u64)) -> Result<Summary, SnapshotError> {
        let file = [body, trailer].concat();
        summarize(&mut &file[..], file.len() as u64, seen)
    }

    #[test]
    fn a_whole_snapshot_verifies_and_a_changed_one_does_not() {
        let mut body = vec![7; 3 * BUFFER + 512];
        body[..MAGIC.len()].copy_from_slice(MAGIC);
        let hash = Sha256::digest(&body);
        let mut seen = 0;
        let whole = summary(&body, &hash, |n| seen += n).unwrap();
        whole.verify().unwrap();
        assert!(whole.ours);
        assert_eq!((whole.size, seen), (body.len() as u64, body.len() as u64));
        assert_eq!(whole.short_hash().to_be_bytes(), hash[..4]);

        body[BUFFER] ^= 1;
        let damaged = summary(&body, &hash, |_| {}).unwrap();
        assert!(damaged.verify().unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn a_cut_file_is_refused_by_its_length() {
        for body in [0, 511, 513] {
            let refused = summary(&vec![0; body], &[0; 32], |_| {}).unwrap_err();
            assert!(matches!(refused, SnapshotError::Length(_)), "{body}: {refused}");
        }
        assert!(summary(b"", b"short", |_| {}).is_err());
        // It became shorter meanwhile.
        assert!(matches!(summarize(&mut &[0; 100][..], 544, |_| {}), Err(SnapshotError::Io(_))));
    }
}
