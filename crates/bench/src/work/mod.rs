//! What clients do, one kind a type. Requests are made from templates that were encoded before the clock
//! ran, where their length allows it.

mod lease;
mod read;
mod transaction;
mod write;

pub use lease::{Grants, KeepAlive};
pub use read::{Counts, Gets, Pages, Paginate, Streamed};
pub use transaction::{CompareAndSwap, Fill, Multi};
pub use write::{Deletes, Puts};

use crate::clients::Turn;

/// In which order keys are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// One after the other, around and around.
    InTurn,
    /// As a fixed pseudo-random sequence has them.
    Random,
}

impl Order {
    fn of(self, turn: Turn) -> u64 {
        match self {
            Order::InTurn => turn.number,
            Order::Random => scattered(turn.number),
        }
    }
}

/// A number that looks random, always the same for the same `number` (SplitMix64).
pub(crate) fn scattered(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
