//! What a view, and the records below it, must show.

use std::collections::BTreeMap;
use std::rc::Rc;

use prost::Message;
use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_mvcc::engine::{Batch, Durability, Engine, Family};
use stentor_mvcc::key_index::{Generation, KeyChange};
use stentor_mvcc::{ChangeId, LeaseId, Options, Record, Store, View};
use stentor_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use stentor_proto::{EtcdError, Revision};

use super::world::{Checked, refusal};
use crate::ensure;
use crate::model::{Event, Found, Model, revision};

/// Everything that can be read.
pub(crate) fn all(view: &View, model: &Model) -> Checked {
    ensure!(view.revision().get() == model.revision(), "the revision is {}", view.revision());
    ensure!(view.keys() == model.newest().len() as u64, "there are {} keys", view.keys());
    compacted(view, model)?;
    let alarms: Vec<_> = view.all_alarms().collect();
    ensure!(alarms == model.alarms.iter().copied().collect::<Vec<_>>(), "the alarms are {alarms:?}");
    leases(view, model)?;
    for at in model.compacted.max(1)..=model.revision() {
        let everything = RangeRequest {
            key: b"\0"[..].into(),
            range_end: b"\0"[..].into(),
            revision: at,
            ..RangeRequest::default()
        };
        range(view, &everything, &model.range(&everything))?;
        let count = RangeRequest { count_only: true, ..everything };
        range(view, &count, &model.range(&count))?;
    }
    if model.compacted > 1 {
        let below = RangeRequest { key: "a".into(), revision: model.compacted - 1, ..RangeRequest::default() };
        range(view, &below, &Err(EtcdError::Compacted))?;
    }
    history(view, model)?;
    hash(view, model, model.compacted)?;
    hash(view, model, 0)
}

pub(crate) fn compacted(view: &View, model: &Model) -> Checked {
    let found = view.compacted().map_or(-1, Revision::get);
    ensure!(found == model.compacted, "compacted at {found}, not {}", model.compacted);
    Ok(())
}

pub(crate) fn leases(view: &View, model: &Model) -> Checked {
    let found: BTreeMap<i64, i64> = view.leases().iter().map(|(id, lease)| (id.get(), lease.ttl_seconds)).collect();
    ensure!(found == model.leases, "the leases are {found:?}, not {:?}", model.leases);
    let mut attached = 0;
    for id in model.leases.keys() {
        let lease = LeaseId::new(*id).and_then(|id| view.leases().get(id));
        let keys: Vec<_> = lease.map(|lease| lease.keys.iter().cloned().collect()).unwrap_or_default();
        let expected = model.keys_of(*id);
        ensure!(keys == expected, "lease {id} has the keys {keys:?}, not {expected:?}");
        attached += keys.len();
    }
    let found = view.leases().attached().count();
    ensure!(found == attached, "{found} keys are attached, not {attached}");
    Ok(())
}

/// A range read.
pub(crate) fn range(view: &View, request: &RangeRequest, expected: &Result<Found, EtcdError>) -> Checked {
    let found = refusal(view.range(request))?.map(|r| (Found { kvs: r.kvs, more: r.more, count: r.count }, r.revision));
    if let Ok((_, revision)) = &found {
        ensure!(*revision == view.revision(), "a read tells revision {revision}");
    }
    let found = found.map(|(found, _)| found);
    ensure!(found == *expected, "{request:#?} found {found:#?}, not {expected:#?}");
    let encoded = refusal(view.range_encoded(request, &ResponseHeader::default(), 0))?;
    let decoded = match encoded {
        Ok(bytes) => Ok(RangeResponse::decode(&bytes[..]).map_err(|e| e.to_string())?),
        Err(error) => Err(error),
    };
    let decoded = decoded.map(|r| Found { kvs: r.kvs, more: r.more, count: r.count });
    ensure!(decoded == *expected, "{request:#?} is encoded as {decoded:#?}, not {expected:#?}");
    Ok(())
}

/// History from the compacted revision on, with the previous value that each event owes.
fn history(view: &View, model: &Model) -> Checked {
    let from = model.compacted.max(0);
    let records = view.history(revision(from), view.revision()).map_err(|e| e.to_string())?;
    let records = records.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    let expected: Vec<_> = model.history(from).cloned().collect();
    events(records.iter(), expected.iter())?;
    for event in &expected {
        let key = &event.pair.key;
        let before = event.revision - 1;
        let owed = model.state(before).get(key);
        let found = view.pair_at(key, revision(before)).map_err(|e| e.to_string())?;
        ensure!(found.as_ref() == owed, "before {event:?} there was {found:?}, not {owed:?}");
    }
    if from > 0 {
        let below = view.history(revision(from - 1), view.revision()).map(drop);
        ensure!(refusal(below)? == Err(EtcdError::Compacted), "history below the compacted revision is given out");
    }
    Ok(())
}

