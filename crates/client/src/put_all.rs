use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use bytes::Bytes;

use crate::client::Client;
use crate::error::{ErrorKind, Result};
use crate::txn::put;
use crate::{LeaseId, Revision};

/// Many pairs to be put; see [`Client::put_all`]. Awaiting it sends them, and gives the revision of the
/// last transaction: [`Revision::ZERO`] if there was nothing to put.
///
/// # Errors
/// As [`Put`](crate::Put). The pairs before those of the transaction that failed are written, in the order
/// given; those after it are not.
///
/// # Cancel safety
/// If the future is dropped, some first pairs are written.
#[derive(Clone)]
#[must_use = "pairs are sent when it is awaited"]
pub struct PutAll {
    client: Client,
    pairs: Vec<(Bytes, Bytes)>,
    lease: Option<LeaseId>,
    batch: usize,
}

/// What a server takes in one transaction, by default.
const BATCH: usize = 128;

/// Keys and values sent at once, together: servers take 1.5 MiB, by default.
const BATCH_BYTES: usize = 1 << 20;

impl Client {
    /// Puts many pairs, of any number and in order, in as few transactions as the server takes. This is
    /// **not atomic**: others see the pairs appear in steps, and after an error some are there and others
    /// are not. If all or nothing is needed, and it is few enough, use [`txn`](Self::txn).
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// client.put_all((0..10_000).map(|n| (format!("/number/{n}"), "x"))).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn put_all<K, V>(&self, pairs: impl IntoIterator<Item = (K, V)>) -> PutAll
    where
        K: Into<Bytes>,
        V: Into<Bytes>,
    {
        let pairs = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        PutAll { client: self.clone(), pairs, lease: None, batch: BATCH }
    }
}

impl PutAll {
    /// Deletes the keys when this lease ends.
    pub fn lease(mut self, lease: impl Into<LeaseId>) -> Self {
        self.lease = Some(lease.into());
        self
    }

    /// How many pairs are put at once; 128 by default. Fewer are when the server takes fewer.
    pub fn batch(mut self, pairs: usize) -> Self {
        self.batch = pairs.max(1);
        self
    }

    async fn send(self) -> Result<Revision> {
        let mut rest = self.pairs.as_slice();
        let mut batch = self.batch;
        let mut revision = Revision::ZERO;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fitting(rest, batch));
            let steps = now.iter().map(|(key, value)| {
                let step = put(key.clone(), value.clone());
                match self.lease {
                    Some(lease) => step.lease(lease),
                    None => step,
                }
            });
            match self.client.txn().then_all(steps).await {
                Ok(outcome) => (revision, rest) = (outcome.revision, later),
                // Refused as a whole: some servers take less.
                Err(error) if now.len() > 1 && is_too_much(error.kind()) => batch = now.len() / 2,
                Err(error) => return Err(error),
            }
        }
        Ok(revision)
    }
}

fn is_too_much(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::TooManyOps | ErrorKind::TooLarge)
}

/// How many of the first pairs go into one transaction; at least one. A transaction takes a key once.
fn fitting(pairs: &[(Bytes, Bytes)], batch: usize) -> usize {
    let mut keys = std::collections::HashSet::new();
    let mut bytes = 0;
    let fits = |(key, value): &&(Bytes, Bytes)| {
        bytes += key.len() + value.len();
        bytes <= BATCH_BYTES && keys.insert(key.clone())
    };
    pairs.iter().take(batch).take_while(fits).count().max(1)
}

impl IntoFuture for PutAll {
    type Output = Result<Revision>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl fmt::Debug for PutAll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutAll").field("pairs", &self.pairs.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &'static str, bytes: usize) -> (Bytes, Bytes) {
        (Bytes::from_static(key.as_bytes()), Bytes::from(vec![b'x'; bytes]))
    }

    #[test]
    fn a_transaction_holds_what_a_server_takes() {
        let small = [pair("a", 1), pair("b", 1), pair("c", 1)];
        assert_eq!(fitting(&small, 2), 2);
        assert_eq!(fitting(&small, 9), 3);
        let large = [pair("a", BATCH_BYTES / 2), pair("b", BATCH_BYTES / 2), pair("c", 1)];
        assert_eq!(fitting(&large, 9), 1, "their keys take space too");
        assert_eq!(fitting(&[pair("a", 2 * BATCH_BYTES), pair("b", 1)], 9), 1);
        assert_eq!(fitting(&[pair("a", 1), pair("b", 1), pair("a", 2)], 9), 2, "a key comes once");
    }
}
