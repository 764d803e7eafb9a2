//! Names that a lease stands for in this program, such as its key in the queue of a lock.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// Each name is somebody's at a time. The store can't keep tasks with the same lease apart: their keys would be
/// the same.
#[derive(Default)]
pub(crate) struct Claims {
    taken: Mutex<HashSet<Bytes>>,
    freed: Notify,
}

/// The only one of its name; free again when it is dropped.
pub(crate) struct Claim {
    claims: Arc<Claims>,
    name: Bytes,
}

impl Claims {
    /// `None` if somebody has it.
    pub(crate) fn try_claim(self: &Arc<Self>, name: &Bytes) -> Option<Claim> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(name.clone()).then(|| Claim { claims: self.clone(), name: name.clone() })
    }

    /// Waits until nobody has it.
    pub(crate) async fn claim(self: &Arc<Self>, name: &Bytes) -> Claim {
        loop {
            // Before the look, so that what is freed after it is noticed.
            let freed = self.freed.notified();
            if let Some(claim) = self.try_claim(name) {
                return claim;
            }
            freed.await;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        self.claims.freed.notify_waiters();
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Claim").field(&self.name).finish()
    }
}
