//! A server, two proxies in front of it as the endpoints of a client, and a connection past them.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use stentor_client::{Client, Error, Event, EventKind, KeyRange, Prev, Revision, Watch, WatchItem};
use stentor_interop::client::Client as Direct;
use stentor_interop::peers::{ETCDS, SERVER, required};
use stentor_interop::process::Server;
use stentor_interop::proxy::Proxy;
use stentor_interop::stream::{PATIENCE, Stream};
use stentor_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, WatchCreateRequest};
use stentor_proto::mvccpb;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The servers to test with: those there are.
pub(crate) const SERVERS: [&str; 4] = [SERVER, ETCDS[0], ETCDS[1], ETCDS[2]];

pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) proxies: [Proxy; 2],
    pub(crate) client: Client,
    pub(crate) direct: Direct,
}

/// `None`, and a line that says so, without the server.
pub(crate) async fn start(variable: &str, test: &str) -> Result<Option<Rig>> {
    let Some(binary) = required(variable, test) else { return Ok(None) };
    Rig::start(&binary).await.map(Some)
}

impl Rig {
    async fn start(binary: &Path) -> Result<Rig> {
        let server = Server::start(binary, &[])?;
        let proxies = [Proxy::start(&server.endpoint()).await?, Proxy::start(&server.endpoint()).await?];
        let client =
            Client::builder(proxies.iter().map(Proxy::endpoint)).call_timeout(PATIENCE).seed(1).connect().await?;
        let direct = Direct::connect(&server.endpoint()).await?;
        Ok(Rig { server, proxies, client, direct })
    }

    pub(crate) async fn put(&mut self, key: &str, value: &str) -> Result<i64> {
        let request =
            PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() };
        let answer = self.direct.kv.put(request).await?.into_inner();
        Ok(answer.header.context("no header")?.revision)
    }

    pub(crate) async fn delete(&mut self, key: &str) -> Result<i64> {
        let request = DeleteRangeRequest { key: key.to_owned().into(), ..DeleteRangeRequest::default() };
        let answer = self.direct.kv.delete_range(request).await?.into_inner();
        Ok(answer.header.context("no header")?.revision)
    }

    /// kill -9, and a start on the same data.
    pub(crate) async fn kill_and_restart(&mut self) -> Result<()> {
        self.server.restart()?;
        self.direct = Direct::connect(&self.server.endpoint()).await?;
        Ok(())
    }

    /// All events up to a revision, from a stream of its own past the client and the proxies.
    pub(crate) async fn history(&self, last: i64) -> Result<Vec<Seen>> {
        let mut stream = Stream::open(&self.direct);
        let range = WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            start_revision: 1,
            prev_kv: true,
            ..WatchCreateRequest::default()
        };
        stream.create(range).await?;
        let created = stream.answer().await?;
        ensure!(created.created, "{created:?}");
        stream.await_revision(created.watch_id, last).await?;
        stream.events(created.watch_id).iter().map(Seen::of_the_store).collect()
    }
}

/// A watch that is read by a task of its own.
pub(crate) struct Follower {
    range: KeyRange,
    after: i64,
    progress: watch::Receiver<Progress>,
    events: Arc<Mutex<Vec<Event>>>,
    reading: JoinHandle<Option<Error>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) revision: i64,
    pub(crate) resumes: u64,
    pub(crate) ended: bool,
}

impl Follower {
    /// Reads a watch that was asked for with `notices` and `progress`, and begins after a revision.
    pub(crate) fn new(mut watch: Watch, after: i64) -> Follower {
        let events = Arc::new(Mutex::new(Vec::new()));
        let (report, progress) = watch::channel(Progress::default());
        let (range, seen) = (watch.range().clone(), events.clone());
        let reading = tokio::spawn(async move {
            let mut error = None;
            while let Some(item) = watch.next().await {
                match item {
                    Ok(WatchItem::Events(batch)) => {
                        let revision = batch.revision().get();
                        lock(&seen).extend(batch);
                        report.send_modify(|progress| progress.revision = revision);
                    }
                    Ok(WatchItem::Progress(revision)) => {
                        report.send_modify(|progress| progress.revision = revision.get());
                    }
                    Ok(WatchItem::Resumed { .. }) => report.send_modify(|progress| progress.resumes += 1),
                    Ok(_) => {}
                    Err(end) => error = Some(end),
                }
            }
            report.send_modify(|progress| progress.ended = true);
            error
        });
        Follower { range, after, progress, events, reading }
    }

