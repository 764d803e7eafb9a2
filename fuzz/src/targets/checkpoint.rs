//! The checkpoint of the key index, which opening a store begins with.

use stentor_mvcc::Error;
use stentor_mvcc::engine::Engine;
use stentor_mvcc::engine::memory::{Disk, MemoryEngine};

use super::store;
use crate::{Outcome, Target};

/// Input: a checkpoint, of the sample store. Its checksums are put right first: they would refuse every
/// other change, and what is behind them must bear it too.
pub const INDEX_CHECKPOINT: Target = Target { name: "index_checkpoint", decode, samples, refuses: true, cost: 2 };

/// The engine keeps it under this name.
const NAME: &str = "index";
/// The first line.
const MAGIC_LEN: usize = b"STENTORIDX1\n".len();
/// Bytes of a length, and of a checksum.
const WORD: usize = 4;

fn decode(bytes: &[u8]) -> Outcome {
    let as_it_came = opened(bytes);
    let repaired = with_right_checksums(bytes);
    if repaired == bytes { as_it_came } else { opened(&repaired) }
}

/// Opens the sample store with this checkpoint. One that is refused changes nothing; one that is taken
/// for good may tell lies, which must come out as errors.
fn opened(bytes: &[u8]) -> Outcome {
    match filled().and_then(|disk| save(&disk, bytes).map(|()| disk)) {
        Err(e) => unreachable!("the sample store cannot be made: {e}"),
        Ok(disk) => {
            let result = store::open(&disk).and_then(|store| {
                let taken = store.index_checkpoint().is_some();
                store::read_everything(&store).map(|()| taken)
            });
            if matches!(result, Ok(true)) { Outcome::Accepted } else { Outcome::Refused }
        }
    }
}

fn filled() -> Result<Disk, Error> {
    let disk = Disk::new();
    store::fill(&store::open(&disk)?)?;
    Ok(disk)
}

fn save(disk: &Disk, bytes: &[u8]) -> Result<(), Error> {
    let engine = MemoryEngine::open(disk)?;
    Ok(engine.save_blob(NAME, &mut |out| out.write_all(bytes))?)
}

/// A block is a length, a checksum of what follows, and that.
fn with_right_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut next = Some(MAGIC_LEN);
    while let Some(start) = next {
        next = correct(&mut bytes, start);
    }
    bytes
}

/// Writes the checksum of the block at `start`, and says where the next one begins.
fn correct(bytes: &mut [u8], start: usize) -> Option<usize> {
    let (length, rest) = bytes.get(start..)?.split_first_chunk::<WORD>()?;
    let len = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let crc = crc32c::crc32c(rest.get(WORD..)?.get(..len)?);
    bytes.get_mut(start + WORD..start + 2 * WORD)?.copy_from_slice(&crc.to_be_bytes());
    Some(start + 2 * WORD + len)
}

fn samples() -> Vec<Vec<u8>> {
    let sample = || -> Result<Vec<u8>, Error> {
        let disk = filled()?;
        store::open(&disk)?.checkpoint_index()?;
        let mut bytes = Vec::new();
        if let Some(mut blob) = MemoryEngine::open(&disk)?.load_blob(NAME)? {
            blob.read_to_end(&mut bytes).unwrap_or_else(|e| unreachable!("memory can be read: {e}"));
        }
        Ok(bytes)
    };
    match sample() {
        Ok(sample) => vec![sample],
        Err(e) => unreachable!("the sample store has no checkpoint: {e}"),
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
            // The first byte of the first block, and with it the checksum.
            changed[MAGIC_LEN + 2 * WORD] ^= 1;
            assert_ne!(with_right_checksums(&changed), changed);
        }
    }
}
