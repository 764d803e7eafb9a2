//! Writes that happen only if the key is as the program knows it.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use bytes::Bytes;

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::fault::Fault;
use crate::txn::{Compare, Nested, OpResult, PutOp, Settled, Txn, delete, get, key, put};
use crate::{KeyValue, LeaseId, Revision};

/// What became of a conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// It happened, at this revision.
    Done(Revision),
    /// It did not happen: the key is not as it was said to be, but so.
    Lost(Option<KeyValue>),
}

/// A conditional put; see [`Client::create`] and [`Client::replace`]. Awaiting it sends it.
///
/// # Errors
/// As [`Put`](crate::Put). [`Ambiguous`](ErrorKind::Ambiguous) if it was sent and no answer came; see
/// [`retry_guarded`](Self::retry_guarded) for a way out.
///
/// # Cancel safety
/// If the future is dropped, the write may have happened or not.
#[derive(Clone)]
#[must_use = "a write is sent when it is awaited"]
pub struct ConditionalPut {
    client: Client,
    guard: Compare,
    write: PutOp,
    retry: bool,
    unique: bool,
}

/// A conditional deletion; see [`Client::remove`]. Awaiting it sends it.
///
/// # Errors
/// As [`ConditionalPut`]; [`InvalidArgument`](ErrorKind::InvalidArgument) for [`Revision::ZERO`].
///
/// # Cancel safety
/// If the future is dropped, the key may have been deleted or not.
#[derive(Clone)]
#[must_use = "a deletion is sent when it is awaited"]
pub struct ConditionalDelete {
    client: Client,
    key: Bytes,
    known: Revision,
    retry: bool,
}

impl Client {
    /// Puts a key only if it does not exist.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// use stentor_client::Swap;
    ///
    /// match client.create("/leader", "me").await? {
    ///     Swap::Done(revision) => println!("created at {revision}"),
    ///     Swap::Lost(now) => println!("there is one: {now:?}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn create(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> ConditionalPut {
        let key = key.into();
        let guard = self::key(key.clone()).is_missing();
        ConditionalPut { client: self.clone(), guard, write: put(key, value), retry: false, unique: false }
    }

    /// Puts a key only if its last change is that of `known`, the
    /// [`mod_revision`](KeyValue::mod_revision) of the pair as the program has read it.
    /// [`Revision::ZERO`] stands for a key that does not exist.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// use stentor_client::Swap;
    ///
    /// let mut now = client.get("/counter").await?;
    /// loop {
    ///     let known = now.as_ref().map_or(stentor_client::Revision::ZERO, |pair| pair.mod_revision());
    ///     let count: u64 = now.as_ref().and_then(|pair| pair.value_str()?.parse().ok()).unwrap_or(0);
    ///     match client.replace("/counter", (count + 1).to_string(), known).await? {
    ///         Swap::Done(_) => break,
    ///         Swap::Lost(other) => now = other,
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn replace(&self, key: impl Into<Bytes>, value: impl Into<Bytes>, known: Revision) -> ConditionalPut {
        let key = key.into();
        let guard = self::key(key.clone()).mod_revision().eq(known);
        ConditionalPut { client: self.clone(), guard, write: put(key, value), retry: false, unique: false }
    }

    /// Deletes a key only if its last change is that of `known`; see [`replace`](Self::replace).
    pub fn remove(&self, key: impl Into<Bytes>, known: Revision) -> ConditionalDelete {
        ConditionalDelete { client: self.clone(), key: key.into(), known, retry: false }
    }
}

impl ConditionalPut {
    /// Deletes the key when this lease ends.
    pub fn lease(mut self, lease: impl Into<LeaseId>) -> Self {
        self.write = self.write.lease(lease);
        self
    }

    /// Sends it again, on another endpoint if there is one, when no answer came: the condition lets at most
    /// one of the sendings take effect. (For a key that did not exist: unless somebody deletes it again
    /// while an earlier sending is still on its way.)
    ///
    /// A sending that finds the key changed, after one without an answer, does not know by whom: by the
    /// earlier one, or by somebody else. Then it fails with [`Ambiguous`](ErrorKind::Ambiguous) all the
    /// same, unless the value decides: see [`unique_value`](Self::unique_value).
    pub fn retry_guarded(mut self) -> Self {
        self.retry = true;
        self
    }

    /// States that nobody else ever puts this value to this key: it has a number in it that was drawn for
    /// this write. Who reads it back then knows that the write happened, and
    /// [`retry_guarded`](Self::retry_guarded) says `Done`.
    pub fn unique_value(mut self) -> Self {
        self.unique = true;
        self
    }

    async fn send(self) -> Result<Swap> {
        let PutOp(request) = &self.write;
        let (key, value) = (request.key.clone(), request.value.clone());
        let body = Nested::default().when(self.guard).then(self.write).or_else(get(key));
        let unique = self.unique;
        swap(&self.client, body, self.retry, |now| match now {
            Some(now) if unique && *now.value() == value => Some(Swap::Done(now.mod_revision())),
            _ => None,
        })
        .await
    }
}

impl ConditionalDelete {
    /// Sends it again when no answer came; see [`ConditionalPut::retry_guarded`]. A sending that finds the
    /// key gone, after one without an answer, fails with [`Ambiguous`](ErrorKind::Ambiguous): either of
    /// them, or somebody else, has deleted it.
    pub fn retry_guarded(mut self) -> Self {
        self.retry = true;
        self
    }

    async fn send(self) -> Result<Swap> {
        let known = self.known;
        if known == Revision::ZERO {
            return Err(Error::with(ErrorKind::InvalidArgument, "a key that does not exist cannot be removed"));
        }
        let guard = key(self.key.clone()).mod_revision().eq(known);
        let body = Nested::default().when(guard).then(delete(self.key.clone())).or_else(get(self.key));
        swap(&self.client, body, self.retry, |now| match now {
            // The key lives on since before: no sending has deleted it, and none can any more.
            Some(now) if now.create_revision() <= known => Some(Swap::Lost(Some(now.clone()))),
            _ => None,
        })
        .await
    }
}

/// Runs the transaction. `decide` tells, from the pair as it is now, what became of an earlier sending.
async fn swap(
    client: &Client,
    body: Nested,
    retry: bool,
    decide: impl FnOnce(&Option<KeyValue>) -> Option<Swap>,
) -> Result<Swap> {
    let txn = Txn::of(client, body);
    let Settled { outcome, unsure, endpoint } = if retry { txn.send_guarded().await? } else { txn.send_once().await? };
    let (succeeded, revision) = (outcome.succeeded, outcome.revision);
    match (succeeded, outcome.results.into_iter().next()) {
        (true, Some(_)) => Ok(Swap::Done(revision)),
        (false, Some(OpResult::Get(now))) if !unsure => Ok(Swap::Lost(now)),
        (false, Some(OpResult::Get(now))) => decide(&now).ok_or_else(|| {
            let text = "the key is changed: by a sending without an answer, or by somebody else";
            Error::with(ErrorKind::Ambiguous, text).at(&endpoint)
        }),
        _ => {
            let fault = Fault::Protocol("the steps answered are not those of the transaction");
            Err(Error::from_fault(&fault, true).at(&endpoint))
        }
    }
}

impl IntoFuture for ConditionalPut {
    type Output = Result<Swap>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl IntoFuture for ConditionalDelete {
    type Output = Result<Swap>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl fmt::Debug for ConditionalPut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConditionalPut").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl fmt::Debug for ConditionalDelete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConditionalDelete").field("key", &self.key).field("known", &self.known).finish_non_exhaustive()
    }
}