    /// Waits for something to become true of it.
    pub(crate) async fn until(&mut self, what: &str, met: impl Fn(&Progress) -> bool) -> Result<Progress> {
        let waited = tokio::time::timeout(PATIENCE, self.progress.wait_for(|p| met(p) || p.ended)).await.is_ok();
        let now = *self.progress.borrow();
        match waited {
            true if met(&now) => Ok(now),
            _ => bail!("{what}: {:?} is at {now:?}", self.range),
        }
    }

    /// The error that it ends with.
    pub(crate) async fn end(&mut self) -> Result<Error> {
        let ended = within("the end", &mut self.reading).await??;
        ended.context("it ended without an error")
    }

    pub(crate) fn resumes(&self) -> u64 {
        self.progress.borrow().resumes
    }

    /// Waits until it has all of `history` that is its own.
    pub(crate) async fn until_it_has(&mut self, history: &[Seen]) -> Result<()> {
        let last = self.due(history).last().map_or(0, |event| event.revision);
        self.until("events", |progress| progress.revision >= last).await.map(|_| ())
    }

    fn due<'a>(&'a self, history: &'a [Seen]) -> impl DoubleEndedIterator<Item = &'a Seen> {
        history.iter().filter(|event| event.revision > self.after && self.range.contains(&event.pair.0))
    }

    /// Compares what came with what happened: the same events in the same order, each with the pair before it.
    pub(crate) fn check(&self, history: &[Seen]) -> Result<usize> {
        let due: Vec<_> = self.due(history).collect();
        let came: Vec<_> = lock(&self.events).iter().map(Seen::of_the_client).collect();
        let revisions: BTreeSet<_> = came.iter().map(|seen| seen.revision).collect();
        ensure!(came.iter().eq(due.iter().copied()), "{:?}: {came:#?} came instead of {due:#?}", self.range);
        Ok(revisions.len())
    }
}

/// What is compared of an event.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    revision: i64,
    delete: bool,
    pair: (Vec<u8>, Vec<u8>),
    version: u64,
    prev: Option<Vec<u8>>,
}

impl Seen {
    fn of_the_store(event: &mvccpb::Event) -> Result<Seen> {
        let kv = event.kv.as_ref().context("an event without a pair")?;
        Ok(Seen {
            revision: kv.mod_revision,
            delete: event.r#type == mvccpb::event::EventType::Delete as i32,
            pair: (kv.key.to_vec(), kv.value.to_vec()),
            version: kv.version.cast_unsigned(),
            prev: event.prev_kv.as_ref().map(|prev| prev.value.to_vec()),
        })
    }

    fn of_the_client(event: &Event) -> Seen {
        Seen {
            revision: event.revision().get(),
            delete: event.kind() == EventKind::Delete,
            pair: (event.kv().key().to_vec(), event.kv().value().to_vec()),
            version: event.kv().version(),
            prev: match event.prev() {
                Prev::Value(prev) => Some(prev.value().to_vec()),
                _ => None,
            },
        }
    }
}

/// What was pushed is whole, whoever panicked.
fn lock(events: &Mutex<Vec<Event>>) -> MutexGuard<'_, Vec<Event>> {
    events.lock().unwrap_or_else(PoisonError::into_inner)
}

/// With the patience that a busy machine needs.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, future).await.with_context(|| format!("{what} has not come in time"))
}

/// Until a condition is met that nobody tells of.
pub(crate) async fn until(what: &str, mut met: impl FnMut() -> bool) -> Result<()> {
    let polling = async {
        while !met() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(what, polling).await
}

pub(crate) fn at(revision: i64) -> Revision {
    Revision::new(revision).unwrap_or_default()
}
