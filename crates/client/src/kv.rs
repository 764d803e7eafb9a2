use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use bytes::Bytes;
use stentor_proto::KeyRange as Interval;
use stentor_proto::etcdserverpb::kv_client::KvClient;
use stentor_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, PutResponse, RangeRequest};

use crate::call::{Effect, Patience, stub};
use crate::client::Client;
use crate::endpoint::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::fault::Fault;
use crate::key_value::revision;
use crate::txn::{OpResult, delete, ignore_lease, ignore_value};
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
/// [`KeyNotFound`](crate::ErrorKind::KeyNotFound) with [`ignore_value`](Self::ignore_value) or
/// [`ignore_lease`](Self::ignore_lease), [`Unavailable`](crate::ErrorKind::Unavailable).
///
/// # Cancel safety
/// If the future is dropped, the write may have happened or not.
#[derive(Clone)]
#[must_use = "a write is sent when it is awaited"]
pub struct Put {
    client: Client,
    request: PutRequest,
}

/// A [`Put`] that also gives the pair before; see [`Put::prev_kv`].
///
/// # Errors
/// As [`Put`].
///
/// # Cancel safety
/// As [`Put`].
#[derive(Clone)]
#[must_use = "a write is sent when it is awaited"]
pub struct PutPrev(Put);

/// What a put did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Of the write.
    pub revision: Revision,
    /// The pair before; `None` if the key was created.
    pub prev: Option<KeyValue>,
}

/// A deletion; see [`Client::delete`]. Awaiting it sends it.
///
/// # Errors
/// As [`Put`].
///
/// # Cancel safety
/// If the future is dropped, the keys may have been deleted or not.
#[derive(Clone)]
#[must_use = "a deletion is sent when it is awaited"]
pub struct Delete {
    client: Client,
    range: KeyRange,
    prev_kv: bool,
}

/// What a deletion did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// How many keys there were.
    pub count: u64,
    /// Of the deletion; if there was nothing to delete, what the store was at.
    pub revision: Revision,
    /// The pairs, in the order of their keys, if they were [asked for](Delete::prev_kv).
    pub prev: Vec<KeyValue>,
}

/// A compaction; see [`Client::compact`]. Awaiting it sends it.
///
/// # Errors
/// [`Compacted`](crate::ErrorKind::Compacted) if the history was gone before,
/// [`FutureRevision`](crate::ErrorKind::FutureRevision), and those of a read: it is sent again if no answer
/// came.
///
/// # Cancel safety
/// If the future is dropped, the history may be gone or not.
#[derive(Clone)]
#[must_use = "a compaction is sent when it is awaited"]
pub struct Compact {
    client: Client,
    request: CompactionRequest,
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
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// let written = client.put("/config/limit", "20").prev_kv().await?;
    /// println!("revision {}, before: {:?}", written.revision, written.prev);
    /// # Ok(())
    /// # }
    /// ```
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Put {
        let request = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
        Put { client: self.clone(), request }
    }

    /// Deletes a key or a range of keys, all at one revision.
    pub fn delete(&self, range: impl Into<KeyRange>) -> Delete {
        Delete { client: self.clone(), range: range.into(), prev_kv: false }
    }

    /// Drops the history before a revision, so that the space it takes can be used again. Reads and watches
    /// below it fail with [`Compacted`](crate::ErrorKind::Compacted) from then on.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// let written = client.put("/config/limit", "10").await?;
    /// client.compact(written).physical().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn compact(&self, revision: Revision) -> Compact {
        let request = CompactionRequest { revision: revision.get(), physical: false };
        Compact { client: self.clone(), request }
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

    async fn send(mut self) -> Result<Option<KeyValue>> {
        let (namespace, core) = (self.client.namespace(), self.client.core());
        self.request.key = namespace.key(self.request.key)?;
        let floor = core.floor.now();
        loop {
            let send = |channel, request| async move { stub!(KvClient<_>, channel).range(request).await };
            let (answer, connection) = core.call(Class::Call, Effect::Repeatable, self.request.clone(), send).await?;
            let header = answer.header.unwrap_or_default();
            let at = revision(header.revision);
            if at >= floor {
                core.floor.saw(at);
                return Ok(answer.kvs.into_iter().next().map(|pair| namespace.pair(pair)));
            }
            if !self.request.serializable {
                core.floor.lower(at);
                let error = Error::new(ErrorKind::HistoryReset { cluster: header.cluster_id });
                return Err(error.at(&connection.endpoint));
            }
            // The member is behind what was seen: the others know more.
            self.request.serializable = false;
        }
    }
}

