//! Locks: what only one program does at a time.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use crate::Revision;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::Lease;
use crate::queue::{OwnershipLoss, Session, Ticket, Wait};
use crate::txn::{Compare, Txn};

/// A lock to be taken; see [`Client::lock`]. Awaiting it waits until it is held, however long that takes:
/// `tokio::time::timeout` sets a limit.
///
/// Who waits is served in the order of coming. The lock of a name is the same for etcd's own clients
/// (`clientv3/concurrency`, `etcdctl lock`): each waits with a key `NAME/LEASE`, the lease in hexadecimal, for those
/// to go that were created before it.
///
/// # Errors
/// [`LeaseLost`](crate::ErrorKind::LeaseLost) if the lease ends, or somebody deletes the key, while it waits;
/// [`Unavailable`](crate::ErrorKind::Unavailable) and others of a write, if the key cannot be put to begin with;
/// [`PermissionDenied`](crate::ErrorKind::PermissionDenied). Outages while it waits are waited out, as long as the
/// lease is not known to have ended.
///
/// # Cancel safety
/// If the future is dropped, its place in the queue is given back in the background, and surely gone when the lease
/// ends.
#[derive(Clone)]
#[must_use = "a lock is taken when it is awaited"]
pub struct Lock {
    client: Client,
    name: Bytes,
    session: Session,
}

/// A lock that is held; see [`Client::lock`]. Dropping it gives the lock back in the background, as soon as a server
/// can be reached; [`unlock`](Self::unlock) does it surely.
///
/// **A lock can be lost while it is held**: when its lease is not renewed in time, since the program or the network
/// stood still, or when somebody deletes its key. Then another program may hold it. [`lost`](Self::lost) tells, and
/// what is done under the lock should end then. What must never happen twice is written by [`txn`](Self::txn), or
/// carries [`fence`](Self::fence) to a store that refuses smaller ones.
#[must_use = "a lock that is dropped is given back"]
pub struct LockGuard(Ticket);

impl Client {
    /// A lock, by its name: only one program holds it at a time, among all that ask for it.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// use stentor_client::txn::put;
    ///
    /// let guard = client.lock("/locks/nightly").await?;
    /// tokio::select! {
    ///     why = guard.lost() => eprintln!("somebody else may hold it: {why}"),
    ///     // Happens only if the lock is still held then.
    ///     done = guard.txn().then(put("/nightly/last", "done")) => assert!(done?.succeeded),
    /// }
    /// guard.unlock().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn lock(&self, name: impl Into<Bytes>) -> Lock {
        Lock { client: self.clone(), name: name.into(), session: Session::default() }
    }
}

impl Lock {
    /// Holds it as long as this lease lives, at most. Without this, a lease is made for the lock, and ends with it.
    ///
    /// Locks of the same name by the same lease wait for each other like any others, but not in the order of coming.
    pub fn lease(mut self, lease: &Lease) -> Self {
        self.session.lease(lease);
        self
    }

    /// How long a lease that is made for the lock lives without the program, and so for how long others wait for
    /// one that has died; 10 s by default.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.session.ttl(ttl);
        self
    }

    /// Takes it only if nobody holds it or waits for it.
    ///
    /// # Errors
    /// As those of waiting for it.
    ///
    /// # Cancel safety
    /// As that of waiting for it.
    pub async fn try_lock(self) -> Result<Option<LockGuard>> {
        let Lock { client, name, session } = self;
        let ticket = Ticket::first_of(&client, &name, session, Bytes::new(), Wait::Never).await?;
        Ok(ticket.map(LockGuard))
    }

    async fn lock(self) -> Result<LockGuard> {
        let Lock { client, name, session } = self;
        match Ticket::first_of(&client, &name, session, Bytes::new(), Wait::ForTurn).await? {
            Some(ticket) => Ok(LockGuard(ticket)),
            None => Err(Error::new(ErrorKind::Closed)),
        }
    }
}

impl LockGuard {
    /// The key that stands for it in the store.
    pub fn key(&self) -> &Bytes {
        self.0.key()
    }

    /// The lease that it ends with. One that was made for the lock ends with it.
    pub fn lease(&self) -> &Lease {
        self.0.lease()
    }

    /// A number that is greater than that of every holder before: the revision that created the key. Whoever keeps
    /// the greatest number seen, and refuses smaller ones, is safe from a holder that does not know yet that it has
    /// lost the lock.
    pub fn fence(&self) -> Revision {
        self.0.created()
    }

    /// Whether its lease is known to be alive now. It costs no call; a key that somebody has deleted is noticed
    /// by [`lost`](Self::lost).
    pub fn is_held(&self) -> bool {
        self.0.is_held()
    }

    /// Waits until the lock is not known to be held any more, and says why. It watches the key while it is polled.
    /// The future does not keep the lock.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub fn lost(&self) -> impl Future<Output = OwnershipLoss> + Send + use<> {
        self.0.lost()
    }

    /// That the lock is still held, as a condition of a transaction. Its key is one of the
    /// [namespace](Client::namespaced) in which the lock was taken.
    pub fn proof(&self) -> Compare {
        self.0.proof()
    }

    /// A transaction that does nothing unless the lock is still held.
    pub fn txn(&self) -> Txn {
        self.0.txn()
    }

    /// Gives it back.
    ///
    /// # Errors
    /// [`LeaseLost`](crate::ErrorKind::LeaseLost) if it was not held any more: what was done last may have
    /// overlapped with another holder. [`Ambiguous`](crate::ErrorKind::Ambiguous),
    /// [`Unavailable`](crate::ErrorKind::Unavailable) and others of a write: it goes on in the background.
    ///
    /// # Cancel safety
    /// If the future is dropped, it goes on in the background.
    pub async fn unlock(self) -> Result<()> {
        self.0.give_back().await
    }
}

impl IntoFuture for Lock {
    type Output = Result<LockGuard>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.lock())
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("name", &self.name).field("session", &self.session).finish_non_exhaustive()
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard")
            .field("key", self.key())
            .field("fence", &self.fence())
            .field("lease", self.lease())
            .finish()
    }
}
