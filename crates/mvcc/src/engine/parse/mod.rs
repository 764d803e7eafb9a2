//! What the engine on disk reads of files itself, as functions of bytes. They are built without RocksDB too,
//! so that anything can be tried on them.

pub mod format;
pub mod log;
