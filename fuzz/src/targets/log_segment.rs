//! A segment of the replicated log, which opening a member reads first.

use std::sync::Arc;

use stentor_raft::log::{Durability, Entry, EntryKind, HardState, Log, LogError, Options, Position, memory, parse};

use crate::{Outcome, Target};

/// Input: the only segment of a log. Its checksums are put right too: they would refuse every other change,
/// and what is behind them must bear it too.
pub const LOG_SEGMENT: Target = Target { name: "log_segment", decode, samples, refuses: true, cost: 2 };

/// Small, so that samples are.
const OPTIONS: Options = Options { segment_bytes: 4 << 10, cached_bytes: 0, write_ahead_bytes: 512 };

fn decode(bytes: &[u8]) -> Outcome {
    let as_it_came = opened(bytes);
    let repaired = parse::with_right_checksums(bytes);
    if repaired == bytes { as_it_came } else { opened(&repaired) }
}

/// Opens the log, uses it, and opens it once more: it must say the same as before.
fn opened(bytes: &[u8]) -> Outcome {
    let (disk, mut log) = match parse::open(bytes, OPTIONS) {
        Ok((disk, Some(log))) => (disk, log),
        Ok((_, None)) | Err(_) => return Outcome::Refused,
    };
    let found = Content::of(&log);
    assert!(found.entries.len() <= bytes.len(), "more entries than there are bytes");
    drop(log);
    log = reopened(&disk);
    assert_eq!(Content::of(&log), found);
    let Some(next) = log.last().index.checked_add(1).filter(|next| *next < u64::MAX) else { return Outcome::Accepted };
    let entry = Entry { position: Position { term: 9, index: next }, data: "new".into(), ..Entry::default() };
    match log.append(None, std::slice::from_ref(&entry), Durability::Synced) {
        Ok(()) => {}
        Err(e) => unreachable!("a log that was opened refuses an entry: {e}"),
    }
    drop(log);
    log = reopened(&disk);
    assert_eq!(Content::of(&log).entries.last(), Some(&entry));
    Outcome::Accepted
}

fn reopened(disk: &memory::Disk) -> Log {
    match Log::open(Arc::new(disk.clone()), OPTIONS) {
        Ok(Some(log)) => log,
        other => unreachable!("a log that was opened does not open again: {other:?}"),
    }
}

/// All that can be seen of a log.
#[derive(Debug, PartialEq)]
struct Content {
    start: Position,
    last: Position,
    hard_state: HardState,
    entries: Vec<Entry>,
}

impl Content {
    fn of(log: &Log) -> Content {
        let (start, last) = (log.start(), log.last());
        let entries = if last.index == start.index {
            Vec::new()
        } else {
            let read = log.entries(start.index + 1, last.index.saturating_add(1), u64::MAX);
            read.unwrap_or_else(|e| unreachable!("a log that was opened cannot be read: {e}"))
        };
        for entry in &entries {
            assert_eq!(log.term(entry.position.index), Ok(entry.position.term));
        }
        Content { start, last, hard_state: log.hard_state(), entries }
    }
}

fn samples() -> Vec<Vec<u8>> {
    let hard_state = |term| HardState { term, vote: 2, commit: 1 };
    let entry = |term, index, kind, data: &'static [u8]| Entry {
        position: Position { term, index },
        kind,
        context: "context".into(),
        data: data.into(),
    };
    let (one, two) = (entry(1, 1, EntryKind::Normal, b"one"), entry(1, 2, EntryKind::Change, &[7; 100]));
    let sample = |changes: &dyn Fn(&mut Log) -> Result<(), LogError>| -> Result<Vec<u8>, LogError> {
        let disk = memory::Disk::new();
        let mut log = Log::create(Arc::new(disk.clone()), Position::default(), OPTIONS)?;
        changes(&mut log)?;
        Ok(parse::segments(&disk).concat())
    };
    let samples = [
        sample(&|_| Ok(())),
        sample(&|log| log.append(Some(hard_state(1)), &[one.clone(), two.clone()], Durability::Synced)),
        sample(&|log| {
            log.append(None, std::slice::from_ref(&one), Durability::Buffered)?;
            log.append(None, std::slice::from_ref(&two), Durability::Buffered)?;
            log.append(None, &[entry(2, 2, EntryKind::ChangeV2, b"")], Durability::Buffered)?;
            log.append(Some(hard_state(3)), &[], Durability::Synced)?;
            log.purge(1)
        }),
        sample(&|log| {
            log.append(None, std::slice::from_ref(&one), Durability::Synced)?;
            log.reset(Position { term: 4, index: 40 }, hard_state(4))?;
            log.append(None, &[entry(4, 41, EntryKind::Normal, b"next")], Durability::Buffered)
        }),
    ];
    match samples.into_iter().collect() {
        Ok(samples) => samples,
        Err(e) => unreachable!("memory can be written: {e}"),
    }
}
