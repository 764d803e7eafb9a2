//! What RocksDB's and the system's errors mean to us.

use std::io;
use std::path::Path;

use ::rocksdb::ErrorKind;

use super::super::EngineError;

/// RocksDB gives a kind and, for the causes below, the system's text only.
pub(super) fn engine_error(error: ::rocksdb::Error) -> EngineError {
    let kind = error.kind();
    let text = error.into_string();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match kind {
        ErrorKind::Corruption => EngineError::Corrupt(text),
        _ if says(&["No space left on device", "Disk quota exceeded", "File too large"]) => EngineError::Full(text),
        ErrorKind::IOError if says(&["While lock file", "lock hold by current process"]) => EngineError::Locked(text),
        _ => EngineError::Io(text),
    }
}

pub(super) fn io_error(doing: &str, path: &Path, error: &io::Error) -> EngineError {
    let text = format!("{doing} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            EngineError::Full(text)
        }
        _ => EngineError::Io(text),
    }
}
