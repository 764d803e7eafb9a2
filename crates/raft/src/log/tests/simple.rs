//! One thing at a time.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::super::{
    Disk as _, Durability, Entry, HardState, Log, LogError, Options, Position, ReadError, Unavailable, memory,
};
use super::Content;

const SMALL: Options = Options { segment_bytes: 8 << 10, cached_bytes: 0, write_ahead_bytes: 2 << 10 };

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    Entry { position: Position { term, index }, data: Bytes::from(vec![index as u8; bytes]), ..Entry::default() }
}

fn created(options: Options) -> (memory::Disk, Log) {
    let disk = memory::Disk::new();
    let log = Log::create(Arc::new(disk.clone()), Position::default(), options).unwrap();
    (disk, log)
}

fn opened(disk: &memory::Disk) -> Result<Option<Log>, LogError> {
    Log::open(Arc::new(disk.clone()), SMALL)
}

#[test]
fn a_lone_append_is_one_write_and_one_sync() {
    let (disk, mut log) = created(Options::default());
    for index in 1..=500 {
        let (writes, syncs) = (disk.writes(), disk.syncs());
        let hard_state = HardState { term: 1, vote: 1, commit: index - 1 };
        log.append(Some(hard_state), &[entry(1, index, 256)], Durability::Synced).unwrap();
        assert_eq!((disk.writes() - writes, disk.syncs() - syncs), (1, 1));
    }
}

#[test]
fn what_is_prepared_costs_an_append_nothing_but_at_the_change_of_segments() {
    let (disk, mut log) = created(SMALL);
    let mut costly = 0;
    for index in 1..=200 {
        while log.prepare().unwrap() {}
        let writes = disk.writes();
        log.append(None, &[entry(1, index, 256)], Durability::Synced).unwrap();
        costly += u64::from(disk.writes() > writes + 1);
    }
    let segments = disk.list().unwrap().iter().filter(|name| name.ends_with(".log")).count() as u64;
    assert_eq!(costly, segments - 1);
    assert!(segments > 5, "{segments}");
}

#[test]
fn a_new_log_is_small_and_purged_segments_are_used_again() {
    assert!(created(Options::default()).1.bytes() < 1 << 20);
    let (disk, mut log) = created(SMALL);
    for index in 1..=1_000 {
        log.append(None, &[entry(1, index, 100)], Durability::Synced).unwrap();
        log.purge(index.saturating_sub(10)).unwrap();
        assert!(log.bytes() <= 4 * SMALL.segment_bytes, "{}", log.bytes());
    }
    assert!(disk.list().unwrap().len() <= 4);
    let disk = disk.copy();
    let log = opened(&disk).unwrap().unwrap();
    assert_eq!((log.start().index, log.last().index), (990, 1_000));
}

#[test]
fn mistakes_of_the_caller_change_nothing() {
    let (disk, mut log) = created(SMALL);
    log.append(None, &[entry(1, 1, 1), entry(1, 2, 1), entry(1, 3, 1)], Durability::Synced).unwrap();
    log.purge(1).unwrap();
    for entries in [&[entry(1, 5, 1)][..], &[entry(1, 1, 1)], &[entry(1, 4, 1), entry(1, 6, 1)], &[entry(1, 0, 1)]] {
        let refused = log.append(None, entries, Durability::Synced);
        assert!(matches!(refused, Err(LogError::Misplaced { first: 2, last: 3, .. })), "{refused:?}");
    }
    assert!(matches!(log.purge(4), Err(LogError::Misplaced { index: 4, .. })));
    let before = Content::of(&log).unwrap();
    drop(log);
    assert_eq!(Content::of(&opened(&disk).unwrap().unwrap()).unwrap(), before);
}

