//! One member as a server would drive it: a log on a disk, a store that is persisted now and then, and what
//! the replica gives out.
//!
//! A store that comes with a snapshot is persisted beside the present one before the replica is handed the
//! message. It takes the place of the present one when the replica says so, which it does once the log goes
//! on from it. At a restart it does if the log already goes on from it; else it is dropped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use stentor_raft::log::{self, HardState, Log, Position, memory};
use stentor_raft::{Committed, Membership, Message, Options, Outputs, Replica, ReplicaError, Standing};

/// What is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    pub applied: Position,
    pub chain: u64,
    pub membership: Membership,
}

/// What a replica has given out.
#[derive(Debug)]
pub(crate) enum Effect {
    Send(Vec<Message>),
    Commit(Vec<Committed>),
    MayRead(u64, u64),
    Stands(Standing),
    Install(Position, Membership),
}

impl Effect {
    /// Bytes that tell it from another.
    pub(crate) fn trace(&self) -> Vec<u8> {
        let numbers = match self {
            Effect::Send(messages) => messages.iter().flat_map(|m| [1, m.to(), m.term()]).collect(),
            Effect::Commit(entries) => entries.iter().flat_map(|e| [2, e.position.term, e.position.index]).collect(),
            Effect::MayRead(round, index) => vec![3, *round, *index],
            Effect::Stands(standing) => vec![4, standing.term, standing.leader.unwrap_or(0), standing.role as u64],
            Effect::Install(position, _) => vec![5, position.term, position.index],
        };
        numbers.into_iter().flat_map(u64::to_be_bytes).collect()
    }
}

/// How an advance has ended.
pub(crate) enum Ending {
    Well,
    /// It was struck before this effect.
    Struck(&'static str),
    Failed(ReplicaError),
}

pub(crate) struct Member {
    pub id: u64,
    pub disk: memory::Disk,
    log_options: log::Options,
    limits: Limits,
    pub store: Store,
    pub persisted: Store,
    /// Persisted, and not yet in use.
    pub received: Vec<Store>,
    pub replica: Option<Replica>,
    /// Committed and not yet applied.
    pub queue: VecDeque<Committed>,
    /// Tells its lives apart.
    pub life: u64,
    pub down_until: u64,
    pub paused_until: u64,
    /// Whether there is something to advance.
    pub dirty: bool,
    /// It crashes at the effect after half as many: an even number before it, an odd one after it.
    pub strike: Option<u32>,
    /// Index to term, as the log was when it was last looked at.
    pub shadow: BTreeMap<u64, u64>,
    /// What it must not forget.
    pub kept: HardState,
    /// The tick in which it has applied its own removal.
    pub removed_at: Option<u64>,
    /// Switched off for good.
    pub retired: bool,
    /// Whether its last life has ended with a failed write.
    pub failed: Option<Position>,
}

/// What a seed draws for all members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub heartbeat_ticks: usize,
    pub max_message_bytes: u64,
    pub max_inflight_messages: usize,
    pub max_uncommitted_bytes: u64,
    pub max_committed_bytes: u64,
}

/// What a start has come by.
#[derive(Debug, Default)]
pub(crate) struct Started {
    pub failed_opening: bool,
    pub switched: bool,
    pub dropped: bool,
}

impl Member {
    pub(crate) fn new(id: u64, store: Store, limits: Limits, random: &mut SmallRng) -> Member {
        let disk = memory::Disk::new();
        let log_options = log::Options {
            segment_bytes: [4 << 10, 8 << 10, 64 << 10][random.random_range(0..3)],
            cached_bytes: [0, 600, 1 << 20][random.random_range(0..3)],
            write_ahead_bytes: [512, 4 << 10][random.random_range(0..2)],
        };
        Log::create(Arc::new(disk.clone()), store.applied, log_options).unwrap();
        Member {
            id,
            disk,
            log_options,
            limits,
            persisted: store.clone(),
            store,
            received: Vec::new(),
            replica: None,
            queue: VecDeque::new(),
            life: 0,
            down_until: 0,
            paused_until: 0,
            dirty: false,
            strike: None,
            shadow: BTreeMap::new(),
            kept: HardState::default(),
            removed_at: None,
            retired: false,
            failed: None,
        }
    }

