//! RocksDB's own messages: to our log, instead of files of its own beside the data.

use std::sync::{Arc, OnceLock};

use ::rocksdb::{InfoLogger, LogLevel};

use super::super::EngineError;
use super::errors::from_text;

/// The first error that RocksDB met while no call was waiting for it.
#[derive(Clone, Default)]
pub(super) struct BackgroundError(Arc<OnceLock<String>>);

impl BackgroundError {
    /// The logger that finds it.
    pub(super) fn logger(&self) -> InfoLogger {
        let error = self.clone();
        InfoLogger::new_callback_logger(LogLevel::Info, move |level, message| error.message(level, message.trim_end()))
    }

    fn message(&self, level: LogLevel, message: &str) {
        match level {
            LogLevel::Debug | LogLevel::Header => tracing::trace!(target: "rocksdb", "{message}"),
            LogLevel::Info => tracing::debug!(target: "rocksdb", "{message}"),
            LogLevel::Warn => tracing::warn!(target: "rocksdb", "{message}"),
            LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "rocksdb", "{message}"),
        }
        if matches!(level, LogLevel::Warn | LogLevel::Error | LogLevel::Fatal)
            && let Some(cause) = cause(message)
        {
            // The first one is the cause of those that follow.
            let _ = self.0.set(cause.to_owned());
        }
    }

    /// The error, when RocksDB says that there is one.
    pub(super) fn get(&self) -> EngineError {
        let cause = self.0.get().map_or("an error in the background; the log says which", String::as_str);
        from_text(cause.to_owned())
    }
}

/// RocksDB's error in a message about one in the background.
fn cause(message: &str) -> Option<&str> {
    ["Background IO error ", "background flush error: ", "background compaction error: "]
        .iter()
        .find_map(|start| message.split_once(start))
        .map(|(_, cause)| cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_kept() {
        let error = BackgroundError::default();
        error.message(LogLevel::Warn, "Compaction nothing to do");
        assert!(matches!(error.get(), EngineError::Io(_)));
        error.message(LogLevel::Warn, "[x.cc:1] Background IO error IO error: No space left on device: f, reason 1");
        error.message(LogLevel::Error, "[JOB 1] Waiting after background flush error: Corruption: c, Accumulated");
        assert_eq!(error.get(), EngineError::Full("IO error: No space left on device: f, reason 1".to_owned()));
        let damage = BackgroundError::default();
        damage.message(LogLevel::Error, "Waiting after background compaction error: Corruption: bad block, Acc");
        assert_eq!(damage.get(), EngineError::Corrupt("Corruption: bad block, Acc".to_owned()));
    }
}
