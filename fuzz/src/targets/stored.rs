//! All that a data directory holds: what is read when a store is opened, and afterwards.

use bytes::Bytes;
use stentor_mvcc::Error;
use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_mvcc::engine::{Batch, Durability, Engine, EngineError, Family, Read};
use stentor_proto::EtcdError;

use super::store;
use crate::{Outcome, Target};

/// Input: entries of both families, each as its family (a byte, odd for history), the lengths of key
/// and value (a byte and two), key and value.
pub const STORED_RECORDS: Target = Target { name: "stored_records", decode, samples, refuses: true, cost: 1 };

fn decode(bytes: &[u8]) -> Outcome {
    let disk = Disk::new();
    if let Err(e) = write(&disk, bytes) {
        unreachable!("the simulated disk fails only when told to: {e}");
    }
    let outcome = open_and_use(&disk);
    match &outcome {
        // An alarm that is raised refuses the put.
        Err(Error::Refused(EtcdError::NoSpace | EtcdError::Corrupt)) => Outcome::Accepted,
        Err(Error::Refused(e)) => unreachable!("a damaged store is not a refused request: {e}"),
        _ => Outcome::of(&outcome),
    }
}

/// Does what a server does first; whatever is wrong must come out as an error.
fn open_and_use(disk: &Disk) -> Result<(), Error> {
    let store = store::open(disk)?;
    store.identity()?;
    store::read_everything(&store)?;
    store.finish_compactions()?;
    if store.view().revision().get() < i64::MAX {
        store.put(store::put("a", "fresh", 0))?;
    }
    Ok(())
}

fn write(disk: &Disk, mut bytes: &[u8]) -> Result<(), EngineError> {
    let mut batch = Batch::default();
    while let Some((family, key, value)) = take_entry(&mut bytes) {
        batch.put(family, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    }
    MemoryEngine::open(disk)?.write(batch, Durability::Synced)
}

fn take_entry<'a>(bytes: &mut &'a [u8]) -> Option<(Family, &'a [u8], &'a [u8])> {
    let (&[family, key_len, high, low], rest) = bytes.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(key_len.into())?;
    let (value, rest) = rest.split_at_checked(u16::from_be_bytes([high, low]).into())?;
    *bytes = rest;
    Some((if family % 2 == 1 { Family::History } else { Family::Meta }, key, value))
}

fn samples() -> Vec<Vec<u8>> {
    let sample = || -> Result<Vec<u8>, Error> {
        let disk = Disk::new();
        let store = store::open(&disk)?;
        store::fill(&store)?;
        store.execute(store::alarm())?;
        drop(store);
        let engine = MemoryEngine::open(&disk)?;
        let mut out = Vec::new();
        for (tag, family) in [(0, Family::Meta), (1, Family::History)] {
            for entry in engine.scan(family, &[], None)? {
                let (key, value) = entry?;
                out.extend([tag, key.len() as u8]);
                out.extend((value.len() as u16).to_be_bytes());
                out.extend(key.iter().chain(&value));
            }
        }
        Ok(out)
    };
    match sample() {
        Ok(sample) => vec![Vec::new(), sample],
        Err(e) => unreachable!("the sample store cannot be made: {e}"),
    }
}
