//! One run: everything in it follows from the seed.

use std::time::Duration;

use stentor_client::ErrorKind;
use stentor_server::storage::Disks;
use turmoil::Sim;

use crate::check::{Excuses, check, events_due};
use crate::faults::{self, Faults, client_name, network};
use crate::random::Random;
use crate::reached::Reached;
use crate::workload::Workload;
use crate::world::World;
use crate::{member, watcher};

const MEMBERS: usize = 3;
const CLIENTS: usize = 3;
const WATCHES: usize = 4;

/// Faults begin before this.
const FAULTY: Duration = Duration::from_secs(30);

/// Writes go on for so long after the last fault was mended.
const CALM: Duration = Duration::from_secs(5);

/// By then every watch has to be at the end of the log, after the last write: a half-open connection is found
/// out after 15 s, and one on which only the stream is dead after about 50 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) trace: Vec<String>,
    pub(crate) reached: Reached,
    pub(crate) wrong: Vec<String>,
}

/// How the history is replaced.
#[derive(Clone, Copy, Debug)]
enum Restore {
    /// Another cluster with the first entries of the log.
    Elsewhere,
    /// The same cluster, which has lost the last entries.
    SameCluster,
}

pub(crate) fn run(seed: u64) -> Outcome {
    let mut run = Run::new(seed);
    let ended = run.go();
    run.finish(ended)
}

struct Run {
    sim: Sim<'static>,
    world: World,
    random: Random,
    workload: Workload,
    faults: Faults,
    write_at: Duration,
    reached: Reached,
    excuses: Excuses,
    /// Positions at the restore, and the revision to which it went back.
    lost: Option<(Restore, Vec<Option<i64>>, i64)>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random::new(seed);
        let mut sim = network(random.next());
        let world = World::new(MEMBERS);
        for number in 0..MEMBERS {
            let (world, mut random) = (world.clone(), random.fork());
            let lives = std::cell::RefCell::new(random.fork());
            sim.host(member::name(number), move || member::run(world.clone(), number, lives.borrow_mut().fork()));
        }
        for number in 0..CLIENTS {
            sim.client(client_name(number), watcher::run(world.clone(), number, WATCHES, random.fork()));
        }
        Run {
            sim,
            world,
            workload: Workload::new(random.fork()),
            faults: Faults::new(random.fork(), CLIENTS, MEMBERS),
            random,
            write_at: Duration::ZERO,
            reached: Reached::default(),
            excuses: Excuses::default(),
            lost: None,
        }
    }

    /// # Errors
    /// A host that failed, or a watch that is not where it should be in the end.
    fn go(&mut self) -> Result<(), String> {
        let restore = match self.random.below(16) {
            0 => Some(Restore::Elsewhere),
            1 => Some(Restore::SameCluster),
            _ => None,
        };
        while self.sim.elapsed() < FAULTY {
            self.write();
            self.faults.step(&mut self.sim, &self.world, &mut self.reached, &mut self.excuses);
            self.step()?;
        }
        self.faults.mend_all(&mut self.sim, &self.world, &mut self.excuses);
        let calm = self.sim.elapsed() + CALM;
        while self.sim.elapsed() < calm {
            if restore.is_none() {
                self.write();
            }
            self.step()?;
        }
        self.world.lock().closing = true;
        if let Some(restore) = restore {
            self.restore(restore)?;
        }
        let until = self.sim.elapsed() + PATIENCE;
        let due = self.due();
        while self.sim.elapsed() < until {
            for _ in 0..20 {
                self.step()?;
            }
            if self.late(&due).is_empty() {
                return Ok(());
            }
        }
        Err(format!("not at the end of the log in time: {}", self.late(&due).join(", ")))
    }

    fn step(&mut self) -> Result<(), String> {
        self.sim.step().map(drop).map_err(|error| format!("a host failed: {error}"))
    }

    /// Writes what is due: single operations, and now and then many at once.
    fn write(&mut self) {
        let now = self.sim.elapsed();
        if now < self.write_at {
            return;
        }
        let burst = if self.random.one_in(30) { self.random.between(5, 40) } else { 1 };
        let mut state = self.world.lock();
        for _ in 0..burst {
            let op = self.workload.next(&state.log);
            state.write(op, now);
        }
        let longest = if self.random.one_in(20) { 3_000 } else { 200 };
        self.write_at = now + self.random.millis(0, longest);
    }

    /// All members begin again, with the first entries of the log.
    fn restore(&mut self, restore: Restore) -> Result<(), String> {
        (0..MEMBERS).for_each(|m| faults::kill(&mut self.sim, &self.world, m));
        let now = self.sim.elapsed();
        {
            let mut state = self.world.lock();
            let kept = self.random.below(state.length as u64 + 1) as usize;
            state.length = kept;
            for member in &mut state.members {
                member.disks = Disks::new();
            }
            if matches!(restore, Restore::Elsewhere) {
                state.cluster += 1;
            }
            let revision = kept.checked_sub(1).and_then(|last| state.log.revisions.get(last).copied()).unwrap_or(1);
            let positions = state.records.iter().map(|record| record.position).collect();
            state.note(now, format_args!("restored ({restore:?}) at revision {revision}"));
            self.lost = Some((restore, positions, revision));
        }
        self.excuses.restored_at = Some(now);
        self.excuses.faults.push((now, now + PATIENCE));
        self.step()?;
        (0..MEMBERS).for_each(|m| faults::start(&mut self.sim, m));
        Ok(())
    }

    /// How many events each watch that is confirmed has to have.
    fn due(&self) -> Vec<Option<usize>> {
        let state = self.world.lock();
        state.records.iter().map(|record| events_due(record, &state.log)).collect()
    }

    /// The watches that are not where they should be in the end.
    fn late(&self, due: &[Option<usize>]) -> Vec<String> {
        let state = self.world.lock();
        let mut late = Vec::new();
        for (at, record) in state.records.iter().enumerate().filter(|(_, record)| record.end.is_none()) {
            let due = match due.get(at).copied().flatten() {
                Some(due) => due,
                None => match events_due(record, &state.log) {
                    Some(due) => due,
                    None => {
                        late.push(format!("{} is not confirmed", record.name));
                        continue;
                    }
                },
            };
            let must = match &self.lost {
                None if record.events() == due => continue,
                None => format!("has {} of {due} events", record.events()),
                Some((Restore::Elsewhere, positions, _)) if positions.get(at).copied().flatten().is_none() => continue,
                Some((Restore::SameCluster, positions, kept))
                    if positions.get(at).copied().flatten().is_none_or(|position| position <= *kept) =>
                {
                    continue;
                }
                Some(_) => "has not noticed that the store was restored".to_owned(),
            };
            late.push(format!("{} {must}", record.name));
        }
        late
    }

    fn finish(mut self, ended: Result<(), String>) -> Outcome {
        let mut state = self.world.lock();
        let mut wrong: Vec<_> = ended.err().into_iter().collect();
        for record in &state.records {
            self.reached.count(record);
            if let Err(error) = check(record, &state.log, &self.excuses) {
                wrong.push(format!("{} ({:?}): {error}", record.name, record.ask));
            }
            let resets =
                matches!(&record.end, Some((crate::watcher::End::Error(ErrorKind::HistoryReset { .. }, _), _)));
            if resets && self.lost.is_none() {
                wrong.push(format!("{}: there was no restore", record.name));
            }
        }
        self.reached.count_clients(&state.counted);
        self.reached.count_run(&self.excuses);
        let trace = std::mem::take(&mut state.trace);
        Outcome { trace, reached: self.reached, wrong }
    }
}
