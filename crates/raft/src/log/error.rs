//! What can go wrong, and what to do about it.

use std::io;

/// Why the log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// There is a log already, where one should be created. Open it.
    #[error("there is a log already")]
    Exists,
    /// What was synced is not readable any more. Remove this member and let it copy the data from the
    /// others, or restore a snapshot.
    #[error("the log is damaged: {file} at byte {offset}: {detail}; rebuild this member or restore a snapshot")]
    Corrupt {
        /// The file in the log's directory.
        file: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What was found there.
        detail: &'static str,
    },
    /// A newer version of this program wrote the log. Use that one.
    #[error("{file} has version {found} of the log's format, and this program knows {supported}: use a newer one")]
    Version {
        /// The file in the log's directory.
        file: String,
        /// The version that was found.
        found: u32,
        /// The newest that is understood here.
        supported: u32,
    },
    /// There is no room on the disk. Nothing of what was asked has happened and the log can be used as
    /// before; trying again makes sense once there is room, and [`purge`](super::Log::purge) may make some.
    #[error("no room on the disk for the log ({0})")]
    Full(#[source] io::Error),
    /// Reading, writing or syncing failed. Whether what was asked for is on disk is unknown, so from now on
    /// the log refuses to change ([`LogError::Failed`]). Find the cause and open the log again.
    #[error("cannot {action} {file}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file in the log's directory; empty for the directory itself.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// An earlier write or sync failed: see [`LogError::Io`]. Open the log again.
    #[error("the log failed earlier ({cause}) and must be opened again")]
    Failed {
        /// What had failed.
        cause: String,
    },
    /// The index does not fit what is in the log: a mistake of the caller. Nothing was changed.
    #[error("index {index} does not fit a log of entries {first} to {last}")]
    Misplaced {
        /// What was asked for.
        index: u64,
        /// The first entry that there is, or would be.
        first: u64,
        /// The last entry that there is; less than `first` if there is none.
        last: u64,
    },
    /// More was to be appended at once than one frame can hold. Nothing was changed.
    #[error("{bytes} bytes are too many for one append: at most {most}")]
    TooLarge {
        /// What was to be appended.
        bytes: u64,
        /// What is possible.
        most: u64,
    },
}

/// Why an entry is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// It was purged, or replaced by a snapshot.
    #[error("the entry was purged")]
    Purged,
    /// It has not been appended.
    #[error("the log does not reach so far")]
    Beyond,
}

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// They are not in the log.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// They were, and are not readable any more. Remove this member and let it copy the data from the
    /// others, or restore a snapshot.
    #[error("the log is damaged: {file} at byte {offset}; rebuild this member or restore a snapshot")]
    Corrupt {
        /// The file in the log's directory.
        file: String,
        /// Where in it, in bytes.
        offset: u64,
    },
    /// The operating system did not read them.
    #[error("cannot read {file}: {source}")]
    Io {
        /// The file in the log's directory.
        file: String,
        /// What it said.
        source: io::Error,
    },
}

impl LogError {
    /// An error of the file system. On the directory when `file` is empty.
    pub(super) fn io(action: &'static str, file: &str, source: io::Error) -> LogError {
        LogError::Io { action, file: file.to_owned(), source }
    }

    pub(super) fn corrupt(file: &str, offset: usize, detail: &'static str) -> LogError {
        LogError::Corrupt { file: file.to_owned(), offset: offset as u64, detail }
    }
}

/// Whether the cause is that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
