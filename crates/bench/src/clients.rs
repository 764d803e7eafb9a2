//! Clients that call over and over: on a thread and connections of their own, so that whoever reads events
//! never delays a call.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock;
use crate::connection::{Call, Connection, Refused, Windows};
use crate::histogram::Histogram;
use crate::scan::{Answer, Malformed};
use crate::schedule::{Real, Schedule, Until};
use crate::watchers::PATIENCE;

/// As many clients share a connection where nothing else is said.
pub const PER_CONNECTION: usize = 16;
/// As many calls of an open loop may be under way. Those due beyond that wait, and the wait counts.
const IN_FLIGHT: usize = 65_536;

/// How calls follow each other.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Each client calls as soon as its last call is answered.
    Closed,
    /// So many a second in all, whatever the answers do.
    Open(f64),
}

/// One piece of work.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Its number among all of the load.
    pub number: u64,
    /// The client whose it is.
    pub client: usize,
    /// When it began, or in an open loop was due ([`clock::now`]).
    pub start: u64,
}

/// What clients do.
pub trait Work: Send + Sync {
    /// The method to call: `package.Service/Method`.
    fn method(&self) -> &'static str;

    /// The request, framed.
    fn request(&self, turn: Turn) -> Bytes;

    /// Reads a message of the answer.
    ///
    /// # Errors
    /// [`Malformed`].
    fn read(&self, message: &[u8], answer: &mut Answer) -> Result<(), Malformed> {
        answer.read(message)
    }

    /// Another call that this piece of work needs after what came so far.
    fn more(&self, _turn: Turn, _answer: &Answer) -> Option<Bytes> {
        None
    }

    /// Whether the whole answer is right.
    fn is_right(&self, turn: Turn, answer: &Answer) -> bool;
}

/// Something to do.
#[derive(Clone)]
pub struct Load {
    /// What.
    pub work: Arc<dyn Work>,
    /// How many clients of those that there are.
    pub clients: usize,
    /// How they go on.
    pub pace: Pace,
    /// For how long.
    pub until: Until,
    /// Whether to keep when each revision was acknowledged.
    pub record: bool,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Pieces of work that were answered.
    pub calls: u64,
    /// Of these, those whose answer was not right.
    pub wrong: u64,
    /// Those that the server refused because it was busy.
    pub refused: u64,
    /// Key-value pairs that came.
    pub pairs: u64,
    /// Bytes of answers, HTTP/2's own aside.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// From each start to the end of the answer, in nanoseconds.
    pub latency: Histogram,
    /// How long after it was due each call of an open loop was sent: the generator's part of the latency.
    pub late: Histogram,
    /// The lowest revision in an answer; 0 without any.
    pub first_revision: i64,
    /// The highest.
    pub last_revision: i64,
    /// Revisions and when their answer came, where that was asked for.
    pub acknowledged: Vec<(i64, u64)>,
}

impl Done {
    /// Pieces of work per second.
    pub fn rate(&self) -> f64 {
        self.calls as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The same, if every answer was right and none refused.
    ///
    /// # Errors
    /// Otherwise.
    pub fn all_right(self) -> Result<Done> {
        ensure!(self.wrong == 0, "{} of {} answers were not as expected", self.wrong, self.calls);
        ensure!(self.refused == 0, "{} calls were refused", self.refused);
        Ok(self)
    }
}

type Order = (Load, oneshot::Sender<Result<Done>>);

/// Connected clients, waiting for a [`Load`]. Their thread ends when this is dropped.
pub struct Clients {
    orders: mpsc::UnboundedSender<Order>,
    count: usize,
}

impl Clients {
    /// Connects as many as `count`, to the addresses in turn, on one new thread.
    ///
    /// # Errors
    /// When a server cannot be reached.
    pub async fn connect(addresses: &[SocketAddr], count: usize, per_connection: usize) -> Result<Clients> {
        let count = count.max(1);
        let addresses = addresses.to_vec();
        ensure!(!addresses.is_empty(), "no address to connect to");
        let (orders, incoming) = mpsc::unbounded_channel();
        let (ready, is_ready) = oneshot::channel();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => {
                    let serve = serve(&addresses, count, per_connection.max(1), incoming, ready);
                    tokio::task::LocalSet::new().block_on(&runtime, serve);
                }
                Err(error) => drop(ready.send(Err(error.into()))),
            }
        };
        std::thread::Builder::new().name("clients".into()).spawn(run)?;
        is_ready.await.context("the thread of the clients has ended")??;
        Ok(Clients { orders, count })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Does a load, and returns when everything is answered.
    ///
    /// # Errors
    /// When a call fails, other than for a busy server.
    pub async fn run(&self, load: Load) -> Result<Done> {
        self.start(load).await
    }

    /// Starts a load, whose end can be waited for later.
    pub fn start(&self, load: Load) -> impl Future<Output = Result<Done>> + use<> {
        let (done, is_done) = oneshot::channel();
        // A thread that has ended drops `done`, which whoever waits sees.
        self.orders.send((load, done)).ok();
        async { is_done.await.context("the thread of the clients has ended")? }
    }
}

