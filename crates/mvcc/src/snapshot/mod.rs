//! Snapshots: a whole store as one stream of bytes, and a store from such a stream.
//!
//! After the [head](stentor_proto::snapshot) come frames: a kind (1 byte), the length of what follows
//! (4 bytes), its entries, and the CRC-32C of all that (4 bytes; numbers have their most significant
//! byte first). An entry is its family (1 byte), the lengths of key and value (varints), key and value.
//! The last frame holds counts. Zeros fill up to a multiple of 512 bytes, and whoever sends or keeps the
//! stream may append the SHA-256 of all of it ([`Trailer`]).
//!
//! A snapshot has everything that can still be read, and nothing that compaction has made superfluous;
//! whom the store belongs to is not in it.

mod frame;
mod reader;
mod restore;

use sha2::{Digest, Sha256};

use crate::Error;
use crate::engine::EngineError;

pub use reader::SnapshotReader;
pub use restore::{RestoreOptions, Restored, restore};

/// Why a snapshot was not restored. What the engine then holds is no store, and is refused as such.
///
/// ```
/// use stentor_mvcc::engine::memory;
/// use stentor_mvcc::snapshot::{RestoreError, RestoreOptions, restore};
/// # let engine = memory::MemoryEngine::open(&memory::Disk::new())?;
/// let refused = restore(&mut &[0; 512][..], &engine, &RestoreOptions::default());
/// assert!(matches!(refused, Err(RestoreError::Header(_))));
/// # Ok::<(), stentor_mvcc::engine::EngineError>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The engine has something in it already.
    #[error("the target is not empty: restore into a new data directory")]
    NotEmpty,
    /// It is no snapshot, or of another version.
    #[error(transparent)]
    Header(#[from] stentor_proto::snapshot::HeaderError),
    /// It is not what was once written.
    #[error("the snapshot is damaged ({0}): fetch it again")]
    Damaged(String),
    /// Reading the snapshot failed.
    #[error("reading the snapshot failed: {0}")]
    Read(#[source] std::io::Error),
    /// The revision would be beyond what a revision can be.
    #[error("revision {revision} can't go up by {bump}: choose a smaller number")]
    Bump {
        /// Of the snapshot.
        revision: i64,
        /// What was asked for.
        bump: u64,
    },
    /// The target failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

fn damaged(detail: impl Into<String>) -> RestoreError {
    RestoreError::Damaged(detail.into())
}

impl From<Error> for RestoreError {
    fn from(error: Error) -> RestoreError {
        match error {
            Error::Engine(error) => RestoreError::Engine(error),
            other => damaged(other.to_string()),
        }
    }
}

/// The SHA-256 that a snapshot file ends with, over everything before it.
///
/// ```
/// use stentor_mvcc::snapshot::Trailer;
/// let mut trailer = Trailer::default();
/// trailer.update(b"chunk after chunk");
/// assert_eq!(trailer.finish().len(), 32);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Trailer(Sha256);

impl Trailer {
    /// Takes the next bytes of the snapshot in.
    pub fn update(&mut self, chunk: &[u8]) {
        self.0.update(chunk);
    }

    /// The 32 bytes to append.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}
