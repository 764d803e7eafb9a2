//! Damage to what is on disk, one byte at a time.

use std::sync::Arc;

use super::super::format::FIRST_FRAME;
use super::super::{Disk as _, Durability, Log, LogError, Options, Position, memory, parse};
use super::{Chance, Content};

/// A segment for each few changes, and no zeros where damage would mean nothing.
const OPTIONS: Options = Options { segment_bytes: 4 << 10, cached_bytes: 0, write_ahead_bytes: 512 };

/// A log of a few segments whose last change alone is not synced, and what it is with and without that.
fn log(seed: u64, last: Durability) -> (memory::Disk, [Content; 2]) {
    let disk = memory::Disk::new();
    let mut log = Log::create(Arc::new(disk.clone()), Position::default(), OPTIONS).unwrap();
    let mut chance = Chance::new(seed);
    let mut content = Content::default();
    while disk.list().unwrap().len() < 3 || log.end < 1_000 {
        let (_, change) = chance.change(&content);
        change.make(&mut log, Durability::Synced).unwrap();
        content.apply(&change);
        if chance.one_in(8) {
            drop(log);
            log = Log::open(Arc::new(disk.clone()), OPTIONS).unwrap().unwrap();
        }
    }
    log.sync().unwrap();
    let before = content.clone();
    let change = chance.append(&content, false);
    change.make(&mut log, last).unwrap();
    content.apply(&change);
    assert_eq!(Content::of(&log).unwrap(), content);
    let opened = Log::open(Arc::new(disk.copy()), OPTIONS).unwrap().unwrap();
    assert_eq!(Content::of(&opened).unwrap(), content);
    (disk, [content, before])
}

/// Each byte of each file by itself: how often the log was whole, cut and refused.
fn flip_all(seed: u64, last: Durability) -> [u64; 3] {
    let (disk, [whole, cut]) = log(seed, last);
    let mut counts = [0; 3];
    let mut bits = 0;
    for name in disk.list().unwrap() {
        let length = disk.open(&name).unwrap().bytes().unwrap();
        for offset in 0..length {
            let damaged = disk.copy();
            bits = (bits + 1) % 8;
            assert!(damaged.flip(&name, offset, 1 << bits));
            let at = match Log::open(Arc::new(damaged), OPTIONS) {
                Ok(log) => match Content::of(&log.expect("the log is taken for none")).unwrap() {
                    found if found == whole => 0,
                    found if found == cut => 1,
                    found => panic!("{name} at {offset}: {found:#?}\nin place of {whole:#?}"),
                },
                Err(LogError::Corrupt { file, .. }) => {
                    assert!(disk.list().unwrap().contains(&file));
                    2
                }
                Err(other) => panic!("{name} at {offset}: {other}"),
            };
            counts[at] += 1;
        }
    }
    counts
}

#[test]
fn a_damaged_byte_is_noticed_or_means_nothing() {
    for seed in 1..=3 {
        let counts = flip_all(seed, Durability::Buffered);
        println!("seed {seed}: {counts:?}");
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }
}

#[test]
fn damage_behind_which_nothing_was_written_is_cut_off() {
    // Nothing on disk tells the last synced frame from one that was not completed.
    let counts = flip_all(4, Durability::Synced);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

#[test]
fn damage_while_the_log_is_open_is_noticed_by_whoever_reads() {
    let (disk, [whole, _]) = log(5, Durability::Synced);
    let log = Log::open(Arc::new(disk.clone()), OPTIONS).unwrap().unwrap();
    let mut refused = 0;
    for name in disk.list().unwrap() {
        for offset in 0..disk.open(&name).unwrap().bytes().unwrap() {
            assert!(disk.flip(&name, offset, 4));
            match Content::of(&log) {
                Ok(found) => assert_eq!(found, whole),
                Err(super::ReadError::Corrupt { file, .. }) => {
                    assert_eq!(file, name);
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
            assert!(disk.flip(&name, offset, 4));
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_file_that_is_too_short_is_cut_or_refused() {
    let disk = memory::Disk::new();
    let mut log = Log::create(Arc::new(disk.clone()), Position::default(), OPTIONS).unwrap();
    let mut chance = Chance::new(7);
    let mut states = vec![Content::default()];
    while log.end < 2_000 {
        let mut content = states.last().cloned().unwrap();
        let change = chance.append(&content, false);
        change.make(&mut log, Durability::Buffered).unwrap();
        content.apply(&change);
        states.push(content);
    }
    let segment = parse::segments(&disk).remove(0);
    let mut seen = 0;
    for length in 0..=segment.len() {
        match parse::open(&segment[..length], OPTIONS) {
            Ok((_, Some(log))) => {
                let found = Content::of(&log).unwrap();
                let at = states.iter().position(|state| *state == found).unwrap();
                assert!(at == seen || at == seen + 1, "{length} bytes give change {at} after {seen}");
                seen = at;
            }
            Ok((_, None)) => assert_eq!(seen, 0),
            Err(LogError::Corrupt { .. }) => assert!(length < FIRST_FRAME, "{length} bytes are refused"),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(seen, states.len() - 1);
}

#[test]
fn a_segment_that_is_missing_is_noticed() {
    let (disk, _) = log(6, Durability::Synced);
    let names: Vec<_> = disk.list().unwrap().into_iter().filter(|name| name.ends_with(".log")).collect();
    assert!(names.len() > 1, "{names:?}");
    let without = disk.copy();
    without.remove(&names[names.len() - 2]).unwrap();
    let opened = Log::open(Arc::new(without), OPTIONS);
    assert!(matches!(opened, Err(LogError::Corrupt { .. })), "{opened:?}");
}
