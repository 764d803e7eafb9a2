//! The task that drives all lanes of a client, and what it hands out.
//!
//! It owns everything it starts: the tasks that open and read streams, that read the store and that fetch
//! tokens end with it. It ends when the client and its last watch are gone, and then every watch that is
//! left ends as closed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use stentor_proto::etcdserverpb::{RangeRequest, StatusRequest, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::call::{Core, Effect, stub};
use crate::endpoint::{Class, Connection, Route};
use crate::error::{Error, ErrorKind, Result};
use crate::fault::{Fault, Verdict};
use crate::key_value::revision;
use crate::observe::{ClientEvent, Counter};
use crate::random::Random;
use crate::watch::balance::Balance;
use crate::watch::resume::{Action, Counters, Lane, LaneOptions, ServerVersion, Watcher, WatcherId};
use crate::watch::stream::{self, Opened};
use crate::{Revision, runtime};

/// Watchers on one stream, at most: they share what a server gives a stream, and its silence.
const WATCHERS_PER_LANE: usize = 256;

/// How often a member that does not answer is asked for its version.
const VERSION_TRIES: usize = 3;

/// What the tasks have found and the hub has not looked at yet. A stream whose responses find no room here
/// is read no further until they do.
const REPORTS: usize = 64;

/// Where a watch sends what it wants.
#[derive(Clone, Debug)]
pub(crate) struct HubHandle {
    commands: mpsc::UnboundedSender<Command>,
    ids: Arc<AtomicU64>,
}

/// A handle that does not keep the hub alive.
#[derive(Clone, Debug)]
pub(crate) struct WeakHubHandle(mpsc::WeakUnboundedSender<Command>);

/// From the program's side.
#[derive(Debug)]
enum Command {
    Add(WatcherId, Box<Watcher>),
    Remove(WatcherId),
    Drained(WatcherId),
    RequestProgress(WatcherId),
    Close,
}

/// From a task of a lane.
pub(crate) enum Report {
    Opened(Opened),
    Response(WatchResponse),
    Broke(Fault),
    Version(Option<ServerVersion>),
    Read { number: u64, found: Result<(Revision, u64)> },
}

type LaneId = u64;

/// A lane and what it needs from the outside.
struct Berth {
    lane: Lane,
    /// The stream, opening or open.
    stream: Option<StreamTask>,
    /// Streams asked for so far: reports of older ones are late.
    epoch: u64,
    /// Where the next stream should go: not where the last one broke.
    route: Route,
    /// When its watchers were interrupted, until they are served again.
    interrupted: Option<Instant>,
    /// What of the lane's counters has been told.
    told: Counters,
    /// Of the open stream, the number of its token.
    token: Option<u64>,
    /// A token that was refused for the whole stream.
    refused: Option<u64>,
    /// One refusal for the whole stream is enough, until a watcher is created.
    refreshed: bool,
}

struct StreamTask {
    requests: mpsc::UnboundedSender<WatchRequest>,
    task: AbortHandle,
    connection: Option<Connection>,
}

struct Hub {
    core: Arc<Core>,
    options: LaneOptions,
    random: Random,
    commands: mpsc::UnboundedReceiver<Command>,
    reports: mpsc::Receiver<(LaneId, u64, Report)>,
    reporter: mpsc::Sender<(LaneId, u64, Report)>,
    /// Watchers that wait for a fresh token come back from here.
    refreshed: JoinSet<(WatcherId, Box<Watcher>, Result<u64>)>,
    lanes: HashMap<LaneId, Berth>,
    lanes_made: LaneId,
    homes: HashMap<WatcherId, LaneId>,
    newest_token: u64,
    tasks: JoinSet<()>,
    /// Changes of which endpoints are usable.
    endpoints: tokio::sync::watch::Receiver<u64>,
    balance: Option<Balance>,
}

impl HubHandle {
    /// Starts the hub on the runtime of the caller, which has to be in one.
    pub(crate) fn start(core: Arc<Core>) -> Result<HubHandle> {
        let runtime = runtime::current()?;
        let (commands, received) = mpsc::unbounded_channel();
        let (reporter, reports) = mpsc::channel(REPORTS);
        let options = LaneOptions {
            backoff: core.backoff,
            progress: Default::default(),
            has_credentials: core.auth.has_credentials(),
        };
        let endpoints = core.pool.changes();
        let balance = core.rebalance.map(|interval| Balance::new(interval, core.pool.health().usable()));
        let hub = Hub {
            endpoints,
            balance,
            random: core.fork_random(),
            core,
            options,
            commands: received,
            reports,
            reporter,
            refreshed: JoinSet::new(),
            lanes: HashMap::new(),
            lanes_made: 0,
            homes: HashMap::new(),
            newest_token: 0,
            tasks: JoinSet::new(),
        };
        runtime.spawn(hub.run());
        Ok(HubHandle { commands, ids: Arc::default() })
    }

