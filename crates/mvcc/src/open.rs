//! Opening: from what the engine holds to the state in memory.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use stentor_proto::Revision;
use tracing::warn;

use crate::engine::{Engine, Entry, Family};
use crate::index_checkpoint::{self, Last, Loaded};
use crate::key_index::{BuildError, Builder, Generation, KeyChange, KeyIndex};
use crate::lease::{LeaseId, Leases};
use crate::record::Record;
use crate::state::{Epoch, State};
use crate::{ChangeId, Error, LogPosition, View, compaction, meta};

pub(crate) struct Opened {
    pub(crate) state: State,
    pub(crate) index: KeyIndex,
    pub(crate) compaction_finished: Revision,
    pub(crate) checkpoint: Last,
    /// Changes that were read from history.
    pub(crate) changes: u64,
}

/// Changes of the compacted revision that are looked at for what they owe; opening must not take long.
const MOST_OWED: usize = 10_000;

/// Reads everything that is kept in memory.
pub(crate) fn load(engine: Arc<dyn Engine>) -> Result<Opened, Error> {
    if engine.get(Family::Meta, meta::RESTORING)?.is_some() {
        return Err(Error::inconsistent("a restore did not come to its end"));
    }
    let progress = meta::progress(&*engine)?;
    let stored = meta::compaction(&*engine)?;
    let last = stored.unwrap_or_default();
    let bad = |what: &str| Error::inconsistent(format!("{what} is negative"));
    let compacted = match last.revision {
        0 if stored.is_none() => None,
        revision => Some(Revision::new(revision).ok_or_else(|| bad("the compacted revision"))?),
    };
    let compaction_finished = Revision::new(last.finished).ok_or_else(|| bad("the finished compaction"))?;
    let (revision, logical_bytes, applied) = match progress {
        None => (Revision::FIRST, 0, LogPosition::default()),
        Some(p) => (
            Revision::new(p.revision).ok_or_else(|| bad("the revision"))?,
            p.logical_bytes,
            LogPosition { term: p.applied_term, index: p.applied_index },
        ),
    };
    let mut leases = Leases::default();
    for (id, ttl_seconds) in meta::leases(&*engine)? {
        leases.insert(id, ttl_seconds);
    }
    let (index, checkpoint, changes) = index(&*engine, revision, compacted, &mut leases)?;
    let state = State {
        index: index.view(),
        leases,
        alarms: meta::alarms(&*engine)?.into_iter().collect(),
        members: Arc::new(meta::members(&*engine)?),
        revision,
        compacted,
        compaction_finished,
        logical_bytes,
        owed_bytes: 0,
        applied,
        epoch: Arc::new(Epoch),
        engine,
    };
    let owed = compaction::owed_bytes(&View::new(Arc::new(state.clone())), compaction_finished, MOST_OWED);
    let owed_bytes = owed.unwrap_or_else(|error| {
        // Reads don't need it: it is no reason not to open.
        warn!(%error, "what watches from the compacted revision are owed can't be read");
        0
    });
    let state = State { owed_bytes, ..state };
    Ok(Opened { state, index, compaction_finished, checkpoint, changes })
}

/// The index, from its checkpoint and what came after it, or from all of history; with the live keys
/// attached to their leases. Tells how many changes were read.
fn index(
    engine: &dyn Engine,
    revision: Revision,
    compacted: Option<Revision>,
    leases: &mut Leases,
) -> Result<(KeyIndex, Last, u64), Error> {
    match index_checkpoint::load(engine, revision, compacted, leases) {
        Ok(None) => {}
        Err(unusable) => warn!(%unusable, "the index checkpoint is not used: reading all of history"),
        Ok(Some(mut loaded)) => {
            let at = loaded.revision;
            if let Some(changes) = replay(engine, revision, &mut loaded)? {
                *leases = loaded.leases;
                let index = compacted_index(loaded.index, &loaded.superseded, compacted);
                return Ok((index, Last { revision: Some(at), changes: 0 }, changes));
            }
            warn!("the index checkpoint contradicts history: reading all of it");
        }
    }
    let (index, changes) = scan_history(engine, revision, compacted, leases)?;
    Ok((index, Last::default(), changes))
}

