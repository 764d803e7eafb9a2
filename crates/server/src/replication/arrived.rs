//! A store that another member has sent, until it is in use.

use std::sync::Arc;

use stentor_mvcc::engine::Engine;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A store that has come from another member.
pub(crate) struct Arrived {
    pub(crate) engine: Arc<dyn Engine>,
    /// Its place on disk, where no other store is received until it is in use or refused, whatever becomes of
    /// who has received it.
    place: Option<OwnedSemaphorePermit>,
    /// Told then.
    done: Option<oneshot::Sender<()>>,
    /// The log may have been reset to it, even if that has failed: unless it is settled, it stays for the next start.
    is_offered: bool,
}

impl Arrived {
    pub(crate) fn new(engine: Arc<dyn Engine>, place: OwnedSemaphorePermit, done: oneshot::Sender<()>) -> Arrived {
        Arrived { engine, place: Some(place), done: Some(done), is_offered: false }
    }

    /// The replica is about to be handed its message.
    pub(super) fn offered(mut self) -> Arrived {
        self.is_offered = true;
        self
    }

    /// It is in use, or refused.
    pub(super) fn settle(mut self) {
        self.place = None;
        if let Some(done) = self.done.take() {
            // Whoever has received it may be gone.
            let _ = done.send(());
        }
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        if let Some(place) = self.place.take().filter(|_| self.is_offered) {
            place.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
    use tokio::sync::Semaphore;

    use super::*;

    fn arrived(places: &Arc<Semaphore>) -> (Arrived, oneshot::Receiver<()>) {
        let engine = Arc::new(MemoryEngine::open(&Disk::new()).unwrap());
        let (done, is_done) = oneshot::channel();
        (Arrived::new(engine, places.clone().try_acquire_owned().unwrap(), done), is_done)
    }

    #[test]
    fn what_the_log_may_have_been_reset_to_keeps_its_place_until_it_is_settled() {
        let places = Arc::new(Semaphore::new(1));
        drop(arrived(&places));
        let (settled, mut is_done) = arrived(&places);
        settled.offered().settle();
        assert_eq!(is_done.try_recv(), Ok(()));
        let (lost, mut is_done) = arrived(&places);
        drop(lost.offered());
        assert_eq!(is_done.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(places.available_permits(), 0, "another store would take the place of this one");
    }
}
