use std::fmt;
use std::sync::Arc;

use super::entry::{Decode, Entry, Pair, Reason, Slot};
use super::handle::Reflector;
use crate::{Backoff, Client, KeyRange, KeyValue};

/// A local copy to be made; see [`Client::reflect`].
#[must_use = "nothing is copied until it is started"]
pub struct ReflectBuilder<V = KeyValue> {
    pub(super) client: Client,
    pub(super) range: KeyRange,
    pub(super) page_entries: Option<usize>,
    pub(super) subscriber_changes: usize,
    pub(super) backoff: Backoff,
    pub(super) decode: Arc<Decode<V>>,
}

/// What may wait for a subscriber.
const SUBSCRIBER_CHANGES: usize = 1024;

/// Lists are expensive, and what a further one would mend takes time to come about.
const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_secs(30);

impl Client {
    /// A copy of a range of keys in this process that keeps itself complete: through broken connections,
    /// members that come and go, compaction, and a store that is restored from a backup.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// use stentor_client::{KeyRange, SubscriptionItem};
    ///
    /// let services = client.reflect(KeyRange::prefix("/svc/")).start();
    /// services.ready().await?;
    /// println!("{:?}", services.get("/svc/a"));
    ///
    /// // Reads its own write.
    /// let written = client.put("/svc/b", "10.0.0.2:80").await?;
    /// services.wait_for(written).await?;
    /// assert!(services.get("/svc/b").is_some());
    ///
    /// let (there_is, mut changes) = services.subscribe();
    /// println!("{} services as of revision {}", there_is.len(), there_is.revision());
    /// while let Some(item) = changes.next().await {
    ///     if let SubscriptionItem::Changes(changes) = item? {
    ///         for change in &changes {
    ///             println!("{:?} was {:?}, is {:?}", change.key(), change.before(), change.after());
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn reflect(&self, range: impl Into<KeyRange>) -> ReflectBuilder {
        ReflectBuilder {
            client: self.clone(),
            range: range.into(),
            page_entries: None,
            subscriber_changes: SUBSCRIBER_CHANGES,
            backoff: Backoff::default().longest(LONGEST_PAUSE),
            decode: Arc::new(|pair| Slot::Good(Arc::new(pair))),
        }
    }
}

impl<V: Pair> ReflectBuilder<V> {
    /// Keeps what the values mean beside the pairs: what the copy has is then [`Entry<T>`](Entry). A pair
    /// that cannot be decoded is not in the copy, but among those that
    /// [`undecodable`](Reflector::undecodable) gives and [`status`](Reflector::status) counts.
    ///
    /// It is called once for each change, by the task of the reflector: it should not block, and a panic
    /// ends the reflector with [`Closed`](crate::ErrorKind::Closed).
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// use stentor_client::KeyRange;
    ///
    /// let limits = client.reflect(KeyRange::prefix("/limit/"));
    /// let limits = limits.decode(|pair| pair.value_str().unwrap_or_default().parse::<u32>()).start();
    /// limits.ready().await?;
    /// let most = limits.get("/limit/connections").map_or(100, |limit| *limit.value());
    /// # let _ = most;
    /// # Ok(())
    /// # }
    /// ```
    pub fn decode<T, E, F>(self, decode: F) -> ReflectBuilder<Entry<T>>
    where
        T: Send + Sync + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
        F: Fn(&KeyValue) -> Result<T, E> + Send + Sync + 'static,
    {
        let decode = move |pair: KeyValue| {
            let decoded = decode(&pair).map_err(|error| -> Reason { error.into() });
            Slot::decoded(pair, decoded)
        };
        ReflectBuilder {
            client: self.client,
            range: self.range,
            page_entries: self.page_entries,
            subscriber_changes: self.subscriber_changes,
            backoff: self.backoff,
            decode: Arc::new(decode),
        }
    }

    /// How many pairs of a list are asked for at once: see
    /// [`ListBuilder::page_entries`](crate::ListBuilder::page_entries).
    pub fn page_entries(mut self, entries: usize) -> Self {
        self.page_entries = Some(entries);
        self
    }

    /// How many changes may wait for each subscriber; 1,024 by default. What one that falls further behind
    /// gets is told with [`SubscriptionItem::Lagged`](crate::SubscriptionItem::Lagged).
    pub fn subscriber_changes(mut self, changes: usize) -> Self {
        self.subscriber_changes = changes.max(1);
        self
    }

    /// How long to wait before the list is read or the watch started again. By default the first repetition
    /// comes at once, and the pauses then grow from 20 ms to 30 s; they become short again after 30 s in
    /// sync. A watch that breaks is resumed without this.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Starts to make the copy, by a task of the runtime this is called in. Outside of one, it has ended
    /// with [`Closed`](crate::ErrorKind::Closed).
    pub fn start(self) -> Reflector<V> {
        Reflector::start(self)
    }
}

impl<V> Clone for ReflectBuilder<V> {
    fn clone(&self) -> Self {
        ReflectBuilder {
            client: self.client.clone(),
            range: self.range.clone(),
            page_entries: self.page_entries,
            subscriber_changes: self.subscriber_changes,
            backoff: self.backoff,
            decode: self.decode.clone(),
        }
    }
}

impl<V> fmt::Debug for ReflectBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReflectBuilder")
            .field("range", &self.range)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}
