//! Transactions: conditions, and what is done at once if they hold or if not.
//!
//! ```no_run
//! # async fn example(client: stentor_client::Client, seen: stentor_client::Revision) -> stentor_client::Result<()> {
//! use stentor_client::KeyRange;
//! use stentor_client::txn::{delete, each, get, key, nested, put};
//!
//! // Move a task, if nothing below it has changed since it was read.
//! let outcome = client
//!     .txn()
//!     .when(key("/task/1").exists())
//!     .when(each(KeyRange::prefix("/task/1/")).mod_revision().lt(seen.next()))
//!     .then(delete(KeyRange::segment("/task/1")).prev_kv())
//!     .then(put("/done/1", "ok"))
//!     .then(nested().when(key("/count").is_missing()).then(put("/count", "1")))
//!     .or_else(get("/task/1"))
//!     .await?;
//! println!("{} at revision {}: {:?}", outcome.succeeded, outcome.revision, outcome.results);
//! # Ok(())
//! # }
//! ```

mod compare;
mod op;
mod outcome;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use stentor_proto::etcdserverpb::TxnRequest;
use stentor_proto::etcdserverpb::kv_client::KvClient;

pub use compare::{Compare, Operand, Subject, each, key};
pub use op::{DeleteOp, GetOp, ListOp, Op, PutOp, delete, get, list, put};
pub(crate) use op::{ignore_lease, ignore_value};
pub use outcome::{OpResult, TxnOutcome};

use crate::call::{Answered, Effect, stub};
use crate::client::Client;
use crate::endpoint::{Class, Connection, Endpoint};
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::namespace::Namespace;

/// A transaction; see [`Client::txn`]. Awaiting it sends it.
///
/// All conditions are tested at the state before; then one of the two branches runs, as one revision. A step
/// sees what the steps before it have done. The server takes 128 conditions and 128 steps in each branch, by
/// default; a [segment](crate::KeyRange::segment) is two steps. It refuses a branch that changes one key twice.
///
/// # Errors
/// [`TooManyOps`](crate::ErrorKind::TooManyOps) above the server's limit;
/// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) for a branch that changes a key twice, or an empty
/// key. If it could write: [`Ambiguous`](crate::ErrorKind::Ambiguous) if it was sent and no answer came; it
/// is never sent twice unless the first surely had no effect. One that only reads is sent again like any
/// read.
///
/// # Cancel safety
/// If the future is dropped, what it would write may have been written or not.
#[derive(Clone)]
#[must_use = "a transaction is sent when it is awaited"]
pub struct Txn {
    client: Client,
    body: Nested,
}

/// A transaction as a step of another one; see [`nested`].
#[derive(Clone, Debug, Default)]
#[must_use = "it is a step of a transaction: give it to `then` or `or_else`"]
pub struct Nested {
    when: Vec<Compare>,
    then: Vec<Op>,
    or_else: Vec<Op>,
}

/// A transaction in a transaction. Its conditions are tested at the state before the outermost one; its
/// steps count towards the limits of that.
pub fn nested() -> Nested {
    Nested::default()
}

impl Client {
    /// Several conditions and steps, all at once: see [`Txn`].
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// use stentor_client::txn::{get, key, put};
    ///
    /// let outcome = client.txn().when(key("/a").version().eq(0)).then(put("/a", "1")).or_else(get("/a")).await?;
    /// if outcome.succeeded {
    ///     println!("created at revision {}", outcome.revision);
    /// } else {
    ///     println!("there was one: {:?}", outcome.pair(0));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn txn(&self) -> Txn {
        Txn { client: self.clone(), body: Nested::default() }
    }
}

