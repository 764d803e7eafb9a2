//! Waiting for a key to go.

use std::fmt;

use bytes::Bytes;

use crate::Revision;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::LeaseLoss;
use crate::txn::get;

/// Why a lock or a leadership is not known to be held any more.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OwnershipLoss {
    /// The lease was not renewed in time: the server may have ended it, and somebody else may hold what it stood
    /// for. If it has not, and a renewal comes through, it is held again.
    LeaseDoubtful,
    /// The lease is gone.
    Lease(LeaseLoss),
    /// Somebody has deleted the key, by hand for one.
    Deleted,
    /// It can't be found out any more; this is why.
    Unknown(Error),
}

/// Waits until the key that was created then is gone, or nobody can tell.
pub(super) async fn removed(client: Client, key: Bytes, created: Revision) -> OwnershipLoss {
    let mut pauses = client.core().backoff.start();
    loop {
        match until_deleted(&client, &key, created).await {
            Ok(()) => return OwnershipLoss::Deleted,
            Err(error) if passes(&error) => tokio::time::sleep(client.core().pause(&mut pauses)).await,
            Err(error) => return OwnershipLoss::Unknown(error),
        }
    }
}

async fn until_deleted(client: &Client, key: &Bytes, created: Revision) -> Result<()> {
    let outcome = client.txn().then(get(key.clone())).await?;
    match outcome.pair(0) {
        Some(pair) if pair.create_revision() == created => deletion(client, key.clone(), outcome.revision).await,
        _ => Ok(()),
    }
}

/// Waits until a key is deleted that was there at a revision.
pub(super) async fn deletion(client: &Client, key: Bytes, seen: Revision) -> Result<()> {
    let mut changes = client.watch(key).after(seen).skip_puts().await?.into_events();
    while let Some(change) = changes.next().await {
        if change?.is_delete() {
            return Ok(());
        }
    }
    Err(Error::new(ErrorKind::Closed))
}

/// Whether to look again: the error may pass, or a new look needs no history.
pub(super) fn passes(error: &Error) -> bool {
    error.may_pass() || matches!(error.kind(), ErrorKind::Compacted { .. } | ErrorKind::HistoryReset { .. })
}

impl fmt::Display for OwnershipLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OwnershipLoss::LeaseDoubtful => f.write_str("the lease was not renewed in time"),
            OwnershipLoss::Lease(LeaseLoss::Gone) => f.write_str("the lease has ended"),
            OwnershipLoss::Lease(LeaseLoss::Revoked) => f.write_str("the lease was revoked"),
            OwnershipLoss::Lease(LeaseLoss::Closed) => f.write_str("nobody renews the lease any more"),
            OwnershipLoss::Deleted => f.write_str("somebody has deleted the key"),
            OwnershipLoss::Unknown(error) => write!(f, "not known any more: {error}"),
        }
    }
}
