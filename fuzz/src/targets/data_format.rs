//! The file that says which format a data directory has.

use stentor_mvcc::engine::parse::format;

use crate::{Outcome, Target};

/// Input: the file's content.
pub const DATA_FORMAT: Target = Target { name: "data_format", decode, samples, refuses: true, cost: 1 };

fn decode(bytes: &[u8]) -> Outcome {
    let Some(found) = format::parse(bytes) else { return Outcome::Refused };
    assert_eq!(format::parse(format::line(found).as_bytes()), Some(found));
    Outcome::Accepted
}

fn samples() -> Vec<Vec<u8>> {
    [1, 10, u32::MAX].map(|format| format::line(format).into_bytes()).to_vec()
}
