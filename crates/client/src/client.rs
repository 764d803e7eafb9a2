use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::call::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::watch::HubHandle;
use crate::{ClientBuilder, KeyRange, WatchBuilder};

/// A client of one cluster. Cheap to clone; clones share its connections, its token and its streams.
///
/// Its tasks run on the runtime in which it first needed them: when that is gone, watches end with
/// [`Closed`](crate::ErrorKind::Closed). Dropping the last clone does not end the watches; dropping them
/// does.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

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
        Client(Arc::new(Shared { core, hub: Mutex::new(HubState::NotStarted) }))
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

    /// Ends every watch of this client and its clones with [`Closed`](crate::ErrorKind::Closed). Other
    /// calls are not affected.
    pub fn close_watches(&self) {
        let mut hub = self.0.hub.lock().unwrap_or_else(PoisonError::into_inner);
        if let HubState::Running(hub) = std::mem::replace(&mut *hub, HubState::Closed) {
            hub.close();
        }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.0.core
    }

    /// The task that drives the watches, started with the first.
    pub(crate) fn hub(&self) -> Result<HubHandle> {
        let mut hub = self.0.hub.lock().unwrap_or_else(PoisonError::into_inner);
        match &*hub {
            HubState::Running(hub) => Ok(hub.clone()),
            HubState::Closed => Err(Error::new(ErrorKind::Closed)),
            HubState::NotStarted => {
                let started = HubHandle::start(self.0.core.clone());
                *hub = HubState::Running(started.clone());
                Ok(started)
            }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.0.core).finish()
    }
}
