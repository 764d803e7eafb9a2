//! What must be true of what all watchers and readers were told, whichever member they asked.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use bytes::Bytes;
use stentor_proto::mvccpb::Event;
use stentor_proto::mvccpb::event::EventType;

use crate::crash::journal::{Change, Journal};
use crate::stream::revision_of;

/// All events by revision: what the first watcher was told, every other must be told as well.
#[derive(Default)]
pub(super) struct History(Vec<Vec<Event>>);

impl History {
    /// Takes in a response to a watcher that has had every revision below `next`; the next one after it.
    pub(super) fn take(&mut self, mut next: i64, events: &[Event]) -> Result<i64> {
        for of_one in events.chunk_by(|a, b| revision_of(a) == revision_of(b)) {
            let revision = of_one.first().map_or(0, revision_of);
            ensure!(revision == next, "revision {revision} was sent where {next} was due");
            // The first revision of a store, 1, holds nothing.
            let place = (revision - 2) as usize;
            match self.0.get(place) {
                Some(known) => ensure!(known == of_one, "{of_one:?} was sent, another was told {known:?}"),
                None => self.0.push(of_one.to_vec()),
            }
            next += 1;
        }
        Ok(next)
    }

    /// The last revision.
    pub(super) fn revision(&self) -> i64 {
        self.0.len() as i64 + 1
    }

    /// Every event, in order.
    pub(super) fn events(&self) -> Vec<Event> {
        self.0.concat()
    }
}

/// No revision is told to two writes, and no value (each is sent once) is written twice.
pub(super) fn once(history: &History, journal: &Journal) -> Result<()> {
    ensure!(journal.by_revision().len() == journal.acknowledged(), "one revision was told to two writes");
    let mut values: BTreeSet<(&Bytes, &Bytes)> = BTreeSet::new();
    for pair in history.0.iter().flatten().filter(|event| event.r#type == EventType::Put as i32) {
        let Some(pair) = &pair.kv else { continue };
        ensure!(values.insert((&pair.key, &pair.value)), "{:?} of {:?} was written twice", pair.value, pair.key);
    }
    Ok(())
}

/// A linearizable read of one key.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) key: Bytes,
    /// The highest revision that anybody had been told when it began.
    pub(super) floor: i64,
    /// The revision it was told.
    pub(super) revision: i64,
    /// The pair's revision, or 0 for none.
    pub(super) found: i64,
}

/// No read is older than what was known when it began, and each is what history makes of its revision.
pub(super) fn reads(history: &History, reads: &[Read]) -> Result<()> {
    let mut changes: BTreeMap<&Bytes, BTreeMap<i64, bool>> = BTreeMap::new();
    for event in history.0.iter().flatten() {
        let Some(pair) = &event.kv else { continue };
        changes.entry(&pair.key).or_default().insert(pair.mod_revision, event.r#type == EventType::Put as i32);
    }
    for read in reads {
        ensure!(read.revision >= read.floor, "{read:?} is older than what was known before it");
        let last = changes.get(&read.key).and_then(|of_key| of_key.range(..=read.revision).next_back());
        let due = last.map_or(0, |(revision, put)| if *put { *revision } else { 0 });
        ensure!(read.found == due, "{read:?}: by history it is of revision {due}");
    }
    Ok(())
}

/// Changes, as they are put in a journal.
pub(super) fn put(key: &Bytes, value: Bytes) -> Change {
    (key.clone(), Some(value))
}

#[cfg(test)]
mod tests {
    use stentor_proto::mvccpb::KeyValue;

    use super::*;
    use crate::crash::check::history as lost;
    use crate::crash::store::Store;

    fn event(revision: i64, value: &'static str) -> Event {
        let kv = KeyValue { key: "k".into(), value: value.into(), mod_revision: revision, ..KeyValue::default() };
        Event { kv: Some(kv), ..Event::default() }
    }

    fn told(events: &[Event]) -> History {
        let mut history = History::default();
        assert_eq!(history.take(2, events).ok(), Some(2 + events.len() as i64));
        history
    }

    #[test]
    fn a_watcher_is_told_every_event_once_in_order_and_as_the_others() {
        let all = [event(2, "a"), event(3, "b"), event(4, "c")];
        let mut history = told(&all);
        assert_eq!(history.take(2, &all).ok(), Some(5));
        assert!(history.take(2, &[event(3, "b")]).is_err(), "missing");
        assert!(history.take(4, &[event(3, "b")]).is_err(), "repeated");
        assert!(history.take(2, &[event(2, "a"), event(2, "a"), event(3, "b")]).is_err(), "repeated in a response");
        assert!(history.take(2, &[event(2, "a"), event(4, "c"), event(3, "b")]).is_err(), "reordered");
        assert!(history.take(2, &[event(2, "x")]).is_err(), "another");
        assert_eq!(history.revision(), 4);
    }

    #[test]
    fn a_write_is_done_once_and_told_once() {
        let mut journal = Journal::default();
        journal.add(vec![put(&"k".into(), "a".into())], Some(2));
        assert!(once(&told(&[event(2, "a")]), &journal).is_ok());
        assert!(once(&told(&[event(2, "a"), event(3, "a")]), &journal).is_err());
        journal.add(vec![put(&"k".into(), "b".into())], Some(2));
        assert!(once(&told(&[event(2, "a")]), &journal).is_err());
    }

    #[test]
    fn a_lost_write_is_found() {
        let mut journal = Journal::default();
        journal.add(vec![put(&"k".into(), "a".into())], Some(2));
        journal.add(vec![put(&"k".into(), "b".into())], None);
        let store = |history: Vec<Event>| Store {
            revision: 2,
            compacted: 0,
            base: BTreeMap::new(),
            history,
            pairs: BTreeMap::new(),
        };
        assert!(lost(&store(vec![event(2, "a")]), &journal).is_ok());
        assert!(lost(&store(vec![event(2, "b")]), &journal).is_err());
        assert!(lost(&store(vec![]), &journal).is_err());
    }

    #[test]
    fn a_stale_read_is_found() {
        let history = told(&[event(2, "a"), event(3, "b")]);
        let read = |floor, revision, found| Read { key: "k".into(), floor, revision, found };
        assert!(reads(&history, &[read(2, 2, 2), read(2, 3, 3)]).is_ok());
        assert!(reads(&history, &[read(3, 2, 2)]).is_err(), "older than the floor");
        assert!(reads(&history, &[read(2, 3, 2)]).is_err(), "an old pair");
        assert!(reads(&history, &[read(2, 3, 0)]).is_err(), "no pair");
    }
}
