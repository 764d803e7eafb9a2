//! One watch stream to one server: its answers, notes and every watcher's events, apart.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use stentor_proto::etcdserverpb::watch_request::RequestUnion;
use stentor_proto::etcdserverpb::{WatchCancelRequest, WatchCreateRequest, WatchProgressRequest};
use stentor_proto::etcdserverpb::{WatchRequest, WatchResponse};
use stentor_proto::mvccpb::Event;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::client::Client;

/// How long an answer or an event may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// etcd stays silent on a progress request while a watcher catches up, so it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A requested progress note (watch id -1), and how many events each watcher had received before it.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Note {
    pub revision: i64,
    pub seen: HashMap<i64, usize>,
}

/// A response on a watch stream that answers a request, or ends a watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct WatchAnswer {
    pub watch_id: i64,
    /// Whether cluster, member and term were filled in.
    pub named: bool,
    pub revision: i64,
    pub created: bool,
    pub canceled: bool,
    pub compact_revision: i64,
    pub cancel_reason: String,
}

/// A watch stream.
pub struct Stream {
    requests: mpsc::Sender<WatchRequest>,
    responses: mpsc::UnboundedReceiver<Result<WatchResponse, Status>>,
    answers: VecDeque<WatchAnswer>,
    live: HashMap<i64, Vec<Event>>,
    /// Cancelled by compaction, and not by us since.
    compacted: HashSet<i64>,
    /// Cancelled by compaction and then by us: etcd answers that once more, silence is as good.
    twice: HashSet<i64>,
    notes: Vec<Note>,
    /// The revision of the last requested note.
    requested: i64,
    fragment_of: Option<i64>,
    violations: Vec<String>,
}

impl Stream {
    /// Opens a stream.
    pub fn open(client: &Client) -> Stream {
        let (requests, to_send) = mpsc::channel(1024);
        let (received, responses) = mpsc::unbounded_channel();
        let mut client = client.watch.clone();
        // In a task of its own: etcd sends no headers before its first answer.
        tokio::spawn(async move {
            let mut stream = match client.watch(ReceiverStream::new(to_send)).await {
                Ok(answer) => answer.into_inner(),
                Err(status) => return drop(received.send(Err(status))),
            };
            while let Some(response) = stream.message().await.transpose() {
                let ended = response.is_err();
                if received.send(response).is_err() || ended {
                    return;
                }
            }
        });
        Stream {
            requests,
            responses,
            answers: VecDeque::new(),
            live: HashMap::new(),
            compacted: HashSet::new(),
            twice: HashSet::new(),
            notes: Vec::new(),
            requested: 0,
            fragment_of: None,
            violations: Vec::new(),
        }
    }

