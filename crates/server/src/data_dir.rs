//! The data directory of the binary: what lies in it, and opening the store there.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stentor_mvcc::engine::rocksdb::{Options, RocksDbEngine};
use stentor_mvcc::engine::{Engine, EngineError};
use stentor_mvcc::snapshot::{self, RestoreError, RestoreOptions};
use stentor_proto::snapshot::{BLOCK, HASH};
use tracing::info;

use crate::config::InitialClusterState;

/// Where the store is within the data directory.
const STORE: &str = "store";

/// A snapshot that `stentorctl snapshot restore` has put there.
const SNAPSHOT: &str = "restore.snapshot";

/// Where it is taken in, before it becomes the store.
const RESTORING: &str = "store.restoring";

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
    /// It is empty, and the member it should hold is one of a cluster that is there already.
    #[error(
        "{path} holds no data, and --initial-cluster-state=existing asks to join a cluster, which is not supported \
         yet: give the data directory of this member, or --initial-cluster-state=new for a new cluster"
    )]
    Joining {
        /// The directory.
        path: PathBuf,
    },
    /// It holds a store, and a snapshot to begin one from.
    #[error("{path} holds a store and a snapshot to restore: remove {SNAPSHOT}, or restore into an empty directory")]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// The snapshot in it can't be taken in.
    #[error("cannot restore the snapshot in {path}: {cause}")]
    Restore {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        cause: RestoreError,
    },
    /// The store in it can't be opened.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Opens the store of a data directory, which may be missing or empty if a new cluster is to be made.
///
/// # Errors
/// [`DataDirError`]; another process that has it open is one of them.
pub(crate) fn open(path: &Path, state: InitialClusterState) -> Result<Arc<dyn Engine>, DataDirError> {
    let failed = |cause| DataDirError::Directory { path: path.to_path_buf(), cause };
    let has_data = path.join(STORE).is_dir() || path.join(SNAPSHOT).is_file();
    let of_etcd = path.join("member").join("snap").is_dir();
    // A fresh cluster beside the one that was meant would take its clients' writes.
    if state == InitialClusterState::Existing && !has_data && !of_etcd {
        return Err(DataDirError::Joining { path: path.to_path_buf() });
    }
    create_private(path).map_err(failed)?;
    if of_etcd {
        return Err(DataDirError::OfEtcd { path: path.to_path_buf() });
    }
    if path.join(SNAPSHOT).is_file() {
        take_in(path)?;
    }
    Ok(Arc::new(RocksDbEngine::open(path.join(STORE), &Options::default())?))
}

/// Makes a store of the snapshot in the directory. It is built beside its place and then moved there, so
/// that an interruption leaves the snapshot to begin with again.
fn take_in(path: &Path) -> Result<(), DataDirError> {
    let failed = |cause| DataDirError::Directory { path: path.to_path_buf(), cause };
    let (store, restoring, file) = (path.join(STORE), path.join(RESTORING), path.join(SNAPSHOT));
    if store.is_dir() {
        return Err(DataDirError::Occupied { path: path.to_path_buf() });
    }
    if restoring.is_dir() {
        fs::remove_dir_all(&restoring).map_err(failed)?;
    }
    let source = File::open(&file).map_err(failed)?;
    // A file that was saved ends with its hash; one that was copied in another way may not.
    let trailer = source.metadata().map_err(failed)?.len() % BLOCK == HASH;
    let engine = RocksDbEngine::open(&restoring, &Options::default())?;
    let options = RestoreOptions { trailer, drop_alarms: true, ..RestoreOptions::default() };
    let restored = snapshot::restore(&mut BufReader::with_capacity(1 << 20, source), &engine, &options)
        .map_err(|cause| DataDirError::Restore { path: path.to_path_buf(), cause })?;
    engine.flush()?;
    drop(engine);
    fs::rename(&restoring, &store).and_then(|()| sync(path)).map_err(failed)?;
    fs::remove_file(&file).and_then(|()| sync(path)).map_err(failed)?;
    info!(revision = restored.revision, keys = restored.header.total_keys, "the snapshot was restored");
    Ok(())
}

/// Makes what was renamed or removed in a directory last.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Creates a directory that only its owner can read, if it is not there.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}
