//! The plain calls on leases.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use stentor_proto::etcdserverpb::lease_client::LeaseClient;
use stentor_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::LeaseId;
use crate::call::{Core, Effect, Patience, stub};
use crate::client::Client;
use crate::endpoint::Class;
use crate::error::{Error, Result};
use crate::fault::Fault;

/// A lease to be granted; see [`Client::lease_grant`]. Awaiting it sends it.
///
/// # Errors
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a TTL that is too large,
/// [`NoSpace`](crate::ErrorKind::NoSpace), [`Unavailable`](crate::ErrorKind::Unavailable). With an
/// [`id`](Self::id) also [`Ambiguous`](crate::ErrorKind::Ambiguous), and
/// [`Other`](crate::ErrorKind::Other) if there is one with this id; without, it is sent again when no answer
/// came: a lease that nobody knows of ends by itself.
///
/// # Cancel safety
/// If the future is dropped, a lease may be left that ends by itself.
#[derive(Clone)]
#[must_use = "a lease is granted when it is awaited"]
pub struct LeaseGrant {
    client: Client,
    request: LeaseGrantRequest,
}

/// A lease as it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Granted {
    /// Its number.
    pub id: LeaseId,
    /// What is in force: a server raises a TTL that is too short.
    pub ttl: Duration,
}

/// A question for what is left of a lease; see [`Client::time_to_live`]. Awaiting it sends it.
///
/// # Errors
/// Those of a read.
///
/// # Cancel safety
/// Nothing is left of it if the future is dropped.
#[derive(Clone)]
#[must_use = "a question is sent when it is awaited"]
pub struct TimeToLive {
    client: Client,
    request: LeaseTimeToLiveRequest,
}

/// What is left of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseInfo {
    /// Its number.
    pub id: LeaseId,
    /// What is left of it, in whole seconds.
    pub remaining: Duration,
    /// What each renewal gives it.
    pub granted: Duration,
    /// The keys that end with it, in order, if they were [asked for](TimeToLive::keys). In a
    /// [namespace](Client::namespaced) those of it.
    pub keys: Vec<Bytes>,
}

impl Client {
    /// Grants a lease that somebody has to renew: [`lease`](Self::lease) gives one that renews itself. The
    /// TTL counts in seconds, begun ones in full.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// use std::time::Duration;
    ///
    /// let granted = client.lease_grant(Duration::from_secs(60)).await?;
    /// client.put("/session/1", "me").lease(granted.id).await?;
    /// client.lease_renew(granted.id).await?;
    /// let left = client.time_to_live(granted.id).keys().await?;
    /// println!("{left:?}");
    /// client.lease_revoke(granted.id).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn lease_grant(&self, ttl: Duration) -> LeaseGrant {
        LeaseGrant { client: self.clone(), request: LeaseGrantRequest { ttl: whole_seconds(ttl), id: 0 } }
    }

    /// Ends a lease and deletes its keys, all at one revision.
    ///
    /// # Errors
    /// [`LeaseNotFound`](crate::ErrorKind::LeaseNotFound) if there is none,
    /// [`Ambiguous`](crate::ErrorKind::Ambiguous) if it was sent and no answer came.
    ///
    /// # Cancel safety
    /// If the future is dropped, the lease may have been ended or not.
    pub async fn lease_revoke(&self, lease: impl Into<LeaseId>) -> Result<()> {
        self.core().revoke(lease.into()).await
    }

    /// Renews a lease once; what it is given. `None` if there is no such lease (any more).
    ///
    /// # Errors
    /// Those of a read: it is sent again if no answer came.
    ///
    /// # Cancel safety
    /// If the future is dropped, the lease may have been renewed or not.
    pub async fn lease_renew(&self, lease: impl Into<LeaseId>) -> Result<Option<Duration>> {
        let core = self.core();
        let renewed = core.renew(lease.into(), core.patience()).await?;
        Ok((!renewed.ttl.is_zero()).then_some(renewed.ttl))
    }

    /// What is left of a lease; `None` if there is no such lease.
    pub fn time_to_live(&self, lease: impl Into<LeaseId>) -> TimeToLive {
        let request = LeaseTimeToLiveRequest { id: lease.into().get(), keys: false };
        TimeToLive { client: self.clone(), request }
    }

    /// All leases there are.
    ///
    /// # Errors
    /// Those of a read.
    ///
    /// # Cancel safety
    /// Nothing is left of it if the future is dropped.
    pub async fn leases(&self) -> Result<Vec<LeaseId>> {
        let send = |channel, request| async move { stub!(LeaseClient<_>, channel).lease_leases(request).await };
        let (answer, _) = self.core().call(Class::Call, Effect::Repeatable, LeaseLeasesRequest {}, send).await?;
        Ok(answer.leases.into_iter().filter_map(|lease| LeaseId::new(lease.id)).collect())
    }
}