    /// Sends a create.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn create(&self, create: WatchCreateRequest) -> Result<()> {
        self.send(Some(RequestUnion::CreateRequest(create))).await
    }

    /// Sends a cancel.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn cancel(&mut self, watch_id: i64) -> Result<()> {
        if self.compacted.remove(&watch_id) {
            self.twice.insert(watch_id);
        }
        self.send(Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }))).await
    }

    /// Sends a progress request.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn progress(&self) -> Result<()> {
        self.send(Some(RequestUnion::ProgressRequest(WatchProgressRequest {}))).await
    }

    /// Sends a request in which nothing is set.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn nothing(&self) -> Result<()> {
        self.send(None).await
    }

    async fn send(&self, request_union: Option<RequestUnion>) -> Result<()> {
        self.requests.send(WatchRequest { request_union }).await.map_err(|_| anyhow!("the watch stream has ended"))
    }

    /// The next answer to a create or cancel.
    ///
    /// # Errors
    /// When none comes in time, or the stream ends.
    pub async fn answer(&mut self) -> Result<WatchAnswer> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Ok(answer);
            }
            self.receive(deadline).await.context("waiting for the answer to a create or cancel")?;
        }
    }

    /// Waits until a watcher has so many events of a revision, or one of a later revision, or the deadline
    /// passes.
    ///
    /// # Errors
    /// When the stream ends.
    pub async fn await_events(&mut self, watch_id: i64, revision: i64, count: usize) -> Result<()> {
        let has_come = |events: &Vec<Event>| {
            let newest = events.iter().rev().take_while(|event| revision_of(event) == revision).count();
            last_revision(events) > revision || newest >= count
        };
        let deadline = Instant::now() + PATIENCE;
        while self.live.get(&watch_id).is_some_and(|events| !has_come(events)) {
            if Instant::now() >= deadline {
                return Ok(());
            }
            self.receive_until(deadline).await?;
        }
        Ok(())
    }

    /// Waits until a watcher has an event of this revision or a later one.
    ///
    /// # Errors
    /// When none comes in time, or the stream ends.
    pub async fn await_revision(&mut self, watch_id: i64, revision: i64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.live.get(&watch_id).is_some_and(|events| last_revision(events) < revision) {
            self.receive(deadline).await.with_context(|| format!("waiting for an event of revision {revision}"))?;
        }
        Ok(())
    }

    /// Waits for an event of this revision or a later one, or for the watcher's cancel, which it returns.
    ///
    /// # Errors
    /// When neither comes in time, or the stream ends.
    pub async fn await_revision_or_cancel(&mut self, watch_id: i64, revision: i64) -> Result<Option<WatchAnswer>> {
        let deadline = Instant::now() + PATIENCE;
        while last_revision(self.events(watch_id)) < revision {
            if let Some(answer) = self.answers.pop_front() {
                return Ok(Some(answer));
            }
            self.receive(deadline).await.with_context(|| format!("waiting for an event of revision {revision}"))?;
        }
        Ok(None)
    }

    /// Takes in everything until the stream ends, however it does.
    pub async fn until_it_ends(&mut self) {
        while let Some(Ok(response)) = self.responses.recv().await {
            self.take(response);
        }
    }

    /// Asks for progress until a note of this revision or a later one comes that was not there before.
    ///
    /// # Errors
    /// When none comes in time, or the stream ends.
    pub async fn await_note(&mut self, revision: i64) -> Result<()> {
        self.requested = 0;
        let deadline = Instant::now() + PATIENCE;
        while self.requested < revision {
            if Instant::now() >= deadline {
                bail!("no progress note at revision {revision} within {PATIENCE:?}");
            }
            self.progress().await?;
            let ask_again = Instant::now() + ASK_AGAIN;
            while self.requested < revision && self.receive_until(ask_again).await? {}
        }
        Ok(())
    }

    /// Takes in one response; false when none came before the deadline.
    async fn receive_until(&mut self, deadline: Instant) -> Result<bool> {
        let Ok(response) = timeout_at(deadline, self.responses.recv()).await else { return Ok(false) };
        match response {
            Some(Ok(response)) => self.take(response),
            Some(Err(status)) => bail!("the watch stream ended: {status}"),
            None => bail!("the watch stream ended without an error"),
        }
        Ok(true)
    }

    async fn receive(&mut self, deadline: Instant) -> Result<()> {
        if self.receive_until(deadline).await? { Ok(()) } else { bail!("nothing came within {PATIENCE:?}") }
    }

    /// Takes in what has arrived, without waiting.
    pub fn drain(&mut self) {
        while let Ok(Ok(response)) = self.responses.try_recv() {
            self.take(response);
        }
    }

    fn take(&mut self, response: WatchResponse) {
        let id = response.watch_id;
        if let Some(open) = self.fragment_of
            && (open != id || response.events.is_empty())
        {
            self.violations.push(format!("a response of watcher {id} between two fragments of watcher {open}"));
        }
        if response.created || response.canceled {
            self.take_answer(&response);
        } else if response.events.is_empty() {
            self.take_note(&response);
        } else {
            self.take_events(response);
        }
    }

    fn take_answer(&mut self, response: &WatchResponse) {
        let id = response.watch_id;
        if response.canceled && !response.created && !self.live.contains_key(&id) && self.twice.remove(&id) {
            return;
        }
        if response.created && !response.canceled {
            self.live.insert(id, Vec::new());
        } else if response.canceled && !response.created {
            self.live.remove(&id);
            if response.compact_revision > 0 {
                self.compacted.insert(id);
            }
        }
        let header = response.header.unwrap_or_default();
        self.answers.push_back(WatchAnswer {
            watch_id: id,
            named: header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0,
            revision: header.revision,
            created: response.created,
            canceled: response.canceled,
            compact_revision: response.compact_revision,
            cancel_reason: response.cancel_reason.clone(),
        });
    }

    fn take_note(&mut self, response: &WatchResponse) {
        // A watcher's own note promises the same, for itself.
        let watchers = self.live.iter().filter(|(id, _)| response.watch_id == -1 || response.watch_id == **id);
        let seen = watchers.map(|(id, events)| (*id, events.len())).collect();
        let revision = response.header.unwrap_or_default().revision;
        self.notes.push(Note { revision, seen });
        if response.watch_id == -1 {
            self.requested = revision;
        }
    }

    fn take_events(&mut self, mut response: WatchResponse) {
        let id = response.watch_id;
        let continued = self.fragment_of == Some(id);
        self.fragment_of = response.fragment.then_some(id);
        let Some(events) = self.live.get_mut(&id) else {
            self.violations.push(format!("events for watcher {id}, which is not live"));
            return;
        };
        let first = response.events.first().map_or(0, revision_of);
        let before = last_revision(events);
        if first < before || first == before && !continued {
            self.violations.push(format!("watcher {id}: a response begins at revision {first}, after {before}"));
        }
        events.append(&mut response.events);
        let header = response.header.unwrap_or_default().revision;
        if header < last_revision(events) {
            self.violations.push(format!("watcher {id}: header revision {header} below its events'"));
        }
    }

    /// The ids of the live watchers.
    pub fn live(&self) -> Vec<i64> {
        self.live.keys().copied().collect()
    }

    /// Whether a watcher has been created and not cancelled.
    pub fn is_live(&self, watch_id: i64) -> bool {
        self.live.contains_key(&watch_id)
    }

    /// Cancels what compaction has cancelled: until then etcd answers no progress request and counts
    /// the ids as in use.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn forget_compacted(&mut self) -> Result<()> {
        for id in self.compacted.iter().copied().collect::<Vec<_>>() {
            self.cancel(id).await?;
        }
        Ok(())
    }

    /// The events that a live watcher has received.
    pub fn events(&self, watch_id: i64) -> &[Event] {
        self.live.get(&watch_id).map_or(&[], Vec::as_slice)
    }

    /// The progress notes since this was last asked.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// What was wrong with the stream itself.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }
}

/// The revision of an event.
pub fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |pair| pair.mod_revision)
}

fn last_revision(events: &[Event]) -> i64 {
    events.last().map_or(0, revision_of)
}
