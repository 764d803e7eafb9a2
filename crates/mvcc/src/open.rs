//! Opening: from what the engine holds to the state in memory.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use stentor_proto::Revision;

use crate::engine::{Engine, Family};
use crate::key_index::{BuildError, Builder, Generation, KeyChange, KeyIndex};
use crate::lease::{LeaseId, Leases};
use crate::record::Record;
use crate::state::{Epoch, State};
use crate::{ChangeId, Error, LogPosition, meta};

pub(crate) struct Opened {
    pub(crate) state: State,
    pub(crate) index: KeyIndex,
    pub(crate) compaction_finished: Revision,
}

/// Reads everything that is kept in memory.
pub(crate) fn load(engine: Arc<dyn Engine>) -> Result<Opened, Error> {
    if engine.get(Family::Meta, meta::RESTORING)?.is_some() {
        return Err(Error::inconsistent("a restore did not come to its end"));
    }
    let progress = meta::progress(&*engine)?;
    let compaction = meta::compaction(&*engine)?.unwrap_or_default();
    let bad = |what: &str| Error::inconsistent(format!("{what} is negative"));
    let compacted = match compaction.revision {
        0 if meta::compaction(&*engine)?.is_none() => None,
        revision => Some(Revision::new(revision).ok_or_else(|| bad("the compacted revision"))?),
    };
    let compaction_finished = Revision::new(compaction.finished).ok_or_else(|| bad("the finished compaction"))?;
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
    let index = scan_history(&*engine, revision, compacted, &mut leases)?;
    let state = State {
        index: index.view(),
        leases,
        alarms: meta::alarms(&*engine)?.into_iter().collect(),
        revision,
        compacted,
        compaction_finished,
        logical_bytes,
        applied,
        epoch: Arc::new(Epoch),
        engine,
    };
    Ok(Opened { state, index, compaction_finished })
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
) -> Result<KeyIndex, Error> {
    let mut keys: HashMap<Bytes, Gathered> = HashMap::new();
    for entry in engine.scan(Family::History, &[], None)? {
        let (key, value) = entry?;
        let id = ChangeId::from_bytes(&key)
            .ok_or_else(|| Error::inconsistent(format!("history has the key {}", key.escape_ascii())))?;
        if id.revision > revision {
            return Err(Error::inconsistent(format!("history has {id}, beyond the store's revision {revision}")));
        }
        let record = Record::decode(id, value).map_err(|e| Error::unreadable(id, e))?;
        gather(&mut keys, &record)?;
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
    build(sorted, compacted).map_err(|e| Error::inconsistent(e.to_string()))
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
    let mut index = builder.finish();
    if let Some(compacted) = compacted {
        superseded.iter().for_each(|key| index.compact_key(key, compacted));
    }
    Ok(index)
}

fn gather(keys: &mut HashMap<Bytes, Gathered>, record: &Record) -> Result<(), Error> {
    // The key is copied: a slice of the record would keep its value in memory.
    let gathered = match keys.get_mut(record.key()) {
        Some(gathered) => gathered,
        None => keys.entry(Bytes::copy_from_slice(record.key())).or_default(),
    };
    gathered.changes.push(KeyChange { id: record.id, tombstone: record.is_delete() });
    gathered.generation = None;
    gathered.lease = None;
    if !record.is_delete() {
        let pair = record.pair().map_err(|e| Error::unreadable(record.id, e))?;
        let create = Revision::new(pair.create_revision)
            .ok_or_else(|| Error::inconsistent(format!("change {} has a negative create revision", record.id)))?;
        gathered.generation = Some(Generation { create, version: pair.version });
        gathered.lease = LeaseId::new(pair.lease);
    }
    Ok(())
}
