//! The targets, by where their bytes come from.

mod checkpoint;
mod config;
mod connection;
mod error_text;
mod log_entry;
mod range;
mod record;
mod snapshot;
mod store;
mod stored;

pub use checkpoint::INDEX_CHECKPOINT;
pub use config::{CONFIG_FILE, CONFIG_FLAGS};
pub use connection::CONNECTION;
pub use error_text::ERROR_TEXT;
pub use log_entry::LOG_ENTRY;
pub use range::KEY_RANGE;
pub use record::HISTORY_RECORD;
pub use snapshot::SNAPSHOT;
pub use stored::STORED_RECORDS;

use crate::Target;

/// All of them.
pub const ALL: &[&Target] = &[
    &CONFIG_FILE,
    &CONFIG_FLAGS,
    &CONNECTION,
    &ERROR_TEXT,
    &HISTORY_RECORD,
    &INDEX_CHECKPOINT,
    &KEY_RANGE,
    &LOG_ENTRY,
    &SNAPSHOT,
    &STORED_RECORDS,
];
