//! RocksDB's log as a crash leaves it, which opening the engine tells from one that was damaged.

use stentor_mvcc::engine::parse::log::{first_bad_record, has_hole};

use crate::{Outcome, Target};

/// Input: a log. One that is whole, or torn at its end, is accepted.
pub const TORN_LOG: Target = Target { name: "torn_log", decode, samples, refuses: true, cost: 1 };

/// A log is a row of blocks of this size.
const BLOCK: usize = 32 << 10;
/// A disk writes so much at least.
const SECTOR: usize = 512;
/// Bytes of a record's header.
const HEADER: usize = 7;
/// What RocksDB adds to a checksum that it stores, once it is turned by so many bits.
const MASK: (u32, u32) = (15, 0xa282_ead8);

fn decode(bytes: &[u8]) -> Outcome {
    let Some(bad) = first_bad_record(bytes) else { return Outcome::Accepted };
    assert!(bad.start < bad.end && bad.end <= bytes.len(), "{bad:?} of {}", bytes.len());
    let (whole, rest) = bytes.split_at(bad.start);
    assert_eq!(first_bad_record(whole), None, "what is before the first bad record is whole");
    // If nothing from there on had reached the disk, it would be torn at the same place.
    let torn = [whole, &vec![0; rest.len()]].concat();
    match first_bad_record(&torn) {
        Some(hole) => assert!(hole.start == bad.start && has_hole(&torn, hole)),
        None => unreachable!("zeros are no record"),
    }
    if has_hole(bytes, bad) { Outcome::Accepted } else { Outcome::Refused }
}

/// A record with its checksum, whole in its block.
fn record(content: &[u8]) -> Vec<u8> {
    let checked = [&[1], content].concat();
    let crc = crc32c::crc32c(&checked).rotate_right(MASK.0).wrapping_add(MASK.1);
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    [&crc.to_le_bytes()[..], &length.to_le_bytes(), &checked].concat()
}

fn samples() -> Vec<Vec<u8>> {
    let small = [record(b"one"), record(&[2; 40]), record(b""), record(&[4; 300])].concat();
    let large = [record(&[5; 3 * SECTOR]), record(&[6; 2 * SECTOR])].concat();
    let mut torn = [small.clone(), large.clone()].concat();
    torn[2 * SECTOR..3 * SECTOR].fill(0);
    // The next block begins behind a rest that is too short for a header.
    let filling = vec![7; BLOCK - 2 * HEADER + 1];
    let two_blocks = [record(&filling), vec![0; HEADER - 1], record(b"next")].concat();
    vec![small, large, torn, two_blocks]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_whole_but_for_the_torn_one() {
        let bad: Vec<_> = samples().iter().map(|log| first_bad_record(log).is_some()).collect();
        assert_eq!(bad, [false, false, true, false]);
        let two_blocks = samples().pop().unwrap();
        assert!(two_blocks.len() > BLOCK);
        // The second block's record is looked at.
        let mut damaged = two_blocks.clone();
        damaged[BLOCK] ^= 1;
        assert_eq!(first_bad_record(&damaged), Some(BLOCK..two_blocks.len()));
    }
}
