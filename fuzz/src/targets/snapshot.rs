//! A snapshot: a whole store as a stream of bytes.

use std::ops::Range;

use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_mvcc::snapshot::{RestoreOptions, restore};
use stentor_mvcc::{Error, Store};
use stentor_proto::snapshot::MAGIC;

use super::store;
use crate::{Outcome, Target};

/// Input: a snapshot. Its checksums are put right first: they would refuse every other change, and
/// what is behind them must bear it too.
pub const SNAPSHOT: Target = Target { name: "snapshot", decode, samples, refuses: true, cost: 1 };

/// Bytes of a length, and of a checksum.
const WORD: usize = 4;
/// Bytes of a frame before its payload: its kind and length.
const FRAME_HEAD: usize = 1 + WORD;

fn decode(bytes: &[u8]) -> Outcome {
    let as_it_came = restored(bytes);
    let repaired = with_right_checksums(bytes);
    if repaired == bytes { as_it_came } else { restored(&repaired) }
}

/// Restores the bytes into an empty store. Then it must open, or be refused as a store.
fn restored(bytes: &[u8]) -> Outcome {
    let disk = Disk::new();
    let options = RestoreOptions { bump_revision: 10, mark_compacted: true, ..RestoreOptions::default() };
    let result = MemoryEngine::open(&disk).map_err(Into::into).and_then(|e| restore(&mut &bytes[..], &e, &options));
    let opened = store::open(&disk);
    match (&result, &opened) {
        (Ok(restored), Ok(store)) => assert_eq!(store.view().revision().get(), restored.revision),
        (Err(_), Ok(store)) => assert_eq!(store.view().keys(), 0, "half a snapshot is no store"),
        (_, Err(_)) => {}
    }
    Outcome::of(&result)
}

pub(super) fn with_right_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    // The head's checksum counts from its first byte; its length stands behind the magic.
    let mut next = correct(&mut bytes, 0..MAGIC.len() + WORD);
    // Behind the last frame there are only zeros, which is no kind of frame.
    while let Some(start) = next.filter(|start| bytes.get(*start).is_some_and(|kind| *kind != 0)) {
        next = correct(&mut bytes, start..start + FRAME_HEAD);
    }
    bytes
}

/// Writes the checksum of a part that is at `head`, which ends with the length of what follows, and
/// says where the next part begins.
fn correct(bytes: &mut [u8], head: Range<usize>) -> Option<usize> {
    let length = bytes.get(head.clone())?.last_chunk::<WORD>()?;
    let end = head.end.checked_add(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let crc = crc32c::crc32c(bytes.get(head.start..end)?);
    let place = bytes.get_mut(end..end.checked_add(WORD)?)?;
    place.copy_from_slice(&crc.to_be_bytes());
    Some(end + WORD)
}

pub(super) fn samples() -> Vec<Vec<u8>> {
    let sample = |fill: fn(&Store) -> Result<(), Error>| -> Result<Vec<u8>, Error> {
        let store = store::open(&Disk::new())?;
        fill(&store)?;
        let mut reader = store.snapshot("0.1.0")?;
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.next_chunk(1 << 16)? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    match [sample(|_| Ok(())), sample(store::fill)].into_iter().collect() {
        Ok(samples) => samples,
        Err(e) => unreachable!("the sample store has no snapshot: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_the_right_checksums_and_a_changed_one_gets_them() {
        for sample in samples() {
            assert_eq!(with_right_checksums(&sample), sample);
            let mut changed = sample.clone();
            // A byte within the head's message, and the head's checksum with it.
            changed[MAGIC.len() + WORD] ^= 1;
            let repaired = with_right_checksums(&changed);
            assert_ne!(repaired, changed);
            assert_eq!(repaired.len(), sample.len());
        }
    }
}