    /// Starts from what is persisted.
    pub(crate) fn start(&mut self, random: &mut SmallRng) -> Result<Started, ReplicaError> {
        let mut started = Started::default();
        self.disk.clear_faults();
        let mut log = None;
        if random.random_ratio(1, 8) {
            self.disk.fail_sync(random.random_range(0..3), std::io::ErrorKind::Other);
            log = Log::open(Arc::new(self.disk.clone()), self.log_options).ok().flatten();
            self.disk.clear_faults();
            if log.is_none() {
                started.failed_opening = true;
                self.disk.crash(&mut || random.random());
            }
        }
        let log = match log {
            Some(log) => log,
            None => Log::open(Arc::new(self.disk.clone()), self.log_options)?.expect("the log is gone"),
        };
        for received in std::mem::take(&mut self.received) {
            if received.applied == log.start() && self.persisted.applied.index < received.applied.index {
                self.persisted = received;
                started.switched = true;
            } else {
                started.dropped = true;
            }
        }
        self.store = self.persisted.clone();
        let limits = self.limits;
        let options = Options {
            heartbeat_ticks: limits.heartbeat_ticks,
            max_message_bytes: limits.max_message_bytes,
            max_inflight_messages: limits.max_inflight_messages,
            max_uncommitted_bytes: limits.max_uncommitted_bytes,
            max_committed_bytes: limits.max_committed_bytes,
            ..Options::new(self.id, self.store.applied, self.store.membership.clone())
        };
        let mut own = SmallRng::seed_from_u64(random.random());
        self.replica = Some(Replica::new(log, options, Box::new(move || own.random()))?);
        self.life += 1;
        self.dirty = true;
        Ok(started)
    }

    /// Ends this life; the power too if there is a `power` to fail.
    pub(crate) fn crash(&mut self, power: Option<&mut SmallRng>) {
        self.replica = None;
        self.queue.clear();
        self.strike = None;
        self.disk.clear_faults();
        self.store = self.persisted.clone();
        if let Some(random) = power {
            self.disk.crash(&mut || random.random());
        }
    }

    /// Lets the replica do its work.
    pub(crate) fn advance(&mut self) -> (Vec<Effect>, Ending) {
        self.dirty = false;
        let Some(replica) = &mut self.replica else { return (Vec::new(), Ending::Well) };
        let mut collected = Collected { effects: Vec::new(), left: self.strike, struck: None, disk: self.disk.clone() };
        let result = replica.advance(&mut collected);
        if self.strike.is_some() {
            self.strike = collected.left;
        }
        let ending = match (collected.struck, result) {
            (Some(before), _) => Ending::Struck(before),
            (None, Err(error)) => Ending::Failed(error),
            (None, Ok(())) => Ending::Well,
        };
        (collected.effects, ending)
    }
}

struct Collected {
    effects: Vec<Effect>,
    left: Option<u32>,
    struck: Option<&'static str>,
    disk: memory::Disk,
}

impl Collected {
    fn take(&mut self, name: &'static str, effect: Effect) {
        if self.struck.is_some() {
            return;
        }
        match self.left {
            Some(left @ 0..=1) => {
                self.struck = Some(if left == 0 { name } else { "crash after an output" });
                self.effects.extend((left == 1).then_some(effect));
                // Nothing is written either from here on.
                self.disk.fail_write(0, std::io::ErrorKind::Other);
            }
            left => {
                self.left = left.map(|left| left - 2);
                self.effects.push(effect);
            }
        }
    }
}

impl Outputs for Collected {
    fn send(&mut self, messages: Vec<Message>) {
        self.take("crash before a message", Effect::Send(messages));
    }
    fn commit(&mut self, entries: Vec<Committed>) {
        self.take("crash before entries", Effect::Commit(entries));
    }
    fn may_read(&mut self, round: u64, index: u64) {
        self.take("crash before an answer to a read", Effect::MayRead(round, index));
    }
    fn stands(&mut self, standing: Standing) {
        self.take("crash before a standing", Effect::Stands(standing));
    }
    fn install(&mut self, position: Position, membership: &Membership) {
        self.take("crash before an installation", Effect::Install(position, membership.clone()));
    }
}
