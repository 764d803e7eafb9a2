use std::time::Duration;

use stentor_proto::mvccpb::{self, event::EventType};

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::{KeyValue, Revision};

/// What a [`Watch`](crate::Watch) yields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WatchItem {
    /// Changes, in order, each revision whole.
    Events(Batch),
    /// Everything up to this revision has been delivered. Only with
    /// [`progress`](crate::WatchBuilder::progress).
    Progress(Revision),
    /// Delivery stopped and will go on by itself. Only with [`notices`](crate::WatchBuilder::notices).
    Interrupted(Interruption),
    /// Delivery goes on where it stopped. Only with [`notices`](crate::WatchBuilder::notices).
    Resumed {
        /// The member that delivers now.
        endpoint: Endpoint,
        /// How long delivery had stopped.
        gap: Duration,
    },
}

/// Why a [`Watch`](crate::Watch) stopped for a while.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Interruption {
    /// The stream broke.
    Broken(Error),
    /// What was delivered is not taken fast enough: the buffer is full. The rest comes once half of it
    /// has been taken, read from the server again.
    SlowConsumer,
    /// The client moves the stream, though nothing is wrong with it: to an endpoint that is used less, with
    /// [`rebalance`](crate::ClientBuilder::rebalance), or away from one that is not the client's any more.
    Moved,
}

/// Changes of one or several revisions, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    events: Vec<Event>,
    revision: Revision,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    kind: EventKind,
    kv: KeyValue,
    prev: Prev,
}

/// What happened to the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// It was created or changed.
    Put,
    /// It was deleted; the pair has the key and the revision of the deletion only.
    Delete,
    /// Something that this version of the library does not know.
    Unknown,
}

/// The pair as it was before an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prev {
    /// The watch did not ask; see [`prev_kv`](crate::WatchBuilder::prev_kv).
    NotAsked,
    /// There was none: the event created the key.
    Created,
    /// There was one, and the server does not have it any more. Also for a key that was created and
    /// deleted in the same revision.
    Compacted,
    /// This.
    Value(KeyValue),
}

impl WatchItem {
    /// Without the first bytes of all keys.
    pub(crate) fn without(self, bytes: usize) -> WatchItem {
        match self {
            WatchItem::Events(mut batch) if bytes > 0 => {
                batch.events = batch.events.into_iter().map(|event| event.without(bytes)).collect();
                WatchItem::Events(batch)
            }
            other => other,
        }
    }
}

impl Batch {
    /// Events in order, of which the last is of `revision`.
    pub(crate) fn new(events: Vec<Event>, revision: Revision) -> Batch {
        Batch { events, revision }
    }

    /// The events, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The events, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Event> {
        self.events.iter()
    }

    /// The revision of the last event: a program that has applied the batch has applied everything up to
    /// it, and can watch on [after](crate::WatchBuilder::after) it.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The events by revision. All of one revision happened at once.
    pub fn revisions(&self) -> impl Iterator<Item = (Revision, &[Event])> {
        let same = |a: &Event, b: &Event| a.revision() == b.revision();
        self.events.chunk_by(same).filter_map(|events| Some((events.first()?.revision(), events)))
    }
}

impl IntoIterator for Batch {
    type Item = Event;
    type IntoIter = std::vec::IntoIter<Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.into_iter()
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = &'a Event;
    type IntoIter = std::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Event {
    /// From the wire. `None` without a pair, which no server sends.
    pub(crate) fn read(event: mvccpb::Event, prev_asked: bool) -> Option<Event> {
        let kind = match EventType::try_from(event.r#type) {
            Ok(EventType::Put) => EventKind::Put,
            Ok(EventType::Delete) => EventKind::Delete,
            Err(_) => EventKind::Unknown,
        };
        let kv = KeyValue::from(event.kv?);
        let prev = match event.prev_kv {
            Some(prev) => Prev::Value(prev.into()),
            None if !prev_asked => Prev::NotAsked,
            None if kind == EventKind::Put && kv.create_revision() == kv.mod_revision() => Prev::Created,
            None => Prev::Compacted,
        };
        Some(Event { kind, kv, prev })
    }

    /// What happened.
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// It was created or changed.
    pub fn is_put(&self) -> bool {
        self.kind == EventKind::Put
    }

    /// It was deleted.
    pub fn is_delete(&self) -> bool {
        self.kind == EventKind::Delete
    }

    /// The pair after a put; of a deletion the key and the revision only.
    pub fn kv(&self) -> &KeyValue {
        &self.kv
    }

    /// The pair after a put; of a deletion the key and the revision only.
    pub fn into_kv(self) -> KeyValue {
        self.kv
    }

    /// The pair before.
    pub fn prev(&self) -> &Prev {
        &self.prev
    }

    /// When it happened.
    pub fn revision(&self) -> Revision {
        self.kv.mod_revision()
    }

    fn without(self, bytes: usize) -> Event {
        let prev = match self.prev {
            Prev::Value(pair) => Prev::Value(pair.without(bytes)),
            other => other,
        };
        Event { kind: self.kind, kv: self.kv.without(bytes), prev }
    }

    /// Roughly what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let prev = match &self.prev {
            Prev::Value(kv) => kv.bytes(),
            _ => size_of::<KeyValue>(),
        };
        self.kv.bytes() + prev
    }
}
