//! Looking at a log without opening it.

use std::sync::Arc;

use super::disk::Disk;
use super::{Entry, HardState, Log, LogError, Options, Position, ReadError, recovery};

/// A log that is only read: nothing is written, repaired or removed, and files need only be readable.
///
/// Nobody may have it open meanwhile: that is for the caller to see to.
#[derive(Debug)]
pub struct Reading {
    log: Log,
    torn: Option<(String, u64)>,
}

impl Reading {
    /// Finds the log that is there, and checks all of it. `None` if there is none.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] if what was synced is not readable, [`LogError::Version`] if a newer version has written
    /// it, and errors of the file system.
    pub fn of(disk: Arc<dyn Disk>) -> Result<Option<Reading>, LogError> {
        let Some(mut found) = recovery::find(&*disk)? else { return Ok(None) };
        let torn = found.state.torn.take();
        Ok(Some(Reading { log: Log::of(found, disk, Options::default()), torn }))
    }

    /// As [`Log::start`].
    pub fn start(&self) -> Position {
        self.log.start()
    }

    /// As [`Log::last`].
    pub fn last(&self) -> Position {
        self.log.last()
    }

    /// The newest hard state. Its commit index may be behind what was committed: it is written with the next entries.
    pub fn hard_state(&self) -> HardState {
        self.log.hard_state()
    }

    /// The file, and the byte in it, where an append begins that was not completed, by a crash or a failure of the
    /// disk. It was never acknowledged, and is no part of the log.
    pub fn torn(&self) -> Option<(&str, u64)> {
        self.torn.as_ref().map(|(file, offset)| (file.as_str(), *offset))
    }

    /// As [`Log::entries`].
    ///
    /// # Errors
    /// As [`Log::entries`].
    pub fn entries(&self, from: u64, to: u64, max_bytes: u64) -> Result<Vec<Entry>, ReadError> {
        self.log.entries(from, to, max_bytes)
    }
}
