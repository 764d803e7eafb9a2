//! What each watch saw, held against the log.

use std::time::Duration;

use stentor_checks::log::Log;
use stentor_checks::watch::Follower;
use stentor_client::ErrorKind;

use crate::watcher::{End, Item, Record, Start};

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
    let selection = &record.ask.selection;
    let mut follower = Follower::new(selection.due(log, start), selection.prev_kv);
    for item in &record.items {
        match item {
            Item::Events(batch) => follower.take(batch)?,
            Item::Progress(revision) => follower.promised(*revision, "a note")?,
            Item::HalfOpen | Item::ResumedBehind => {}
        }
    }
    follower.promised(record.position.unwrap_or_default(), "the position")?;
    check_end(record, log, excuses, Some(start))
}

/// How many events a watch that is confirmed has to have got in the end; `None` if it is not.
pub(crate) fn events_due(record: &Record, log: &Log) -> Option<usize> {
    let start = match (record.ask.start, record.created?.0) {
        (Start::Now, after) => after? + 1,
        (Start::From(revision), _) => revision,
        (Start::After(revision), _) => revision + 1,
    };
    Some(record.ask.selection.due(log, start).count())
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

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
