//! The log on disk.
//!
//! It is the only thing that the server syncs, so a lone write should cost no more than the disk asks for:
//! one write and one sync, into blocks that were written before, so that the file system has nothing of its
//! own to make durable. What follows from that:
//!
//! - The log is a row of *segments*, files that are filled with zeros ahead of their use, and used again
//!   once their entries are purged.
//! - Every change is one *frame*, appended behind the last: entries and hard state together, a purge, a
//!   reset. Reading the frames in their order gives the log; a crash leaves a beginning of that row, so no
//!   change is ever half there. What a segment begins with sums up all frames before it, so that older
//!   segments can go.
//! - What stands behind the last frame is arbitrary: zeros, what an earlier use of the file has left, or
//!   frames that a crash has cut off. Three numbers in each frame keep those apart. The *mark* is different
//!   for each use of each file. The *sequence number* is one more than that of the frame before. The *epoch*
//!   is one more for each opening of the log, which writes a frame of its own and syncs it before anything
//!   else: what was cut off earlier is of an older epoch, and never comes back.
//! - A frame that is not readable is either damaged, or was never completed before a crash. It was damaged if
//!   it had been synced, and that is known if any later frame says so: each says up to which sequence
//!   number all was synced when it was written. A segment is synced whole before the next is begun. Else
//!   the log is cut there, with a warning: nobody was promised what is lost. The price is that damage to
//!   the very last frame, if nothing followed it, is taken for an append that was not completed.
//! - After a failed sync the operating system may take what it has not written for written. So opening a
//!   log writes once more all that is not known to have been synced, before it syncs.
//!
//! The bytes are described in the source, in `log/format.rs`. All reading and writing blocks; a log has
//! one writer. That no two processes open the same directory is for the caller to see to.
//!
//! ```
//! use std::sync::Arc;
//! use stentor_raft::log::{Durability, Entry, Log, Options, Position, memory};
//!
//! let disk = Arc::new(memory::Disk::new());
//! let mut log = Log::create(disk.clone(), Position::default(), Options::default())?;
//! let position = Position { term: 1, index: 1 };
//! let entry = Entry { position, data: "put".into(), ..Entry::default() };
//! log.append(None, &[entry.clone()], Durability::Synced)?;
//! drop(log);
//! let log = Log::open(disk, Options::default())?.expect("it was created");
//! assert_eq!(log.entries(1, 2, u64::MAX)?, [entry]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cache;
mod disk;
mod entry;
mod error;
mod files;
mod format;
mod index;
pub mod memory;
#[doc(hidden)]
pub mod parse;
mod read;
mod reading;
mod recovery;
mod write;

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

pub use disk::{Disk, File, SystemDisk};
pub use entry::{Durability, Entry, EntryKind, HardState, Options, Position};
pub use error::{LogError, ReadError, Unavailable};
pub use reading::Reading;

use cache::Cache;
use files::{Files, Segment, segment_name};
use format::{FIRST_FRAME, Kind, Mark, SegmentHeader};
use index::Index;
use recovery::Found;

/// The smallest segment, in bytes.
const SEGMENT_MIN: u64 = 4 << 10;

/// A log: entries that follow one another without a gap, and the hard state.
///
/// Reading goes on after a failure, as far as what was appended before is concerned; changing does not,
/// except after [`LogError::Full`].
#[derive(Debug)]
pub struct Log {
    files: Files,
    current: Segment,
    /// Where the frames of the current segment end, in bytes.
    end: u64,
    options: Options,
    salt: u64,
    epoch: u64,
    /// The sequence number of the next frame.
    next: u64,
    /// All frames up to this sequence number are synced.
    synced: u64,
    index: Index,
    cache: Cache,
    hard_state: HardState,
    /// The last frame, whose memory the next one uses again.
    frame: Vec<u8>,
    /// What failed.
    failed: Option<String>,
}