#[test]
fn what_is_not_there_is_said_to_be_purged_or_beyond() {
    let (_, mut log) = created(SMALL);
    log.append(None, &[entry(1, 1, 1), entry(2, 2, 1), entry(2, 3, 1)], Durability::Buffered).unwrap();
    log.purge(1).unwrap();
    assert_eq!((log.term(0), log.term(1), log.term(4)), (Err(Unavailable::Purged), Ok(1), Err(Unavailable::Beyond)));
    let unavailable = |from, to| match log.entries(from, to, 0) {
        Err(ReadError::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!((unavailable(1, 2), unavailable(2, 5)), (Unavailable::Purged, Unavailable::Beyond));
    assert_eq!(log.entries(2, 4, 0).unwrap(), [entry(2, 2, 1)]);
    assert_eq!(log.entries(2, 2, 0).unwrap(), []);
}

#[test]
fn a_large_append_gets_a_segment_of_its_own_size() {
    let (disk, mut log) = created(SMALL);
    for index in 1..=3 {
        log.append(None, &[entry(1, index, 50_000)], Durability::Synced).unwrap();
    }
    let before = Content::of(&log).unwrap();
    drop(log);
    assert_eq!(Content::of(&opened(&disk).unwrap().unwrap()).unwrap(), before);
}

#[test]
fn a_full_disk_refuses_entries_and_lets_a_purge_make_room() {
    let (disk, mut log) = created(SMALL);
    let mut index = 0;
    disk.set_capacity(Some(4 * SMALL.segment_bytes));
    let full = loop {
        index += 1;
        if let Err(error) = log.append(None, &[entry(1, index, 300)], Durability::Synced) {
            break error;
        }
    };
    assert!(matches!(full, LogError::Full(_)), "{full}");
    log.purge(index - 1).unwrap();
    log.append(None, &[entry(1, index, 300)], Durability::Synced).unwrap();
    assert_eq!((log.start().index, log.last().index), (index - 1, index));
}

#[test]
fn after_a_failure_nothing_changes_until_it_is_opened_again() {
    let (disk, mut log) = created(SMALL);
    log.append(None, &[entry(1, 1, 10)], Durability::Synced).unwrap();
    disk.fail_sync(0, io::ErrorKind::Other);
    let failed = log.append(None, &[entry(1, 2, 10)], Durability::Synced);
    assert!(matches!(failed, Err(LogError::Io { action: "sync", .. })), "{failed:?}");
    for refused in [log.append(None, &[], Durability::Synced), log.sync(), log.purge(1), log.prepare().map(drop)] {
        assert!(matches!(refused, Err(LogError::Failed { .. })), "{refused:?}");
    }
    assert_eq!(log.entries(1, 2, 0).unwrap(), [entry(1, 1, 10)]);
    drop(log);
    let log = opened(&disk).unwrap().unwrap();
    // It was written, and opening has synced it for good.
    assert_eq!(log.last().index, 2);
    drop(log);
    let mut state = 1_u64;
    disk.crash(&mut || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 33
    });
    assert_eq!(opened(&disk).unwrap().unwrap().last().index, 2);
}

#[test]
fn what_was_cut_off_never_comes_back() {
    // Frames of one size, so that an old one stands exactly where a new one ends.
    let (disk, mut log) = created(SMALL);
    log.append(None, &[entry(1, 1, 100)], Durability::Synced).unwrap();
    let end = log.end;
    log.append(None, &[entry(1, 2, 4)], Durability::Buffered).unwrap();
    log.append(None, &[entry(1, 3, 4)], Durability::Buffered).unwrap();
    log.append(None, &[entry(1, 4, 4)], Durability::Buffered).unwrap();
    let frame = (log.end - end) / 3;
    drop(log);
    // The first of the three is lost.
    let name = "0000000000000001.log";
    (end..end + frame).for_each(|offset| assert!(disk.flip(name, offset, 0x55)));
    let mut log = opened(&disk).unwrap().unwrap();
    assert_eq!(log.last().index, 1);
    // The frame of the opening is shorter; what follows reaches to the old third one.
    let filling = (end + 2 * frame - log.end).checked_sub(84).unwrap() as usize;
    log.append(None, &[entry(2, 2, filling)], Durability::Synced).unwrap();
    assert_eq!(log.end, end + 2 * frame);
    drop(log);
    let log = opened(&disk).unwrap().unwrap();
    assert_eq!(log.last(), Position { term: 2, index: 2 });
}

#[test]
fn a_newer_version_is_refused() {
    let (disk, log) = created(SMALL);
    drop(log);
    let mut segment = super::super::parse::segments(&disk).remove(0);
    segment[8] = 2;
    segment = super::super::parse::with_right_checksums(&segment);
    let refused = super::super::parse::open(&segment, SMALL).map(drop);
    assert!(matches!(refused, Err(LogError::Version { found: 2, supported: 1, .. })), "{refused:?}");
}
