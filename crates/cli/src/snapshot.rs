//! Snapshot files: what can be told of one from outside.
//!
//! A file is the store's part, a multiple of 512 bytes, and then its SHA-256 in 32 bytes. That much holds
//! for etcd's snapshots too; Stentor's own begin with [`MAGIC`].

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};
pub(crate) use stentor_proto::snapshot::MAGIC;
use stentor_proto::snapshot::read_header;
use stentor_proto::storagepb::SnapshotHeader;

use crate::failure::{Exit, Failure, Result};

const HASH: u64 = 32;
const BLOCK: u64 = 512;
const BUFFER: usize = 1 << 20;

/// What a look at a file found.
#[derive(Debug)]
pub(crate) struct Summary {
    /// Bytes of the store's part.
    pub(crate) size: u64,
    /// The SHA-256 that the store's part has.
    pub(crate) actual: [u8; HASH as usize],
    /// The SHA-256 that the file says it has.
    pub(crate) stated: [u8; HASH as usize],
    /// It begins as a snapshot of Stentor does.
    pub(crate) ours: bool,
    /// What its head says, if this version can read that.
    pub(crate) head: Option<SnapshotHeader>,
}

impl Summary {
    /// Fails if the file is not what was once written.
    pub(crate) fn verify(&self) -> Result<()> {
        if self.actual == self.stated {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Error,
            format!(
                "the snapshot is damaged: expected sha256 {}, got {}; fetch it again",
                hex(&self.stated),
                hex(&self.actual)
            ),
        ))
    }

    /// The beginning of the hash, as a number to compare snapshots by.
    pub(crate) fn short_hash(&self) -> u32 {
        let [a, b, c, d, ..] = self.actual;
        u32::from_be_bytes([a, b, c, d])
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Reads the whole file; `seen` is told of every piece's length.
pub(crate) fn summarize(path: &Path, mut seen: impl FnMut(u64)) -> Result<Summary> {
    let fail = |e: std::io::Error| Failure::new(Exit::Error, format!("cannot read {}: {e}", path.display()));
    let file = File::open(path).map_err(fail)?;
    let length = file.metadata().map_err(fail)?.len();
    let size = match length.checked_sub(HASH) {
        Some(size) if size > 0 && size % BLOCK == 0 => size,
        _ => {
            return Err(Failure::new(
                Exit::Error,
                format!(
                    "{} is no whole snapshot: {length} bytes are no multiple of {BLOCK} and a hash of {HASH}",
                    path.display()
                ),
            ));
        }
    };
    let mut file = BufReader::with_capacity(BUFFER, file);
    let (mut hash, mut ours, mut head) = (Sha256::new(), false, None);
    let mut buffer = vec![0; BUFFER];
    let mut left = size;
    while left > 0 {
        let piece = &mut buffer[..left.min(BUFFER as u64) as usize];
        file.read_exact(piece).map_err(fail)?;
        if left == size {
            ours = piece.starts_with(MAGIC);
            head = read_header(&mut &*piece).ok();
        }
        hash.update(&piece);
        left -= piece.len() as u64;
        seen(piece.len() as u64);
    }
    let mut stated = [0; HASH as usize];
    file.read_exact(&mut stated).map_err(fail)?;
    Ok(Summary { size, actual: hash.finalize().into(), stated, ours, head })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, body: &[u8], trailer: &[u8]) -> std::path::PathBuf {
        let path = dir.join("snap");
        std::fs::write(&path, [body, trailer].concat()).unwrap();
        path
    }

    #[test]
    fn a_whole_snapshot_verifies_and_a_changed_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut body = vec![7; 3 * BUFFER + 512];
        body[..MAGIC.len()].copy_from_slice(MAGIC);
        let hash = Sha256::digest(&body);
        let mut seen = 0;
        let whole = summarize(&write(dir.path(), &body, &hash), |n| seen += n).unwrap();
        whole.verify().unwrap();
        assert!(whole.ours);
        assert_eq!((whole.size, seen), (body.len() as u64, body.len() as u64));
        assert_eq!(whole.short_hash().to_be_bytes(), hash[..4]);

        body[BUFFER] ^= 1;
        let damaged = summarize(&write(dir.path(), &body, &hash), |_| {}).unwrap();
        assert!(damaged.verify().unwrap_err().message.unwrap().contains("damaged"));
    }

    #[test]
    fn a_cut_file_is_refused_by_its_length() {
        let dir = tempfile::tempdir().unwrap();
        for body in [0, 511, 513] {
            let path = write(dir.path(), &vec![0; body], &[0; 32]);
            assert!(summarize(&path, |_| {}).unwrap_err().message.unwrap().contains("no whole snapshot"), "{body}");
        }
        assert!(summarize(&write(dir.path(), b"", b"short"), |_| {}).is_err());
        assert!(summarize(&dir.path().join("absent"), |_| {}).is_err());
    }
}