    /// Hands a watcher over. It ends as closed if the hub is gone.
    pub(crate) fn add(&self, watcher: Watcher) -> WatcherId {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let buffer = watcher.buffer.clone();
        if self.commands.send(Command::Add(id, Box::new(watcher))).is_err() {
            buffer.end(Some(Error::new(ErrorKind::Closed)));
        }
        id
    }

    // A hub that is gone has ended every watcher: there is nothing left to tell it.

    pub(crate) fn remove(&self, id: WatcherId) {
        self.commands.send(Command::Remove(id)).ok();
    }

    pub(crate) fn drained(&self, id: WatcherId) {
        self.commands.send(Command::Drained(id)).ok();
    }

    pub(crate) fn close(&self) {
        self.commands.send(Command::Close).ok();
    }

    pub(crate) fn downgrade(&self) -> WeakHubHandle {
        WeakHubHandle(self.commands.downgrade())
    }
}

impl WeakHubHandle {
    pub(crate) fn remove(&self, id: WatcherId) {
        self.send(Command::Remove(id));
    }

    pub(crate) fn request_progress(&self, id: WatcherId) {
        self.send(Command::RequestProgress(id));
    }

    fn send(&self, command: Command) {
        if let Some(commands) = self.0.upgrade() {
            commands.send(command).ok();
        }
    }
}

