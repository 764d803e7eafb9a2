//! The stores of a data directory: the present one, and one that another member sends, which is to take its
//! place. A directory with an open store is not renamed; which one is the present is written down instead.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use stentor_mvcc::engine::rocksdb::{Options, RocksDbEngine};
use stentor_mvcc::engine::{Engine, EngineError};
use tracing::warn;

use super::STORE;
use crate::storage::Received;

/// Names the present store; without it, it is the one that a new directory begins with.
const PRESENT: &str = "store.present";

/// What received stores are called, before their number.
const RECEIVED: &str = "store.received.";

/// What stores are called while they are removed, before the name they had: half of one must not be taken for a store.
const REMOVED: &str = "store.removed.";

/// Where the present store of a data directory is, or would be.
pub(super) fn present(path: &Path) -> PathBuf {
    let name = fs::read_to_string(path.join(PRESENT)).unwrap_or_default();
    // Only what was written here: it is joined to a path.
    let is_ours = name.strip_prefix(RECEIVED).is_some_and(|number| number.parse::<u64>().is_ok());
    path.join(if is_ours { name.as_str() } else { STORE })
}

/// Opens the present store, with the place for a received one.
pub(super) fn open(path: &Path) -> Result<(Arc<dyn Engine>, Stores), EngineError> {
    let present = present(path);
    let engine: Arc<dyn Engine> = Arc::new(RocksDbEngine::open(&present, &Options::replayed())?);
    let engines = vec![(present.clone(), Arc::downgrade(&engine))];
    let used = Used { present, candidate: None, engines };
    Ok((engine, Stores { path: path.to_path_buf(), used: Mutex::new(used) }))
}

/// The stores of a data directory.
pub(super) struct Stores {
    path: PathBuf,
    used: Mutex<Used>,
}

struct Used {
    present: PathBuf,
    /// What was begun or found last.
    candidate: Option<PathBuf>,
    /// Which of them may still be open.
    engines: Vec<(PathBuf, Weak<dyn Engine>)>,
}

impl Stores {
    fn remember(&self, directory: PathBuf, engine: &Arc<dyn Engine>) {
        let mut used = self.used.lock();
        used.engines.retain(|(_, engine)| engine.strong_count() > 0);
        used.engines.push((directory, Arc::downgrade(engine)));
    }

    /// The stores that are there beside the present one.
    fn others(&self) -> io::Result<Vec<PathBuf>> {
        let present = self.used.lock().present.clone();
        let mut others = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let (name, path) = (entry.file_name(), entry.path());
            let is_store = name == STORE || name.to_string_lossy().starts_with(RECEIVED);
            if is_store && path != present && path.is_dir() {
                others.push(path);
            }
        }
        // The first one has no number.
        others.sort_by_key(|path| number(path));
        Ok(others)
    }

    /// What an end in the midst of a removal has left.
    fn remove_leftovers(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(REMOVED) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn remove(&self, directory: &Path) -> io::Result<()> {
        self.remove_leftovers()?;
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let removed = self.path.join(format!("{REMOVED}{name}"));
        fs::rename(directory, &removed)?;
        // In this order also on disk.
        File::open(&self.path)?.sync_all()?;
        fs::remove_dir_all(removed)
    }

    fn begin_at(&self, directory: PathBuf) -> Result<Arc<dyn Engine>, EngineError> {
        let engine: Arc<dyn Engine> = Arc::new(RocksDbEngine::open(&directory, &Options::replayed())?);
        self.remember(directory.clone(), &engine);
        self.used.lock().candidate = Some(directory);
        Ok(engine)
    }
}

impl Received for Stores {
    fn begin(&self) -> Result<Arc<dyn Engine>, EngineError> {
        self.used.lock().candidate = None;
        self.tidy();
        // One that is still open keeps its number.
        let free = (1_u64..).map(|number| self.path.join(format!("{RECEIVED}{number}"))).find(|path| !path.exists());
        self.begin_at(free.unwrap_or_else(|| self.path.join(RECEIVED)))
    }

    fn find(&self) -> Result<Option<Arc<dyn Engine>>, EngineError> {
        let failed = |error: io::Error| EngineError::Io(error.to_string());
        self.remove_leftovers().map_err(failed)?;
        let found = self.others().map_err(failed)?;
        // There is one at most, unless an end came between an adoption and the tidying: the newest counts.
        match found.into_iter().rfind(|path| path.file_name().is_some_and(|name| name != STORE)) {
            Some(directory) => self.begin_at(directory).map(Some),
            None => Ok(None),
        }
    }