/// Records are these events.
pub(crate) fn events<'a>(
    records: impl ExactSizeIterator<Item = &'a Record>,
    events: impl ExactSizeIterator<Item = &'a Rc<Event>>,
) -> Checked {
    ensure!(records.len() == events.len(), "{} events instead of {}", records.len(), events.len());
    for (record, event) in records.zip(events) {
        let same = record.id == id(event)
            && record.is_delete() == event.delete
            && record.time_unix_ms == event.time_unix_ms
            && record.pair().is_ok_and(|pair| pair == event.pair);
        ensure!(same, "the event {record:?} should be {event:?}");
    }
    Ok(())
}

fn id(event: &Event) -> ChangeId {
    ChangeId { revision: revision(event.revision), sub: event.sub }
}

/// The hash at a revision.
pub(crate) fn hash(view: &View, model: &Model, at: i64) -> Checked {
    let found = refusal(view.hash_kv(at))?;
    let expected = if at > model.revision() {
        Err(EtcdError::FutureRev)
    } else if at > 0 && at < model.compacted {
        Err(EtcdError::Compacted)
    } else {
        Ok(model.hash(if at <= 0 { model.revision() } else { at }))
    };
    let found = found.map(|found| found.hash);
    ensure!(found == expected, "the hash at {at} is {found:?}, not {expected:?}");
    Ok(())
}

/// The records on disk are those that space work up to `finished` leaves, or a few more where it has
/// begun upon the next compaction; each names what it superseded; and their bytes add up.
pub(crate) fn on_disk(view: &View, engine: &dyn Engine, model: &Model, finished: Revision) -> Checked {
    let scan = engine.scan(Family::History, &[], None).map_err(|e| e.to_string())?;
    let mut found: Vec<Record> = Vec::new();
    for entry in scan {
        let (key, value) = entry.map_err(|e| e.to_string())?;
        let id = ChangeId::from_bytes(&key).ok_or("a key of history is malformed")?;
        found.push(Record::decode(id, value).map_err(|e| e.to_string())?);
    }
    let bytes: u64 = found.iter().map(Record::logical_bytes).sum();
    ensure!(bytes == view.logical_bytes(), "records take {bytes} bytes, not {}", view.logical_bytes());
    let at_most: Vec<_> = model.kept(finished.get()).collect();
    let at_least: Vec<_> = model.kept(model.compacted).collect();
    let ids: Vec<ChangeId> = found.iter().map(|r| r.id).collect();
    let complete = |events: &[&Rc<Event>]| events.iter().all(|e| ids.contains(&id(e)));
    ensure!(complete(&at_least), "of {at_least:?} only {ids:?} are on disk");
    let needless: Vec<_> = ids.iter().filter(|i| !at_most.iter().any(|e| id(e) == **i)).collect();
    ensure!(needless.is_empty(), "{needless:?} are still on disk");
    found.iter().try_for_each(|record| previous(record, model))
}

fn previous(record: &Record, model: &Model) -> Checked {
    let earlier = model.events.iter().rev().find(|e| e.pair.key == record.key() && id(e) < record.id);
    let right = match (record.previous, earlier) {
        (Some(previous), Some(earlier)) => previous == id(earlier),
        (Some(_), None) => false,
        (None, None) => true,
        // A tombstone may have been forgotten before.
        (None, Some(earlier)) => earlier.delete && earlier.revision < model.compacted,
    };
    ensure!(right, "{record:?} names a wrong change before it; that was {earlier:?}");
    Ok(())
}

/// The index and the leases of a view are those of a store that is opened on the same entries, but
/// without a checkpoint.
pub(crate) fn same_as_without_checkpoint(view: &View, engine: &dyn Engine) -> Checked {
    let mut batch = Batch::default();
    for family in [Family::History, Family::Meta] {
        for entry in engine.scan(family, &[], None).map_err(|e| e.to_string())? {
            let (key, value) = entry.map_err(|e| e.to_string())?;
            batch.put(family, key, value);
        }
    }
    let copy = MemoryEngine::open(&Disk::new()).map_err(|e| e.to_string())?;
    copy.write(batch, Durability::Synced).map_err(|e| e.to_string())?;
    let copy = Store::open(copy, Options::default()).map_err(|e| e.to_string())?.view();
    let (ours, theirs) = (index(view), index(&copy));
    ensure!(ours == theirs, "with its checkpoint the index is {ours:#?}, without {theirs:#?}");
    let attached =
        |view: &View| view.leases().attached().map(|(key, id)| (key.clone(), id)).collect::<BTreeMap<_, _>>();
    let (ours, theirs) = (attached(view), attached(&copy));
    ensure!(ours == theirs, "with its checkpoint the leases have {ours:#?}, without {theirs:#?}");
    Ok(())
}

/// Every key with its changes and generation.
pub(crate) fn index(view: &View) -> Vec<(Vec<u8>, Vec<KeyChange>, Option<Generation>)> {
    view.index().entries().map(|e| (e.key().to_vec(), e.changes().collect(), e.generation())).collect()
}