impl Hub {
    async fn run(mut self) {
        loop {
            let balance = self.balance.as_ref().and_then(Balance::wake_at);
            let wake_at = self.lanes.values().filter_map(|berth| berth.lane.wake_at()).chain(balance).min();
            let wake = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // In a fixed order, for simulations; responses, of which there is no end, come last.
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Close) | None => return,
                    Some(command) => self.obey(command),
                },
                Some(Ok((id, watcher, token))) = self.refreshed.join_next() => self.return_to_lane(id, watcher, token),
                () = wake => self.tick(),
                Ok(()) = self.endpoints.changed() => self.endpoints_changed(),
                Some((lane, epoch, report)) = self.reports.recv() => self.note(lane, epoch, report),
            }
            while self.tasks.try_join_next().is_some() {}
        }
    }

    fn obey(&mut self, command: Command) {
        let id = match command {
            Command::Add(id, watcher) => return self.place(id, *watcher),
            Command::Close => return,
            Command::Remove(id) | Command::Drained(id) | Command::RequestProgress(id) => id,
        };
        let Some(&home) = self.homes.get(&id) else { return };
        if matches!(command, Command::Remove(_)) {
            self.homes.remove(&id);
            self.core.traffic.now().watchers = self.homes.len();
        }
        let Some(berth) = self.lanes.get_mut(&home) else { return };
        match command {
            Command::Remove(id) => berth.lane.remove(id),
            Command::Drained(id) => berth.lane.drained(id, Instant::now()),
            _ => berth.lane.request_progress(Instant::now()),
        }
        self.act(home);
    }

    /// Puts a watcher on a lane with room whose stream carries the newest token, or on a new one.
    fn place(&mut self, id: WatcherId, watcher: Watcher) {
        if !watcher.buffer.is_wanted() {
            return;
        }
        let fits = |berth: &Berth| {
            berth.lane.len() < WATCHERS_PER_LANE && berth.token.is_none_or(|token| token >= self.newest_token)
        };
        // The oldest of them, so that others can become empty.
        let home = self.lanes.iter().filter(|(_, berth)| fits(berth)).map(|(id, _)| *id).min();
        let home = home.unwrap_or_else(|| {
            self.lanes_made += 1;
            let lane = Lane::new(self.options, self.random.fork());
            self.lanes.insert(self.lanes_made, Berth::new(lane));
            self.lanes_made
        });
        self.homes.insert(id, home);
        self.core.traffic.now().watchers = self.homes.len();
        if let Some(berth) = self.lanes.get_mut(&home) {
            berth.lane.add(id, watcher, Instant::now());
            self.act(home);
        }
    }

    /// A watcher that waited for a token.
    fn return_to_lane(&mut self, id: WatcherId, watcher: Box<Watcher>, token: Result<u64>) {
        match token {
            Ok(number) => {
                self.newest_token = self.newest_token.max(number);
                self.place(id, *watcher);
            }
            Err(error) => watcher.buffer.end(Some(error)),
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let due = self.lanes.iter().filter(|(_, berth)| berth.lane.wake_at().is_some_and(|at| at <= now));
        let mut due: Vec<_> = due.map(|(id, _)| *id).collect();
        due.sort_unstable();
        for id in due {
            if let Some(berth) = self.lanes.get_mut(&id) {
                berth.lane.tick(now);
                self.act(id);
            }
        }
        self.rebalance(now);
    }

    /// Some came, went, or are well again.
    fn endpoints_changed(&mut self) {
        let gone = |berth: &Berth| berth.endpoint().is_some_and(|index| !self.core.pool.has(index));
        let mut stranded: Vec<_> = self.lanes.iter().filter(|(_, berth)| gone(berth)).map(|(id, _)| *id).collect();
        stranded.sort_unstable();
        for id in stranded {
            self.move_stream(id, None, "the endpoint is not one of the client's any more");
        }
        if let Some(balance) = &mut self.balance {
            balance.noticed(self.core.pool.health().usable(), Instant::now(), &mut self.random);
        }
    }

    fn rebalance(&mut self, now: Instant) {
        let Some(balance) = self.balance.as_mut().filter(|balance| balance.is_due(now)) else { return };
        let mut streams: Vec<_> = self.lanes.iter().filter_map(|(id, berth)| Some((*id, berth.endpoint()?))).collect();
        streams.sort_unstable();
        let usable: Vec<_> = self.core.pool.health().usable().map(|(index, _)| index).collect();
        if let Some((id, to)) = balance.next_move(&usable, &streams, now, &mut self.random) {
            self.move_stream(id, Some(to), "moved to an endpoint that is used less");
        }
    }

    /// Has a lane take another stream, though its own is well.
    fn move_stream(&mut self, id: LaneId, to: Option<usize>, why: &str) {
        let Some(berth) = self.lanes.get_mut(&id) else { return };
        let from = berth.endpoint();
        if berth.lane.leave(Instant::now()) {
            berth.route = Route { prefer: to, avoid: from };
            tracing::debug!(why, watchers = berth.lane.len(), "watch stream moves");
            berth.tell_interrupted(&self.core, &Error::with(ErrorKind::Unavailable, why));
            self.act(id);
        }
    }

    /// Tells how many streams there are, and where they go.
    fn count_streams(&self) {
        let mut streams = std::collections::BTreeMap::new();
        for index in self.lanes.values().filter_map(Berth::endpoint) {
            *streams.entry(index).or_default() += 1;
        }
        self.core.traffic.now().streams = streams;
    }

    /// Takes a report of a lane's task.
    fn note(&mut self, id: LaneId, epoch: u64, report: Report) {
        let Some(berth) = self.lanes.get_mut(&id) else { return };
        let now = Instant::now();
        // A read is known by its number, and outlives a stream.
        let late = berth.epoch != epoch || berth.stream.is_none();
        match report {
            Report::Read { number, found: Ok((current, cluster)) } => {
                berth.lane.read_done(number, current, cluster, now);
            }
            Report::Read { number, found: Err(error) } => berth.lane.read_failed(number, &error, now),
            _ if late => return,
            Report::Opened(opened) => {
                self.newest_token = self.newest_token.max(opened.token);
                let stranded = !self.core.pool.has(opened.connection.index);
                berth.opened(opened, now);
                self.ask_version(id, epoch);
                self.count_streams();
                if stranded {
                    self.endpoints_changed();
                }
            }
            Report::Version(version) => {
                berth.lane.version(version);
                let connection = berth.stream.as_ref().and_then(|stream| stream.connection.as_ref());
                if let (Some(version), Some(connection)) = (version, connection) {
                    self.core.observer.warn_of(version, &connection.endpoint);
                }
            }
            Report::Response(response) => berth.received(&self.core, response, now),
            Report::Broke(fault) => {
                berth.broke(&self.core, &fault, now);
                self.count_streams();
            }
        }
        self.act(id);
    }

    /// Does what a lane wants done, and lets it go when nobody needs it.
    fn act(&mut self, id: LaneId) {
        while let Some(berth) = self.lanes.get_mut(&id) {
            let Some(action) = berth.lane.next_action() else { break };
            match action {
                Action::Open => self.open(id),
                Action::Close => {
                    berth.close();
                    self.count_streams();
                }
                Action::Send(request) => {
                    if let Some(stream) = &berth.stream {
                        // A stream that has ended is about to say so.
                        stream.requests.send(request).ok();
                    }
                }
                Action::Read { number, key } => self.read(id, number, key),
                Action::Refused(watcher_id, watcher, error) => {
                    tracing::debug!(%error, "watcher refused; trying again with a fresh token");
                    let token = berth.token;
                    self.homes.remove(&watcher_id);
                    self.refresh(watcher_id, watcher, token);
                }
            }
        }
        if let Some(berth) = self.lanes.get_mut(&id) {
            berth.tell(&self.core);
        }
        if self.lanes.get(&id).is_some_and(|berth| berth.lane.is_empty()) {
            self.lanes.remove(&id);
        }
    }

    fn open(&mut self, id: LaneId) {
        let Some(berth) = self.lanes.get_mut(&id) else { return };
        berth.epoch += 1;
        let epoch = berth.epoch;
        let (requests, queue) = mpsc::unbounded_channel();
        let (core, reporter) = (self.core.clone(), self.reporter.clone());
        let (route, refused) = (berth.route, berth.refused.take());
        berth.route.prefer = None;
        let task = self.tasks.spawn(async move {
            let fault = stream::follow(&core, route, refused, queue, |report| reporter.send((id, epoch, report))).await;
            if let Err(fault) = fault {
                reporter.send((id, epoch, Report::Broke(fault))).await.ok();
            }
        });
        berth.stream = Some(StreamTask { requests, task, connection: None });
    }

    /// What version the member has to which the stream goes.
    fn ask_version(&mut self, id: LaneId, epoch: u64) {
        let connection = self.lanes.get(&id).and_then(|berth| berth.stream.as_ref()?.connection.clone());
        let Some(connection) = connection else { return };
        let (reporter, patience) = (self.reporter.clone(), self.core.pool.try_timeout());
        self.tasks.spawn(async move {
            let mut stub = stub!(MaintenanceClient<_>, connection.channel);
            let mut status = None;
            for _ in 0..VERSION_TRIES {
                if let Ok(answer) = tokio::time::timeout(patience, stub.status(StatusRequest {})).await {
                    status = answer.ok();
                    break;
                }
            }
            let version = status.and_then(|status| ServerVersion::parse(&status.into_inner().version));
            reporter.send((id, epoch, Report::Version(version))).await.ok();
        });
    }

    fn read(&mut self, id: LaneId, number: u64, key: Bytes) {
        let (core, reporter) = (self.core.clone(), self.reporter.clone());
        self.tasks.spawn(async move {
            let found = where_is_the_store(&core, key).await;
            reporter.send((id, 0, Report::Read { number, found })).await.ok();
        });
    }

    fn refresh(&mut self, id: WatcherId, watcher: Box<Watcher>, refused: Option<u64>) {
        let core = self.core.clone();
        self.refreshed.spawn(async move {
            let token = core.auth.token(&core.pool, refused).await;
            let token = token.map(|token| token.number).map_err(|fault| Error::from_fault(&fault, false));
            (id, watcher, token)
        });
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        *self.core.traffic.now() = Default::default();
        let closed = Error::new(ErrorKind::Closed);
        for berth in self.lanes.values_mut() {
            berth.lane.end_all(&closed);
        }
        // Handed over, but not taken in.
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Add(_, watcher) = command {
                watcher.buffer.end(Some(closed.clone()));
            }
        }
    }
}