    fn adopt(&self) -> Result<(), EngineError> {
        let Some(candidate) = self.used.lock().candidate.take() else { return Ok(()) };
        let name = candidate.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        write_down(&self.path, &name)
            .map_err(|error| EngineError::Io(format!("cannot note the store in use: {error}")))?;
        self.used.lock().present = candidate;
        Ok(())
    }

    fn tidy(&self) {
        let Ok(others) = self.others() else { return };
        for directory in others {
            let used = self.used.lock();
            let is_open = used.engines.iter().any(|(path, engine)| *path == directory && engine.strong_count() > 0);
            if is_open || used.candidate.as_ref() == Some(&directory) {
                continue;
            }
            if let Err(error) = self.remove(&directory) {
                warn!(path = %directory.display(), %error, "a store that is not used any more can't be removed");
            }
        }
    }
}

fn number(store: &Path) -> Option<u64> {
    store.file_name()?.to_str()?.strip_prefix(RECEIVED)?.parse().ok()
}

/// Whole or not at all, also after a crash.
fn write_down(path: &Path, name: &str) -> io::Result<()> {
    let new = path.join(format!("{PRESENT}.new"));
    let mut file = File::create(&new)?;
    file.write_all(name.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path.join(PRESENT))?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use stentor_mvcc::{LogPosition, Store, applied_position};

    use super::*;

    fn fill(engine: &Arc<dyn Engine>, index: u64) {
        let store = Store::open_shared(engine.clone(), Default::default()).unwrap();
        store.apply(&[], LogPosition { term: 1, index }).unwrap();
        store.flush().unwrap();
    }

    fn index(engine: &Arc<dyn Engine>) -> u64 {
        applied_position(&**engine).unwrap().map_or(0, |applied| applied.index)
    }

    #[test]
    fn a_received_store_takes_the_place_of_the_present_one_once_it_is_adopted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let (engine, stores) = open(path).unwrap();
        fill(&engine, 1);
        let received = stores.begin().unwrap();
        fill(&received, 7);
        drop((engine, received, stores));

        // Not adopted: it is found, and the present one is what it was.
        let (engine, stores) = open(path).unwrap();
        assert_eq!(index(&engine), 1);
        let received = stores.find().unwrap().unwrap();
        assert_eq!(index(&received), 7);
        stores.adopt().unwrap();
        stores.tidy();
        assert!(path.join(STORE).is_dir(), "somebody reads it");
        drop(engine);
        stores.tidy();
        assert!(!path.join(STORE).exists());
        drop((received, stores));

        let (engine, stores) = open(path).unwrap();
        assert_eq!(index(&engine), 7);
        assert!(stores.find().unwrap().is_none());
        // One that is begun anew has its place to itself.
        let (first, second) = (stores.begin().unwrap(), stores.begin().unwrap());
        assert_eq!((index(&first), index(&second)), (0, 0));
        drop((first, second));
        stores.tidy();
        assert_eq!(stores.others().unwrap().len(), 1, "the candidate stays");
    }

    #[test]
    fn half_of_a_store_is_not_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let (engine, stores) = open(path).unwrap();
        fill(&engine, 1);
        for number in [9, 10] {
            fill(&stores.begin_at(path.join(format!("{RECEIVED}{number}"))).unwrap(), number);
        }
        assert_eq!(stores.find().unwrap().map(|engine| index(&engine)), Some(10), "the newest, by its number");
        // An end in the midst of its removal.
        stores.used.lock().candidate = None;
        fs::rename(path.join("store.received.10"), path.join("store.removed.store.received.10")).unwrap();
        fs::remove_file(path.join("store.removed.store.received.10/CURRENT")).unwrap();
        assert_eq!(stores.find().unwrap().map(|engine| index(&engine)), Some(9));
        assert!(!path.join("store.removed.store.received.10").exists());
        // No name that a store has is there while it goes.
        stores.used.lock().candidate = None;
        stores.tidy();
        assert!(stores.others().unwrap().is_empty() && stores.find().unwrap().is_none());
        let names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [STORE]);
    }
}
