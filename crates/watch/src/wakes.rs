//! Hands the waking of streams from the thread that writes to a task.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

use crate::filter::StreamId;
use crate::sync::{AtomicBool, Mutex};

/// So few streams are woken directly: one wake of the task would cost as much.
const FEW: usize = 2;

/// Streams to be woken.
#[derive(Default)]
pub(crate) struct Wakes {
    is_served: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Some may stand in it more than once; emptied each time the task runs.
    told: Vec<StreamId>,
    waker: Option<Waker>,
}

impl Wakes {
    /// These are to be woken, when [`Wakes::release`] says so.
    pub(crate) fn add(&self, told: Vec<StreamId>) {
        if !told.is_empty() {
            self.state.lock().told.extend(told);
        }
    }

    /// Wakes the task, which wakes the streams; or gives them to the caller, if there is none, or they are few.
    pub(crate) fn release(&self) -> Vec<StreamId> {
        let mut state = self.state.lock();
        if state.told.len() <= FEW || !self.is_served.load(Ordering::SeqCst) {
            return std::mem::take(&mut state.told);
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Vec::new()
    }

    /// From now on there is a task.
    pub(crate) fn begin(&self) {
        self.is_served.store(true, Ordering::SeqCst);
    }

    /// There is no task any more. Those whom it has not woken.
    pub(crate) fn end(&self) -> Vec<StreamId> {
        let mut state = self.state.lock();
        self.is_served.store(false, Ordering::SeqCst);
        std::mem::take(&mut state.told)
    }

    /// Those to be woken next.
    pub(crate) async fn next(&self) -> Vec<StreamId> {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            if state.told.is_empty() {
                state.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let mut told = std::mem::take(&mut state.told);
            drop(state);
            told.sort_unstable();
            told.dedup();
            Poll::Ready(told)
        })
        .await
    }
}
