//! Leases. When one is renewed and what is known of it is decided in [`renewal`], which does no I/O;
//! [`keeper`] drives it.

mod calls;
mod claims;
mod keeper;
mod renewal;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

pub use calls::{Granted, LeaseGrant, LeaseInfo, TimeToLive};
pub(crate) use claims::{Claim, Claims};
use futures_core::{FusedStream, Stream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_stream::wrappers::WatchStream;

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::keeper::{Ends, Keeper};
use crate::lease::renewal::Standing;
use crate::{LeaseId, runtime};

/// A lease that keeps itself alive; see [`Client::lease`]. Clones are the same lease.
///
/// A task of its own renews it, about three times within its TTL, over any member that answers, on a
/// connection that nothing else uses. Dropping the last clone revokes it, without waiting and without a
/// promise: [`close`](Self::close) does it surely. A program that dies leaves it to end by itself.
///
/// What [`state`](Self::state) says is never more than is known. A lease that somebody else revokes ends
/// without a word; it is noticed with the next renewal.
#[derive(Clone)]
#[must_use = "a lease that is dropped is revoked"]
pub struct Lease(Arc<Inner>);

struct Inner {
    granted: Granted,
    client: Client,
    ends: Ends,
    claims: Arc<Claims>,
}

/// What is known of a [`Lease`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseState {
    /// The server keeps it, unless somebody revokes it.
    Alive {
        /// Until then, if no further renewal comes through. It counts from when the last one was sent, so
        /// it is never after the server's own end; provided that both clocks run alike, and that this host
        /// was not suspended.
        valid_until: std::time::Instant,
    },
    /// No renewal came through in time, or it is being revoked: the server may have ended it. If it has
    /// not, and a renewal comes through, it is alive again.
    Doubtful,
    /// It is gone, and its keys with it. Nothing comes after this.
    Lost(LeaseLoss),
}

/// Why a [`Lease`] is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseLoss {
    /// The server does not know it: it expired, or somebody else has revoked it.
    Gone,
    /// This program has revoked it.
    Revoked,
    /// Nobody renews it any more: the runtime is gone, or the last handle, and it could not be revoked.
    /// What the server still keeps expires.
    Closed,
}

/// A lease that is to keep itself alive; see [`Client::lease`]. Awaiting it grants it.
///
/// # Errors
/// As [`LeaseGrant`].
///
/// # Cancel safety
/// If the future is dropped, a lease may be left that ends by itself.
#[derive(Clone, Debug)]
#[must_use = "a lease is granted when it is awaited"]
pub struct LeaseBuilder {
    client: Client,
    grant: LeaseGrant,
}

/// The states of a [`Lease`]; see [`Lease::changes`].
#[must_use = "streams do nothing unless polled"]
pub struct LeaseChanges {
    standing: watch::Receiver<Standing>,
    standings: WatchStream<Standing>,
    last: Option<LeaseState>,
}

impl Client {
    /// A lease that keeps itself alive: keys put with it go when it does. A server raises a TTL that is too
    /// short, to 2 s with etcd's defaults; begun seconds count in full.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// use std::time::Duration;
    ///
    /// let lease = client.lease(Duration::from_secs(10)).await?;
    /// client.put("/svc/a", "10.0.0.1:80").lease(&lease).await?;
    /// tokio::select! {
    ///     why = lease.lost() => eprintln!("not registered any more: {why:?}"),
    ///     _ = std::future::pending::<()>() => { /* serve */ }
    /// }
    /// lease.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn lease(&self, ttl: Duration) -> LeaseBuilder {
        LeaseBuilder { client: self.clone(), grant: self.lease_grant(ttl) }
    }
}

impl LeaseBuilder {
    /// With this number, which must be free; without, the server draws one.
    pub fn id(mut self, id: LeaseId) -> Self {
        self.grant = self.grant.id(id);
        self
    }

    async fn start(self) -> Result<Lease> {
        let here = runtime::current()?;
        let runtime = self.client.core().lease_runtime.clone().unwrap_or(here);
        let (granted, sent) = self.grant.grant().await?;
        let (keeper, ends) = Keeper::new(self.client.shared_core(), granted, sent);
        runtime.spawn(keeper.run());
        Ok(Lease(Arc::new(Inner { granted, client: self.client, ends, claims: Arc::default() })))
    }
}

impl Lease {
    /// Its number.
    pub fn id(&self) -> LeaseId {
        self.0.granted.id
    }

    /// What each renewal gives it.
    pub fn ttl(&self) -> Duration {
        self.0.granted.ttl
    }

    /// What it stands for in this program.
    pub(crate) fn claims(&self) -> &Arc<Claims> {
        &self.0.claims
    }

    /// What is known of it now.
    pub fn state(&self) -> LeaseState {
        let standing = &self.0.ends.standing;
        state(*standing.borrow(), standing.has_changed().is_err())
    }

