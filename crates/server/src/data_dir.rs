//! The data directory of the binary: what lies in it, and opening the store there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stentor_mvcc::engine::rocksdb::{Options, RocksDbEngine};
use stentor_mvcc::engine::{Engine, EngineError};

/// Where the store is within the data directory.
const STORE: &str = "store";

/// Why the data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    /// It can't be created or read.
    #[error("cannot use the data directory {path}: {cause}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// It holds another store's data.
    #[error("{path} holds the data of an etcd server: choose another --data-dir, or restore a snapshot there")]
    OfEtcd {
        /// The directory.
        path: PathBuf,
    },
    /// The store in it can't be opened.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Opens the store of a data directory, which may be missing or empty.
///
/// # Errors
/// [`DataDirError`]; another process that has it open is one of them.
pub(crate) fn open(path: &Path) -> Result<Arc<dyn Engine>, DataDirError> {
    let failed = |cause| DataDirError::Directory { path: path.to_path_buf(), cause };
    create_private(path).map_err(failed)?;
    if path.join("member").join("snap").is_dir() {
        return Err(DataDirError::OfEtcd { path: path.to_path_buf() });
    }
    Ok(Arc::new(RocksDbEngine::open(path.join(STORE), &Options::default())?))
}

/// Creates a directory that only its owner can read, if it is not there.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}
