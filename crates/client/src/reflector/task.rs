//! Keeps a copy: reads the list, watches from there, and begins anew when the history is gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::builder::ReflectBuilder;
use super::entry::{Decode, Pair, Slot};
use super::relist::Relist;
use super::shared::Shared;
use super::status;
use super::store::Op;
use crate::backoff::Pauses;
use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;
use crate::{Batch, Client, Event, EventKind, Interruption, KeyRange, KeyValue, Revision, Watch, WatchItem};

/// A copy that has been in sync for so long is healthy: its next trouble is a new one.
const HEALTHY: Duration = Duration::from_secs(30);

/// How often the server is asked how far it has delivered while somebody waits: at first, and at last.
const FIRST_QUESTION: Duration = Duration::from_millis(10);
const LAST_QUESTION: Duration = Duration::from_secs(1);

pub(super) struct Task<V: Pair> {
    client: Client,
    range: KeyRange,
    page_entries: Option<usize>,
    decode: Arc<Decode<V>>,
    pauses: Pauses,
    random: Random,
    shared: Arc<Shared<V>>,
}

impl<V: Pair> Task<V> {
    pub(super) fn new(options: ReflectBuilder<V>, shared: Arc<Shared<V>>) -> Task<V> {
        let random = options.client.core().fork_random();
        let ReflectBuilder { client, range, page_entries, decode, backoff, .. } = options;
        Task { client, range, page_entries, decode, pauses: backoff.start(), random, shared }
    }

    pub(super) async fn run(mut self) {
        // The copy can be carried on by a watch.
        let mut carries_on = false;
        loop {
            let error = if carries_on {
                self.follow().await
            } else {
                match self.list().await {
                    Ok(()) => {
                        carries_on = true;
                        continue;
                    }
                    Err(error) => error,
                }
            };
            if status::is_final(&error) {
                return self.shared.end(error);
            }
            carries_on &= !status::needs_list(&error);
            let pause = self.pauses.after_failure(&mut self.random);
            tracing::debug!(range = ?self.range, %error, ?pause, list = !carries_on, "a copy is out of sync");
            self.shared.out_of_sync(Some(error));
            sleep(pause).await;
        }
    }

    /// Brings the copy to the revision of a new list.
    async fn list(&self) -> Result<()> {
        let mut list = self.client.list(self.range.clone());
        if let Some(entries) = self.page_entries {
            list = list.page_entries(entries);
        }
        let mut pages = list.pages();
        let mut relist = Relist::new();
        while let Some(page) = pages.next().await {
            // No await while the store is locked, and no decoding, which is the program's.
            let differs = relist.page(&self.shared.read(), page?);
            let differs = differs.map_err(|error| Error::with(ErrorKind::Protocol, error.to_string()))?;
            relist.put(differs.iter().map(|pair| self.decode(pair)));
        }
        if pages.revision() == Revision::ZERO {
            return Err(Error::with(ErrorKind::InvalidArgument, "no key can be in this range"));
        }
        self.shared.write().relist(relist, pages.revision());
        self.shared.publish(status::State::listed);
        Ok(())
    }

    /// Carries the copy on, until that is not possible any more.
    async fn follow(&mut self) -> Error {
        let revision = self.shared.read().revision();
        let watch = self.client.watch(self.range.clone()).after(revision).progress().notices();
        let mut watch = match watch.await {
            Ok(watch) => watch,
            Err(error) => return error,
        };
        self.shared.in_sync();
        let since = Instant::now();
        let error = self.follow_by(&mut watch).await;
        if since.elapsed() >= HEALTHY {
            self.pauses.reset();
        }
        error
    }

    async fn follow_by(&self, watch: &mut Watch) -> Error {
        let control = watch.control();
        let mut questions = Questions::default();
        loop {
            tokio::select! {
                item = watch.next() => match item {
                    Some(Ok(item)) => self.take(item),
                    Some(Err(error)) => return error,
                    None => return Error::new(ErrorKind::Closed),
                },
                () = self.shared.demand.raised.notified() => questions.hurry(),
                () = questions.due() => control.request_progress(),
            }
            questions.keep_up(self.shared.demand.is_beyond(self.shared.read().revision()));
        }
    }

    fn take(&self, item: WatchItem) {
        match item {
            WatchItem::Events(batch) => self.apply(&batch),
            WatchItem::Progress(revision) => self.shared.write().progress(revision),
            WatchItem::Interrupted(Interruption::Broken(error)) => return self.shared.out_of_sync(Some(error)),
            WatchItem::Interrupted(Interruption::SlowConsumer | Interruption::Moved) => {
                return self.shared.out_of_sync(None);
            }
            WatchItem::Resumed { .. } => {}
        }
        self.shared.in_sync();
    }

    fn apply(&self, batch: &Batch) {
        for (revision, events) in batch.revisions() {
            let ops = events.iter().filter_map(|event| self.op(event)).collect();
            self.shared.write().apply(revision, ops);
        }
    }

    fn op(&self, event: &Event) -> Option<Op<V>> {
        match event.kind() {
            EventKind::Put => Some(Op::Put(self.decode(event.kv()))),
            EventKind::Delete => Some(Op::Delete(event.kv().key().clone())),
            EventKind::Unknown => None,
        }
    }

    fn decode(&self, pair: &KeyValue) -> Slot<V> {
        let slot = (self.decode)(pair.detached());
        if let Slot::Bad(bad) = &slot {
            let (key, revision) = (bad.pair().key(), bad.pair().mod_revision());
            tracing::warn!(?key, %revision, reason = %bad.reason(), "a value cannot be decoded");
        }
        slot
    }
}

/// When to ask the server how far it has delivered. It may not answer: again and again, then, but ever
/// more rarely.
#[derive(Default)]
struct Questions {
    due: Option<Instant>,
    pause: Duration,
}

impl Questions {
    /// Somebody has begun to wait. All that begin within a short time are served by one question.
    fn hurry(&mut self) {
        let soon = Instant::now() + FIRST_QUESTION;
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        self.pause = FIRST_QUESTION;
    }

    async fn due(&mut self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
        self.pause = (self.pause * 2).clamp(FIRST_QUESTION, LAST_QUESTION);
        self.due = Some(Instant::now() + self.pause);
    }

    fn keep_up(&mut self, somebody_waits: bool) {
        if !somebody_waits {
            self.due = None;
        } else if self.due.is_none() {
            self.hurry();
        }
    }
}

/// Whatever ends the task, the end of its runtime included, is not to leave anybody waiting.
impl<V: Pair> Drop for Task<V> {
    fn drop(&mut self) {
        self.shared.end(Error::new(ErrorKind::Closed));
    }
}
