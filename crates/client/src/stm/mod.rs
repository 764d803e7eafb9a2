//! Optimistic transactions: code that reads and writes as if it were alone, and runs again if it was not.

mod commit;
mod sets;
mod transaction;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::Revision;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::stm::commit::{Ending, commit};
use crate::stm::sets::Sets;
pub use crate::stm::transaction::Transaction;

/// What a transaction of [`Client::stm`] is kept apart from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isolation {
    /// Everything is read at one revision; at the commit nothing that was read may have changed since, and nothing
    /// that is written either, read or not.
    #[default]
    SerializableSnapshot,
    /// Everything is read at one revision; at the commit nothing that was read may have changed since. A key that is
    /// written without having been read is overwritten, whatever it is.
    Serializable,
    /// Each key is read when it is first asked for, and stays as it was read; at the commit nothing that was read may
    /// have changed since. Keys that belong together may have been read at different revisions: such a run is
    /// repeated, but only after it has seen them so.
    RepeatableReads,
    /// Each key is read when it is first asked for. Nothing is checked at the commit: what others wrote meanwhile is
    /// overwritten.
    ReadCommitted,
}

impl Isolation {
    /// Everything is read at one revision.
    fn is_snapshot(self) -> bool {
        matches!(self, Isolation::SerializableSnapshot | Isolation::Serializable)
    }
}

/// What a transaction has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed<T> {
    /// What the function returned in the run that counts.
    pub value: T,
    /// Of the commit; if nothing was written, what was read was so at this revision.
    pub revision: Revision,
    /// How many times the function ran.
    pub attempts: u32,
}

/// A transaction to be run; see [`Client::stm`]. Awaiting it runs it, until it is committed.
///
/// # Errors
/// What the function returns, as it is: nothing is written then. [`Conflict`](ErrorKind::Conflict) if others were
/// faster in each of the [`attempts`](Self::attempts). [`TooManyOps`](ErrorKind::TooManyOps) if it read and wrote
/// more keys than the server takes in one transaction (128 by default). Those of a write;
/// [`Ambiguous`](ErrorKind::Ambiguous) if it is not known whether the commit took effect.
///
/// A commit without an answer is sent again if its conditions let at most one of the sendings take effect, which is
/// so when it writes a key that they are about. If the second sending finds a conflict, the keys are looked at:
/// where they show that the first cannot have taken effect, the function runs again; where they do not, the error is
/// `Ambiguous`.
///
/// # Cancel safety
/// If the future is dropped, everything may have been written, or nothing.
#[must_use = "a transaction runs when it is awaited"]
pub struct Stm<'f, T> {
    client: Client,
    // A lock makes it Sync; nobody ever waits for it.
    body: Mutex<Body<'f, T>>,
    isolation: Isolation,
    prefetch: Vec<Bytes>,
    attempts: u32,
}

type Run<'f, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'f>>;
type Body<'f, T> = Box<dyn FnMut(Transaction) -> Run<'f, T> + Send + 'f>;

/// How often a transaction runs, at most.
const ATTEMPTS: u32 = 64;

impl Client {
    /// Runs a function that reads and writes keys through a [`Transaction`], and commits what it wrote at once, if
    /// nobody has changed meanwhile what it read. Otherwise it runs again: it must do nothing else that counts.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// // Moves 10 from one account to the other, if there is enough.
    /// let moved = client
    ///     .stm(|t| async move {
    ///         let mut balances = [0_i64; 2];
    ///         for (balance, key) in balances.iter_mut().zip(["/account/a", "/account/b"]) {
    ///             let value = t.get(key).await?.unwrap_or_default();
    ///             *balance = String::from_utf8_lossy(&value).parse().unwrap_or(0);
    ///         }
    ///         if balances[0] < 10 {
    ///             return Ok(false);
    ///         }
    ///         t.put("/account/a", (balances[0] - 10).to_string());
    ///         t.put("/account/b", (balances[1] + 10).to_string());
    ///         Ok(true)
    ///     })
    ///     .prefetch(["/account/a", "/account/b"])
    ///     .await?;
    /// println!("moved: {}, at revision {}", moved.value, moved.revision);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stm<'f, T, F, R>(&self, mut function: F) -> Stm<'f, T>
    where
        F: FnMut(Transaction) -> R + Send + 'f,
        R: Future<Output = Result<T>> + Send + 'f,
    {
        let body: Body<'f, T> = Box::new(move |transaction| Box::pin(function(transaction)));
        Stm {
            client: self.clone(),
            body: Mutex::new(body),
            isolation: Isolation::default(),
            prefetch: Vec::new(),
            attempts: ATTEMPTS,
        }
    }
}

impl<T> Stm<'_, T> {
    /// What it is kept apart from; [`SerializableSnapshot`](Isolation::SerializableSnapshot) by default.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Reads these keys by one call before the function runs. They count as read, also if it asks for none of them.
    pub fn prefetch<I: IntoIterator<Item: Into<Bytes>>>(mut self, keys: I) -> Self {
        self.prefetch.extend(keys.into_iter().map(Into::into));
        self
    }

    /// How often the function may run before that is given up; 64 times by default, with pauses that grow as those
    /// of a [`Backoff`](crate::Backoff).
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    async fn run(self) -> Result<Committed<T>> {
        let Stm { client, body, isolation, prefetch, attempts } = self;
        let mut body = body.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut pauses = client.core().backoff.start();
        let mut sets = Sets::new(isolation);
        for attempt in 1..=attempts {
            let transaction = Transaction::new(&client, isolation, sets);
            if !prefetch.is_empty() {
                match transaction.fetch(&prefetch).await {
                    Err(error) if !transaction.is_overtaken() => return Err(error),
                    _ => {}
                }
            }
            let ran = if transaction.is_overtaken() { None } else { Some(body(transaction.clone()).await) };
            let ended = transaction.end();
            let ending = match ran {
                _ if ended.overtaken => Ending::Conflict(Sets::new(isolation)),
                Some(Ok(value)) => match commit(&client, ended.sets).await? {
                    Ending::Done(revision) => return Ok(Committed { value, revision, attempts: attempt }),
                    conflict => conflict,
                },
                Some(Err(error)) => return Err(error),
                None => Ending::Conflict(Sets::new(isolation)),
            };
            let Ending::Conflict(next) = ending else { break };
            sets = next;
            if attempt < attempts {
                tokio::time::sleep(client.core().pause(&mut pauses)).await;
            }
        }
        Err(Error::new(ErrorKind::Conflict).after(attempts))
    }
}

impl<'f, T: Send + 'f> IntoFuture for Stm<'f, T> {
    type Output = Result<Committed<T>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'f>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<T> fmt::Debug for Stm<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stm")
            .field("isolation", &self.isolation)
            .field("prefetch", &self.prefetch)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
