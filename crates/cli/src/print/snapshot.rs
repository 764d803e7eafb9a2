//! What is known of a snapshot file.

use super::{Format, Printer, line};
use crate::go;
use crate::json::{Json, Object};
use crate::snapshot::Summary;
use crate::table::Table;

/// Shown for what cannot be told from outside the store: its revision and how many keys it has.
const UNKNOWN: &str = "-";

impl Printer {
    pub(crate) fn snapshot(&self, summary: &Summary) -> Vec<u8> {
        let cells = || {
            vec![
                format!("{:08x}", summary.short_hash()),
                UNKNOWN.to_owned(),
                UNKNOWN.to_owned(),
                go::bytes(summary.size),
            ]
        };
        match self.format {
            Format::Json => line(
                Object::default()
                    .with("hash", Json::Uint(summary.short_hash().into()))
                    .with("revision", Json::Null)
                    .with("totalKey", Json::Null)
                    .with("totalSize", Json::Uint(summary.size)),
            ),
            Format::Fields => self.fields(|f| {
                f.field("Hash", summary.short_hash());
                f.field("Revision", UNKNOWN);
                f.field("Keys", UNKNOWN);
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
