//! What must be true of a store after a restart.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use stentor_proto::etcdserverpb::{HashKvRequest, LeaseLeasesRequest, LeaseTimeToLiveRequest};
use stentor_proto::mvccpb::event::EventType;
use stentor_proto::mvccpb::{Event, KeyValue};

use super::journal::{Change, Journal};
use super::load::Hash;
use super::store::Store;
use crate::client::Client;
use crate::stream::revision_of;

fn pair(event: &Event) -> Result<&KeyValue> {
    event.kv.as_ref().context("an event without a pair")
}

fn change(event: &Event) -> Result<Change> {
    let pair = pair(event)?;
    Ok((pair.key.clone(), (event.r#type == EventType::Put as i32).then(|| pair.value.clone())))
}

/// Every revision has events; those of an acknowledged write are at its revision, all and no others;
/// all others are of writes whose answer was not seen.
pub(crate) fn history(store: &Store, journal: &Journal) -> Result<()> {
    let acknowledged = journal.by_revision();
    let maybe = journal.maybe();
    let mut by_revision: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
    for event in &store.history {
        by_revision.entry(revision_of(event)).or_default().push(change(event)?);
    }
    for revision in store.compacted + 1..=store.revision {
        // The first revision of a store holds nothing.
        let Some(changes) = by_revision.get(&revision) else {
            ensure!(revision == 1, "revision {revision} has no event");
            continue;
        };
        match acknowledged.get(&revision) {
            Some(write) => {
                let (found, sent): (BTreeSet<_>, BTreeSet<_>) =
                    (changes.iter().collect(), write.changes.iter().collect());
                ensure!(found == sent, "revision {revision} holds {found:?}, acknowledged was {sent:?}");
            }
            // A lease's revoke deletes keys as well, without naming them.
            None => {
                let unknown = changes.iter().find(|change| !maybe.contains(change) && change.1.is_some());
                ensure!(unknown.is_none(), "revision {revision} holds {unknown:?}, which nobody sent");
            }
        }
    }
    Ok(())
}

/// The pairs that the index leads to are those that history makes, with their revisions and versions.
pub(crate) fn index(store: &Store) -> Result<()> {
    let mut pairs = store.base.clone();
    for event in &store.history {
        let new = pair(event)?;
        let revision = revision_of(event);
        if event.r#type == EventType::Delete as i32 {
            ensure!(pairs.remove(&new.key).is_some(), "{:?} deleted at {revision} though not there", new.key);
            continue;
        }
        let (created, version) = pairs.get(&new.key).map_or((revision, 0), |old| (old.create_revision, old.version));
        let expected = (created, version + 1);
        ensure!(
            (new.create_revision, new.version) == expected,
            "{new:?}: create revision and version {expected:?} due"
        );
        pairs.insert(new.key.clone(), new.clone());
    }
    let differ = |(key, pair): &(&Bytes, &KeyValue)| pairs.get(*key) != Some(pair);
    if let Some((key, found)) = store.pairs.iter().find(differ) {
        bail!("{key:?} reads as {found:?}, by history it is {:?}", pairs.get(key));
    }
    let unread = pairs.keys().find(|key| !store.pairs.contains_key(*key));
    ensure!(unread.is_none(), "{unread:?} is in history and cannot be read");
    Ok(())
}

/// The last acknowledged change of each key is there, or a later one is.
pub(crate) fn writes(store: &Store, journal: &Journal) -> Result<()> {
    let deleted: BTreeSet<Bytes> = store
        .history
        .iter()
        .filter(|event| event.r#type == EventType::Delete as i32)
        .filter_map(|event| Some(event.kv.as_ref()?.key.clone()))
        .collect();
    let maybe = journal.maybe();
    for (key, (revision, value)) in journal.last_changes() {
        let found = store.pairs.get(key);
        let later = found.is_some_and(|pair| pair.mod_revision > revision);
        let there = match (found, value) {
            (Some(pair), Some(value)) => pair.mod_revision == revision && pair.value == *value,
            (None, None) => true,
            // Gone is right only by a delete whose answer was not seen.
            (None, Some(_)) => deleted.contains(key) || maybe.contains(&(key.clone(), None)),
            (Some(_), None) => false,
        };
        ensure!(there || later, "{key:?} was {value:?} at revision {revision}, and is {found:?}");
    }
    Ok(())
}

/// What a watcher was told before the kill is in history.
pub(super) fn seen(store: &Store, events: &[Event]) -> Result<()> {
    let mut at: BTreeMap<(i64, &Bytes), &Event> = BTreeMap::new();
    for event in &store.history {
        at.insert((revision_of(event), &pair(event)?.key), event);
    }
    for event in events.iter().filter(|event| revision_of(event) > store.compacted) {
        let found = at.get(&(revision_of(event), &pair(event)?.key));
        ensure!(found == Some(&event), "{event:?} was sent, {found:?} is there");
    }
    Ok(())
}

/// The hash at a revision is what it was, as long as nothing was compacted since; how many could be compared.
pub(super) async fn hashes(client: &mut Client, before: &[Hash]) -> Result<usize> {
    let mut compared = 0;
    for hash in before {
        // Compacted since: the hash is another.
        let Ok(answer) = client.maintenance.hash_kv(HashKvRequest { revision: hash.revision }).await else { continue };
        let answer = answer.into_inner();
        if answer.compact_revision == hash.compacted {
            ensure!(answer.hash == hash.hash, "{hash:?} before the kill, {answer:?} after it");
            compared += 1;
        }
    }
    Ok(compared)
}

/// Acknowledged leases are there, and name the keys that name them; how many there are.
pub(super) async fn leases(client: &mut Client, store: &Store, journal: &Journal) -> Result<usize> {
    let answer = client.lease.lease_leases(LeaseLeasesRequest {}).await?.into_inner();
    let found: BTreeSet<i64> = answer.leases.iter().map(|lease| lease.id).collect();
    let lost = journal.leases.difference(&found).next();
    ensure!(lost.is_none(), "lease {lost:?} is gone");
    let mut keys: BTreeMap<i64, BTreeSet<&Bytes>> = BTreeMap::new();
    for pair in store.pairs.values().filter(|pair| pair.lease != 0) {
        keys.entry(pair.lease).or_default().insert(&pair.key);
    }
    for (id, keys) in keys {
        let lease = client.lease.lease_time_to_live(LeaseTimeToLiveRequest { id, keys: true }).await?.into_inner();
        let named: BTreeSet<&Bytes> = lease.keys.iter().collect();
        ensure!(named == keys, "lease {id} names {named:?}, and is named by {keys:?}");
    }
    Ok(found.len())
}
