//! A store and its model, side by side.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use stentor_mvcc::engine::{Durability, Engine};
use stentor_mvcc::snapshot::{RestoreOptions, restore};
use stentor_mvcc::{Commit, CompactionStep, LogPosition, Observer, Options, Outcome, Store, View, check};
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::{RangeRequest, TxnRequest};
use stentor_proto::storagepb::{LogEntry, log_entry::Op};

use super::generate::Step;
use super::reached::Reached;
use super::{resolve, verify};
use crate::model::{self, Model};
use crate::places::Place;

/// Operations of one branch of a transaction.
pub(crate) const MAX_TXN_OPS: usize = 8;
/// The wall clock of operations that go through the store's own front.
const CLOCK: u64 = 5;

/// What went wrong, or nothing.
pub(crate) type Checked = Result<(), String>;

/// Fails the case unless a condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

/// Remembers what it was told.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<Commit>>);

impl Observer for Told {
    fn committed(&self, commit: &Commit) {
        self.0.lock().push(commit.clone());
    }
}

/// A view that is kept, with what it must show.
struct Held {
    view: View,
    model: Model,
    epoch: u64,
    /// Its engine is not the store's any more.
    replaced: bool,
}

pub(crate) struct World<P: Place> {
    durability: Durability,
    engine: Option<Arc<dyn Engine>>,
    store: Option<Store>,
    told: Arc<Told>,
    model: Model,
    /// The model after each group, with the place of its last entry.
    past: Vec<(u64, Model)>,
    /// Every entry that is in the store, with what came of it.
    log: Vec<(LogEntry, Outcome)>,
    /// Entries up to here survive a crash.
    durable: u64,
    held: VecDeque<Held>,
    /// Groups that compacted, since the store was opened.
    epoch: u64,
    /// Space work has begun and not come to an end.
    working: bool,
    /// And the store was opened again since.
    interrupted: bool,
    /// The revision of the last checkpoint, and the compacted revision then.
    checkpoint: Option<(i64, i64)>,
    pub reached: Reached,
    /// Last: what is open on them is closed first.
    place: P,
    replaced_places: Vec<P>,
}

