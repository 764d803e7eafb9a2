//! Writes the key index to disk now and then, so that a restart need not read all of history; and what was
//! applied, so that it need not apply much of the log again.

use std::sync::Arc;
use std::time::Duration;

use stentor_mvcc::Store;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::storage::Received;

/// How often to look whether a checkpoint is worth its writing.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// After an error the next try waits this long: a full disk doesn't empty by asking.
const REST_AFTER_ERROR: Duration = Duration::from_secs(60);

/// Writes checkpoints until stopped. Each is written from a view of the index, beside reads and writes. No
/// more than about `replayed_entries` of the log are left to be applied again after a crash.
pub(crate) async fn run(
    store: Arc<Store>,
    received: Arc<dyn Received>,
    replayed_entries: u64,
    stop: CancellationToken,
) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        received.tidy();
        match write(&store, replayed_entries) {
            Ok(()) => {}
            Err(error) => {
                // Only the next start is slower for it.
                warn!(%error, "a checkpoint could not be written");
                if stop.run_until_cancelled(tokio::time::sleep(REST_AFTER_ERROR)).await.is_none() {
                    return;
                }
            }
        }
    }
}

fn write(store: &Store, replayed_entries: u64) -> Result<(), stentor_mvcc::Error> {
    let persisted = store.persisted_position()?;
    if store.view().applied().index.saturating_sub(persisted.index) >= replayed_entries {
        store.flush()?;
        debug!(index = store.view().applied().index, "what was applied is on disk");
    }
    if store.wants_index_checkpoint() {
        store.checkpoint_index()?;
        debug!(revision = store.view().revision().get(), "the key index is on disk");
    }
    Ok(())
}
