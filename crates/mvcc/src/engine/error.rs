use std::path::PathBuf;

/// Why an engine could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The disk is full. Free space and restart; nothing acknowledged was lost.
    #[error("no space left on the device of {path}: free some and restart")]
    Full {
        /// The data directory.
        path: PathBuf,
    },
    /// The system refused a read, write or sync.
    #[error("{during} failed: {cause}; see the system's log for the device, then restart")]
    Io {
        /// What the engine was doing.
        during: &'static str,
        /// The engine's own words.
        cause: String,
    },
    /// What is on disk is not what was written. Restore a snapshot, or remove this member and let it
    /// copy the data from the others.
    #[error("the data is corrupt ({detail}): restore a snapshot or rebuild this member")]
    Corrupt {
        /// What was found, and where.
        detail: String,
    },
    /// Another process has the directory open.
    #[error("{path} is in use by another process: stop it first, or choose another data directory")]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The data was written by a newer version.
    #[error("the data has format {found}, this version reads up to {known}: run a newer version")]
    TooNew {
        /// The format found.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// An earlier write failed; the engine takes no more until it is opened again.
    #[error("writes are refused since an earlier one failed ({cause}): restart")]
    Failed {
        /// The first failure.
        cause: String,
    },
}
