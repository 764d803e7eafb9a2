//! A place for a store that another member sends, on a disk that now and then fails between the reset of the log
//! and the change to the new store: the next start has to make up for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stentor_mvcc::engine::{Engine, EngineError};
use stentor_server::storage::{Disks, Received};

use crate::world::World;

/// The place of one life of a member.
pub(crate) struct Place {
    pub(crate) world: World,
    pub(crate) number: usize,
    pub(crate) disks: Disks,
    /// The first store received in this life is not taken over.
    pub(crate) fails: AtomicBool,
    pub(crate) has_started: AtomicBool,
}

impl Received for Place {
    fn begin(&self) -> Result<Arc<dyn Engine>, EngineError> {
        self.disks.begin()
    }

    fn find(&self) -> Result<Option<Arc<dyn Engine>>, EngineError> {
        self.disks.find()
    }

    fn adopt(&self) -> Result<(), EngineError> {
        let mut state = self.world.lock();
        if !self.has_started.load(Ordering::Relaxed) {
            state.reached.adopted_at_start += 1;
        } else if self.fails.swap(false, Ordering::Relaxed) {
            state.reached.adoptions_failed += 1;
            if let Some(host) = state.hosts.get_mut(self.number) {
                host.is_due = true;
            }
            return Err(EngineError::Io("simulated, between two stores".to_owned()));
        }
        self.disks.adopt()
    }

    fn tidy(&self) {
        self.disks.tidy();
    }
}
