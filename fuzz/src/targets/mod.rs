//! The targets, by where their bytes come from.

mod answers;
mod checkpoint;
mod config;
mod connection;
mod data_format;
mod error_text;
mod http2;
mod log_entry;
mod log_segment;
mod range;
mod record;
mod snapshot;
mod snapshot_file;
mod store;
mod stored;
mod torn_log;

pub use answers::ANSWERS;
pub use checkpoint::INDEX_CHECKPOINT;
pub use config::{CONFIG_FILE, CONFIG_FLAGS};
pub use connection::CONNECTION;
pub use data_format::DATA_FORMAT;
pub use error_text::ERROR_TEXT;
pub use log_entry::LOG_ENTRY;
pub use log_segment::LOG_SEGMENT;
pub use range::KEY_RANGE;
pub use record::HISTORY_RECORD;
pub use snapshot::SNAPSHOT;
pub use snapshot_file::SNAPSHOT_FILE;
pub use stored::STORED_RECORDS;
pub use torn_log::TORN_LOG;

use crate::Target;

/// All of them.
pub const ALL: &[&Target] = &[
    &ANSWERS,
    &CONFIG_FILE,
    &CONFIG_FLAGS,
    &CONNECTION,
    &DATA_FORMAT,
    &ERROR_TEXT,
    &HISTORY_RECORD,
    &INDEX_CHECKPOINT,
    &KEY_RANGE,
    &LOG_ENTRY,
    &LOG_SEGMENT,
    &SNAPSHOT,
    &SNAPSHOT_FILE,
    &STORED_RECORDS,
    &TORN_LOG,
];
