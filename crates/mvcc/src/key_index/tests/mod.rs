//! Tests of the index as a whole.

mod cost;
mod invariants;
mod model;
mod properties;
mod random;
mod timings;

use stentor_proto::Revision;

use super::log::LogLimits;
use super::node::Shape;
use super::*;

/// Small nodes and logs, so that few keys make a deep tree and a log that overflows.
const SMALL: (Shape, LogLimits) =
    (Shape { leaf: 6, inner: 5, bytes: 64 }, LogLimits { tail: 3, fan: 3, tail_bytes: 30, bytes: 1 << 12 });

fn rev(n: i64) -> Revision {
    Revision::new(n).unwrap()
}

fn id(revision: i64, sub: u32) -> ChangeId {
    ChangeId { revision: rev(revision), sub }
}
