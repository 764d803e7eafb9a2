//! What is known of a snapshot file.

use stentor_cli::snapshot::Summary;

use super::{Format, Printer, line};
use crate::go;
use crate::json::{Json, Object};
use crate::table::Table;

/// Shown for the revision and the number of keys of a snapshot whose head is not for this version to read.
const UNKNOWN: &str = "-";

impl Printer {
    pub(crate) fn snapshot(&self, summary: &Summary) -> Vec<u8> {
        let head = summary.head.as_ref();
        let revision = || head.map_or(UNKNOWN.to_owned(), |h| h.revision.to_string());
        let keys = || head.map_or(UNKNOWN.to_owned(), |h| h.total_keys.to_string());
        let cells = || vec![format!("{:08x}", summary.short_hash()), revision(), keys(), go::bytes(summary.size)];
        match self.format {
            Format::Json => line(
                Object::default()
                    .with("hash", Json::Uint(summary.short_hash().into()))
                    .with("revision", head.map_or(Json::Null, |h| Json::Int(h.revision)))
                    .with("totalKey", head.map_or(Json::Null, |h| Json::Uint(h.total_keys)))
                    .with("totalSize", Json::Uint(summary.size)),
            ),
            Format::Fields => self.fields(|f| {
                f.field("Hash", summary.short_hash());
                f.field("Revision", revision());
                f.field("Keys", keys());
                f.field("Size", summary.size);
            }),
            Format::Table => {
                let mut table = Table::new(&["hash", "revision", "total keys", "total size"]);
                table.row(cells());
                table.to_string().into_bytes()
            }
            Format::Simple | Format::Protobuf => line(cells().join(", ")),
        }
    }
}