async fn serve(
    addresses: &[SocketAddr],
    count: usize,
    per_connection: usize,
    mut orders: mpsc::UnboundedReceiver<Order>,
    ready: oneshot::Sender<Result<()>>,
) {
    let connections = match connect(addresses, count.div_ceil(per_connection)).await {
        Ok(connections) => connections,
        Err(error) => return drop(ready.send(Err(error))),
    };
    ready.send(Ok(())).ok();
    while let Some((load, mut done)) = orders.recv().await {
        let load = work(&connections, load);
        // Whoever gives up waiting ends the load.
        tokio::select! {
            result = load => drop(done.send(result)),
            () = done.closed() => {}
        }
    }
}

async fn connect(addresses: &[SocketAddr], count: usize) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for address in addresses.iter().cycle().take(count) {
        connections.push(Connection::open(*address, Windows::LARGE).await?);
    }
    Ok(connections)
}

/// What the clients of one load share.
struct Run {
    load: Load,
    end: Option<Instant>,
    started: Cell<u64>,
    done: RefCell<Done>,
}

async fn work(connections: &[Connection], load: Load) -> Result<Done> {
    let start = Instant::now();
    let end = if let Until::Elapsed(time) = load.until { Some(start + time) } else { None };
    let calls: Vec<Call> =
        connections.iter().map(|connection| connection.method(load.work.method())).collect::<Result<_>>()?;
    let clients = load.clients.max(1);
    let run = Rc::new(Run { load, end, started: Cell::new(0), done: RefCell::default() });
    let mut tasks = JoinSet::new();
    match run.load.pace {
        Pace::Closed => {
            for (client, call) in calls.iter().cycle().take(clients).enumerate() {
                tasks.spawn_local(Rc::clone(&run).closed(call.clone(), client));
            }
        }
        Pace::Open(rate) => {
            tasks.spawn_local(Rc::clone(&run).open(calls, clients, rate));
        }
    }
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = all => ended?,
        stuck = run.watch() => stuck?,
    }
    let mut done = run.done.take();
    done.elapsed = start.elapsed();
    Ok(done)
}

impl Run {
    /// The number of the next call of a closed loop, unless the load is done.
    fn next(&self) -> Option<u64> {
        let number = self.started.get();
        let over = match &self.load.until {
            Until::Count(count) => number >= *count,
            Until::Elapsed(_) => self.end.is_some_and(|end| Instant::now() >= end),
            Until::Told(stop) => stop.load(Ordering::Relaxed),
        };
        if over {
            return None;
        }
        self.started.set(number + 1);
        Some(number)
    }

    async fn closed(self: Rc<Run>, call: Call, client: usize) -> Result<()> {
        while let Some(number) = self.next() {
            self.turn(&call, Turn { number, client, start: clock::now() }).await?;
        }
        Ok(())
    }

    async fn open(self: Rc<Run>, calls: Vec<Call>, clients: usize, rate: f64) -> Result<()> {
        let (send, mut due) = mpsc::unbounded_channel();
        let until = self.load.until.clone();
        let keep = move || Schedule::new(clock::now(), rate).keep(&until, &Real, |n, due| send.send((n, due)).is_ok());
        // Its end is seen by the channel's.
        std::thread::Builder::new().name("schedule".into()).spawn(keep)?;
        let (mut tasks, room) = (JoinSet::new(), std::sync::Arc::new(Semaphore::new(IN_FLIGHT)));
        let mut calls = calls.iter().cycle();
        while let Some((number, start)) = due.recv().await {
            let permit = Arc::clone(&room).acquire_owned().await?;
            let (run, call) = (Rc::clone(&self), calls.next().context("no connection")?.clone());
            let turn = Turn { number, client: number as usize % clients, start };
            tasks.spawn_local(async move {
                let _permit = permit;
                run.done.borrow_mut().late.record(clock::now().saturating_sub(start));
                run.turn(&call, turn).await
            });
            while let Some(ended) = tasks.try_join_next() {
                ended??;
            }
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn turn(&self, call: &Call, turn: Turn) -> Result<()> {
        let (work, mut answer) = (&self.load.work, Answer::default());
        let mut request = Some(work.request(turn));
        while let Some(bytes) = request {
            answer.calls += 1;
            let called = call.exchange(bytes, |message| work.read(message, &mut answer)).await;
            if let Err(error) = called {
                if error.downcast_ref::<Refused>().is_some_and(Refused::is_busy) {
                    self.done.borrow_mut().refused += 1;
                    return Ok(());
                }
                return Err(error.context(work.method()));
            }
            request = work.more(turn, &answer);
        }
        let now = clock::now();
        let mut done = self.done.borrow_mut();
        done.latency.record(now.saturating_sub(turn.start));
        done.calls += 1;
        done.wrong += u64::from(!work.is_right(turn, &answer));
        done.pairs += answer.pairs;
        done.bytes += answer.bytes;
        done.last_revision = done.last_revision.max(answer.revision);
        if done.first_revision == 0 || answer.revision < done.first_revision {
            done.first_revision = answer.revision;
        }
        if self.load.record {
            done.acknowledged.push((answer.revision, now));
        }
        Ok(())
    }

    /// Fails when nothing is answered for a long time.
    async fn watch(&self) -> Result<()> {
        let mut before = None;
        loop {
            tokio::time::sleep(PATIENCE).await;
            let now = {
                let done = self.done.borrow();
                done.calls + done.refused
            };
            if before.replace(now) == Some(now) {
                bail!("{}: nothing was answered for {PATIENCE:?}", self.load.work.method());
            }
        }
    }
}
