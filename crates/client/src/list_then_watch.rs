use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;

use crate::error::{ErrorKind, Result};
use crate::{Client, KeyRange, ListBuilder, Listing, Watch, WatchBuilder};

/// A list, and a watch of what happens after it; see [`Client::list_then_watch`]. Awaiting it reads the
/// list and starts the watch.
///
/// What can be set beyond this is set on the parts: read with [`Client::list`], then watch
/// [after](WatchBuilder::after) [`Listing::revision`].
///
/// # Errors
/// As [`ListBuilder`] and [`WatchBuilder`]. If compaction overtakes the list, it is read again a few times;
/// [`Compacted`](ErrorKind::Compacted) comes if that does not help, or as the last item of the watch.
///
/// # Cancel safety
/// If the future is dropped, nothing is left of either.
#[derive(Clone)]
#[must_use = "nothing is read or watched until it is awaited"]
pub struct ListThenWatch {
    list: ListBuilder,
    watch: WatchBuilder,
}

/// How often the list is read again because its revision is gone before the watch could begin.
const RESTARTS: usize = 5;

impl Client {
    /// All pairs of a range, and then every change of them: nothing is missed in between, and nothing in
    /// the list comes again.
    ///
    /// For a copy that stays complete whatever happens, also when the history is gone, see
    /// [`reflect`](Client::reflect).
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// use stentor_client::KeyRange;
    ///
    /// let (services, watch) = client.list_then_watch(KeyRange::prefix("/svc/")).await?;
    /// println!("{} services as of revision {}", services.pairs().len(), services.revision());
    /// let mut changes = watch.into_events();
    /// while let Some(change) = changes.next().await {
    ///     println!("{:?}", change?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list_then_watch(&self, range: impl Into<KeyRange>) -> ListThenWatch {
        let range = range.into();
        ListThenWatch { list: self.list(range.clone()), watch: self.watch(range) }
    }
}

impl ListThenWatch {
    /// With each event, the pair before it: see [`WatchBuilder::prev_kv`].
    pub fn prev_kv(mut self) -> Self {
        self.watch = self.watch.prev_kv();
        self
    }

    /// The watch also yields progress notes: see [`WatchBuilder::progress`].
    pub fn progress(mut self) -> Self {
        self.watch = self.watch.progress();
        self
    }

    /// The watch also tells when it was interrupted: see [`WatchBuilder::notices`].
    pub fn notices(mut self) -> Self {
        self.watch = self.watch.notices();
        self
    }

    /// How many pairs of the list are asked for at once: see [`ListBuilder::page_entries`].
    pub fn page_entries(mut self, entries: usize) -> Self {
        self.list = self.list.page_entries(entries);
        self
    }

    /// How much of the watch may wait to be taken: see [`WatchBuilder::buffer_bytes`].
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.watch = self.watch.buffer_bytes(bytes);
        self
    }

    async fn start(self) -> Result<(Listing, Watch)> {
        for _ in 0..RESTARTS {
            match self.clone().start_once().await {
                Err(error) if matches!(error.kind(), ErrorKind::Compacted { .. }) => {}
                other => return other,
            }
        }
        self.start_once().await
    }

    async fn start_once(self) -> Result<(Listing, Watch)> {
        let listing = self.list.await?;
        let watch = self.watch.after(listing.revision()).await?;
        Ok((listing, watch))
    }
}

impl IntoFuture for ListThenWatch {
    type Output = Result<(Listing, Watch)>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

impl fmt::Debug for ListThenWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListThenWatch").field("list", &self.list).field("watch", &self.watch).finish()
    }
}
