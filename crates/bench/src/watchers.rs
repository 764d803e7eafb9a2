//! Watch streams: many of them on one thread, each answer scanned as it comes and then forgotten.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use h2::SendStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::connection::{self, Connection, Windows};
use crate::histogram::Histogram;
use crate::scan::{Frames, Malformed, Response};
use crate::{clock, wire};

/// Creates are sent in pieces of this many bytes.
const PIECE: usize = 60_000;
/// How often a count that is waited for is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Nothing that is waited for may stand still for longer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a set of streams has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Watchers that the server has confirmed.
    pub created: u64,
    /// Events.
    pub events: u64,
    /// Responses with events.
    pub responses: u64,
    /// Bytes, HTTP/2's own aside.
    pub bytes: u64,
    /// Events whose revision was not above the last one of their watcher, or at most a revision that a
    /// progress note had promised.
    pub disordered: u64,
    /// Events that carried the pair before them.
    pub with_prev: u64,
    /// From the start of the put to the arrival of each event, in nanoseconds.
    pub latency: Histogram,
    /// The revision of each event and when it came, where that was asked for.
    pub arrivals: Vec<(i64, u64)>,
    /// From each progress request to the note that answers it, in nanoseconds.
    pub progress: Histogram,
    /// When the last event came ([`clock::now`]).
    pub last_event: u64,
    /// Watchers that the server ended, and streams that broke: none are expected.
    pub failures: Vec<String>,
}

/// What all streams of a set write to.
#[derive(Default)]
struct Shared {
    seen: RefCell<Seen>,
    /// Measure the time that events took: they carry it.
    timed: Cell<bool>,
    /// Keep when each event came.
    recorded: Cell<bool>,
    /// Something was read, or went wrong.
    changed: Notify,
    /// Read no more than so many events a second on each stream.
    pace: Cell<Option<f64>>,
}

/// Watch streams whose answers are counted together. Dropping it closes them.
#[derive(Default)]
pub struct Streams {
    shared: Rc<Shared>,
    streams: Vec<Stream>,
    connections: Vec<Connection>,
    next: usize,
}

struct Stream {
    sender: SendStream<Bytes>,
    state: Rc<State>,
    reader: JoinHandle<()>,
}

/// What one stream knows of itself.
#[derive(Default)]
struct State {
    /// The last revision that each watcher has seen, by its id.
    watchers: RefCell<Vec<i64>>,
    /// When the progress requests were sent that have no answer yet.
    asked: RefCell<Vec<u64>>,
    paused: Cell<bool>,
    resumed: Notify,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
        self.sender.send_reset(h2::Reason::CANCEL);
    }
}