impl Log {
    /// Creates an empty log that goes on after `start`, durably.
    ///
    /// # Errors
    /// [`LogError::Misplaced`] for an index of 2^62 and more. [`LogError::Exists`] if there is a log; what a creation has left that was interrupted is none.
    /// [`LogError::Corrupt`] and [`LogError::Version`] if there is one that cannot be opened, and errors of
    /// the file system.
    pub fn create(disk: Arc<dyn Disk>, start: Position, options: Options) -> Result<Log, LogError> {
        let options = checked(options);
        if !format::is_countable(&start) {
            return Err(LogError::Misplaced { index: start.index, first: 0, last: 0 });
        }
        if recovery::find(&*disk)?.is_some() {
            return Err(LogError::Exists);
        }
        for name in disk.list().map_err(|e| LogError::io("list", "", e))? {
            if files::Name::of(&name).is_some() {
                disk.remove(&name).map_err(|e| LogError::io("remove", &name, e))?;
            }
        }
        // Two hashers of the standard library are as good as random numbers.
        let salt = RandomState::new().hash_one(0_u8) ^ RandomState::new().hash_one(1_u8);
        let mark = Mark::new(salt, 1);
        let mut files = Files::new(disk, Default::default());
        let current = files
            .take(1, mark, options.write_ahead_bytes)
            .map_err(|e| files::full_or_io("create", &segment_name(1), e))?;
        let mut log = Log {
            files,
            current,
            end: FIRST_FRAME as u64,
            salt,
            epoch: 0,
            next: 1,
            synced: 0,
            index: Index::new(start, start),
            cache: Cache::new(options.cached_bytes),
            hard_state: HardState::default(),
            frame: Vec::new(),
            failed: None,
            options,
        };
        log.begin_current()?;
        log.begin_epoch(1)?;
        Ok(log)
    }

    /// Opens the log that is there. `None` if there is none.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] if what was synced is not readable, [`LogError::Version`] if a newer version
    /// has written it, [`LogError::Full`] if there is no room for a few bytes, and errors of the file system.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Option<Log>, LogError> {
        let options = checked(options);
        let Some(mut found) = recovery::find(&*disk)? else { return Ok(None) };
        if let Some((name, offset)) = &found.state.torn {
            tracing::warn!(%name, offset, "the log ends with an append that was not completed; it is cut off");
        }
        let leftovers = std::mem::take(&mut found.leftovers);
        let (offset, unsure) = std::mem::take(&mut found.unsure);
        let newest_epoch = found.state.newest_epoch;
        let mut log = Log::of(found, disk, options);
        for name in &leftovers {
            log.files.disk.remove(name).map_err(|e| LogError::io("remove", name, e))?;
        }
        log.files.find_spares()?;
        log.files.disk.sync().map_err(|e| LogError::io("sync", "", e))?;
        if !unsure.is_empty() {
            // Before the frame of the new epoch: it must not stay if one before it is lost.
            let (file, name) = (&log.current.file, log.current.name());
            file.write(&unsure, offset).map_err(|e| LogError::io("write", &name, e))?;
            file.sync().map_err(|e| LogError::io("sync", &name, e))?;
        }
        drop(unsure);
        log.synced = log.next.saturating_sub(1);
        log.begin_epoch(newest_epoch.saturating_add(1))?;
        log.retire();
        Ok(Some(log))
    }

    /// What was found, before anything is done to it.
    fn of(found: Found, disk: Arc<dyn Disk>, options: Options) -> Log {
        Log {
            files: Files::new(disk, found.older),
            current: found.current,
            end: found.end,
            salt: found.salt,
            epoch: found.state.epoch,
            next: found.state.next,
            synced: found.state.synced,
            index: found.state.index,
            cache: Cache::new(options.cached_bytes),
            hard_state: found.state.hard_state,
            frame: Vec::new(),
            failed: None,
            options,
        }
    }

    /// The entry before the first one that is there, as far as it is known: what the log was created or
    /// reset after, or the last one that was purged.
    pub fn start(&self) -> Position {
        self.index.start()
    }

    /// The last entry; the start if there is none.
    pub fn last(&self) -> Position {
        self.index.last()
    }

    /// The newest hard state.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The term of an entry, or of the one before the first.
    ///
    /// # Errors
    /// When the log does not have it.
    pub fn term(&self, index: u64) -> Result<u64, Unavailable> {
        self.index.term(index)
    }

    /// Bytes of all files on disk, with those that wait to be used again.
    pub fn bytes(&self) -> u64 {
        self.current.bytes + self.files.bytes()
    }

    /// What a segment of this number begins with if it goes on here.
    fn header(&self, number: u64) -> SegmentHeader {
        SegmentHeader {
            salt: self.salt,
            number,
            first_sequence: self.next,
            epoch: self.epoch,
            start: self.index.start(),
            last: self.index.last(),
            hard_state: self.hard_state,
        }
    }

    /// Lets nothing come back that an earlier opening has cut off.
    fn begin_epoch(&mut self, epoch: u64) -> Result<(), LogError> {
        self.epoch = epoch;
        self.write(Kind::Opening, Durability::Synced, |_| {}).map(drop)
    }
}

/// A segment is never so short that its header does not fit.
fn checked(options: Options) -> Options {
    let segment_bytes = options.segment_bytes.max(SEGMENT_MIN);
    let write_ahead_bytes = options.write_ahead_bytes.clamp(FIRST_FRAME as u64, segment_bytes);
    Options { segment_bytes, write_ahead_bytes, ..options }
}
