//! Programs that watch some keys, from now on or from a revision, with filters, previous pairs, notes and
//! fragments, and go on at any member when a stream breaks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use stentor_checks::log::{Log, Pair, Published};
use stentor_checks::random::Random;
use stentor_checks::watch::{Before, Follower, Keys, Seen, Selection, Taken};
use stentor_checks::workload::KEYS;
use stentor_proto::etcdserverpb::watch_create_request::FilterType;
use stentor_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use stentor_proto::mvccpb::Event;
use tokio::time::{Instant, sleep, timeout_at};

use super::load::{Shared, count};
use super::stream;

/// What a watch asks for.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    selection: Selection,
    /// The first revision; 0 for the next one.
    start: i64,
    notes: bool,
    fragment: bool,
    needs_leader: bool,
}

/// One watch, over all its streams.
#[derive(Debug)]
pub(super) struct Record {
    ask: Ask,
    /// Its first revision, once that is known: of one from now on that is what its member calls now.
    start: Option<i64>,
    items: Vec<Item>,
    /// The revision it has to go on from.
    cursor: i64,
    /// By itself, or by compaction up to a revision.
    end: Option<Option<i64>>,
}

#[derive(Clone, Debug)]
enum Item {
    Events(Taken),
    Note(i64),
}

/// Runs one watch after the other.
pub(super) async fn run(shared: Arc<Shared>, number: u64, mut random: Random) -> Result<()> {
    while !shared.is_over() {
        let until = Instant::now() + random.millis(1_000, 30_000);
        let at = {
            let mut state = shared.lock();
            let ask = Ask::draw(&mut random, state.log.revision, state.log.compacted());
            state.records.push(Record::new(ask));
            state.records.len() - 1
        };
        while follow(&shared, at, until, &mut random).await.with_context(|| format!("watch {number}"))? {
            count(&shared.reached.resumed);
            sleep(random.millis(0, 200)).await;
        }
    }
    Ok(())
}

/// Follows one stream to its end; whether another is to follow.
async fn follow(shared: &Shared, at: usize, until: Instant, random: &mut Random) -> Result<bool> {
    let (create, needs_leader) = {
        let state = shared.lock();
        let record = state.records.get(at).context("no such watch")?;
        (record.create(), record.ask.needs_leader)
    };
    let mut parts = Vec::new();
    let Ok(mut stream) = stream::open(&shared.client(random), create, needs_leader).await else { return Ok(true) };
    loop {
        // The last ones go on until they have had everything.
        let told = if shared.is_over() {
            stream.message().await
        } else {
            match timeout_at(until, stream.message()).await {
                Ok(told) => told,
                Err(_) if shared.is_over() => continue,
                Err(_) => {
                    shared.edit(at, |record| record.end = Some(None))?;
                    return Ok(false);
                }
            }
        };
        let Ok(Some(told)) = told else { return Ok(true) };
        let Some(told) = whole(&mut parts, told) else { continue };
        if told.canceled && told.compact_revision == 0 {
            return Ok(true);
        }
        if shared.edit(at, |record| record.take(&told))?? {
            count(&shared.reached.compacted);
            return Ok(false);
        }
        if let Some(revision) = told.events.iter().filter_map(|event| Some(event.kv.as_ref()?.mod_revision)).max() {
            shared.lock().history.tell(revision);
        } else if !told.created {
            count(&shared.reached.notes);
        }
    }
}

/// Puts the parts of a response together.
fn whole(parts: &mut Vec<Event>, mut told: WatchResponse) -> Option<WatchResponse> {
    parts.append(&mut told.events);
    if told.fragment {
        return None;
    }
    told.events = std::mem::take(parts);
    Some(told)
}

impl Shared {
    fn edit<T>(&self, at: usize, change: impl FnOnce(&mut Record) -> T) -> Result<T> {
        Ok(change(self.lock().records.get_mut(at).context("no such watch")?))
    }
}

impl Ask {
    fn draw(random: &mut Random, current: i64, compacted: i64) -> Ask {
        let key = |random: &mut Random| KEYS[random.below(KEYS.len() as u64) as usize].to_owned();
        let keys = match random.below(5) {
            0 => Keys::Key(key(random)),
            1 => Keys::Prefix(key(random).chars().take(3).collect()),
            2 => {
                let (one, other) = (key(random), key(random));
                if one == other { Keys::All } else { Keys::Interval(one.clone().min(other.clone()), one.max(other)) }
            }
            _ => Keys::All,
        };
        let back = random.below(400) as i64;
        let start = match random.below(4) {
            0 | 1 => 0,
            2 => (current - back).max(compacted).max(1),
            // Also of what is yet to come.
            _ => (current + 100 - back).max(compacted).max(1),
        };
        let selection =
            Selection { keys, prev_kv: random.one_in(2), skip_puts: random.one_in(8), skip_deletes: random.one_in(6) };
        let (notes, fragment) = (random.one_in(2), !random.one_in(4));
        Ask { selection, start, notes, fragment, needs_leader: random.one_in(3) }
    }
}

impl Record {
    fn new(ask: Ask) -> Record {
        let start = (ask.start > 0).then_some(ask.start);
        Record { cursor: ask.start, ask, start, items: Vec::new(), end: None }
    }

