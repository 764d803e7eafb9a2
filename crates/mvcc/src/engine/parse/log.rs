//! RocksDB's log: where it stops being what was written, and whether it was torn there.

use std::ops::Range;

/// A log is a row of blocks, in which records lie that do not cross into the next block.
const BLOCK: usize = 32 << 10;
/// A record's header: checksum (4 bytes), length of what follows (2), type (1).
const HEADER: usize = 7;
/// Types of records in reused log files. Their header also has the log's number (4 bytes).
const REUSED_TYPES: [u8; 6] = [5, 6, 7, 8, 11, 131];
/// The least that a disk writes.
const SECTOR: usize = 512;

/// Where the first record lies that is not as it was written. One that the file's end cuts off is not
/// counted: RocksDB takes it for what it is.
pub fn first_bad_record(log: &[u8]) -> Option<Range<usize>> {
    let mut start = 0;
    while start + HEADER <= log.len() {
        let block_end = (start / BLOCK + 1) * BLOCK;
        if block_end - start < HEADER {
            start = block_end;
            continue;
        }
        let end = record_end(log, start)?;
        if end > block_end {
            return Some(start..block_end.min(log.len()));
        }
        let record = log.get(start..end)?;
        if !is_whole(record) {
            // Without a length, all to the end of the block is in question.
            let end = if end == start + HEADER { block_end.min(log.len()) } else { end };
            return Some(start..end);
        }
        start = end;
    }
    None
}

/// Where the record that begins at `start` ends by its header; `None` if that is cut off.
fn record_end(log: &[u8], start: usize) -> Option<usize> {
    let &[_, _, _, _, low, high, kind] = log.get(start..)?.first_chunk::<HEADER>()?;
    let number = if REUSED_TYPES.contains(&kind) { 4 } else { 0 };
    Some(start + HEADER + number + usize::from(u16::from_le_bytes([low, high])))
}

/// The checksum of a record, stored in a disguise, is right.
fn is_whole(record: &[u8]) -> bool {
    let Some((stored, rest)) = record.split_first_chunk::<4>() else { return false };
    let Some(content) = rest.get(2..) else { return false };
    let masked = crc32c::crc32c(content).rotate_right(15).wrapping_add(0xa282_ead8);
    u32::from_le_bytes(*stored) == masked
}

/// A sector, or the part of it that is in the range, is zero.
pub fn has_hole(log: &[u8], range: Range<usize>) -> bool {
    let mut start = range.start;
    while start < range.end {
        let end = ((start / SECTOR + 1) * SECTOR).min(range.end);
        if log.get(start..end).is_some_and(|sector| sector.iter().all(|byte| *byte == 0)) {
            return true;
        }
        start = end;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content: &[u8]) -> Vec<u8> {
        let mut checked = vec![1];
        checked.extend_from_slice(content);
        let mut record = crc32c::crc32c(&checked).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes().to_vec();
        record.extend_from_slice(&(content.len() as u16).to_le_bytes());
        record.extend_from_slice(&checked);
        record
    }

    #[test]
    fn the_first_bad_record_is_found() {
        let whole = [record(b"one"), record(&[7; 3000]), record(b"")].concat();
        assert_eq!(first_bad_record(&whole), None);
        assert_eq!(first_bad_record(&[]), None);
        assert_eq!(first_bad_record(&whole[..whole.len() - 8]), None, "cut off by the end");
        let mut flipped = whole.clone();
        flipped[1500] ^= 1;
        assert_eq!(first_bad_record(&flipped), Some(10..3017));
        assert!(!has_hole(&flipped, 10..3017));
        let mut torn = whole.clone();
        torn[1024..1536].fill(0);
        assert_eq!(first_bad_record(&torn), Some(10..3017));
        assert!(has_hole(&torn, 10..3017));
        let mut headless = whole.clone();
        headless[10..512].fill(0);
        assert_eq!(first_bad_record(&headless), Some(10..whole.len()));
        assert!(has_hole(&headless, 10..whole.len()));
    }

    #[test]
    fn no_bytes_make_it_fail() {
        let mut random = 1u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize
        };
        let mut bad = 0;
        for _ in 0..2000 {
            let length = next() % 70_000;
            let mut log = [record(&vec![1; next() % 5000]), vec![next() as u8; length]].concat();
            log.iter_mut().step_by(1 + next() % 50).for_each(|byte| *byte = next() as u8);
            if let Some(range) = first_bad_record(&log) {
                assert!(range.start < range.end && range.end <= log.len());
                has_hole(&log, range);
                bad += 1;
            }
        }
        assert!(bad > 1000, "{bad}");
    }
}
