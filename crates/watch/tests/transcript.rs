//! What a client saw of its watchers.

use stentor_proto::KeyRange;
use stentor_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use stentor_proto::mvccpb::Event;

use crate::model::{Change, Model};

/// One watcher as its client knows it, across breaks.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) request: WatchCreateRequest,
    /// The first revision it is to see; known from its creation on.
    pub(crate) start: i64,
    pub(crate) items: Vec<Item>,
}

#[derive(Clone, Debug)]
pub(crate) enum Item {
    Created {
        header: i64,
    },
    /// `place` counts the responses of the stream.
    Events {
        header: i64,
        events: Vec<Event>,
        fragment: bool,
        place: usize,
    },
    /// For this watcher, or for all.
    Note {
        header: i64,
        store_at: i64,
    },
    Cancelled {
        compacted: i64,
        reason: String,
    },
    /// The stream broke; what follows is from a new one.
    Resumed {
        from: i64,
    },
}

impl Watched {
    pub(crate) fn new(request: WatchCreateRequest) -> Watched {
        Watched { request, start: 0, items: Vec::new() }
    }

    pub(crate) fn range(&self) -> KeyRange {
        let key = if self.request.key.is_empty() { "\0".into() } else { self.request.key.clone() };
        KeyRange::from_wire(key, self.request.range_end.clone())
    }

    /// Whether it should get a change, if it is not below its start.
    pub(crate) fn wants(&self, change: &Change) -> bool {
        let filtered = self.request.filters.contains(&i32::from(change.delete));
        self.range().contains(&change.pair.key) && !filtered
    }

    /// Places in the model of what it should get, up to a revision.
    pub(crate) fn due(&self, model: &Model, to: i64) -> Vec<usize> {
        let changes = model.changes.iter().enumerate();
        let due = changes.filter(|(_, c)| c.revision >= self.start && c.revision <= to && self.wants(c));
        due.map(|(at, _)| at).collect()
    }

    /// Everything it got, in order.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.items.iter().flat_map(|item| match item {
            Item::Events { events, .. } => events.as_slice(),
            _ => &[],
        })
    }

    pub(crate) fn last_revision(&self) -> Option<i64> {
        self.events().last().map(revision_of)
    }

    pub(crate) fn is_created(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::Created { .. }))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::Cancelled { .. }))
    }

    /// Where a client goes on after a break, by the rules for clients.
    pub(crate) fn next(&self) -> i64 {
        let mut next = self.start;
        for item in &self.items {
            match item {
                Item::Events { events, .. } => next = next.max(events.last().map_or(0, revision_of) + 1),
                Item::Note { header, .. } => next = next.max(header + 1),
                Item::Created { .. } | Item::Cancelled { .. } | Item::Resumed { .. } => {}
            }
        }
        next
    }

    /// The fragments of a response that never came whole are worth nothing.
    pub(crate) fn drop_incomplete(&mut self) {
        while matches!(self.items.last(), Some(Item::Events { fragment: true, .. })) {
            self.items.pop();
        }
    }
}

pub(crate) fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

pub(crate) fn header_of(response: &WatchResponse) -> i64 {
    response.header.as_ref().map_or(0, |h| h.revision)
}

/// Places in the model of the events that a watcher got.
pub(crate) fn places(watched: &Watched, model: &Model) -> Result<Vec<usize>, String> {
    let place = |event: &Event| {
        // A key changes at most once in each way in one revision.
        let first = model.changes.partition_point(|c| c.revision < revision_of(event));
        let of_revision = model.changes.iter().skip(first).take_while(|c| c.revision == revision_of(event));
        let at = of_revision.clone().position(|c| c.is(event)).ok_or_else(|| format!("{event:?} never happened"))?;
        Ok(first + at)
    };
    watched.events().map(place).collect()
}