    /// What asks a member to go on.
    fn create(&self) -> WatchCreateRequest {
        let everything = Bytes::from_static(b"\0");
        let (key, range_end) = match self.ask.selection.keys.clone() {
            Keys::Key(key) => (key.into(), Bytes::new()),
            Keys::Prefix(prefix) | Keys::Segment(prefix) => (prefix.clone().into(), format!("{prefix}\u{7f}").into()),
            Keys::Interval(start, end) => (start.into(), end.into()),
            Keys::All => (everything.clone(), everything),
        };
        let Selection { prev_kv, skip_puts, skip_deletes, .. } = self.ask.selection;
        let filters = [(skip_puts, FilterType::Noput), (skip_deletes, FilterType::Nodelete)];
        WatchCreateRequest {
            key,
            range_end,
            start_revision: self.cursor,
            progress_notify: self.ask.notes,
            filters: filters.into_iter().filter_map(|(skips, filter)| skips.then_some(filter.into())).collect(),
            prev_kv,
            fragment: self.ask.fragment,
            ..WatchCreateRequest::default()
        }
    }

    /// Takes in a whole response; true if that is the end.
    fn take(&mut self, told: &WatchResponse) -> Result<bool> {
        if told.canceled {
            self.end = Some(Some(told.compact_revision));
            return Ok(true);
        }
        let revision = told.header.as_ref().context("a response without a header")?.revision;
        if told.created {
            if self.start.is_none() {
                self.start = Some(revision + 1);
                self.cursor = revision + 1;
            }
            return Ok(false);
        }
        let Some(last) = told.events.last() else {
            self.items.push(Item::Note(revision));
            self.cursor = self.cursor.max(revision + 1);
            return Ok(false);
        };
        let events = told.events.iter().map(|event| seen(event, self.ask.selection.prev_kv));
        let events = events.collect::<Result<Vec<_>>>()?;
        let last = last.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        ensure!(last >= self.cursor, "{last} was sent to a watch from {} on", self.cursor);
        ensure!(last <= revision, "an event of {last} was sent at {revision}");
        self.cursor = last + 1;
        self.items.push(Item::Events(Taken { revision: last, events }));
        Ok(false)
    }

    /// What has not come yet, of a watch that goes on.
    pub(super) fn missing(&self, log: &Log) -> Option<String> {
        let start = match (self.end, self.start) {
            (Some(_), _) => return None,
            (None, Some(start)) => start,
            // The next one is not known, so it misses nothing.
            (None, None) => return None,
        };
        let due = self.ask.selection.due(log, start).count();
        (self.events() < due).then(|| format!("a watch has {} of {due} events: {:?}", self.events(), self.ask))
    }

    pub(super) fn events(&self) -> usize {
        self.items.iter().map(|item| if let Item::Events(taken) = item { taken.events.len() } else { 0 }).sum()
    }

    /// Holds all of it against the log.
    pub(super) fn check(&self, log: &Log) -> Result<()> {
        let Some(start) = self.start else { return Ok(()) };
        let selection = &self.ask.selection;
        let mut follower = Follower::new(selection.due(log, start), selection.prev_kv);
        let mut taken = self.items.iter().map(|item| match item {
            Item::Events(batch) => follower.take(batch),
            Item::Note(revision) => follower.promised(*revision, "a note"),
        });
        if let Some(wrong) = taken.find_map(Result::err) {
            bail!("{wrong}, from {start} on: {:?}", self.ask);
        }
        match self.end {
            Some(Some(compacted)) => {
                let is_right = log.compactions.contains(&compacted) && self.cursor < compacted;
                ensure!(is_right, "it was told that {compacted} is compacted, and waited for {}", self.cursor);
            }
            Some(None) => {}
            None => ensure!(follower.missing().is_none(), "{:?} has not come", follower.missing()),
        }
        Ok(())
    }
}

fn seen(event: &Event, prev_kv: bool) -> Result<Seen> {
    let Published { revision, key, after } = Published::of_event(event).map_err(|error| anyhow!(error))?;
    let before = match &event.prev_kv {
        Some(kv) => Before::Pair(kv.key.to_vec(), Pair::from(kv)),
        None if prev_kv => Before::Nothing,
        None => Before::NotAsked,
    };
    Ok(Seen { key: key.into(), revision, after, before })
}

/// Replays what a member has of history, from what was compacted on, and holds it against the log.
pub(super) async fn replay(shared: &Shared, member: usize, from: i64, patience: Duration) -> Result<usize> {
    let selection = Selection { keys: Keys::All, prev_kv: true, skip_puts: false, skip_deletes: false };
    let ask = Ask { selection, start: from, notes: false, fragment: true, needs_leader: false };
    let mut record = Record::new(ask);
    let mut stream = stream::open(&shared.clients[member], record.create(), false).await?;
    let (mut parts, deadline) = (Vec::new(), Instant::now() + patience);
    let newest = shared.next[member].load(Ordering::SeqCst) - 1;
    while record.cursor <= newest {
        let told = timeout_at(deadline, stream.message()).await.context("history is not replayed in time")??;
        let Some(told) = whole(&mut parts, told.context("the replay broke")?) else { continue };
        ensure!(!told.canceled, "the replay was cancelled: {told:?}");
        record.take(&told)?;
    }
    record.check(&shared.lock().log)?;
    Ok(record.events())
}

#[cfg(test)]
#[path = "watches_tests.rs"]
mod tests;
