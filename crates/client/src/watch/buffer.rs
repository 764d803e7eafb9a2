//! What waits between a stream and the program that reads a watch: bounded, and the one thing that both
//! sides share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::Revision;
use crate::endpoint::Endpoint;
use crate::error::{Error, ErrorKind};
use crate::watch::item::{Batch, Interruption, WatchItem};

/// Shared by the watch, which takes out, and its lane, which puts in.
#[derive(Clone, Debug)]
pub(crate) struct Buffer(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    queue: VecDeque<Entry>,
    /// Of the batches in the queue.
    bytes: usize,
    limit: usize,
    /// Of the notices in the queue.
    notices: usize,
    wants: Wants,
    stage: Stage,
    /// The lane has cancelled the watcher and waits until half of the buffer is taken.
    paused: bool,
    /// The watch is gone: nobody will take anything.
    abandoned: bool,
    /// Everything up to here has been taken.
    position: Option<Revision>,
    waker: Option<Waker>,
}

/// Which items the watch yields beside events.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wants {
    pub(crate) progress: bool,
    pub(crate) notices: bool,
}

#[derive(Debug)]
enum Stage {
    /// The server has not confirmed the watcher yet.
    Starting,
    Running,
    Ended,
}

#[derive(Debug)]
enum Entry {
    Batch(Batch, usize),
    Progress(Revision),
    Notice(WatchItem),
    End(Option<Error>),
}

/// Notices that nobody takes are worth no more memory than this.
const NOTICES: usize = 16;

/// What [`Buffer::poll_next`] found.
pub(crate) struct Taken {
    pub(crate) item: Option<Result<WatchItem, Error>>,
    /// There is room again for a lane that waited for it: it has to be told.
    pub(crate) drained: bool,
}

