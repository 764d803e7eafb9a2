//! The data directory: its format and its lock.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::super::parse::format;
use super::super::{BlobWriter, EngineError};
use super::errors::io_error;

/// Says what the directory holds, before anything else is in it.
const FORMAT_FILE: &str = "FORMAT";
/// The format of a database with a log of its own.
const WITH_LOG: u32 = 1;
/// The format of one whose newest writes may be in a log outside alone. Whoever does not know that log would
/// take an old state for the newest.
const WITHOUT_LOG: u32 = 2;
/// The latest format that this version reads.
const LATEST: u32 = WITHOUT_LOG;

/// A data directory that this engine, and no other, has open.
pub(super) struct Directory {
    path: PathBuf,
    _lock: Lock,
}

/// A file that is locked until this is dropped.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it is not enough: a process that is just being started holds our files until it runs
        // its program. If this fails, the lock ends a little later.
        let _ = self.0.unlock();
    }
}

impl Directory {
    /// Makes the directory if it is missing, checks that it is ours and of a format that we know, and
    /// locks it. One that had a log of its own, `has_log`, may become one without, but not the other way
    /// round.
    pub(super) fn open(path: &Path, has_log: bool) -> Result<Directory, EngineError> {
        create(path)?;
        let path = path.canonicalize().map_err(|e| io_error("find", path, &e))?;
        let format = path.join(FORMAT_FILE);
        let files = Files::list(&path)?;
        if !format.try_exists().map_err(|e| io_error("find", &format, &e))? {
            if let Some(file) = files.of_a_database {
                return Err(EngineError::Corrupt(format!(
                    "{} has no file {FORMAT_FILE} but {file}: it looks like the RocksDB database of another program",
                    path.display()
                )));
            }
            write_format(&path, if has_log { WITH_LOG } else { WITHOUT_LOG })?;
        }
        let found = read_format(&format)?;
        if let (Some(table), false) = (&files.table, files.current) {
            // RocksDB would take this for a new database and delete the table.
            let path = path.display();
            return Err(EngineError::Corrupt(format!("{path} has {table} but no file CURRENT to say how to read it")));
        }
        let mut lock = lock(&format)?;
        match (found, has_log) {
            (WITHOUT_LOG, true) => return Err(EngineError::NeedsLog(path.display().to_string())),
            (WITH_LOG, false) => {
                // It takes the place of the file that is locked.
                write_format(&path, WITHOUT_LOG)?;
                lock = self::lock(&format)?;
            }
            _ => {}
        }
        Ok(Directory { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces a blob in one step that survives a crash.
    pub(super) fn save_blob(&self, name: &str, write: &mut BlobWriter<'_>) -> Result<(), EngineError> {
        let path = self.blob(name);
        let temporary = path.with_extension("tmp");
        let mut run = || -> io::Result<()> {
            let mut file = BufWriter::with_capacity(256 << 10, File::create(&temporary)?);
            write(&mut file)?;
            file.into_inner()?.sync_all()?;
            fs::rename(&temporary, &path)
        };
        if let Err(error) = run() {
            // What was there stays. The rest only takes space, and would be overwritten next time.
            let _ = fs::remove_file(&temporary);
            return Err(io_error("write", &temporary, &error));
        }
        sync_directory(&self.path)
    }

    pub(super) fn load_blob(&self, name: &str) -> Result<Option<File>, EngineError> {
        let path = self.blob(name);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("open", &path, &error)),
        }
    }

    /// Named as no file of RocksDB is, which cleans up among its own.
    fn blob(&self, name: &str) -> PathBuf {
        self.path.join(format!("STENTOR-{}", name.to_ascii_uppercase()))
    }

    /// Bytes of all files in it.
    pub(super) fn size(&self) -> Result<u64, EngineError> {
        let failed = |e: &io::Error| io_error("list", &self.path, e);
        let mut total = 0;
        for entry in fs::read_dir(&self.path).map_err(|e| failed(&e))? {
            match entry.and_then(|entry| entry.metadata()) {
                Ok(metadata) if metadata.is_file() => total += metadata.len(),
                Ok(_) => {}
                // RocksDB removes files all the time.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        Ok(total)
    }
}

/// What a look at a directory finds.
#[derive(Default)]
struct Files {
    /// A file that only a RocksDB database has.
    of_a_database: Option<String>,
    /// A file with entries.
    table: Option<String>,
    /// The file that names the database's root is there.
    current: bool,
}

impl Files {
    fn list(path: &Path) -> Result<Files, EngineError> {
        let mut files = Files::default();
        for entry in fs::read_dir(path).map_err(|e| io_error("list", path, &e))? {
            let entry = entry.map_err(|e| io_error("list", path, &e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            files.current |= name == "CURRENT";
            if name.ends_with(".sst") {
                files.table = Some(name.clone());
            }
            if name == "CURRENT" || name.starts_with("MANIFEST-") || name.ends_with(".sst") {
                files.of_a_database = Some(name);
            }
        }
        Ok(files)
    }
}

/// Makes a directory durably.
fn create(path: &Path) -> Result<(), EngineError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|e| io_error("make directory", path, &e))?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => sync_directory(Path::new(".")),
    }
}

fn sync_directory(path: &Path) -> Result<(), EngineError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|e| io_error("sync directory", path, &e))
}

/// Writes the format in one step that survives a crash.
fn write_format(directory: &Path, number: u32) -> Result<(), EngineError> {
    let temporary = directory.join(format!("{FORMAT_FILE}.tmp"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(format::line(number).as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, directory.join(FORMAT_FILE))
    };
    write().map_err(|e| io_error("write", &temporary, &e))?;
    sync_directory(directory)
}

fn read_format(path: &Path) -> Result<u32, EngineError> {
    let content = fs::read(path).map_err(|e| io_error("read", path, &e))?;
    match format::parse(&content) {
        Some(found @ (WITH_LOG | WITHOUT_LOG)) => Ok(found),
        Some(found) if found > LATEST => Err(EngineError::TooNew { found, supported: LATEST }),
        _ => {
            let start = String::from_utf8_lossy(content.get(..80).unwrap_or(&content)).into_owned();
            Err(EngineError::Corrupt(format!("{} says {start:?}, which is no format of ours", path.display())))
        }
    }
}

fn lock(path: &Path) -> Result<Lock, EngineError> {
    // RocksDB's own lock comes too late: what is done before it would meet an open database.
    let file = File::open(path).map_err(|e| io_error("open", path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(EngineError::Locked(format!("{} is locked", path.display()))),
        Err(TryLockError::Error(error)) => Err(io_error("lock", path, &error)),
    }
}
