//! What all hosts of a run share beside the network: what is on the disks, and what was seen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use stentor_checks::history::History;
use stentor_checks::log::{Log, Published};
use stentor_checks::random::Random;
use stentor_server::metrics::Metrics;
use stentor_server::node::Node;
use stentor_server::storage::Disks;
use tokio::sync::Notify;

use crate::member;
use crate::reached::{Counted, Reached};
use crate::watcher::Record;

/// What a client does by default.
const PINGS_EVERY: Duration = Duration::from_secs(10);

/// A handle; clones share everything. All hosts run on one thread.
#[derive(Clone)]
pub(crate) struct World(Arc<Mutex<State>>);

/// The state of a run.
pub(crate) struct State {
    pub(crate) log: Log,
    pub(crate) history: History,
    pub(crate) hosts: Vec<Host>,
    pub(crate) settings: Settings,
    pub(crate) reached: Reached,
    pub(crate) counted: Counted,
    /// Client and member between which nothing can be told to the other, and since when.
    pub(crate) dead_links: Vec<(usize, usize, Duration)>,
    pub(crate) records: Vec<Record>,
    /// What members did that they must not.
    pub(crate) wrong: Vec<String>,
    /// Nothing more is written.
    pub(crate) quiet: bool,
    /// Programs that take slowly become fast, and nothing new is begun.
    pub(crate) closing: bool,
    pub(crate) trace: Vec<String>,
}

/// How all members of a run are started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// With how many members the cluster begins.
    pub(crate) members: usize,
    pub(crate) snapshot_count: u64,
    pub(crate) catch_up_entries: u64,
    /// Tells clusters apart that are made from the same members.
    pub(crate) token: u64,
    /// Refuse changes of the members that endanger the majority.
    pub(crate) strict: bool,
    /// Whether programs hold leases.
    pub(crate) with_leases: bool,
    /// Whether members are compared with each other.
    pub(crate) compares: bool,
}

/// A host for one member.
pub(crate) struct Host {
    pub(crate) disks: Disks,
    pub(crate) life: Life,
    /// It is to be started anew.
    pub(crate) is_due: bool,
    /// One of its disks is to fail.
    pub(crate) is_bad: bool,
    /// The member that runs here.
    pub(crate) node: Weak<Node>,
    /// What it has counted; what those before it have is in [`Reached`].
    pub(crate) metrics: Option<Metrics>,
    /// Tells it to end in order.
    pub(crate) end: Arc<Notify>,
}

/// What a host does when it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Nothing.
    Empty,
    /// It is one of those with which the cluster begins.
    Initial,
    /// It joins a cluster of these members.
    Joins(String),
}

impl World {
    pub(crate) fn new(hosts: usize, settings: Settings) -> World {
        let host = |number| Host {
            disks: Disks::new(),
            life: if number < settings.members { Life::Initial } else { Life::Empty },
            is_due: false,
            is_bad: false,
            node: Weak::new(),
            metrics: None,
            end: Arc::default(),
        };
        World(Arc::new(Mutex::new(State {
            log: Log::new(),
            history: History::default(),
            hosts: (0..hosts).map(host).collect(),
            settings,
            reached: Reached::default(),
            counted: Counted::default(),
            dead_links: Vec::new(),
            records: Vec::new(),
            wrong: Vec::new(),
            quiet: false,
            closing: false,
            trace: Vec::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, what: impl std::fmt::Display) {
        self.lock().note(now(), what);
    }
}

impl State {
    /// A member has applied a group of changes.
    pub(crate) fn publish(&mut self, changes: Vec<Published>, at: Duration) -> Result<(), String> {
        let mut by_revision: BTreeMap<i64, Vec<Published>> = BTreeMap::new();
        changes.into_iter().for_each(|change| by_revision.entry(change.revision).or_default().push(change));
        by_revision.iter().try_for_each(|(revision, changes)| self.log.publish(*revision, changes, at))
    }

    /// Takes up what the members on a host have counted, of which the next one has these.
    pub(crate) fn count_comparisons(&mut self, host: usize, next: Option<Metrics>) {
        let Some(counted) = self.hosts.get_mut(host).and_then(|host| std::mem::replace(&mut host.metrics, next)) else {
            return;
        };
        self.reached.comparisons += counted.corruption.equal.get();
        self.reached.comparisons_in_part += counted.corruption.incomplete.get();
        if counted.corruption.different.get() > 0 {
            self.wrong.push(format!("m{host} takes members for different"));
        }
    }

    /// The number of a host on which a member is to run, mostly.
    pub(crate) fn some_host(&self, random: &mut Random) -> usize {
        let any = random.below(self.hosts.len() as u64) as usize;
        if random.one_in(20) {
            return any;
        }
        let used = (0..).zip(&self.hosts).filter(|(_, host)| host.life != Life::Empty).map(|(number, _)| number);
        let used: Vec<usize> = used.collect();
        used.get(random.below(used.len() as u64) as usize).copied().unwrap_or(any)
    }

    /// Whether the link has been dead for as long as a client waits with its first ping.
    pub(crate) fn is_link_dead(&self, client: usize, endpoint: &str, now: Duration) -> bool {
        let dead = |(c, m, since): &(usize, usize, Duration)| {
            *c == client && member::endpoint(*m) == endpoint && *since + PINGS_EVERY <= now
        };
        self.dead_links.iter().any(dead)
    }

    /// How far a member's store is.
    pub(crate) fn applied_revision(&self, endpoint: &str) -> i64 {
        let host = (0..).zip(&self.hosts).find(|(number, _)| member::endpoint(*number) == endpoint);
        let node = host.and_then(|(_, host)| host.node.upgrade());
        node.map_or(i64::MAX, |node| node.store.view().revision().get())
    }

    pub(crate) fn note(&mut self, at: Duration, what: impl std::fmt::Display) {
        self.trace.push(format!("{:>6} ms  {what}", at.as_millis()));
    }
}

/// Simulated time since the start of the run.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}
