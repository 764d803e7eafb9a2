//! What each watch saw, held against the log.

use std::time::Duration;

use stentor_client::ErrorKind;

use crate::log::{Change, Log};
use crate::watcher::{End, Item, Record, Start, differs};

/// What a run did beside the log, as far as it excuses an end.
#[derive(Debug, Default)]
pub(crate) struct Excuses {
    /// When faults began and ended.
    pub(crate) faults: Vec<(Duration, Duration)>,
    /// The store was replaced then.
    pub(crate) restored_at: Option<Duration>,
}

/// A fault is felt for so long after its end: a connection that lost something is found out by pings.
const AFTERMATH: Duration = Duration::from_secs(20);

impl Excuses {
    fn trouble_within(&self, from: Duration, to: Duration) -> bool {
        self.faults.iter().any(|(begun, ended)| *begun <= to && from <= *ended + AFTERMATH)
    }
}

/// Everything that is wrong with this watch.
///
/// # Errors
/// The first thing that is.
pub(crate) fn check(record: &Record, log: &Log, excuses: &Excuses) -> Result<(), String> {
    let Some((position, confirmed_revision)) = record.created else { return check_end(record, log, excuses, None) };
    let start = match (record.ask.start, position) {
        (Start::Now, Some(after)) if after < record.asked_revision && excuses.restored_at.is_none() => {
            return Err(format!("begins after {after}, before it was asked for at {}", record.asked_revision));
        }
        (Start::Now, Some(after)) if after > confirmed_revision => {
            return Err(format!("begins after {after}, and the log was at {confirmed_revision}"));
        }
        (Start::Now, Some(after)) => after + 1,
        (Start::Now, None) => return Err("does not know where it begins".to_owned()),
        (Start::From(revision), _) => revision,
        (Start::After(revision), _) => revision + 1,
    };
    let mut due = expected(record, log, start).peekable();
    for item in &record.items {
        match item {
            Item::Events(batch) => {
                for event in &batch.events {
                    let Some(change) = due.next() else { return Err(format!("an event too many: {event:?}")) };
                    if let Some(what) = differs(event, change, record.ask.prev_kv) {
                        return Err(format!("{what}: {event:.300?} instead of {}", describe(change)));
                    }
                }
                if batch.events.is_empty() {
                    return Err("an empty batch".to_owned());
                }
                none_up_to(due.peek().copied(), batch.revision, "a batch")?;
            }
            Item::Progress(revision) => none_up_to(due.peek().copied(), *revision, "a note")?,
            Item::HalfOpen | Item::ResumedBehind => {}
        }
    }
    none_up_to(due.peek().copied(), record.position.unwrap_or_default(), "the position")?;
    check_end(record, log, excuses, Some(start))
}

/// How many events a watch that is confirmed has to have got in the end; `None` if it is not.
pub(crate) fn events_due(record: &Record, log: &Log) -> Option<usize> {
    let start = match (record.ask.start, record.created?.0) {
        (Start::Now, after) => after? + 1,
        (Start::From(revision), _) => revision,
        (Start::After(revision), _) => revision + 1,
    };
    Some(expected(record, log, start).count())
}

fn expected<'a>(record: &'a Record, log: &'a Log, start: i64) -> impl Iterator<Item = &'a Change> {
    log.changes.iter().filter(move |change| change.revision >= start && record.ask.wants(change))
}

fn none_up_to(next: Option<&Change>, revision: i64, who: &str) -> Result<(), String> {
    match next {
        Some(change) if change.revision <= revision => {
            Err(format!("{who} says {revision}, and {} has not come", describe(change)))
        }
        _ => Ok(()),
    }
}

fn check_end(record: &Record, log: &Log, excuses: &Excuses, start: Option<i64>) -> Result<(), String> {
    let Some((End::Error(kind, text), at)) = &record.end else {
        return match &record.end {
            Some((End::Silent, _)) => Err("ended without a word".to_owned()),
            _ => Ok(()),
        };
    };
    let right = match kind {
        ErrorKind::Compacted { at } => {
            let asked = match record.ask.start {
                Start::Now => start.unwrap_or(record.asked_revision + 1),
                Start::From(revision) => revision,
                Start::After(revision) => revision + 1,
            };
            let cursor = record.position.map_or(asked, |position| asked.max(position + 1));
            log.compactions.contains(&at.get()) && cursor < at.get()
        }
        ErrorKind::HistoryReset { .. } => excuses.restored_at.is_some_and(|restored| restored <= *at),
        ErrorKind::Unavailable => start.is_none() && excuses.trouble_within(record.asked_at, *at),
        _ => false,
    };
    if right { Ok(()) } else { Err(format!("ended wrongly at position {:?}: {kind:?}, {text}", record.position)) }
}

fn describe(change: &Change) -> String {
    let what = if change.after.is_some() { "put" } else { "delete" };
    format!("{what} {} at {}", change.key, change.revision)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
