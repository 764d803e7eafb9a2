//! Log lines: one JSON object each, or one line for people.
//!
//! `{"level":"info","ts":"2026-01-02T15:04:05.999999Z","caller":"server/main.rs:12","msg":"...",...}`

mod record;
#[cfg(test)]
mod tests;
mod time;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogConfig, LogFormat, LogLevel, LogOutput};
use record::Record;

/// Crates whose lines are this server's own; others' count from their warnings on.
const OWN: &str = "stentor";

/// Sends the process's log lines where the configuration says.
///
/// # Errors
/// A file cannot be opened, or logging was started before.
pub fn init(config: &LogConfig) -> io::Result<()> {
    let logger = Logger::open(config)?;
    install_panic_hook(logger.clone());
    tracing_subscriber::registry().with(logger).try_init().map_err(io::Error::other)
}

/// A panic in whatever thread ends the process: what it leaves half-done must not be served from. It is
/// one line of the log like any other, and the process ends by abort.
fn install_panic_hook(logger: Logger) {
    std::panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        let why = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "unknown".to_owned());
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let caller = info.location().map(|at| record::caller(at.file(), at.line())).unwrap_or_default();
        let mut record =
            Record::new("fatal", caller, "panic: the process ends").with("error", why).with("thread", thread);
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            record = record.with("backtrace", backtrace.to_string());
        }
        logger.write(&record);
        std::process::abort();
    }));
}

/// The layer that writes.
#[derive(Clone, Debug)]
struct Logger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    level: LevelFilter,
    format: LogFormat,
    outputs: Vec<Output>,
}

#[derive(Debug)]
enum Output {
    Stderr,
    Stdout,
    File(Mutex<File>),
}

impl Logger {
    fn open(config: &LogConfig) -> io::Result<Logger> {
        let outputs = config.outputs.iter().map(Output::open).collect::<io::Result<Vec<_>>>()?;
        let level = match config.level {
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error => LevelFilter::ERROR,
        };
        Ok(Logger(Arc::new(Inner { level, format: config.format, outputs })))
    }

    fn write(&self, record: &Record) {
        let line = match self.0.format {
            LogFormat::Json => record.json(),
            LogFormat::Console => record.console(),
        };
        for output in &self.0.outputs {
            output.write(line.as_bytes());
        }
    }
}

impl Output {
    fn open(output: &LogOutput) -> io::Result<Output> {
        Ok(match output {
            LogOutput::Stderr => Output::Stderr,
            LogOutput::Stdout => Output::Stdout,
            LogOutput::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
                    io::Error::new(error.kind(), format!("cannot open the log file {}: {error}", path.display()))
                })?;
                Output::File(Mutex::new(file))
            }
        })
    }

    /// A reader that went away, or a full disk, is no reason to stop serving: the line is lost.
    fn write(&self, line: &[u8]) {
        let _ = match self {
            Output::Stderr => io::stderr().lock().write_all(line),
            Output::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(line).and_then(|()| out.flush())
            }
            Output::File(file) => file.lock().write_all(line),
        };
    }
}

impl<S: Subscriber> Layer<S> for Logger {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        let least = if metadata.target().starts_with(OWN) { self.0.level } else { self.0.level.min(LevelFilter::WARN) };
        *metadata.level() <= least
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.write(&Record::of(event));
    }
}
