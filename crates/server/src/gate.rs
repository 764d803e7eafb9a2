//! Waiting for a place that others hold, in order and never without bound.

use std::sync::Arc;
use std::time::Duration;

use stentor_proto::EtcdError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::environment::Workers;

/// Calls that may wait at one gate; more are refused with "too many requests".
pub(crate) const MAX_WAITING: usize = 1_000;

/// Places for calls, and a queue before them that is bounded in length and in time.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    /// All there are.
    most: usize,
    /// Places of the queue.
    queue: Arc<Semaphore>,
    time_limit: Duration,
}

impl Gate {
    /// So many places, all free; nobody waits for one longer than `time_limit`.
    pub(crate) fn new(places: usize, time_limit: Duration) -> Gate {
        Gate {
            places: Arc::new(Semaphore::new(places)),
            most: places,
            queue: Arc::new(Semaphore::new(MAX_WAITING)),
            time_limit,
        }
    }

    /// Takes so many places, behind those who came before. They are free again when dropped.
    ///
    /// # Errors
    /// `RequestTooManyRequests` when the queue is full, `Timeout` when the wait was too long, `Stopped`.
    pub(crate) async fn enter(&self, places: u32) -> Result<OwnedSemaphorePermit, EtcdError> {
        // While anybody waits there are none to be had so: what becomes free goes to the first of the queue.
        if let Ok(entered) = self.places.clone().try_acquire_many_owned(places) {
            return Ok(entered);
        }
        let _queued = self.queue.try_acquire().map_err(|_| EtcdError::RequestTooManyRequests)?;
        match timeout(self.time_limit, self.places.clone().acquire_many_owned(places)).await {
            Ok(Ok(entered)) => Ok(entered),
            Ok(Err(_)) => Err(EtcdError::Stopped),
            Err(_) => Err(EtcdError::Timeout),
        }
    }

    /// Runs a call that may block at one place, which it holds until it has ended, though its caller be gone.
    ///
    /// # Errors
    /// As [`Gate::enter`].
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        workers: Workers,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EtcdError> {
        let entered = self.enter(1).await?;
        let call = move || {
            let _entered = entered;
            call()
        };
        workers.blocking(call).await.map_err(|_| EtcdError::Stopped)
    }

    /// Places that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.most.saturating_sub(self.places.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::join_all;
    use tokio::time::{Instant, advance};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(7);

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_the_limit() {
        let gate = Gate::new(2, LIMIT);
        let held = gate.enter(2).await.unwrap();
        let begun = Instant::now();
        assert_eq!(gate.enter(1).await.unwrap_err(), EtcdError::Timeout);
        assert_eq!(begun.elapsed(), LIMIT);
        // Who gave up is out of the queue, and holds nothing.
        drop(held);
        assert_eq!((gate.taken(), gate.queue.available_permits()), (0, MAX_WAITING));
        drop(gate.enter(2).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_has_an_end() {
        let gate = Gate::new(1, LIMIT);
        let held = gate.enter(1).await.unwrap();
        let mut waiting = Box::pin(join_all((0..MAX_WAITING).map(|_| gate.enter(1))));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(gate.enter(1).await.unwrap_err(), EtcdError::RequestTooManyRequests);
        advance(LIMIT).await;
        assert!(waiting.await.into_iter().all(|entered| entered.err() == Some(EtcdError::Timeout)));
        drop(held);
        assert!(gate.enter(1).await.is_ok(), "there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_part_is_not_passed_by_small_ones() {
        let gate = Gate::new(4, LIMIT);
        let held = gate.enter(1).await.unwrap();
        let mut large = Box::pin(gate.enter(4));
        assert!(large.as_mut().now_or_never().is_none());
        let mut small = Box::pin(gate.enter(1));
        assert!(small.as_mut().now_or_never().is_none(), "the three that are free are the large one's");
        drop(held);
        let large = large.await.unwrap();
        assert!(small.as_mut().now_or_never().is_none());
        drop(large);
        assert!(small.await.is_ok());
    }

    #[tokio::test]
    async fn a_call_holds_its_place_until_it_has_ended() {
        let gate = Gate::new(1, LIMIT);
        let inside = gate.clone();
        assert_eq!(gate.run(Workers::Threads, move || inside.taken()).await, Ok(1));
        assert_eq!(gate.taken(), 0);
    }
}