impl Berth {
    fn new(lane: Lane) -> Berth {
        Berth {
            lane,
            stream: None,
            epoch: 0,
            route: Route::default(),
            interrupted: None,
            told: Counters::default(),
            token: None,
            refused: None,
            refreshed: false,
        }
    }

    /// Where the stream goes, if it is open.
    fn endpoint(&self) -> Option<usize> {
        Some(self.stream.as_ref()?.connection.as_ref()?.index)
    }

    /// Tells that the watchers wait for another stream.
    fn tell_interrupted(&mut self, core: &Core, reason: &Error) {
        if self.interrupted.is_none() && !self.lane.is_empty() {
            self.interrupted = Some(Instant::now());
            let (endpoint, watchers, reason) = (reason.endpoint().cloned(), self.lane.len(), reason.clone());
            core.observer.tell(|| ClientEvent::WatchInterrupted { endpoint, watchers, reason });
        }
    }

    /// Tells what has changed since the last time.
    fn tell(&mut self, core: &Core) {
        let (now, told) = (self.lane.counters, std::mem::replace(&mut self.told, self.lane.counters));
        let counted = [
            (Counter::Resumes, now.resumes - told.resumes),
            (Counter::StaleEvents, now.stale_events - told.stale_events),
            (Counter::Overflows, now.overflows - told.overflows),
            (Counter::Breaks, now.breaks - told.breaks),
            (Counter::TornRevisions, now.torn_revisions - told.torn_revisions),
            (Counter::Notes, now.notes - told.notes),
            (Counter::UntrustedNotes, now.untrusted_notes - told.untrusted_notes),
            (Counter::SilentStreams, now.silent_streams - told.silent_streams),
        ];
        counted.into_iter().filter(|(_, by)| *by > 0).for_each(|(counter, by)| core.observer.count(counter, by));
        if now.breaks > told.breaks {
            self.tell_interrupted(core, &Error::with(ErrorKind::Unavailable, "the stream was given up"));
        }
        let Some(connection) = self.stream.as_ref().and_then(|stream| stream.connection.as_ref()) else { return };
        if let Some(since) = self.interrupted.take_if(|_| self.lane.is_serving() && !self.lane.is_empty()) {
            let (endpoint, watchers, gap) = (connection.endpoint.clone(), self.lane.len(), since.elapsed());
            core.observer.tell(|| ClientEvent::WatchResumed { endpoint, watchers, gap });
        }
    }