/// Applies the changes after a checkpoint to what it holds; `None` if they do not follow upon it.
fn replay(engine: &dyn Engine, revision: Revision, loaded: &mut Loaded) -> Result<Option<u64>, Error> {
    let from = ChangeId { revision: loaded.revision.next(), sub: 0 };
    let mut changes = 0;
    for entry in engine.scan(Family::History, &from.to_bytes(), None)? {
        let record = read_record(entry?, revision)?;
        let generation = generation(&record)?;
        let was = loaded.index.get(record.key(), Revision::MAX);
        let follows = match (was.and_then(|was| was.newest), generation.map(|(generation, _)| generation)) {
            (was, None) => was.is_some(),
            (None, Some(new)) => new == Generation { create: record.id.revision, version: 1 },
            (Some(was), Some(new)) => new == Generation { version: was.version + 1, ..was },
        };
        // Of a key that was not live a tombstone may have been forgotten on either side.
        if !follows || was.is_some_and(|was| record.previous != Some(was.change)) {
            return Ok(None);
        }
        loaded.index.replay(record.key(), record.id, generation.map(|(generation, _)| generation));
        let key = Bytes::copy_from_slice(record.key());
        loaded.leases.attach(&key, generation.and_then(|(_, lease)| lease));
        loaded.superseded.push(key);
        changes += 1;
    }
    let lease_is_gone = |id| loaded.leases.get(id).is_none();
    Ok((!loaded.leases.attached().any(|(_, id)| lease_is_gone(id))).then_some(changes))
}

fn read_record((key, value): Entry, newest: Revision) -> Result<Record, Error> {
    let id = ChangeId::from_bytes(&key)
        .ok_or_else(|| Error::inconsistent(format!("history has the key {}", key.escape_ascii())))?;
    if id.revision > newest {
        return Err(Error::inconsistent(format!("history has {id}, beyond the store's revision {newest}")));
    }
    Record::decode(id, value).map_err(|e| Error::unreadable(id, e))
}

/// The generation and the lease of a put.
fn generation(record: &Record) -> Result<Option<(Generation, Option<LeaseId>)>, Error> {
    if record.is_delete() {
        return Ok(None);
    }
    let pair = record.pair().map_err(|e| Error::unreadable(record.id, e))?;
    let create = Revision::new(pair.create_revision)
        .ok_or_else(|| Error::inconsistent(format!("change {} has a negative create revision", record.id)))?;
    Ok(Some((Generation { create, version: pair.version }, LeaseId::new(pair.lease))))
}

/// What the scan gathers of one key.
#[derive(Default)]
struct Gathered {
    /// Oldest first.
    changes: Vec<KeyChange>,
    generation: Option<Generation>,
    lease: Option<LeaseId>,
}

/// Builds the index from the whole of history, and attaches the live keys to their leases.
fn scan_history(
    engine: &dyn Engine,
    revision: Revision,
    compacted: Option<Revision>,
    leases: &mut Leases,
) -> Result<(KeyIndex, u64), Error> {
    let mut keys: HashMap<Bytes, Gathered> = HashMap::new();
    let mut changes = 0;
    for entry in engine.scan(Family::History, &[], None)? {
        gather(&mut keys, &read_record(entry?, revision)?)?;
        changes += 1;
    }
    let mut sorted: Vec<(Bytes, Gathered)> = keys.into_iter().collect();
    sorted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    for (key, gathered) in &sorted {
        if let Some(lease) = gathered.lease {
            if leases.get(lease).is_none() {
                return Err(Error::inconsistent(format!("key {} names a lease that is gone", key.escape_ascii())));
            }
            leases.attach(key, Some(lease));
        }
    }
    let index = build(sorted, compacted).map_err(|e| Error::inconsistent(e.to_string()))?;
    Ok((index, changes))
}

/// The index of what was gathered, without what the compaction in force has no use for: its space work
/// may not have come that far yet.
fn build(sorted: Vec<(Bytes, Gathered)>, compacted: Option<Revision>) -> Result<KeyIndex, BuildError> {
    let mut builder = Builder::new();
    let mut superseded = Vec::new();
    for (key, mut gathered) in sorted {
        gathered.changes.reverse();
        builder.push(&key, &gathered.changes, gathered.generation)?;
        if gathered.changes.len() > 1 || gathered.generation.is_none() {
            superseded.push(key);
        }
    }
    Ok(compacted_index(builder.finish(), &superseded, compacted))
}

/// Takes out of some keys what the compaction in force has no use for.
fn compacted_index(mut index: KeyIndex, keys: &[Bytes], compacted: Option<Revision>) -> KeyIndex {
    if let Some(compacted) = compacted {
        keys.iter().for_each(|key| index.compact_key(key, compacted));
    }
    index
}

fn gather(keys: &mut HashMap<Bytes, Gathered>, record: &Record) -> Result<(), Error> {
    // The key is copied: a slice of the record would keep its value in memory.
    let gathered = match keys.get_mut(record.key()) {
        Some(gathered) => gathered,
        None => keys.entry(Bytes::copy_from_slice(record.key())).or_default(),
    };
    gathered.changes.push(KeyChange { id: record.id, tombstone: record.is_delete() });
    let generation = generation(record)?;
    gathered.generation = generation.map(|(generation, _)| generation);
    gathered.lease = generation.and_then(|(_, lease)| lease);
    Ok(())
}
