use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::stm::Isolation;
use crate::stm::sets::{Sets, Write};
use crate::txn::{OpResult, get};
use crate::{KeyValue, LeaseId, Revision};

/// One run of a transaction: what the function of [`Client::stm`](crate::Client::stm) reads and writes through. Clones
/// are the same run.
#[derive(Clone)]
pub struct Transaction(Arc<Shared>);

struct Shared {
    client: Client,
    isolation: Isolation,
    run: Mutex<Option<Running>>,
    /// One fetch at a time: the first says at which revision the others read.
    fetching: tokio::sync::Mutex<()>,
}

/// A run, up to now.
pub(super) struct Running {
    pub(super) sets: Sets,
    /// The history that it reads was compacted meanwhile.
    pub(super) overtaken: bool,
}

impl Transaction {
    pub(super) fn new(client: &Client, isolation: Isolation, sets: Sets) -> Transaction {
        let run = Mutex::new(Some(Running { sets, overtaken: false }));
        Transaction(Arc::new(Shared { client: client.clone(), isolation, run, fetching: Default::default() }))
    }

    /// The value of a key: as this run has written it, or else as it is in the store. `None` if there is none.
    ///
    /// # Errors
    /// Those of a read. Hand them on: the function runs again if that helps.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>> {
        let key = key.into();
        let written = self.run().as_ref().and_then(|run| run.sets.writes.get(&key).cloned());
        match written {
            Some(Write::Put { value, .. }) => Ok(Some(value)),
            Some(Write::Delete) => Ok(None),
            None => Ok(self.stored(key).await?.map(|pair| pair.into_parts().1)),
        }
    }

    /// The pair as it is in the store, with its revisions, whatever this run has written.
    ///
    /// # Errors
    /// As those of [`get`](Self::get).
    ///
    /// # Cancel safety
    /// As that of [`get`](Self::get).
    pub async fn stored(&self, key: impl Into<Bytes>) -> Result<Option<KeyValue>> {
        let key = key.into();
        self.fetch(std::slice::from_ref(&key)).await?;
        match self.run().as_ref() {
            Some(run) => Ok(run.sets.reads.get(&key).cloned().flatten()),
            None => Err(ended()),
        }
    }

    /// Creates or changes a key, if the run is committed. A key that was under a lease is not any more.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.write(key.into(), Write::Put { value: value.into(), lease: None });
    }

    /// As [`put`](Self::put), and the key goes when the lease ends.
    pub fn put_with_lease(&self, key: impl Into<Bytes>, value: impl Into<Bytes>, lease: impl Into<LeaseId>) {
        self.write(key.into(), Write::Put { value: value.into(), lease: Some(lease.into()) });
    }

    /// Deletes a key, if the run is committed.
    pub fn delete(&self, key: impl Into<Bytes>) {
        self.write(key.into(), Write::Delete);
    }

    /// Forgets everything that was to be written up to now. What was read still counts.
    pub fn rollback(&self) {
        if let Some(run) = self.run().as_mut() {
            run.sets.writes.clear();
        }
    }

    /// After the run has ended nothing is written any more.
    fn write(&self, key: Bytes, write: Write) {
        if let Some(run) = self.run().as_mut() {
            run.sets.writes.insert(key, write);
        }
    }

    /// Reads those keys that were not read yet, all at one revision.
    pub(super) async fn fetch(&self, keys: &[Bytes]) -> Result<()> {
        let _one_at_a_time = self.0.fetching.lock().await;
        let (missing, at) = match self.run().as_mut() {
            Some(run) => (run.sets.missing(keys), run.sets.first.filter(|_| self.0.isolation.is_snapshot())),
            None => return Err(ended()),
        };
        if missing.is_empty() {
            return Ok(());
        }
        let read = |key: &Bytes| match at {
            Some(revision) => get(key.clone()).at(revision),
            None => get(key.clone()),
        };
        let answer = self.0.client.txn().then_all(missing.iter().map(read)).await;
        let mut run = self.run();
        let Some(run) = run.as_mut() else { return Err(ended()) };
        let outcome = answer.inspect_err(|error| {
            run.overtaken |= at.is_some() && matches!(error.kind(), ErrorKind::Compacted { .. });
        })?;
        let pairs = outcome.results.into_iter().map(|result| match result {
            OpResult::Get(pair) => pair,
            _ => None,
        });
        run.sets.first.get_or_insert(outcome.revision.max(Revision::FIRST));
        run.sets.reads.extend(missing.into_iter().zip(pairs));
        Ok(())
    }

    pub(super) fn is_overtaken(&self) -> bool {
        self.run().as_ref().is_some_and(|run| run.overtaken)
    }

    /// Whoever still has a handle can't do anything with it.
    pub(super) fn end(&self) -> Running {
        self.run().take().unwrap_or(Running { sets: Sets::new(self.0.isolation), overtaken: true })
    }

    fn run(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended() -> Error {
    Error::with(ErrorKind::Closed, "this run of the transaction has ended")
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.run();
        let sets = run.as_ref().map(|run| &run.sets);
        f.debug_struct("Transaction")
            .field("isolation", &self.0.isolation)
            .field("read", &sets.map(|sets| sets.reads.keys().collect::<Vec<_>>()))
            .field("written", &sets.map(|sets| sets.writes.keys().collect::<Vec<_>>()))
            .finish_non_exhaustive()
    }
}