    /// For how long it is alive for sure; nothing if it is not known to be.
    pub fn remaining(&self) -> Duration {
        let standing = &self.0.ends.standing;
        match standing.has_changed() {
            Ok(_) => standing.borrow().remaining(Instant::now()),
            Err(_) => Duration::ZERO,
        }
    }

    /// Its state now, and then each other one: renewals, which move
    /// [`valid_until`](LeaseState::Alive::valid_until) on, included. A reader that is slow gets the latest.
    /// Ends after [`Lost`](LeaseState::Lost). It does not keep the lease.
    pub fn changes(&self) -> LeaseChanges {
        let standing = self.0.ends.standing.clone();
        LeaseChanges { standings: WatchStream::new(standing.clone()), standing, last: None }
    }

    /// Waits until it is gone, and says why. A server that cannot be reached does not tell: who must not go
    /// on without the lease waits for [`doubted`](Self::doubted). The future does not keep the lease.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub fn lost(&self) -> impl Future<Output = LeaseLoss> + Send + use<> {
        let mut standing = self.0.ends.standing.clone();
        async move {
            loop {
                let changed = standing.changed().await;
                if let LeaseState::Lost(loss) = state(*standing.borrow(), changed.is_err()) {
                    return loss;
                }
            }
        }
    }

    /// Waits until it is not known to be alive: until [`Doubtful`](LeaseState::Doubtful) or
    /// [`Lost`](LeaseState::Lost). The future does not keep the lease.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub fn doubted(&self) -> impl Future<Output = LeaseState> + Send + use<> {
        let mut standing = self.0.ends.standing.clone();
        async move {
            let mut closed = false;
            loop {
                let known = *standing.borrow_and_update();
                match state(known, closed) {
                    LeaseState::Alive { .. } => closed = standing.changed().await.is_err(),
                    other => return other,
                }
            }
        }
    }

    /// Ends it and deletes its keys. When this returns without an error it is gone. If it takes longer than
    /// a call may, it goes on in the background: the lease is not renewed any more, whatever comes.
    ///
    /// # Errors
    /// [`Ambiguous`](ErrorKind::Ambiguous) if it is not known yet whether it has ended;
    /// [`Closed`](ErrorKind::Closed) if the runtime that kept it is gone.
    ///
    /// # Cancel safety
    /// If the future is dropped, it goes on in the background.
    pub async fn revoke(&self) -> Result<()> {
        self.0.ends.unwanted.send_replace(true);
        let lost = self.lost();
        let loss = match self.0.client.core().call_timeout {
            None => lost.await,
            Some(timeout) => tokio::time::timeout(timeout, lost).await.map_err(|_| {
                Error::with(ErrorKind::Ambiguous, "the lease has not been revoked in time; it is not renewed any more")
            })?,
        };
        match loss {
            LeaseLoss::Closed => Err(Error::new(ErrorKind::Closed)),
            LeaseLoss::Gone | LeaseLoss::Revoked => Ok(()),
        }
    }

    /// As [`revoke`](Self::revoke), for the last that is done with it.
    ///
    /// # Errors
    /// As [`revoke`](Self::revoke).
    ///
    /// # Cancel safety
    /// As [`revoke`](Self::revoke).
    pub async fn close(self) -> Result<()> {
        self.revoke().await
    }
}

/// What is known now. `closed`: nobody follows the lease any more.
fn state(standing: Standing, closed: bool) -> LeaseState {
    match standing.state(Instant::now()) {
        LeaseState::Lost(loss) => LeaseState::Lost(loss),
        _ if closed => LeaseState::Lost(LeaseLoss::Closed),
        other => other,
    }
}

impl LeaseChanges {
    /// The next state; `None` after the last.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<LeaseState> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for LeaseChanges {
    type Item = LeaseState;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LeaseState>> {
        while !self.is_terminated() {
            let state = match ready!(Pin::new(&mut self.standings).poll_next(cx)) {
                Some(standing) => state(standing, self.standing.has_changed().is_err()),
                None => LeaseState::Lost(LeaseLoss::Closed),
            };
            if self.last.replace(state) != Some(state) {
                return Poll::Ready(Some(state));
            }
        }
        Poll::Ready(None)
    }
}

impl FusedStream for LeaseChanges {
    fn is_terminated(&self) -> bool {
        matches!(self.last, Some(LeaseState::Lost(_)))
    }
}

impl From<&Lease> for LeaseId {
    fn from(lease: &Lease) -> LeaseId {
        lease.id()
    }
}

impl IntoFuture for LeaseBuilder {
    type Output = Result<Lease>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("id", &self.id()).field("state", &self.state()).finish_non_exhaustive()
    }
}

impl fmt::Debug for LeaseChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseChanges").field("last", &self.last).finish_non_exhaustive()
    }
}
