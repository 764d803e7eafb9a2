/// What can go wrong in an engine. Each says what to do about it.
///
/// It can be cloned, so that all writes of a group can be given the same one.
///
/// ```
/// use stentor_mvcc::engine::{EngineError, memory};
/// let disk = memory::Disk::new();
/// let _in_use = memory::MemoryEngine::open(&disk)?;
/// let refused = memory::MemoryEngine::open(&disk).err();
/// assert!(matches!(refused, Some(EngineError::Locked(_))));
/// # Ok::<(), EngineError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The disk has no space left.
    #[error("no space left on the disk ({0}): free some space, then restart")]
    Full(String),
    /// The system refused a read, a write or a sync.
    #[error("the disk failed ({0}): check the disk and the system's log, then restart")]
    Io(String),
    /// What is stored is not what was written.
    #[error("stored data is damaged ({0}): restore the data directory from a snapshot")]
    Corrupt(String),
    /// Another engine, here or in another process, has the data open.
    #[error("the data is in use ({0}): stop the other process, or use another data directory")]
    Locked(String),
    /// It was written without a log of the engine's own, which is another one's to replay.
    #[error("the data goes with a log kept beside it ({0}): open it with the program that keeps that log")]
    NeedsLog(String),
    /// The data was written by a later version of this program.
    #[error("the data has format {found}, this version knows formats up to {supported}: use the version that wrote it")]
    TooNew {
        /// The format of the data.
        found: u32,
        /// The latest format that this version knows.
        supported: u32,
    },
    /// A write or sync failed earlier; this one was not tried.
    #[error("writes are refused since an earlier one failed ({0}): restart once the cause is gone")]
    Failed(String),
}
