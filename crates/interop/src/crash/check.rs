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

/// Every revision has events; those of an acknowledged write are at its revision, all and no others; every other
/// revision is one write whose answer was not seen, each once, or the end of a lease that nobody holds.
pub(crate) fn history(store: &Store, journal: &Journal) -> Result<()> {
    let acknowledged = journal.by_revision();
    let mut unanswered: Vec<_> = journal.unanswered_writes().collect();
    let mut attached: BTreeMap<&Bytes, i64> = store.base.iter().map(|(key, pair)| (key, pair.lease)).collect();
    let mut events = store.history.iter().peekable();
    for revision in store.compacted + 1..=store.revision {
        let mut of_this = Vec::new();
        while let Some(event) = events.next_if(|event| revision_of(event) == revision) {
            of_this.push(event);
        }
        // The first revision of a store holds nothing.
        ensure!(!of_this.is_empty() || revision == 1, "revision {revision} has no event");
        let changes = of_this.iter().map(|event| change(event)).collect::<Result<BTreeSet<_>>>()?;
        if let Some(write) = acknowledged.get(&revision) {
            let sent: BTreeSet<_> = write.changes.iter().cloned().collect();
            ensure!(changes == sent, "revision {revision} holds {changes:?}, acknowledged was {sent:?}");
        } else if let Some(at) = unanswered.iter().position(|write| is_all_of(&changes, &write.changes)) {
            unanswered.swap_remove(at);
        } else {
            let is_end = revision == 1 || is_end_of_lease(&changes, &attached, journal);
            ensure!(is_end, "revision {revision} holds {changes:?}, which nobody sent");
        }
        for event in of_this {
            let pair = pair(event)?;
            attached.insert(&pair.key, pair.lease);
        }
    }
    ensure!(events.next().is_none(), "there are events beyond revision {}, or out of order", store.revision);
    Ok(())
}

/// Whether these are what a write asks for, but deletes that found nothing.
fn is_all_of(changes: &BTreeSet<Change>, asked: &[Change]) -> bool {
    let has = |change: &Change| asked.contains(change);
    !changes.is_empty()
        && changes.iter().all(has)
        && asked.iter().all(|change| change.1.is_none() || changes.contains(change))
}

/// Whether these delete all keys that are attached to one lease, which its holder has not kept.
fn is_end_of_lease(changes: &BTreeSet<Change>, attached: &BTreeMap<&Bytes, i64>, journal: &Journal) -> bool {
    let Some(lease) = changes.first().and_then(|(key, _)| attached.get(key)).copied() else { return false };
    let of_lease: BTreeSet<_> = attached.iter().filter(|(_, of)| **of == lease).map(|(key, _)| (*key, None)).collect();
    let changes: BTreeSet<_> = changes.iter().map(|(key, value)| (key, value.as_ref())).collect();
    lease != 0 && !journal.leases.contains(&lease) && changes == of_lease
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

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: i64, key: &'static str, value: Option<&'static str>, lease: i64) -> Event {
        let kv = KeyValue {
            key: key.into(),
            value: value.unwrap_or_default().into(),
            mod_revision: revision,
            lease,
            ..KeyValue::default()
        };
        let kind = if value.is_some() { EventType::Put } else { EventType::Delete };
        Event { r#type: kind.into(), kv: Some(kv), prev_kv: None }
    }

    /// `a` and `b` put at 2 and 3 with lease 7, and then this.
    fn checked(more: &[Event], journal: impl FnOnce(&mut Journal)) -> Result<()> {
        let history = [&[event(2, "a", Some("1"), 7), event(3, "b", Some("2"), 7)][..], more].concat();
        let mut all = Journal::default();
        all.add(vec![("a".into(), Some("1".into()))], Some(2));
        all.add(vec![("b".into(), Some("2".into()))], Some(3));
        journal(&mut all);
        let revision = history.last().map_or(1, revision_of);
        let store = Store { revision, compacted: 0, base: BTreeMap::new(), history, pairs: BTreeMap::new() };
        super::history(&store, &all)
    }

    #[test]
    fn a_delete_that_nobody_sent_is_found() {
        let (a, b) = (event(4, "a", None, 0), event(4, "b", None, 0));
        checked(&[a.clone(), b.clone()], |_| {}).unwrap();
        let held = |journal: &mut Journal| {
            journal.leases.insert(7);
        };
        assert!(checked(&[a.clone(), b.clone()], held).is_err(), "its lease is held");
        assert!(checked(std::slice::from_ref(&a), |_| {}).is_err(), "its lease has another key");
        assert!(checked(&[a.clone(), b, event(4, "c", None, 0)], |_| {}).is_err(), "one is of no lease");
        let sent = |journal: &mut Journal| journal.add(vec![("a".into(), None)], None);
        checked(std::slice::from_ref(&a), sent).unwrap();
        assert!(checked(&[a.clone(), event(5, "a", None, 0)], sent).is_err(), "sent once");
    }

    #[test]
    fn a_write_is_there_whole_or_not_at_all() {
        let two = |journal: &mut Journal| {
            journal.add(vec![("c".into(), Some("3".into())), ("d".into(), Some("3".into()))], None);
        };
        let (c, d) = (event(4, "c", Some("3"), 0), event(4, "d", Some("3"), 0));
        checked(&[], two).unwrap();
        checked(&[c.clone(), d], two).unwrap();
        assert!(checked(std::slice::from_ref(&c), two).is_err(), "half");
        assert!(checked(&[c], |_| {}).is_err(), "nobody sent it");
    }

    #[test]
    fn a_lost_or_reordered_write_is_found() {
        let lost = |journal: &mut Journal| journal.add(vec![("c".into(), Some("3".into()))], Some(4));
        assert!(checked(&[event(4, "c", Some("4"), 0)], lost).is_err(), "another value");
        assert!(checked(&[event(5, "c", Some("3"), 0)], lost).is_err(), "at another revision");
        assert!(checked(&[event(4, "c", Some("3"), 0), event(2, "a", Some("1"), 7)], lost).is_err(), "out of order");
    }
}
