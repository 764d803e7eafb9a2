use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::call::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::namespace::Namespace;
use crate::watch::HubHandle;
use crate::{ClientBuilder, KeyRange, WatchBuilder};

/// A client of one cluster. Cheap to clone; clones share its connections, its token and its streams.
///
/// Its tasks run on the runtime in which it first needed them: when that is gone, watches end with
/// [`Closed`](crate::ErrorKind::Closed). Dropping the last clone does not end the watches; dropping them
/// does.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    namespace: Namespace,
}

struct Shared {
    core: Arc<Core>,
    hub: Mutex<HubState>,
}

enum HubState {
    NotStarted,
    Running(HubHandle),
    Closed,
}

impl Client {
    /// A client with the defaults of [`ClientBuilder`], connected to one of the endpoints, each
    /// `host:port` or `http://host:port`.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub async fn connect<I, S>(endpoints: I) -> Result<Client>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        Client::builder(endpoints).connect().await
    }

    /// A client for these endpoints, each `host:port` or `http://host:port`.
    pub fn builder<I, S>(endpoints: I) -> ClientBuilder
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        ClientBuilder::new(endpoints.into_iter().map(|e| e.as_ref().to_owned()).collect())
    }

    pub(crate) fn new(made: Core) -> Client {
        let core = Arc::new_cyclic(|core| {
            let mut made = made;
            made.upkeep.belongs_to(core.clone());
            made
        });
        let shared = Shared { core, hub: Mutex::new(HubState::NotStarted) };
        Client { shared: Arc::new(shared), namespace: Namespace::default() }
    }

    /// The changes of a range of keys, from now on or from a revision: see [`WatchBuilder`], and
    /// [`Watch`](crate::Watch) for what it promises.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// use stentor_client::{KeyRange, WatchItem};
    ///
    /// let mut watch = client.watch(KeyRange::segment("/task/10.0.0.1")).prev_kv().await?;
    /// while let Some(item) = watch.next().await {
    ///     // An error is the last item: nothing that a further try would mend.
    ///     if let WatchItem::Events(batch) = item? {
    ///         for event in &batch {
    ///             println!("{:?} {:?}", event.kind(), event.kv().key());
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self, range: impl Into<KeyRange>) -> WatchBuilder {
        WatchBuilder::new(self.clone(), range.into())
    }

    /// A client that sees the keys below a prefix as if they were all there are: it puts the prefix before
    /// every key it sends (of pairs, ranges, conditions and watches) and takes it off every key it is
    /// given. A range without an upper end ends where the prefix does. Shares connections, streams and
    /// token with this one.
    ///
    /// It separates programs that mean no harm; to keep others out, give users of their own rights to the
    /// prefix. Leases and compaction are those of the whole store, and so are revisions. An empty key is
    /// refused with [`InvalidArgument`](crate::ErrorKind::InvalidArgument).
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// let tenant = client.namespaced("/tenant/7/");
    /// tenant.put("limit", "10").await?;
    /// assert!(client.get("/tenant/7/limit").await?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn namespaced(&self, prefix: impl Into<Bytes>) -> Client {
        Client { shared: self.shared.clone(), namespace: self.namespace.below(prefix.into()) }
    }

    /// Ends every watch of this client and its clones with [`Closed`](crate::ErrorKind::Closed). Other
    /// calls are not affected.
    pub fn close_watches(&self) {
        let mut hub = self.shared.hub.lock().unwrap_or_else(PoisonError::into_inner);
        if let HubState::Running(hub) = std::mem::replace(&mut *hub, HubState::Closed) {
            hub.close();
        }
    }

    /// What its keys begin with, unseen by the program.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// For a task that outlives the call that started it.
    pub(crate) fn shared_core(&self) -> Arc<Core> {
        self.shared.core.clone()
    }

    pub(crate) fn core(&self) -> &Core {
        &self.shared.core
    }

    /// The task that drives the watches, started with the first.
    pub(crate) fn hub(&self) -> Result<HubHandle> {
        let mut hub = self.shared.hub.lock().unwrap_or_else(PoisonError::into_inner);
        match &*hub {
            HubState::Running(hub) => Ok(hub.clone()),
            HubState::Closed => Err(Error::new(ErrorKind::Closed)),
            HubState::NotStarted => {
                let started = HubHandle::start(self.shared.core.clone())?;
                *hub = HubState::Running(started.clone());
                Ok(started)
            }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("core", &self.shared.core).field("namespace", &self.namespace).finish()
    }
}
