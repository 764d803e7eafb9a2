//! One run: everything in it follows from the seed.

use std::time::Duration;

use stentor_checks::random::Random;
use stentor_client::ErrorKind;
use turmoil::Sim;

use crate::check::{Excuses, check, events_due};
use crate::ending;
use crate::faults::{self, Faults, client_name, network};
use crate::reached::Reached;
use crate::restore::{Restore, Saved};
use crate::world::{Settings, World};
use crate::{member, operator, watcher};

const CLIENTS: usize = 3;
const WATCHES: usize = 3;

/// Faults begin before this.
const FAULTY: Duration = Duration::from_secs(30);

/// Writes go on for so long after the last fault was mended.
const CALM: Duration = Duration::from_secs(5);

/// Before a restore, what was asked for is answered or given up.
const QUIET: Duration = Duration::from_secs(12);

/// By then every watch has to be at the end of the log, after the last write: a half-open connection is found
/// out after 15 s, and one on which only the stream is dead after about 50 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) trace: Vec<String>,
    pub(crate) reached: Reached,
    pub(crate) wrong: Vec<String>,
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
    faults: Faults,
    hosts: usize,
    excuses: Excuses,
    restore: Option<Restore>,
    saved: Option<Saved>,
    /// Positions at the restore.
    positions: Option<Vec<Option<i64>>>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random::new(seed);
        let mut sim = network(random.next());
        let restore = match random.below(16) {
            0 => Some(Restore::Elsewhere),
            1 => Some(Restore::SameCluster),
            _ => None,
        };
        let members = if random.one_in(5) { 5 } else { 3 };
        let changes_members = restore.is_none() && random.one_in(2);
        let hosts = if changes_members { members + 2 } else { members };
        let keeps_little = !random.one_in(3);
        let world = World::new(
            hosts,
            Settings {
                members,
                snapshot_count: if keeps_little { random.between(5, 40) } else { 10_000 },
                catch_up_entries: if keeps_little { random.between(1, 40) } else { 5_000 },
                strict: !random.one_in(3),
                token: 0,
                with_leases: restore.is_none(),
                compares: random.one_in(2),
            },
        );
        for number in 0..hosts {
            let world = world.clone();
            let lives = std::cell::RefCell::new(random.fork());
            sim.host(member::name(number), move || member::run(world.clone(), number, lives.borrow_mut().fork()));
        }
        for number in 0..CLIENTS {
            sim.client(client_name(number), watcher::run(world.clone(), number, WATCHES, random.fork()));
        }
        sim.client(operator::NAME, operator::run(world.clone(), hosts, changes_members, random.fork()));
        world.lock().note(Duration::ZERO, format_args!("{members} members on {hosts} hosts, {restore:?}"));
        let faults = Faults::new(random.fork(), CLIENTS, hosts);
        let excuses = Excuses::default();
        Run { sim, world, faults, random, hosts, excuses, restore, saved: None, positions: None }
    }

    /// # Errors
    /// A host that failed, or what is not as it should be in the end.
    fn go(&mut self) -> Result<(), String> {
        let save_at = self.random.millis(3_000, FAULTY.as_millis() as u64);
        while self.sim.elapsed() < FAULTY {
            self.faults.step(&mut self.sim, &self.world, &mut self.excuses);
            self.step()?;
            self.save(save_at)?;
        }
        self.faults.mend_all(&mut self.sim, &self.world, &mut self.excuses);
        self.world.lock().quiet = self.restore.is_some();
        let calm = self.sim.elapsed() + if self.restore.is_some() { QUIET } else { CALM };
        while self.sim.elapsed() < calm {
            self.step()?;
            self.save(save_at)?;
        }
        {
            let mut state = self.world.lock();
            (state.quiet, state.closing) = (true, true);
        }
        self.bring_back()?;
        let until = self.sim.elapsed() + PATIENCE;
        while self.sim.elapsed() < until {
            for _ in 0..20 {
                self.step()?;
            }
            if self.late().is_empty() {
                return Ok(());
            }
        }
        Err(format!("not at the end in time: {}", self.late().join(", ")))
    }

    fn step(&mut self) -> Result<(), String> {
        let due: Vec<_> = {
            let mut state = self.world.lock();
            state.hosts.iter_mut().map(|host| std::mem::take(&mut host.is_due)).collect()
        };
        for (number, _) in due.into_iter().enumerate().filter(|(_, is_due)| *is_due) {
            if self.sim.is_host_running(member::name(number)) {
                faults::kill(&mut self.sim, &self.world, number);
                faults::start(&mut self.sim, number);
            }
        }
        self.sim.step().map(drop).map_err(|error| format!("a host failed: {error}"))
    }

    /// Takes a snapshot for a restore, from any member that runs.
    fn save(&mut self, at: Duration) -> Result<(), String> {
        if self.restore.is_none() || self.saved.is_some() || self.sim.elapsed() < at {
            return Ok(());
        }
        let from = self.random.below(self.hosts as u64) as usize;
        let node = self.world.lock().hosts.get(from).and_then(|host| host.node.upgrade());
        if let Some(node) = node {
            self.saved = Some(Saved::take(&node.store)?);
        }
        Ok(())
    }

    /// All members begin again, with a snapshot.
    fn bring_back(&mut self) -> Result<(), String> {
        let (Some(restore), Some(saved)) = (self.restore, &self.saved) else { return Ok(()) };
        (0..self.hosts).for_each(|m| faults::kill(&mut self.sim, &self.world, m));
        let now = self.sim.elapsed();
        {
            let mut state = self.world.lock();
            saved.bring_back(&mut state, restore)?;
            self.positions = Some(state.records.iter().map(|record| record.position).collect());
            state.note(now, format_args!("restored ({restore:?}) at revision {}", saved.revision));
            state.reached.restores += 1;
        }
        self.excuses.restored_at = Some(now);
        self.excuses.faults.push((now, now + PATIENCE));
        self.step()?;
        (0..self.hosts).for_each(|m| faults::start(&mut self.sim, m));
        Ok(())
    }

    /// What is not where it should be in the end.
    fn late(&self) -> Vec<String> {
        let state = self.world.lock();
        let mut late = ending::apart(&state);
        for (at, record) in state.records.iter().enumerate().filter(|(_, record)| record.end.is_none()) {
            let Some(due) = events_due(record, &state.log) else {
                late.push(format!("{} is not confirmed", record.name));
                continue;
            };
            let position = self.positions.as_ref().map(|positions| positions.get(at).copied().flatten());
            let kept = self.saved.as_ref().map_or(0, |saved| saved.revision);
            let must = match (self.restore, position) {
                (Some(Restore::Elsewhere), Some(None)) => continue,
                (Some(Restore::SameCluster), Some(position)) if position.is_none_or(|position| position <= kept) => {
                    continue;
                }
                (Some(_), Some(_)) => "has not noticed that the store was restored".to_owned(),
                _ if record.events() == due => continue,
                _ => format!("has {} of {due} events", record.events()),
            };
            late.push(format!("{} {must}", record.name));
        }
        late
    }

    fn finish(self, ended: Result<(), String>) -> Outcome {
        let mut state = self.world.lock();
        let state = &mut *state;
        let mut wrong: Vec<_> = ended.err().into_iter().collect();
        wrong.append(&mut state.wrong);
        for record in &state.records {
            state.reached.count(record);
            if let Err(error) = check(record, &state.log, &self.excuses) {
                wrong.push(format!("{} ({:?}): {error}", record.name, record.ask));
            }
            let resets =
                matches!(&record.end, Some((crate::watcher::End::Error(ErrorKind::HistoryReset { .. }, _), _)));
            if resets && self.positions.is_none() {
                wrong.push(format!("{}: there was no restore", record.name));
            }
        }
        if self.positions.is_none() {
            wrong.extend(ending::differences(state));
        }
        wrong.extend(ending::alarms(state));
        (0..self.hosts).for_each(|host| state.count_comparisons(host, None));
        wrong.append(&mut state.wrong);
        let checked = state.history.check(&state.log);
        wrong.extend(checked.wrong);
        state.reached.expiries += checked.expiries;
        state.reached.count_clients(&state.counted);
        state.reached.terms += ending::terms(state);
        Outcome { trace: std::mem::take(&mut state.trace), reached: state.reached, wrong }
    }
}
