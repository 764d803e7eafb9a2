//! What RocksDB's and the system's errors mean to us.

use std::io;
use std::path::Path;

use ::rocksdb::ErrorKind;

use super::super::EngineError;

pub(super) fn engine_error(error: ::rocksdb::Error) -> EngineError {
    from_text(error.into_string())
}

/// A write was not begun, since too much is in memory or in tables that overlap.
pub(super) fn is_stall(error: &::rocksdb::Error) -> bool {
    error.kind() == ErrorKind::Incomplete && error.as_ref().contains("Write stall")
}

/// RocksDB's errors are texts: they begin with its kind and have the system's words in them.
pub(super) fn from_text(text: String) -> EngineError {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if text.starts_with("Corruption") {
        EngineError::Corrupt(text)
    } else if says(&["No space left on device", "Disk quota exceeded", "File too large"]) {
        EngineError::Full(text)
    } else if says(&["While lock file", "lock hold by current process"]) {
        EngineError::Locked(text)
    } else {
        EngineError::Io(text)
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
