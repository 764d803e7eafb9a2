use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use bytes::Bytes;
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use crate::call::{Effect, stub};
use crate::client::Client;
use crate::endpoint::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::key_value::revision;
use crate::{KeyRange, KeyValue, LeaseId, Revision};

/// A read of one key; see [`Client::get`]. Awaiting it sends it.
///
/// # Errors
/// Those of a read: [`PermissionDenied`](crate::ErrorKind::PermissionDenied),
/// [`Compacted`](crate::ErrorKind::Compacted) and [`FutureRevision`](crate::ErrorKind::FutureRevision) with
/// [`at`](Self::at), [`Unavailable`](crate::ErrorKind::Unavailable) when no endpoint answered in time.
///
/// # Cancel safety
/// Nothing is left of it if the future is dropped.
#[derive(Clone)]
#[must_use = "a read is sent when it is awaited"]
pub struct Get {
    client: Client,
    request: RangeRequest,
}

/// A write of one key; see [`Client::put`]. Awaiting it sends it, and gives the revision of the write.
///
/// # Errors
/// [`Ambiguous`](crate::ErrorKind::Ambiguous) if it may have happened all the same: it was sent, and no
/// answer came. It is never sent twice unless the first surely had no effect. Others mean that nothing was
/// written: [`NoSpace`](crate::ErrorKind::NoSpace), [`LeaseNotFound`](crate::ErrorKind::LeaseNotFound),
/// [`Unavailable`](crate::ErrorKind::Unavailable).
///
/// # Cancel safety
/// If the future is dropped, the write may have happened or not.
#[derive(Clone)]
#[must_use = "a write is sent when it is awaited"]
pub struct Put {
    client: Client,
    request: PutRequest,
}

/// A deletion; see [`Client::delete`]. Awaiting it sends it.
///
/// # Errors
/// As [`Put`]. [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a
/// [segment](KeyRange::segment), which is not one range of the protocol.
///
/// # Cancel safety
/// If the future is dropped, the keys may have been deleted or not.
#[derive(Clone)]
#[must_use = "a deletion is sent when it is awaited"]
pub struct Delete {
    client: Client,
    range: KeyRange,
}

/// What a deletion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// How many keys there were.
    pub count: u64,
    /// Of the deletion; if there was nothing to delete, what the store was at.
    pub revision: Revision,
}

impl Client {
    /// One key, as it is now.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// let written = client.put("/config/limit", "10").await?;
    /// let pair = client.get("/config/limit").await?;
    /// assert!(pair.is_some_and(|pair| pair.mod_revision() >= written));
    /// client.delete("/config/limit").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn get(&self, key: impl Into<Bytes>) -> Get {
        let request = RangeRequest { key: key.into(), ..RangeRequest::default() };
        Get { client: self.clone(), request }
    }

    /// Creates or changes a key.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Put {
        let request = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
        Put { client: self.clone(), request }
    }

    /// Deletes a key or a range of keys.
    pub fn delete(&self, range: impl Into<KeyRange>) -> Delete {
        Delete { client: self.clone(), range: range.into() }
    }
}

impl Get {
    /// As it was at a revision.
    pub fn at(mut self, revision: Revision) -> Self {
        self.request.revision = revision.get();
        self
    }

    /// As the member asked knows it, which may be behind the others. Spares them a round.
    pub fn serializable(mut self) -> Self {
        self.request.serializable = true;
        self
    }

    async fn send(self) -> Result<Option<KeyValue>> {
        let send = |channel, request| async move { stub!(KvClient<_>, channel).range(request).await };
        let (answer, _) = self.client.core().call(Class::Call, Effect::Repeatable, self.request, send).await?;
        Ok(answer.kvs.into_iter().next().map(KeyValue::from))
    }
}

impl Put {
    /// Deletes the key when this lease ends.
    pub fn lease(mut self, lease: LeaseId) -> Self {
        self.request.lease = lease.get();
        self
    }

    async fn send(self) -> Result<Revision> {
        let send = |channel, request| async move { stub!(KvClient<_>, channel).put(request).await };
        let (answer, _) = self.client.core().call(Class::Call, Effect::Once, self.request, send).await?;
        Ok(revision(answer.header.map_or(0, |header| header.revision)))
    }
}

impl Delete {
    async fn send(self) -> Result<Deleted> {
        let parts = self.range.parts();
        let [part] = parts.as_slice() else {
            return Err(Error::with(ErrorKind::InvalidArgument, "a segment is two ranges: delete them one by one"));
        };
        let (key, range_end) = part.to_wire();
        let request = DeleteRangeRequest { key, range_end, ..DeleteRangeRequest::default() };
        let send = |channel, request| async move { stub!(KvClient<_>, channel).delete_range(request).await };
        let (answer, _) = self.client.core().call(Class::Call, Effect::Once, request, send).await?;
        let revision = revision(answer.header.map_or(0, |header| header.revision));
        Ok(Deleted { count: u64::try_from(answer.deleted).unwrap_or(0), revision })
    }
}

/// Awaiting a builder sends what it describes.
macro_rules! awaitable {
    ($builder:ty => $output:ty) => {
        impl IntoFuture for $builder {
            type Output = Result<$output>;
            type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(self.send())
            }
        }
    };
}

awaitable!(Get => Option<KeyValue>);
awaitable!(Put => Revision);
awaitable!(Delete => Deleted);

impl fmt::Debug for Get {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Get").field("key", &self.request.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A value may be a secret.
        f.debug_struct("Put").field("key", &self.request.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for Delete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delete").field("range", &self.range).finish_non_exhaustive()
    }
}