impl Buffer {
    pub(crate) fn new(limit: usize, wants: Wants) -> Buffer {
        Buffer(Arc::new(Mutex::new(Inner {
            queue: VecDeque::new(),
            bytes: 0,
            limit,
            notices: 0,
            wants,
            stage: Stage::Starting,
            paused: false,
            abandoned: false,
            position: None,
            waker: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The lane's side.

    /// Whether so many bytes more fit. What is larger than the buffer fits into an empty one: a revision
    /// cannot be divided.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let inner = self.lock();
        inner.bytes == 0 || inner.bytes + bytes <= inner.limit
    }

    pub(crate) fn push(&self, batch: Batch, bytes: usize) {
        let mut inner = self.lock();
        if !inner.abandoned {
            inner.bytes += bytes;
        }
        inner.put(Entry::Batch(batch, bytes));
    }

    /// Everything up to `revision` is in the queue, or was.
    pub(crate) fn progress(&self, revision: Revision) {
        let mut inner = self.lock();
        // The newest note says all that an older one said.
        if let Some(Entry::Progress(last)) = inner.queue.back_mut() {
            *last = revision;
        } else {
            inner.put(Entry::Progress(revision));
        }
    }

    /// Where a watch begins: before anything is taken, this is its position.
    pub(crate) fn begins_after(&self, revision: Revision) {
        self.lock().position.get_or_insert(revision);
    }

    pub(crate) fn created(&self) {
        let mut inner = self.lock();
        if matches!(inner.stage, Stage::Starting) {
            inner.stage = Stage::Running;
            inner.wake();
        }
    }

    pub(crate) fn interrupted(&self, why: Interruption) {
        self.lock().notice(WatchItem::Interrupted(why));
    }

    pub(crate) fn resumed(&self, endpoint: Endpoint, gap: Duration) {
        self.lock().notice(WatchItem::Resumed { endpoint, gap });
    }

    /// The last item: an error, or the end that the program asked for.
    pub(crate) fn end(&self, error: Option<Error>) {
        let mut inner = self.lock();
        if !matches!(inner.stage, Stage::Ended) {
            inner.stage = Stage::Ended;
            inner.put(Entry::End(error));
        }
    }

    /// Asks to be told when half of it has been taken. False if that is so already.
    pub(crate) fn pause(&self) -> bool {
        let mut inner = self.lock();
        inner.paused = inner.bytes > inner.limit / 2;
        inner.paused
    }

    /// Somebody still waits for what comes.
    pub(crate) fn is_wanted(&self) -> bool {
        let inner = self.lock();
        !inner.abandoned && !matches!(inner.stage, Stage::Ended)
    }

    // The watch's side.

    pub(crate) fn abandon(&self) {
        let mut inner = self.lock();
        inner.abandoned = true;
        inner.queue.clear();
        inner.bytes = 0;
    }

    pub(crate) fn position(&self) -> Option<Revision> {
        self.lock().position
    }

    /// Ready once the server has confirmed the watcher, or it has ended before that.
    pub(crate) fn poll_created(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut inner = self.lock();
        match inner.stage {
            Stage::Running => return Poll::Ready(Ok(())),
            Stage::Ended => {
                let error = inner.queue.iter().find_map(|entry| match entry {
                    Entry::End(error) => Some(error.clone()),
                    _ => None,
                });
                return Poll::Ready(Err(error.flatten().unwrap_or_else(|| Error::new(ErrorKind::Closed))));
            }
            Stage::Starting => {}
        }
        inner.listen(cx);
        Poll::Pending
    }

    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Taken> {
        let mut inner = self.lock();
        let item = loop {
            let Some(entry) = inner.queue.pop_front() else {
                inner.listen(cx);
                return Poll::Pending;
            };
            match entry {
                Entry::Batch(batch, bytes) => {
                    inner.bytes -= bytes;
                    inner.position = inner.position.max(Some(batch.revision()));
                    break Some(Ok(WatchItem::Events(batch)));
                }
                Entry::Progress(revision) => {
                    inner.position = inner.position.max(Some(revision));
                    if inner.wants.progress {
                        break Some(Ok(WatchItem::Progress(revision)));
                    }
                }
                Entry::Notice(notice) => {
                    inner.notices -= 1;
                    break Some(Ok(notice));
                }
                Entry::End(error) => break error.map(Err),
            }
        };
        let drained = inner.paused && inner.bytes <= inner.limit / 2;
        if drained {
            inner.paused = false;
        }
        Poll::Ready(Taken { item, drained })
    }
}

impl Inner {
    fn put(&mut self, entry: Entry) {
        if !self.abandoned {
            self.queue.push_back(entry);
            self.wake();
        }
    }

    fn notice(&mut self, notice: WatchItem) {
        if self.wants.notices && self.notices < NOTICES && !self.abandoned {
            self.notices += 1;
            self.put(Entry::Notice(notice));
        }
    }

    fn listen(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(revision: i64) -> Batch {
        Batch::new(Vec::new(), Revision::new(revision).unwrap())
    }

    fn take(buffer: &Buffer) -> Option<Taken> {
        match buffer.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(taken) => Some(taken),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_full_buffer_says_so_and_asks_for_more_at_half() {
        let buffer = Buffer::new(100, Wants::default());
        assert!(buffer.has_room(500), "a revision that is larger than an empty buffer has to go through");
        for revision in 1..=5 {
            assert!(buffer.has_room(20));
            buffer.push(batch(revision), 20);
        }
        assert!(!buffer.has_room(1));
        assert!(buffer.pause());
        let drained: Vec<_> = (0..5).map(|_| take(&buffer).unwrap().drained).collect();
        assert_eq!(drained, [false, false, true, false, false]);
        assert!(!buffer.pause(), "there is room, nobody would ask");
        assert!(take(&buffer).is_none());
    }

    #[test]
    fn notes_move_the_position_and_only_the_newest_is_kept() {
        let buffer = Buffer::new(100, Wants { progress: true, notices: false });
        buffer.begins_after(Revision::new(3).unwrap());
        assert_eq!(buffer.position(), Revision::new(3));
        for revision in 4..9 {
            buffer.progress(Revision::new(revision).unwrap());
        }
        buffer.interrupted(Interruption::SlowConsumer);
        assert!(matches!(take(&buffer).unwrap().item, Some(Ok(WatchItem::Progress(r))) if r.get() == 8));
        assert!(take(&buffer).is_none());
        assert_eq!(buffer.position(), Revision::new(8));
    }

    #[test]
    fn notices_that_nobody_takes_are_bounded() {
        let buffer = Buffer::new(100, Wants { progress: false, notices: true });
        for _ in 0..100 {
            buffer.interrupted(Interruption::SlowConsumer);
        }
        buffer.end(None);
        let items = std::iter::from_fn(|| take(&buffer).and_then(|taken| taken.item)).count();
        assert_eq!(items, NOTICES);
    }

    #[test]
    fn the_end_comes_after_what_was_delivered_and_once() {
        let buffer = Buffer::new(100, Wants::default());
        buffer.created();
        buffer.push(batch(1), 1);
        buffer.end(Some(Error::new(ErrorKind::Cancelled)));
        buffer.end(Some(Error::new(ErrorKind::Closed)));
        assert!(matches!(take(&buffer).unwrap().item, Some(Ok(WatchItem::Events(_)))));
        assert!(matches!(take(&buffer).unwrap().item, Some(Err(e)) if *e.kind() == ErrorKind::Cancelled));
        assert!(take(&buffer).is_none());
    }

    #[test]
    fn a_watcher_that_never_began_tells_why() {
        let buffer = Buffer::new(100, Wants::default());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(buffer.poll_created(&mut cx).is_pending());
        buffer.end(Some(Error::new(ErrorKind::PermissionDenied)));
        let Poll::Ready(Err(error)) = buffer.poll_created(&mut cx) else { panic!("not ready") };
        assert_eq!(*error.kind(), ErrorKind::PermissionDenied);
    }
}