    fn opened(&mut self, opened: Opened, now: Instant) {
        let endpoint = opened.connection.endpoint.clone();
        self.token = Some(opened.token);
        if let Some(stream) = &mut self.stream {
            stream.connection = Some(opened.connection);
        }
        self.lane.opened(endpoint, now);
    }

    fn received(&mut self, core: &Core, response: WatchResponse, now: Instant) {
        if response.created && !response.canceled {
            self.refreshed = false;
            if let Some(connection) = self.stream.as_ref().and_then(|stream| stream.connection.as_ref()) {
                core.pool.succeeded(connection);
            }
        }
        // Not the header's: it can be ahead of events that are still to come.
        if let Some(kv) = response.events.last().and_then(|event| event.kv.as_ref()) {
            core.floor.saw(revision(kv.mod_revision));
        }
        self.lane.received(response, now);
    }

    /// The stream ended by itself.
    fn broke(&mut self, core: &Core, fault: &Fault, now: Instant) {
        let connection = self.stream.as_ref().and_then(|stream| stream.connection.clone());
        let mut error = Error::from_fault(fault, false);
        if let Some(connection) = &connection {
            error = error.at(&connection.endpoint);
            self.route.avoid = Some(connection.index);
        }
        self.close();
        match fault.verdict() {
            Verdict::Final => return self.lane.end_all(&error),
            Verdict::NewToken if self.refreshed || !core.auth.has_credentials() => return self.lane.end_all(&error),
            Verdict::NewToken => {
                self.refreshed = true;
                self.refused = self.token;
            }
            Verdict::Elsewhere(Some(trouble)) => {
                if let Some(connection) = &connection {
                    core.pool.failed(connection, trouble);
                }
            }
            Verdict::Elsewhere(None) | Verdict::Later => {}
        }
        tracing::debug!(%error, watchers = self.lane.len(), "watch stream broke");
        self.tell_interrupted(core, &error);
        self.lane.broke(error, now);
    }

    /// Lets the stream go, if there is one.
    fn close(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.task.abort();
        }
    }
}

/// The revision of the store and its cluster, by a linearizable read of a key.
async fn where_is_the_store(core: &Core, key: Bytes) -> Result<(Revision, u64)> {
    let request = RangeRequest { key, count_only: true, ..RangeRequest::default() };
    let call = core.call(Class::Call, Effect::Repeatable, request, |channel, request| async move {
        stub!(KvClient<_>, channel).range(request).await
    });
    let header = call.await?.0.header.unwrap_or_default();
    Ok((revision(header.revision), header.cluster_id))
}
