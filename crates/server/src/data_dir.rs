//! The data directory of the binary: what lies in it, and opening the store there.

mod stores;

use std::fs::{self, File};
use std::io::{self, BufReader, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stentor_mvcc::engine::rocksdb::{Options, RocksDbEngine};
use stentor_mvcc::engine::{Engine as _, EngineError};
use stentor_mvcc::snapshot::{self, RestoreError, RestoreOptions};
use stentor_mvcc::{Options as StoreOptions, Store};
use stentor_proto::snapshot::{BLOCK, HASH, read_restore};
use stentor_raft::log::SystemDisk;
use tracing::info;

use crate::cluster::{RestoredError, begin_restored};
use crate::storage::Storage;

/// Where the store is within the data directory.
const STORE: &str = "store";

/// A snapshot that `stentorctl snapshot restore` has put there.
const SNAPSHOT: &str = "restore.snapshot";

/// Its name once all of it is taken in, until the store is in its place.
const TAKEN: &str = "restore.snapshot.taken";

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
    /// The snapshot in it can't become a member's store.
    #[error("cannot use the snapshot in {path}: {cause}")]
    Restored {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        cause: RestoredError,
    },
    /// The store in it can't be opened.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store in it can't be read.
    #[error(transparent)]
    Store(#[from] stentor_mvcc::Error),
}

/// Whether a data directory holds a store, or a snapshot to make one of. Else a cluster is made or joined.
pub(crate) fn holds_data(path: &Path) -> bool {
    let has_snapshot = path.join(SNAPSHOT).is_file() || path.join(TAKEN).is_file();
    has_snapshot || stores::present(path).is_dir() || is_of_etcd(path)
}

/// Whether a store belongs to nobody yet, and holds nothing: not even what a snapshot would leave there.
pub(crate) fn is_unclaimed(storage: &Storage) -> Result<bool, DataDirError> {
    let engine = &*storage.engine;
    Ok(stentor_mvcc::identity(engine)?.is_none() && stentor_mvcc::applied_position(engine)?.is_none())
}

fn is_of_etcd(path: &Path) -> bool {
    path.join("member").join("snap").is_dir()
}

/// Opens the store of a data directory, which may be missing or empty.
///
/// # Errors
/// [`DataDirError`]; another process that has it open is one of them.
pub(crate) fn open(path: &Path, log: &Path) -> Result<Storage, DataDirError> {
    let failed = |cause| DataDirError::Directory { path: path.to_path_buf(), cause };
    let has_snapshot = path.join(SNAPSHOT).is_file() || path.join(TAKEN).is_file();
    create_private(path).map_err(failed)?;
    if is_of_etcd(path) {
        return Err(DataDirError::OfEtcd { path: path.to_path_buf() });
    }
    if has_snapshot {
        take_in(path)?;
    }
    let (engine, received) = stores::open(path)?;
    create_private(log).map_err(|cause| DataDirError::Directory { path: log.to_path_buf(), cause })?;
    let log = SystemDisk::new(log).map_err(|cause| DataDirError::Directory { path: log.to_path_buf(), cause })?;
    Ok(Storage { engine, log: Arc::new(log), received: Arc::new(received) })
}

/// Makes a store of the snapshot in the directory. It is built beside its place and then moved there, so
/// that an interruption leaves the snapshot to begin with again, or a store that it is known to be in.
fn take_in(path: &Path) -> Result<(), DataDirError> {
    let failed = |cause| DataDirError::Directory { path: path.to_path_buf(), cause };
    let (store, restoring) = (stores::present(path), path.join(RESTORING));
    let (file, taken) = (path.join(SNAPSHOT), path.join(TAKEN));
    if store.is_dir() && file.is_file() {
        return Err(DataDirError::Occupied { path: path.to_path_buf() });
    }
    if !store.is_dir() {
        let source = if taken.is_file() { &taken } else { &file };
        build(path, source, &restoring)?;
        // In this order: a store beside the snapshot's first name is another one.
        fs::rename(source, &taken).and_then(|()| sync(path)).map_err(failed)?;
        fs::rename(&restoring, &store).and_then(|()| sync(path)).map_err(failed)?;
    }
    fs::remove_file(&taken).and_then(|()| sync(path)).map_err(failed)
}

/// Makes a store of the snapshot `source`, all of it on disk, at `restoring`.
fn build(path: &Path, source: &Path, restoring: &Path) -> Result<(), DataDirError> {
    let failed = |cause| DataDirError::Directory { path: path.to_path_buf(), cause };
    if restoring.is_dir() {
        fs::remove_dir_all(restoring).map_err(failed)?;
    }
    let mut source = BufReader::with_capacity(1 << 20, File::open(source).map_err(failed)?);
    let unreadable = |cause| DataDirError::Restore { path: path.to_path_buf(), cause };
    let restore = read_restore(&mut source).map_err(|error| unreadable(error.into()))?.unwrap_or_default();
    let len =
        source.get_ref().metadata().and_then(|file| Ok(file.len() - source.stream_position()?)).map_err(failed)?;
    let options = RestoreOptions {
        // A file that was saved ends with its hash; one that was copied in another way may not.
        trailer: len % BLOCK == HASH && !restore.skip_hash_check,
        drop_alarms: true,
        bump_revision: restore.bump_revision,
        mark_compacted: restore.mark_compacted,
        ..RestoreOptions::default()
    };
    let engine = Arc::new(RocksDbEngine::open(restoring, &Options::default())?);
    let restored = snapshot::restore(&mut source, &*engine, &options).map_err(unreadable)?;
    let store = Store::open_shared(engine.clone(), StoreOptions::default())?;
    begin_restored(&store, &restore).map_err(|cause| DataDirError::Restored { path: path.to_path_buf(), cause })?;
    drop(store);
    engine.flush()?;
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

#[cfg(test)]
mod tests {
    use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
    use stentor_proto::Revision;
    use stentor_proto::etcdserverpb::PutRequest;
    use stentor_proto::snapshot::encode_restore;
    use stentor_proto::storagepb::{MemberRecord, Restore};

    use super::*;

    const LOG: &str = "log";

    /// A snapshot of one pair, without its hash.
    fn snapshot() -> Vec<u8> {
        let store = Store::open(MemoryEngine::open(&Disk::new()).unwrap(), StoreOptions::default()).unwrap();
        store.put(PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() }).unwrap();
        let mut reader = store.snapshot("test").unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.next_chunk(1 << 20).unwrap() {
            bytes.extend_from_slice(&chunk);
        }
        bytes
    }

    /// Opens the directory, finds what the snapshot holds and nothing that is left of it.
    fn holds_it(path: &Path) {
        let engine = open(path, &path.join(LOG)).unwrap().engine;
        let view = Store::open_shared(engine, StoreOptions::default()).unwrap().view();
        assert_eq!(view.pair_at(b"k", Revision::new(2).unwrap()).unwrap().unwrap().value, "v");
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [LOG, STORE]);
    }

    #[test]
    fn a_snapshot_is_taken_in_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(SNAPSHOT), snapshot()).unwrap();
        holds_it(folder.path());
        holds_it(folder.path());
    }

    #[test]
    fn wherever_it_is_interrupted_it_is_taken_in_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        // While the store was built.
        fs::write(path.join(SNAPSHOT), snapshot()).unwrap();
        fs::create_dir(path.join(RESTORING)).unwrap();
        fs::write(path.join(RESTORING).join("CURRENT"), "half").unwrap();
        holds_it(path);
        // Before the store was moved.
        fs::remove_dir_all(path.join(STORE)).unwrap();
        fs::write(path.join(TAKEN), snapshot()).unwrap();
        holds_it(path);
        // After that.
        fs::write(path.join(TAKEN), "of no use any more").unwrap();
        holds_it(path);
    }

    #[test]
    fn a_store_is_never_replaced_by_a_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join(SNAPSHOT), snapshot()).unwrap();
        holds_it(path);
        fs::write(path.join(SNAPSHOT), snapshot()).unwrap();
        let refused = open(path, &path.join(LOG)).err().unwrap();
        assert!(matches!(refused, DataDirError::Occupied { .. }), "{refused}");
        fs::remove_file(path.join(SNAPSHOT)).unwrap();
        holds_it(path);
    }

    #[test]
    fn a_damaged_snapshot_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let mut bytes = snapshot();
        let middle = bytes.len() / 2;
        bytes[..middle].reverse();
        fs::write(path.join(SNAPSHOT), &bytes).unwrap();
        for _ in 0..2 {
            let refused = open(path, &path.join(LOG)).err().unwrap();
            assert!(matches!(refused, DataDirError::Restore { .. }), "{refused}");
            assert_eq!(fs::read(path.join(SNAPSHOT)).unwrap(), bytes);
            assert!(!path.join(STORE).exists());
        }
    }

    /// How the members of a new cluster begin: the same but for who each is.
    fn restore_of(name: &str, members: &[(&str, &str)], sha256: &[u8]) -> Restore {
        let member = |(name, url): &(&str, &str)| MemberRecord {
            name: (*name).to_owned(),
            peer_urls: vec![(*url).to_owned()],
            ..MemberRecord::default()
        };
        Restore {
            bump_revision: 1_000,
            mark_compacted: true,
            sha256: sha256.to_vec().into(),
            members: members.iter().map(member).collect(),
            token: "t".into(),
            name: name.into(),
            ..Restore::default()
        }
    }

    #[test]
    fn a_snapshot_becomes_the_store_of_each_member_of_a_new_cluster() {
        let members = [("a", "http://127.0.0.1:1"), ("b", "http://127.0.0.1:2")];
        let begun = |restore: &Restore| {
            let folder = tempfile::tempdir().unwrap();
            let file = [encode_restore(restore), snapshot()].concat();
            fs::write(folder.path().join(SNAPSHOT), file).unwrap();
            let engine = open(folder.path(), &folder.path().join(LOG)).unwrap().engine;
            let store = Store::open_shared(engine, StoreOptions::default()).unwrap();
            let view = store.view();
            assert_eq!((view.revision().get(), view.compacted()), (1_002, Some(view.revision())));
            let names: Vec<_> = view.members().iter().map(|member| (member.id, member.name.clone())).collect();
            let own = store.identity().unwrap().unwrap();
            let hash = view.hash_kv(0).unwrap().hash;
            ((own.cluster_id, names, view.applied(), hash), own.member_id)
        };
        let (a, a_id) = begun(&restore_of("a", &members, b"one"));
        let (b, b_id) = begun(&restore_of("b", &members, b"one"));
        assert_eq!(a, b);
        assert_ne!(a_id, b_id);
        assert!(a.1.contains(&(a_id, "a".to_owned())) && a.1.contains(&(b_id, "b".to_owned())), "{a:?}");
        let (other, _) = begun(&restore_of("a", &members, b"another"));
        assert_ne!(other.0, a.0, "of another snapshot, and the same cluster");
    }

    #[test]
    fn a_member_that_is_none_or_has_no_address_is_refused() {
        for (name, url) in [("b", "http://127.0.0.1:1"), ("a", "127.0.0.1")] {
            let folder = tempfile::tempdir().unwrap();
            let file = [encode_restore(&restore_of(name, &[("a", url)], b"")), snapshot()].concat();
            fs::write(folder.path().join(SNAPSHOT), file).unwrap();
            let refused = open(folder.path(), &folder.path().join(LOG)).err().unwrap();
            assert!(matches!(refused, DataDirError::Restored { .. }), "{refused}");
        }
    }

    #[test]
    fn a_store_that_was_only_begun_belongs_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(!holds_data(path));
        let storage = open(path, &path.join(LOG)).unwrap();
        assert!(holds_data(path) && is_unclaimed(&storage).unwrap());
        stentor_mvcc::set_identity(&*storage.engine, &Default::default()).unwrap();
        assert!(!is_unclaimed(&storage).unwrap());
        drop(storage);
        // What comes from a snapshot is something, though it belongs to nobody.
        fs::remove_dir_all(path.join(STORE)).unwrap();
        fs::write(path.join(SNAPSHOT), snapshot()).unwrap();
        assert!(!is_unclaimed(&open(path, &path.join(LOG)).unwrap()).unwrap());
    }
}