impl Put {
    /// Deletes the key when this lease ends.
    pub fn lease(mut self, lease: impl Into<LeaseId>) -> Self {
        self.request.lease = lease.into().get();
        self
    }

    /// Keeps the value that the key has, whatever value was given: what changes is its lease. The key must
    /// exist.
    pub fn ignore_value(mut self) -> Self {
        ignore_value(&mut self.request);
        self
    }

    /// Keeps the lease that the key has; without this, a put without a lease takes the key off its lease.
    /// The key must exist.
    pub fn ignore_lease(mut self) -> Self {
        ignore_lease(&mut self.request);
        self
    }

    /// Also gives the pair before.
    pub fn prev_kv(mut self) -> PutPrev {
        self.request.prev_kv = true;
        PutPrev(self)
    }

    async fn send(self) -> Result<Revision> {
        Ok(written(&self.put().await?))
    }

    async fn put(mut self) -> Result<PutResponse> {
        self.request.key = self.client.namespace().key(self.request.key)?;
        let send = |channel, request| async move { stub!(KvClient<_>, channel).put(request).await };
        let (answer, _) = self.client.core().call(Class::Call, Effect::Once, self.request, send).await?;
        self.client.core().floor.saw(written(&answer));
        Ok(answer)
    }
}

impl PutPrev {
    async fn send(self) -> Result<Written> {
        let client = self.0.client.clone();
        let answer = self.0.put().await?;
        let revision = written(&answer);
        Ok(Written { revision, prev: answer.prev_kv.map(|pair| client.namespace().pair(pair)) })
    }
}

fn written(answer: &PutResponse) -> Revision {
    revision(answer.header.as_ref().map_or(0, |header| header.revision))
}

impl Delete {
    /// Also gives the pairs that were there.
    pub fn prev_kv(mut self) -> Self {
        self.prev_kv = true;
        self
    }

    async fn send(self) -> Result<Deleted> {
        let parts = self.range.parts();
        match parts.as_slice() {
            [part] => self.client.delete_interval(part, self.prev_kv).await,
            // A segment is two: a transaction deletes them at once.
            _ => self.send_txn().await,
        }
    }

    async fn send_txn(self) -> Result<Deleted> {
        let step = delete(self.range);
        let outcome = self.client.txn().then(if self.prev_kv { step.prev_kv() } else { step }).await?;
        match outcome.results.into_iter().next() {
            Some(OpResult::Delete { count, prev }) => Ok(Deleted { count, revision: outcome.revision, prev }),
            _ => Err(Error::from_fault(&Fault::Protocol("the answer is not that of a deletion"), true)),
        }
    }
}

impl Client {
    async fn delete_interval(&self, interval: &Interval, prev_kv: bool) -> Result<Deleted> {
        let (key, range_end) = self.namespace().to_wire(interval)?;
        let request = DeleteRangeRequest { key, range_end, prev_kv };
        let send = |channel, request| async move { stub!(KvClient<_>, channel).delete_range(request).await };
        let (answer, _) = self.core().call(Class::Call, Effect::Once, request, send).await?;
        let revision = revision(answer.header.map_or(0, |header| header.revision));
        self.core().floor.saw(revision);
        let count = u64::try_from(answer.deleted).unwrap_or(0);
        Ok(Deleted { count, revision, prev: self.namespace().pairs(answer.prev_kvs) })
    }
}

impl Compact {
    /// Waits until the space is free, however long it takes.
    pub fn physical(mut self) -> Self {
        self.request.physical = true;
        self
    }

    async fn send(self) -> Result<()> {
        let send = |channel, request| async move { stub!(KvClient<_>, channel).compact(request).await };
        let core = self.client.core();
        let patience = if self.request.physical { Patience::without_end() } else { core.patience() };
        match core.answered_within(patience, Class::Call, Effect::Repeatable, self.request, send).await {
            // An earlier try has done it, or somebody else in the meantime.
            Err(error) if error.attempts() > 1 && matches!(error.kind(), ErrorKind::Compacted { .. }) => Ok(()),
            other => other.map(|_| ()),
        }
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
awaitable!(PutPrev => Written);
awaitable!(Delete => Deleted);
awaitable!(Compact => ());

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

impl fmt::Debug for PutPrev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutPrev").field("key", &self.0.request.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for Compact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compact").field("request", &self.request).finish_non_exhaustive()
    }
}

impl fmt::Debug for Delete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delete").field("range", &self.range).finish_non_exhaustive()
    }
}
