//! What a stream is told by the thread that writes: at which revisions to look, and to wake up.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use stentor_proto::Revision;

use crate::sync::Mutex;

/// So many revisions are kept one by one; a stream that has not looked at them by then looks at
/// everything after them.
const MAX_REVISIONS: usize = 64;

/// Revisions that can concern a stream, until it takes them. Bounded.
#[derive(Default)]
pub(crate) struct Inbox(Mutex<State>);

#[derive(Default)]
struct State {
    /// Each with the time of its commit, milliseconds since 1970.
    revisions: VecDeque<(Revision, u64)>,
    /// From here on every revision may concern it.
    all_from: Option<(Revision, u64)>,
    /// The newest one it was told of.
    last: Revision,
    /// Something else than an event is to be looked at.
    look: bool,
    waker: Option<Waker>,
}

impl State {
    fn first(&self) -> Option<(Revision, u64)> {
        match (self.revisions.front().copied(), self.all_from) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// What a stream took out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Ascending.
    pub(crate) revisions: Vec<Revision>,
    /// Beside those, every revision from here on.
    pub(crate) all_from: Option<Revision>,
}

impl Inbox {
    /// A change at `revision`, committed then, can concern the stream. The wake comes later, by [`Inbox::wake`], when the
    /// stream can see the revision.
    pub(crate) fn tell(&self, revision: Revision, unix_ms: u64) {
        let mut state = self.0.lock();
        if state.last == revision {
            return;
        }
        state.last = revision;
        if state.all_from.is_some() {
            return;
        }
        if state.revisions.len() < MAX_REVISIONS {
            state.revisions.push_back((revision, unix_ms));
        } else {
            state.all_from = Some((revision, unix_ms));
        }
    }

    /// Every change from `revision` to `newest` can concern the stream: nobody has looked at them.
    pub(crate) fn tell_all(&self, revision: Revision, newest: Revision, unix_ms: u64) {
        let mut state = self.0.lock();
        state.all_from = Some(state.all_from.map_or((revision, unix_ms), |from| from.min((revision, unix_ms))));
        state.last = newest;
        state.look = true;
    }

    /// There is something else to see.
    pub(crate) fn look(&self) {
        self.0.lock().look = true;
    }

    /// Wakes the stream if it sleeps.
    pub(crate) fn wake(&self) {
        let waker = self.0.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The first revision, up to `tip`, that can concern the stream.
    pub(crate) fn first(&self, tip: Revision) -> Option<Revision> {
        self.first_since(tip).map(|(first, _)| first)
    }

    /// The same, and when it was committed, milliseconds since 1970.
    pub(crate) fn first_since(&self, tip: Revision) -> Option<(Revision, u64)> {
        self.0.lock().first().filter(|(first, _)| *first <= tip)
    }

    /// What [`Inbox::take`] would take.
    pub(crate) fn peek(&self, to: Revision) -> Told {
        let state = self.0.lock();
        let revisions = state.revisions.iter().map(|(revision, _)| *revision).filter(|r| *r <= to).collect();
        Told { revisions, all_from: state.all_from.map(|(from, _)| from).filter(|from| *from <= to) }
    }

    /// Takes what it was told up to `to`.
    pub(crate) fn take(&self, to: Revision) -> Told {
        let mut state = self.0.lock();
        let mut told = Told::default();
        while let Some((revision, _)) = state.revisions.front().copied().filter(|(r, _)| *r <= to) {
            state.revisions.pop_front();
            told.revisions.push(revision);
        }
        if let Some((from, unix_ms)) = state.all_from.filter(|(from, _)| *from <= to) {
            told.all_from = Some(from);
            // Nothing beyond was noted one by one; is there anything?
            state.all_from = (state.last > to).then(|| (to.next(), unix_ms));
        }
        told
    }

    /// Ready when there is something to see for a stream at `tip`, which is asked for under the lock: a
    /// change of it is either seen here, or followed by a wake.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, tip: impl FnOnce() -> Revision) -> Poll<()> {
        let mut state = self.0.lock();
        let due = std::mem::take(&mut state.look) || state.first().is_some_and(|(first, _)| first <= tip());
        if due {
            return Poll::Ready(());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(revision: i64) -> Revision {
        Revision::new(revision).unwrap()
    }

    #[test]
    fn it_keeps_some_one_by_one_and_then_all() {
        let inbox = Inbox::default();
        assert_eq!(inbox.first(at(1000)), None);
        for n in 1..=100 {
            inbox.tell(at(2 * n), 7 * n as u64);
            inbox.tell(at(2 * n), 7 * n as u64);
        }
        assert_eq!(inbox.first(at(1)), None);
        assert_eq!(inbox.first_since(at(2)), Some((at(2), 7)));
        assert_eq!(inbox.peek(at(7)), Told { revisions: vec![at(2), at(4), at(6)], all_from: None });
        let told = inbox.take(at(7));
        assert_eq!((told.revisions, told.all_from), (vec![at(2), at(4), at(6)], None));
        let told = inbox.take(at(140));
        assert_eq!((told.revisions.len(), told.all_from), (61, Some(at(130))));
        // What came after is not known one by one.
        assert_eq!(inbox.first(at(1000)), Some(at(141)));
        assert_eq!(inbox.take(at(300)), Told { revisions: vec![], all_from: Some(at(141)) });
        assert_eq!(inbox.first(at(1000)), None);
        inbox.tell(at(302), 0);
        assert_eq!(inbox.take(at(302)), Told { revisions: vec![at(302)], all_from: None });
    }

    #[test]
    fn it_is_ready_once_the_revision_can_be_seen() {
        let inbox = Inbox::default();
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(inbox.poll(cx, || at(5)).is_pending());
        inbox.tell(at(6), 0);
        assert!(inbox.poll(cx, || at(5)).is_pending());
        assert!(inbox.poll(cx, || at(6)).is_ready());
        inbox.take(at(6));
        inbox.look();
        assert!(inbox.poll(cx, || at(6)).is_ready());
        assert!(inbox.poll(cx, || at(6)).is_pending());
    }
}
