//! The library's log lines, as events of tracing.

use std::fmt::{self, Write as _};

use slog::{Drain, KV, Level, Logger, Never, OwnedKVList, Record, Serializer};

/// A logger for the library, which logs by slog.
pub(crate) fn logger() -> Logger {
    Logger::root(ToTracing, slog::o!())
}

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let mut line = Line(record.msg().to_string());
        // A value that can't be formatted is left out.
        let _ = record.kv().serialize(record, &mut line);
        let _ = values.serialize(record, &mut line);
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", line.0),
            Level::Warning => tracing::warn!(target: "raft", "{}", line.0),
            Level::Info => tracing::info!(target: "raft", "{}", line.0),
            Level::Debug | Level::Trace => tracing::debug!(target: "raft", "{}", line.0),
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        match level {
            Level::Critical | Level::Error => tracing::enabled!(target: "raft", tracing::Level::ERROR),
            Level::Warning => tracing::enabled!(target: "raft", tracing::Level::WARN),
            Level::Info => tracing::enabled!(target: "raft", tracing::Level::INFO),
            Level::Debug | Level::Trace => tracing::enabled!(target: "raft", tracing::Level::DEBUG),
        }
    }
}

/// A message with its values behind it.
struct Line(String);

impl Serializer for Line {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, ", {key} {value}").map_err(slog::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use slog::{b, record};

    use super::*;

    #[test]
    fn values_follow_the_message() {
        let mut line = Line("became leader".to_owned());
        b!("term" => 3).serialize(&record!(Level::Info, "", &format_args!(""), b!()), &mut line).unwrap();
        assert_eq!(line.0, "became leader, term 3");
    }
}
