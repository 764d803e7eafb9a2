//! Telling a log that a power cut tore from one that is damaged.
//!
//! A crash while the end of the log is on its way to the disk can leave the end with holes: what came
//! later is there and a sector before it is still zero. That end was never synced, so it is no loss.
//! RocksDB sees only that a checksum is wrong, as it is when something synced was damaged later.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::EngineError;
use super::super::parse::log::{first_bad_record, has_hole};
use super::errors::io_error;

/// The logs in a directory are whole but for the end of the last one, and that was torn.
pub(super) fn is_torn(directory: &Path) -> Result<bool, EngineError> {
    let mut logs = logs(directory)?;
    let Some(last) = logs.pop() else { return Ok(false) };
    for log in logs {
        if first_bad_record(&read(&log)?).is_some() {
            return Ok(false);
        }
    }
    let log = read(&last)?;
    Ok(first_bad_record(&log).is_some_and(|record| has_hole(&log, record)))
}

fn read(path: &Path) -> Result<Vec<u8>, EngineError> {
    fs::read(path).map_err(|e| io_error("read", path, &e))
}

/// The logs that have something in them, oldest first.
fn logs(directory: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let failed = |e: &std::io::Error| io_error("list", directory, e);
    let mut logs = Vec::new();
    for entry in fs::read_dir(directory).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_suffix(".log").and_then(|number| number.parse::<u64>().ok());
        if let Some(number) = number
            && entry.metadata().map_err(|e| failed(&e))?.len() > 0
        {
            logs.push((number, entry.path()));
        }
    }
    logs.sort();
    Ok(logs.into_iter().map(|(_, path)| path).collect())
}
