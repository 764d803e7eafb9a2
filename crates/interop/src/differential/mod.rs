//! The same random requests to a real etcd and to Stentor, one after the other, every answer and every
//! watcher's events compared field by field.
//!
//! What arrives on a watch is never awaited by silence. On each server one watcher observes everything:
//! since each revision holds at least one event, its history is whole once it has an event of the
//! revision that the answers tell. From history follows what every other watcher must receive.

mod answer;
mod coverage;
mod differences;
mod document;
mod generate;
mod report;
mod request;
mod run;
mod settle;
mod side;
mod watcher;

pub use coverage::{Coverage, ENOUGH};
pub use document::{document, document_matches};
pub use report::Difference;
pub use run::{Options, Report, run};
