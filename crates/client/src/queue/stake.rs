//! The key of one's own, from before it is put until it is surely gone.

use std::fmt;

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::fault::Fault;
use crate::lease::{Claim, Lease};
use crate::queue::{Drawn, Ticket, Wait};
use crate::txn::{Nested, Settled, Txn, delete, each, get, key, list, put};
use crate::{KeyRange, KeyValue, Revision};

/// A key that is deleted when this is dropped, as soon as a server can be reached.
pub(super) struct Stake {
    pub(super) client: Client,
    pub(super) key: Bytes,
    pub(super) lease: Lease,
    /// The lease was made for this key, and ends with it.
    own: bool,
    /// `None` while it is not known whether the key was created.
    created: Option<Revision>,
    /// `None` once there is nothing left to delete.
    claim: Option<Claim>,
    runtime: Handle,
}

impl Stake {
    pub(super) fn new(client: Client, key: Bytes, (lease, own): (Lease, bool), claim: Claim, runtime: Handle) -> Stake {
        Stake { client, key, lease, own, created: None, claim: Some(claim), runtime }
    }

    /// Puts the key, if it is to wait or nobody is there.
    pub(super) async fn draw(mut self, queue: KeyRange, value: Bytes, wait: Wait) -> Result<Option<Drawn>> {
        let free = match wait {
            Wait::ForTurn => key(self.key.clone()).is_missing(),
            Wait::Never => each(queue.clone()).is_missing(),
        };
        let oldest = list(queue.clone()).oldest_first().limit(1).keys_only();
        let body = Nested::default()
            .when(free)
            .then(put(self.key.clone(), value.clone()).lease(&self.lease))
            .then(oldest.clone())
            .or_else(get(self.key.clone()))
            .or_else(oldest);
        let Settled { outcome, endpoint, .. } =
            Txn::of(&self.client, body).send_guarded().await.map_err(of_the_lease)?;
        let created = match outcome.pair(0) {
            _ if outcome.succeeded => outcome.revision,
            // Put by a sending whose answer was lost, or left by a holder before that could not delete it:
            // nobody else has a claim to this name.
            Some(own) => {
                self.created = Some(own.create_revision());
                self.adopt(own, value).await?;
                own.create_revision()
            }
            None if wait == Wait::Never => {
                self.forget();
                return Ok(None);
            }
            None => return Err(Error::from_fault(&Fault::Protocol("a key is there and is not"), true).at(&endpoint)),
        };
        self.created = Some(created);
        let first = outcome.pair(1).is_some_and(|oldest| oldest.create_revision() == created);
        Ok(Some(Drawn { ticket: Ticket { stake: self, queue, created }, first }))
    }

    /// Takes a key over that this lease has put before.
    async fn adopt(&mut self, own: &KeyValue, value: Bytes) -> Result<()> {
        if own.lease() != Some(self.lease.id()) {
            self.forget();
            let text = "somebody has put the key of this lease without the lease: it would never end";
            return Err(Error::with(ErrorKind::Other, text));
        }
        if *own.value() == value {
            return Ok(());
        }
        let still = key(self.key.clone()).create_revision().eq(own.create_revision());
        self.client.txn().when(still).then(put(self.key.clone(), value).lease(&self.lease)).await.map(|_| ())
    }

    /// Deletes the key. Whether it was there.
    pub(super) async fn leave(&self) -> Result<bool> {
        leave(&self.client, &self.key, self.created).await
    }

    /// There is nothing to delete any more.
    pub(super) fn forget(&mut self) {
        self.claim = None;
    }
}

impl Drop for Stake {
    fn drop(&mut self) {
        let Some(claim) = self.claim.take() else { return };
        let (client, key, created) = (self.client.clone(), self.key.clone(), self.created);
        if self.own {
            let lease = self.lease.clone();
            self.runtime.spawn(async move {
                // If it fails, the lease ends by itself, and the key with it.
                lease.revoke().await.ok();
                drop(claim);
            });
            return;
        }
        // A future of the lease that does not keep it: its end is the key's too.
        let lost = self.lease.lost();
        self.runtime.spawn(async move {
            tokio::select! {
                _ = lost => {}
                () = leave_surely(&client, &key, created) => {}
            }
            drop(claim);
        });
    }
}

async fn leave(client: &Client, name: &Bytes, created: Option<Revision>) -> Result<bool> {
    let still = match created {
        Some(revision) => key(name.clone()).create_revision().eq(revision),
        None => key(name.clone()).exists(),
    };
    let body = Nested::default().when(still).then(delete(name.clone()));
    // Sent again when no answer came: it is gone then, by whichever sending.
    let Settled { outcome, unsure, .. } = Txn::of(client, body).send_guarded().await?;
    Ok(outcome.succeeded || unsure)
}

/// Until it is gone, or no further try would change anything.
async fn leave_surely(client: &Client, key: &Bytes, created: Option<Revision>) {
    let mut pauses = client.core().backoff.start();
    while let Err(error) = leave(client, key, created).await {
        tracing::debug!(?key, %error, "not deleted yet");
        if !(error.may_pass() || error.may_have_applied()) {
            return;
        }
        tokio::time::sleep(client.core().pause(&mut pauses)).await;
    }
}

fn of_the_lease(error: Error) -> Error {
    match error.kind() {
        ErrorKind::LeaseNotFound => Error::with(ErrorKind::LeaseLost, "the server does not know the lease"),
        _ => error,
    }
}

impl fmt::Debug for Stake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stake").field("key", &self.key).field("lease", &self.lease).finish_non_exhaustive()
    }
}