impl Streams {
    /// No stream yet, on so many connections. Must be called within a `LocalSet`.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn connect(address: SocketAddr, connections: usize, windows: Windows) -> Result<Streams> {
        Streams::connect_all(&[address], connections, windows).await
    }

    /// The same, to several addresses in turn.
    ///
    /// # Errors
    /// When a server cannot be reached.
    pub async fn connect_all(addresses: &[SocketAddr], connections: usize, windows: Windows) -> Result<Streams> {
        let mut streams = Streams::default();
        for address in addresses.iter().cycle().take(connections.max(1)) {
            streams.connections.push(Connection::open(*address, windows).await?);
        }
        Ok(streams)
    }

    /// Opens streams, on the connections in turn, without a watcher.
    ///
    /// # Errors
    /// When a connection is broken.
    pub async fn open(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let index = self.next % self.connections.len().max(1);
            self.next += 1;
            let connection = self.connections.get(index).context("no connection")?;
            let (response, sender) = connection.method("etcdserverpb.Watch/Watch")?.open().await?;
            let state = Rc::new(State::default());
            let (shared, its_state) = (Rc::clone(&self.shared), Rc::clone(&state));
            let reader = tokio::task::spawn_local(async move {
                if let Err(error) = read(response, &shared, &its_state).await {
                    shared.seen.borrow_mut().failures.push(format!("{error:#}"));
                    shared.changed.notify_waiters();
                }
            });
            self.streams.push(Stream { sender, state, reader });
        }
        Ok(())
    }

    /// How many streams are open.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Closes all but the first streams.
    pub fn truncate(&mut self, streams: usize) {
        self.streams.truncate(streams);
    }

    /// Creates watchers, an equal share of them on each stream, and waits until they are confirmed.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn create(&mut self, count: usize, watch: impl FnMut(u64) -> wire::Watch) -> Result<()> {
        let want = self.seen(|seen| seen.created) + count as u64;
        self.request(count, watch).await?;
        self.wait("watchers created", want, |seen| seen.created).await
    }

    /// Asks for watchers without waiting for them.
    ///
    /// # Errors
    /// When a stream is broken.
    pub async fn request(&mut self, count: usize, mut watch: impl FnMut(u64) -> wire::Watch) -> Result<()> {
        let streams = self.streams.len();
        ensure!(streams > 0, "no stream to create watchers on");
        let mut number = 0;
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let share = count / streams + usize::from(index < count % streams);
            let mut bytes = BytesMut::new();
            for _ in 0..share {
                watch(number).append_to(&mut bytes);
                number += 1;
                if bytes.len() > PIECE {
                    connection::send(&mut stream.sender, bytes.split().freeze()).await?;
                }
            }
            connection::send(&mut stream.sender, bytes.freeze()).await?;
        }
        Ok(())
    }

    /// Sends a progress request on a stream.
    ///
    /// # Errors
    /// When the stream is broken.
    pub fn ask_progress(&mut self, stream: usize) -> Result<()> {
        let stream = self.streams.get_mut(stream).context("no such stream")?;
        stream.state.asked.borrow_mut().push(clock::now());
        stream.sender.send_data(wire::progress(), false)?;
        Ok(())
    }

    /// How many progress requests have no answer.
    pub fn unanswered(&self) -> u64 {
        self.streams.iter().map(|stream| stream.state.asked.borrow().len() as u64).sum()
    }

    /// Stops reading every stream, or reads on.
    pub fn pause(&self, paused: bool) {
        for stream in &self.streams {
            stream.state.paused.set(paused);
            stream.state.resumed.notify_one();
        }
    }

    /// Makes each stream read only so many events a second: what it does not read, the server has to keep.
    pub fn pace(&self, events_per_second: f64) {
        self.shared.pace.set(Some(events_per_second));
    }

    /// Whether to measure how long events took; from now on.
    pub fn time_events(&self, timed: bool) {
        self.shared.timed.set(timed);
        let mut seen = self.shared.seen.borrow_mut();
        seen.latency.clear();
        seen.progress.clear();
    }

    /// Whether to keep when each event came; from now on.
    pub fn record_arrivals(&self, recorded: bool) {
        self.shared.recorded.set(recorded);
        self.shared.seen.borrow_mut().arrivals.clear();
    }

    /// A method on the first connection.
    ///
    /// # Errors
    /// When there is none.
    pub fn call(&self, method: &str) -> Result<connection::Call> {
        self.connections.first().context("no connection")?.method(method)
    }

    /// Counts events from nothing again.
    pub fn forget_events(&self) {
        self.shared.seen.borrow_mut().events = 0;
    }

    /// Looks at what was seen.
    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.shared.seen.borrow())
    }

    /// Waits until a count reaches `want`.
    ///
    /// # Errors
    /// When the server ends a watcher or a stream, or nothing moves for a minute.
    pub async fn wait(&self, what: &str, want: u64, count: impl Fn(&Seen) -> u64) -> Result<()> {
        let mut last = 0;
        let mut since = clock::now();
        loop {
            let now = self.seen(&count);
            if let Some(failure) = self.seen(|seen| seen.failures.first().cloned()) {
                bail!("{failure} (at {now} of {want} {what})");
            }
            if now >= want {
                return Ok(());
            }
            if now > last {
                (last, since) = (now, clock::now());
            } else if clock::now() - since > u64::try_from(PATIENCE.as_nanos())? {
                bail!("only {now} of {want} {what} came, and none for {PATIENCE:?}");
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

impl Streams {
    /// Waits as [`Streams::wait`] does, but looks whenever something came instead of every millisecond: for
    /// many sets of streams, each of which gets little.
    ///
    /// # Errors
    /// As of [`Streams::wait`].
    pub async fn wait_each(&self, what: &str, want: u64, count: impl Fn(&Seen) -> u64) -> Result<()> {
        loop {
            let changed = self.shared.changed.notified();
            let now = self.seen(&count);
            if let Some(failure) = self.seen(|seen| seen.failures.first().cloned()) {
                bail!("{failure} (at {now} of {want} {what})");
            }
            if now >= want {
                return Ok(());
            }
            let came = tokio::time::timeout(PATIENCE, changed).await;
            came.with_context(|| format!("only {now} of {want} {what} came, and nothing for {PATIENCE:?}"))?;
        }
    }
}

/// Reads one stream to its end.
async fn read(response: h2::client::ResponseFuture, shared: &Shared, state: &State) -> Result<()> {
    let mut body = connection::accept(response).await?;
    let mut frames = Frames::default();
    let (start, mut events) = (clock::now(), 0);
    loop {
        while state.paused.get() {
            state.resumed.notified().await;
        }
        if let Some(pace) = shared.pace.get() {
            while events as f64 > (clock::now() - start) as f64 / 1e9 * pace {
                sleep(LOOK_AGAIN).await;
            }
        }
        let Some(bytes) = body.data().await else { break };
        let bytes = bytes?;
        body.flow_control().release_capacity(bytes.len())?;
        let now = clock::now();
        let mut seen = shared.seen.borrow_mut();
        seen.bytes += bytes.len() as u64;
        let (timed, recorded) = (shared.timed.get(), shared.recorded.get());
        let mut reader = Reader { state, seen: &mut seen, now, timed, recorded };
        let before = reader.seen.events;
        frames.push(&bytes, |message| reader.response(message))?;
        events += seen.events - before;
        shared.changed.notify_waiters();
    }
    match body.trailers().await? {
        Some(trailers) => connection::check(&trailers)?,
        None => bail!("a watch stream ended without a status"),
    }
    bail!("a watch stream ended")
}

/// One chunk's worth of reading.
struct Reader<'a> {
    state: &'a State,
    seen: &'a mut Seen,
    now: u64,
    timed: bool,
    recorded: bool,
}

impl Reader<'_> {
    fn response(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let response = Response::read(message)?;
        if response.has_events() {
            return self.events(&response);
        }
        if response.canceled {
            let reason = String::from_utf8_lossy(response.cancel_reason);
            let (id, compacted) = (response.watch_id, response.compact_revision);
            self.seen.failures.push(format!("watcher {id} was cancelled: {reason}; compact_revision {compacted}"));
        } else if response.created {
            self.created(&response);
        } else {
            self.note(&response);
        }
        Ok(())
    }

    fn created(&mut self, response: &Response<'_>) {
        let mut watchers = self.state.watchers.borrow_mut();
        if usize::try_from(response.watch_id) == Ok(watchers.len()) {
            watchers.push(0);
            self.seen.created += 1;
        } else {
            let (got, want) = (response.watch_id, watchers.len());
            self.seen.failures.push(format!("a new watcher has id {got}, not {want}"));
        }
    }

    fn events(&mut self, response: &Response<'_>) -> Result<(), Malformed> {
        let mut watchers = self.state.watchers.borrow_mut();
        let watcher = usize::try_from(response.watch_id).ok().and_then(|id| watchers.get_mut(id));
        let Some(last) = watcher else {
            self.seen.failures.push(format!("events of watcher {}, which there is not", response.watch_id));
            return Ok(());
        };
        self.seen.responses += 1;
        self.seen.last_event = self.now;
        for event in response.events() {
            let event = event?;
            self.seen.events += 1;
            self.seen.with_prev += u64::from(event.has_prev);
            // No workload puts twice in one revision.
            self.seen.disordered += u64::from(event.mod_revision <= *last);
            *last = event.mod_revision;
            if self.timed {
                self.seen.latency.record(self.now.saturating_sub(event.stamp));
            }
            if self.recorded {
                self.seen.arrivals.push((event.mod_revision, self.now));
            }
        }
        Ok(())
    }

    /// A progress note: what it promises holds for later events, and it answers what was asked.
    fn note(&mut self, response: &Response<'_>) {
        if response.watch_id == -1 {
            for asked in self.state.asked.borrow_mut().drain(..) {
                self.seen.progress.record(self.now.saturating_sub(asked));
            }
        }
        for (id, last) in self.state.watchers.borrow_mut().iter_mut().enumerate() {
            if response.watch_id == -1 || usize::try_from(response.watch_id) == Ok(id) {
                *last = (*last).max(response.revision);
            }
        }
    }
}

#[cfg(test)]
mod tests;