impl LeaseGrant {
    /// With this number, which must be free; without, the server draws one.
    pub fn id(mut self, id: LeaseId) -> Self {
        self.request.id = id.get();
        self
    }

    async fn send(self) -> Result<Granted> {
        Ok(self.grant().await?.0)
    }

    /// And when the sending that was answered was sent.
    pub(super) async fn grant(self) -> Result<(Granted, Instant)> {
        let effect = if self.request.id == 0 { Effect::Repeatable } else { Effect::Once };
        let send = |channel, request| async move {
            let sent = Instant::now();
            let answer = stub!(LeaseClient<_>, channel).lease_grant(request).await?;
            Ok(answer.map(|answer| (answer, sent)))
        };
        let ((answer, sent), connection) = self.client.core().call(Class::Lease, effect, self.request, send).await?;
        let id = LeaseId::new(answer.id).ok_or_else(|| {
            let fault = Fault::Protocol("a lease was granted without a number");
            Error::from_fault(&fault, effect == Effect::Once).at(&connection.endpoint)
        })?;
        Ok((Granted { id, ttl: from_seconds(answer.ttl) }, sent))
    }
}

impl TimeToLive {
    /// With the keys that end with it.
    pub fn keys(mut self) -> Self {
        self.request.keys = true;
        self
    }

    async fn send(self) -> Result<Option<LeaseInfo>> {
        let send = |channel, request| async move { stub!(LeaseClient<_>, channel).lease_time_to_live(request).await };
        let (answer, _) = self.client.core().call(Class::Call, Effect::Repeatable, self.request, send).await?;
        // A lease that is gone has a TTL of -1; one that is about to go can have less than nothing left.
        let (Some(id), true) = (LeaseId::new(answer.id), answer.granted_ttl > 0) else { return Ok(None) };
        let namespace = self.client.namespace();
        Ok(Some(LeaseInfo {
            id,
            remaining: from_seconds(answer.ttl),
            granted: from_seconds(answer.granted_ttl),
            keys: answer.keys.iter().filter_map(|key| namespace.seen(key)).collect(),
        }))
    }
}

/// The answer to a renewal.
pub(super) struct Renewed {
    /// Nothing if the lease is gone.
    pub(super) ttl: Duration,
    /// When the sending that was answered was sent.
    pub(super) sent: Instant,
}

impl Core {
    /// Renews a lease by a stream of one request: it goes to any member that is well, and an answer belongs
    /// to its request.
    pub(super) async fn renew(&self, lease: LeaseId, patience: Patience) -> Result<Renewed> {
        let send = |channel, request: Request<LeaseKeepAliveRequest>| async move {
            let sent = Instant::now();
            let mut stub = stub!(LeaseClient<_>, channel);
            let mut answers = stub.lease_keep_alive(request.map(tokio_stream::once)).await?.into_inner();
            match answers.message().await? {
                Some(answer) => Ok(Response::new((answer, sent))),
                None => Err(Status::internal("the server ended the stream of renewals")),
            }
        };
        let request = LeaseKeepAliveRequest { id: lease.get() };
        let answered = self.answered_within(patience, Class::Lease, Effect::Repeatable, request, send).await?;
        let (answer, sent) = answered.answer;
        Ok(Renewed { ttl: from_seconds(answer.ttl), sent })
    }

    pub(super) async fn revoke(&self, lease: LeaseId) -> Result<()> {
        let send = |channel, request| async move { stub!(LeaseClient<_>, channel).lease_revoke(request).await };
        let request = LeaseRevokeRequest { id: lease.get() };
        self.call(Class::Lease, Effect::Once, request, send).await.map(|_| ())
    }
}

/// Seconds for the wire, begun ones in full.
fn whole_seconds(ttl: Duration) -> i64 {
    let begun = u64::from(ttl.subsec_nanos() > 0);
    i64::try_from(ttl.as_secs().saturating_add(begun)).unwrap_or(i64::MAX)
}

/// Seconds from the wire. No server keeps a lease for ages, and no clock goes further.
fn from_seconds(ttl: i64) -> Duration {
    const AGES: u64 = 9_000_000_000;
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0).min(AGES))
}

impl IntoFuture for LeaseGrant {
    type Output = Result<Granted>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl IntoFuture for TimeToLive {
    type Output = Result<Option<LeaseInfo>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl fmt::Debug for LeaseGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseGrant").field("request", &self.request).finish_non_exhaustive()
    }
}

impl fmt::Debug for TimeToLive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeToLive").field("request", &self.request).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begun_seconds_count_in_full() {
        for (ttl, seconds) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (2500, 3)] {
            assert_eq!(whole_seconds(Duration::from_millis(ttl)), seconds);
        }
        assert_eq!(whole_seconds(Duration::MAX), i64::MAX);
        assert_eq!(from_seconds(-1), Duration::ZERO);
        assert!(Instant::now().checked_add(from_seconds(i64::MAX)).is_some());
    }
}