impl<P: Place> World<P> {
    pub(crate) fn new(place: P, durability: Durability) -> Result<World<P>, String> {
        let mut world = World {
            place,
            replaced_places: Vec::new(),
            durability,
            engine: None,
            store: None,
            told: Arc::default(),
            model: Model::new(),
            past: vec![(0, Model::new())],
            log: Vec::new(),
            durable: 0,
            held: VecDeque::new(),
            epoch: 0,
            working: false,
            interrupted: false,
            checkpoint: None,
            reached: Reached::default(),
        };
        world.open()?;
        Ok(world)
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    fn engine(&self) -> &dyn Engine {
        &**self.engine.as_ref().expect("the engine is open")
    }

    fn open(&mut self) -> Checked {
        let engine = self.place.open();
        let options = Options { durability: self.durability, wall_clock: || CLOCK, max_txn_ops: MAX_TXN_OPS };
        let store = Store::open_shared(engine.clone(), options).map_err(|e| format!("opening: {e}"))?;
        self.told = Arc::default();
        store.observe(&self.told);
        self.engine = Some(engine);
        self.store = Some(store);
        self.epoch = 0;
        self.interrupted = self.working;
        Ok(())
    }

    fn close(&mut self) {
        self.held.clear();
        self.store = None;
        self.engine = None;
    }

    pub(crate) fn run(&mut self, step: &Step) -> Checked {
        match step {
            Step::Group(ops) => self.group(ops),
            Step::Execute(op) => self.execute(op),
            Step::Range(request) => self.range(request),
            Step::ReadTxn(request) => self.read_txn(request),
            Step::Hash(choice) => self.hash(*choice),
            Step::Hold => {
                let (view, model) = (self.store().view(), self.model.clone());
                self.held.push_back(Held { view, model, epoch: self.epoch, replaced: false });
                Ok(())
            }
            Step::Release => self.release(),
            Step::Verify => self.verify(),
            Step::Work(most) => self.compact_step(*most),
            Step::Flush => {
                self.store().flush().map_err(|e| e.to_string())?;
                self.durable = self.log.len() as u64;
                Ok(())
            }
            Step::WriteBack => {
                if self.place.write_back() {
                    self.durable = self.log.len() as u64;
                }
                Ok(())
            }
            Step::Defragment => self.store().defragment().map_err(|e| e.to_string()),
            Step::Checkpoint => self.checkpoint(),
            Step::Replace => self.replace(),
            Step::Reopen => self.reopen(),
            Step::Crash { apply_again } => self.crash(*apply_again),
        }
    }

    fn group(&mut self, ops: &[Op]) -> Checked {
        let mut entries = Vec::new();
        let mut expected = Vec::new();
        for op in ops {
            let mut op = op.clone();
            resolve::op(&mut op, &self.model);
            if self.form(&op)?.is_err() {
                continue;
            }
            let entry = self.entry(op, 1000 + (self.log.len() + entries.len()) as u64);
            expected.push(self.expect(&entry));
            entries.push(entry);
        }
        let last = LogPosition { term: 1, index: (self.log.len() + entries.len()) as u64 };
        let outcomes = self.store().apply(&entries, last).map_err(|e| format!("applying: {e}"))?;
        ensure!(outcomes == expected, "the answers were {outcomes:#?}, not {expected:#?}");
        self.log.extend(entries.into_iter().zip(expected));
        self.after_group()
    }

    fn entry(&self, op: Op, time_unix_ms: u64) -> LogEntry {
        LogEntry { time_unix_ms, op: Some(op), ..LogEntry::default() }
    }

    /// What the model makes of an entry.
    fn expect(&mut self, entry: &LogEntry) -> Outcome {
        let before = self.model.clone();
        let outcome = self.model.apply(entry);
        self.reached.note_entry(entry, &outcome, &before, &self.model);
        outcome
    }

    /// What is wrong with an operation by itself, as the store and the model say in one voice.
    fn form(&mut self, op: &Op) -> Result<Result<(), EtcdError>, String> {
        let (found, expected) = match op {
            Op::Put(r) => (check::put(r), model::check_put(r)),
            Op::DeleteRange(r) => (check::delete_range(r), model::check_key(&r.key)),
            Op::Txn(r) => (check::txn(r, MAX_TXN_OPS), model::check_txn(r, MAX_TXN_OPS)),
            _ => (Ok(()), Ok(())),
        };
        ensure!(found == expected, "the check of {op:?} says {found:?}, not {expected:?}");
        if let Err(error) = found {
            self.reached.refused(error);
        }
        Ok(found)
    }

    fn execute(&mut self, op: &Op) -> Checked {
        let mut op = op.clone();
        resolve::op(&mut op, &self.model);
        let form = self.form(&op)?;
        let entry = self.entry(op.clone(), CLOCK);
        let store = self.store();
        let answer: Outcome = match op {
            Op::Put(r) => refusal(store.put(r))?.map(stentor_mvcc::Answer::Put),
            Op::DeleteRange(r) => refusal(store.delete_range(r))?.map(stentor_mvcc::Answer::DeleteRange),
            Op::Txn(r) => refusal(store.txn(r))?.map(stentor_mvcc::Answer::Txn),
            other => refusal(store.execute(other))?,
        };
        let expected = match form {
            Ok(()) => self.expect(&entry),
            Err(error) => Err(error),
        };
        ensure!(answer == expected, "the answer was {answer:#?}, not {expected:#?}");
        if form.is_ok() {
            self.log.push((entry, expected));
        }
        self.after_group()
    }

    /// What must hold after entries were applied.
    fn after_group(&mut self) -> Checked {
        let index = self.log.len() as u64;
        let (_, before) = self.past.last().expect("there is a beginning");
        let compacting = before.compacted != self.model.compacted;
        let events = &self.model.events[before.events.len()..];
        let told = std::mem::take(&mut *self.told.0.lock());
        match &told[..] {
            [] => ensure!(events.is_empty() && !compacting, "those who follow were not told"),
            [commit] => {
                verify::events(commit.records.iter(), events.iter())?;
                ensure!(commit.revision.get() == self.model.revision(), "told of revision {}", commit.revision);
                self.reached.note("observer told");
            }
            _ => return Err("those who follow were told twice".to_owned()),
        }
        let view = self.store().view();
        ensure!(view.revision().get() == self.model.revision(), "the store is at {}", view.revision());
        ensure!(view.applied().index == index, "the store has applied {:?}, not {index}", view.applied());
        verify::compacted(&view, &self.model)?;
        self.epoch += u64::from(compacting);
        if self.durability == Durability::Synced {
            self.durable = index;
        }
        if self.past.last().is_some_and(|(last, _)| *last < index) {
            self.past.push((index, self.model.clone()));
        }
        Ok(())
    }

    fn range(&mut self, request: &RangeRequest) -> Checked {
        let mut request = request.clone();
        resolve::range(&mut request, &self.model);
        let checked = check::range(&request);
        if let Err(error) = checked {
            let expected = if request.key.is_empty() { EtcdError::EmptyKey } else { EtcdError::InvalidSortOption };
            ensure!(error == expected, "the check of {request:?} says {error:?}, not {expected:?}");
            self.reached.refused(error);
            return Ok(());
        }
        ensure!(!request.key.is_empty() && request.sort_order < 3, "{request:?} passed its check");
        let expected = self.model.range(&request);
        self.reached.note_range(&request, &expected, &self.model);
        verify::range(&self.store().view(), &request, &expected)
    }

    fn read_txn(&mut self, request: &TxnRequest) -> Checked {
        let mut request = request.clone();
        resolve::txn(&mut request, &self.model);
        if self.form(&Op::Txn(request.clone()))?.is_err() {
            return Ok(());
        }
        let expected = self.model.read_only_txn(&request);
        let found = refusal(self.store().view().txn(&request))?;
        ensure!(found == expected, "{request:#?} answered {found:#?}, not {expected:#?}");
        Ok(())
    }

    fn hash(&self, choice: i64) -> Checked {
        verify::hash(&self.store().view(), &self.model, resolve::revision(choice, &self.model))
    }

    fn release(&mut self) -> Checked {
        let Some(held) = self.held.pop_front() else { return Ok(()) };
        self.reached.note_if(held.epoch < self.epoch, "held view outlived a compaction");
        verify::all(&held.view, &held.model).map_err(|e| format!("a view held since an earlier step: {e}"))
    }

    pub(crate) fn verify(&mut self) -> Checked {
        self.reached.note_compacted(&self.model);
        let view = self.store().view();
        verify::all(&view, &self.model)?;
        verify::on_disk(&view, self.engine(), &self.model, self.store().compaction_finished())
    }

    fn compact_step(&mut self, most: usize) -> Checked {
        let store = self.store();
        let pending = self.model.compacted > store.compaction_finished().get();
        let waiting = self.held.iter().any(|held| held.epoch < self.epoch && !held.replaced);
        let step = store.compact_step(most).map_err(|e| format!("compacting: {e}"))?;
        match step {
            CompactionStep::Idle => ensure!(!pending, "there is space work left"),
            CompactionStep::Waiting => ensure!(pending && waiting, "nothing to wait for"),
            CompactionStep::Worked { scanned, .. } => {
                ensure!(pending && !waiting, "space work that may not be done now");
                ensure!(scanned <= most, "{scanned} records were looked at");
            }
            CompactionStep::Finished(revision) => {
                ensure!(pending && !waiting, "space work that may not be done now");
                ensure!(revision.get() <= self.model.compacted, "finished {revision}");
                verify::on_disk(&store.view(), self.engine(), &self.model, revision)?;
                self.reached.note("space work finished");
                let newer = revision.get() < self.model.compacted;
                self.reached.note_if(newer, "newer compaction before the last was worked off");
            }
        }
        match step {
            CompactionStep::Waiting => self.reached.note("space work waited for a view"),
            CompactionStep::Worked { .. } => {
                self.reached.note_if(self.interrupted, "space work resumed after reopening");
                self.reached.note_if(self.working, "space work in parts");
                (self.working, self.interrupted) = (true, false);
            }
            CompactionStep::Finished(_) => (self.working, self.interrupted) = (false, false),
            CompactionStep::Idle => {}
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Checked {
        self.store().checkpoint_index().map_err(|e| format!("writing a checkpoint: {e}"))?;
        self.checkpoint = Some((self.model.revision(), self.model.compacted));
        // It is written when all it holds is durable.
        self.durable = self.log.len() as u64;
        ensure!(self.store().index_checkpoint().map(|r| r.get()) == Some(self.model.revision()), "it is not used");
        Ok(())
    }

    /// An opened store has the index that it would have without its checkpoint.
    fn check_checkpoint(&mut self) -> Checked {
        let used = self.store().index_checkpoint().map(|r| r.get());
        let usable = self.checkpoint.filter(|(at, _)| self.model.compacted <= at + 1).map(|(at, _)| at);
        ensure!(used == usable, "the checkpoint at {used:?} was used, not the one at {usable:?}");
        self.reached.note_if(self.checkpoint.is_some() && used.is_none(), "checkpoint overtaken by a compaction");
        let Some(used) = used else { return Ok(()) };
        verify::same_as_without_checkpoint(&self.store().view(), self.engine())?;
        self.reached.note("opened from a checkpoint");
        self.reached.note_if(used < self.model.revision(), "opened from a checkpoint and changes after it");
        let trimmed = self.checkpoint.is_some_and(|(_, compacted)| compacted < self.model.compacted);
        self.reached.note_if(trimmed, "opened from a checkpoint, trimmed by a later compaction");
        Ok(())
    }

    /// Puts a copy in the store's place, made by a snapshot.
    fn replace(&mut self) -> Checked {
        let mut snapshot = self.store().snapshot("test").map_err(|e| e.to_string())?;
        let mut bytes = Vec::new();
        while let Some(chunk) = snapshot.next_chunk(777).map_err(|e| e.to_string())? {
            bytes.extend_from_slice(&chunk);
        }
        ensure!(bytes.len() as u64 == snapshot.total_len(), "{} bytes of {}", bytes.len(), snapshot.total_len());
        drop(snapshot);
        let place = self.place.another();
        let engine = place.open();
        restore(&mut &bytes[..], &*engine, &RestoreOptions::default()).map_err(|e| format!("restoring: {e}"))?;
        let less = self.store().compaction_finished().get() < self.model.compacted;
        self.reached.note_if(less, "snapshot left space work out");
        self.store().replace(engine.clone()).map_err(|e| format!("replacing: {e}"))?;
        self.engine = Some(engine);
        self.checkpoint = None;
        self.replaced_places.push(std::mem::replace(&mut self.place, place));
        self.durable = self.log.len() as u64;
        (self.working, self.interrupted) = (false, false);
        let told = std::mem::take(&mut *self.told.0.lock());
        let revision = stentor_proto::Revision::new(self.model.revision());
        let right = told.len() == 1 && told.iter().all(|c| c.records.is_empty() && Some(c.revision) == revision);
        ensure!(right, "those who follow were told {told:?}");
        self.reached.note("replaced by a snapshot");
        self.reached.note_if(!self.held.is_empty(), "replaced while a view was held");
        self.held.iter_mut().for_each(|held| held.replaced = true);
        self.verify()
    }

    fn reopen(&mut self) -> Checked {
        self.close();
        self.open()?;
        self.durable = self.log.len() as u64;
        self.reached.note("reopened");
        self.check_checkpoint()?;
        self.verify()
    }

    fn crash(&mut self, apply_again: bool) -> Checked {
        self.place.crash();
        self.close();
        self.open()?;
        let index = self.store().view().applied().index;
        let before = self.log.len() as u64;
        ensure!(self.durable <= index && index <= before, "after a crash it has {index} of {before} entries");
        self.reached.note(if index < before { "crash lost entries" } else { "crash lost nothing" });
        self.past.retain(|(at, _)| *at <= index);
        let lost = self.log.split_off(index as usize);
        let (at, model) = self.past.last().expect("there is a beginning");
        ensure!(*at == index, "a crash left part of a group: {index}");
        self.model = model.clone();
        self.durable = index;
        self.check_checkpoint()?;
        let outlived = index < before && self.store().index_checkpoint().is_some();
        self.reached.note_if(outlived, "checkpoint outlived a crash that lost entries");
        self.verify()?;
        if apply_again {
            for (entry, outcome) in lost {
                self.apply_again(entry, outcome)?;
            }
        }
        Ok(())
    }

    fn apply_again(&mut self, entry: LogEntry, outcome: Outcome) -> Checked {
        let last = LogPosition { term: 1, index: self.log.len() as u64 + 1 };
        let again = self.store().apply(std::slice::from_ref(&entry), last).map_err(|e| e.to_string())?;
        ensure!(again == [outcome.clone()], "applied again it was {again:#?}, not {outcome:#?}");
        let expected = self.model.apply(&entry);
        ensure!(outcome == expected, "applied again the model says {expected:#?}, not {outcome:#?}");
        self.log.push((entry, outcome));
        self.reached.note("lost entries applied again");
        self.after_group()
    }

    /// Another store that gets the same entries in other groups, with its space work at other times,
    /// answers and holds the same.
    pub(crate) fn twin(&self, group: usize) -> Checked {
        let place = crate::places::Memory::new();
        let options = Options { max_txn_ops: MAX_TXN_OPS, ..Options::default() };
        let twin = Store::open_shared(place.open(), options).map_err(|e| e.to_string())?;
        let mut index = 0;
        for chunk in self.log.chunks(group) {
            let (entries, expected): (Vec<_>, Vec<_>) = chunk.iter().cloned().unzip();
            index += entries.len() as u64;
            let outcomes = twin.apply(&entries, LogPosition { term: 1, index }).map_err(|e| e.to_string())?;
            ensure!(outcomes == expected, "in groups of {group} the answers were {outcomes:#?}, not {expected:#?}");
            twin.finish_compactions().map_err(|e| e.to_string())?;
        }
        let (view, twin) = (self.store().view(), twin.view());
        for at in self.model.compacted.max(1)..=self.model.revision() {
            let (ours, theirs) = (refusal(view.hash_kv(at))?, refusal(twin.hash_kv(at))?);
            ensure!(ours == theirs, "a store with groups of {group} has the hash {theirs:?} at {at}, not {ours:?}");
        }
        verify::leases(&twin, &self.model)
    }
}

/// Tells a refusal from what must not happen here.
pub(crate) fn refusal<T>(result: Result<T, stentor_mvcc::Error>) -> Result<Result<T, EtcdError>, String> {
    match result {
        Ok(answer) => Ok(Ok(answer)),
        Err(stentor_mvcc::Error::Refused(error)) => Ok(Err(error)),
        Err(error) => Err(format!("the store failed: {error}")),
    }
}