/// The same words for both kinds of transaction.
macro_rules! words {
    ($txn:ident, |$self:ident| $body:expr) => {
        impl $txn {
            /// Adds a condition. All of them have to hold; without any, the transaction succeeds.
            pub fn when(mut $self, condition: Compare) -> Self {
                $body.when.push(condition);
                $self
            }

            /// Adds conditions.
            pub fn when_all(mut $self, conditions: impl IntoIterator<Item = Compare>) -> Self {
                $body.when.extend(conditions);
                $self
            }

            /// Adds a step for the case that all conditions hold.
            pub fn then(mut $self, step: impl Into<Op>) -> Self {
                $body.then.push(step.into());
                $self
            }

            /// Another name of [`then`](Self::then).
            pub fn and_then($self, step: impl Into<Op>) -> Self {
                $self.then(step)
            }

            /// Adds steps for the case that all conditions hold.
            pub fn then_all<I: IntoIterator<Item: Into<Op>>>(mut $self, steps: I) -> Self {
                $body.then.extend(steps.into_iter().map(Into::into));
                $self
            }

            /// Adds a step for the case that a condition does not hold.
            pub fn or_else(mut $self, step: impl Into<Op>) -> Self {
                $body.or_else.push(step.into());
                $self
            }

            /// Adds steps for the case that a condition does not hold.
            pub fn or_else_all<I: IntoIterator<Item: Into<Op>>>(mut $self, steps: I) -> Self {
                $body.or_else.extend(steps.into_iter().map(Into::into));
                $self
            }
        }
    };
}

words!(Txn, |self| self.body);
words!(Nested, |self| self);

impl Nested {
    /// Whether it can change anything.
    fn writes(&self) -> bool {
        self.then.iter().chain(&self.or_else).any(Op::writes)
    }

    /// How often it may be sent.
    pub(crate) fn effect(&self) -> Effect {
        if self.writes() { Effect::Once } else { Effect::Repeatable }
    }

    pub(crate) fn to_wire(&self, namespace: &Namespace) -> Result<TxnRequest> {
        let branch = |ops: &[Op]| -> Result<Vec<_>> {
            let mut steps = Vec::with_capacity(ops.len());
            ops.iter().try_for_each(|op| op.to_wire(namespace, &mut steps))?;
            Ok(steps)
        };
        Ok(TxnRequest {
            compare: self.when.iter().map(|compare| compare.to_wire(namespace)).collect::<Result<_>>()?,
            success: branch(&self.then)?,
            failure: branch(&self.or_else)?,
        })
    }
}

/// The answer to a transaction that may have been sent several times.
pub(crate) struct Settled {
    pub(crate) outcome: TxnOutcome,
    /// An earlier sending may have taken effect.
    pub(crate) unsure: bool,
    /// Who answered.
    pub(crate) endpoint: Endpoint,
}

impl Txn {
    /// These conditions and steps, by this client.
    pub(crate) fn of(client: &Client, body: Nested) -> Txn {
        Txn { client: client.clone(), body }
    }

    async fn send(self) -> Result<TxnOutcome> {
        Ok(self.send_once().await?.outcome)
    }

    /// Sends it again only if it surely did not happen, or changes nothing.
    pub(crate) async fn send_once(self) -> Result<Settled> {
        let effect = self.body.effect();
        self.send_as(effect).await
    }

    /// Sends it again when no answer came, also if it writes: its conditions let at most one of the sendings
    /// take effect.
    pub(crate) async fn send_guarded(self) -> Result<Settled> {
        self.send_as(Effect::Guarded).await
    }

    async fn send_as(self, effect: Effect) -> Result<Settled> {
        let namespace = self.client.namespace();
        let request = self.body.to_wire(namespace)?;
        let send = |channel, request| async move { stub!(KvClient<_>, channel).txn(request).await };
        let answered = self.client.core().answered(Class::Call, effect, request, send).await?;
        let Answered { answer, connection: Connection { endpoint, .. }, unsure } = answered;
        match self.body.outcome(answer, namespace) {
            Some(outcome) => {
                self.client.core().floor.saw(outcome.revision);
                Ok(Settled { outcome, unsure, endpoint })
            }
            None => {
                let fault = Fault::Protocol("the steps answered are not those of the transaction");
                Err(Error::from_fault(&fault, effect != Effect::Repeatable).at(&endpoint))
            }
        }
    }
}

impl IntoFuture for Txn {
    type Output = Result<TxnOutcome>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl fmt::Debug for Txn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Txn")
            .field("when", &self.body.when)
            .field("then", &self.body.then)
            .field("or_else", &self.body.or_else)
            .finish_non_exhaustive()
    }
}
