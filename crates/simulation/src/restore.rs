//! A store that is restored: all members begin again with a snapshot that was taken before.

use stentor_mvcc::Store;
use stentor_mvcc::engine::memory::{self, MemoryEngine};
use stentor_mvcc::snapshot::{RestoreOptions, restore};
use stentor_server::storage::Disks;

use crate::world::{Life, State};

/// How the history is replaced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Restore {
    /// Another cluster goes on from the snapshot.
    Elsewhere,
    /// The same cluster, which has lost what came after the snapshot.
    SameCluster,
}

/// A snapshot.
pub(crate) struct Saved {
    bytes: Vec<u8>,
    pub(crate) revision: i64,
}

impl Saved {
    /// # Errors
    /// The store can't be read.
    pub(crate) fn take(store: &Store) -> Result<Saved, String> {
        let mut reader = store.snapshot("simulated").map_err(|error| error.to_string())?;
        let revision = reader.view().revision().get();
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.next_chunk(1 << 20).map_err(|error| error.to_string())? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(Saved { bytes, revision })
    }

    /// Gives all members with which the cluster began a store made of it.
    ///
    /// # Errors
    /// It can't be restored.
    pub(crate) fn bring_back(&self, state: &mut State, how: Restore) -> Result<(), String> {
        if matches!(how, Restore::Elsewhere) {
            state.settings.token += 1;
        }
        for (number, host) in (0..).zip(&mut state.hosts) {
            host.life = if number < state.settings.members { Life::Initial } else { Life::Empty };
            let disk = memory::Disk::new();
            let engine = MemoryEngine::open(&disk).map_err(|error| error.to_string())?;
            let mut bytes = &self.bytes[..];
            restore(&mut bytes, &engine, &RestoreOptions::default()).map_err(|error| error.to_string())?;
            host.disks = Disks::of(disk, stentor_raft::log::memory::Disk::new());
        }
        Ok(())
    }
}
