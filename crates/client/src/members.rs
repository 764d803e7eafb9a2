//! Which endpoints a client has, and how it learns of others.

use std::fmt;
use std::sync::{Mutex, Once, PoisonError, Weak};
use std::time::Duration;

use stentor_proto::etcdserverpb::MemberListRequest;
use stentor_proto::etcdserverpb::cluster_client::ClusterClient;
use tokio::task::JoinSet;

use crate::Client;
use crate::call::{Core, Effect, stub};
use crate::endpoint::{Class, Endpoint};
use crate::error::{Error, ErrorKind, Result};

impl Client {
    /// The endpoints, as they were given or as the cluster named them.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.core().pool.endpoints().into_iter().map(|(_, endpoint)| endpoint).collect()
    }

    /// Uses these endpoints from now on. What is known of one that was there before, its connections
    /// included, is kept. Watch streams of one that is left out move to another, as after a break; calls that
    /// are under way end where they are.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`](crate::ClientBuilder::build) for its endpoints; then nothing has changed.
    pub fn set_endpoints<I, S>(&self, endpoints: I) -> Result<()>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let read = |text: S| {
            let endpoint = Endpoint::parse(text.as_ref())?;
            self.core().pool.admit(&endpoint)?;
            Ok(endpoint)
        };
        self.core().use_endpoints(endpoints.into_iter().map(read).collect::<Result<_>>()?)
    }

    /// Asks the cluster for its members and uses the addresses that they name for clients, instead of those
    /// that were given. Learners and members that have not started are left out, and so are addresses that do
    /// not go with the settings of TLS. Behind a proxy or a translation of addresses these may not be
    /// reachable: then it is no good idea.
    ///
    /// # Errors
    /// Those of the call; [`InvalidEndpoint`](ErrorKind::InvalidEndpoint) if no address can be used. Then
    /// nothing has changed.
    pub async fn sync_endpoints(&self) -> Result<()> {
        self.core().sync_endpoints().await
    }
}

impl Core {
    fn use_endpoints(&self, endpoints: Vec<Endpoint>) -> Result<()> {
        if endpoints.is_empty() {
            return Err(Error::with(ErrorKind::InvalidEndpoint, "name at least one, as host:port"));
        }
        self.pool.set_endpoints(endpoints);
        Ok(())
    }

    async fn sync_endpoints(&self) -> Result<()> {
        let request = MemberListRequest { linearizable: true };
        let call = self.call(Class::Call, Effect::Repeatable, request, |channel, request| async move {
            stub!(ClusterClient<_>, channel).member_list(request).await
        });
        let members = call.await?.0.members;
        // A member that has not started has no name yet.
        let serving = members.iter().filter(|member| !member.is_learner && !member.name.is_empty());
        let mut endpoints = Vec::new();
        for url in serving.flat_map(|member| &member.client_ur_ls) {
            match Endpoint::parse(url).and_then(|endpoint| self.pool.admit(&endpoint).map(|()| endpoint)) {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(error) => tracing::debug!(%error, "a member's address is left out"),
            }
        }
        if endpoints.is_empty() {
            return Err(Error::with(ErrorKind::InvalidEndpoint, "the cluster names no address that can be used"));
        }
        self.use_endpoints(endpoints)
    }
}

/// What a client does by itself now and then. Its task starts with the first call and ends with the client.
pub(crate) struct Upkeep {
    sync_interval: Option<Duration>,
    core: Weak<Core>,
    begun: Once,
    task: Mutex<JoinSet<()>>,
}

impl Upkeep {
    pub(crate) fn new(sync_interval: Option<Duration>) -> Upkeep {
        Upkeep { sync_interval, core: Weak::new(), begun: Once::new(), task: Mutex::default() }
    }

    pub(crate) fn belongs_to(&mut self, core: Weak<Core>) {
        self.core = core;
    }

    /// Starts the task, if there is anything to do and it was not started before.
    pub(crate) fn begin(&self) {
        let Some(interval) = self.sync_interval else { return };
        self.begun.call_once(|| {
            let core = self.core.clone();
            self.task.lock().unwrap_or_else(PoisonError::into_inner).spawn(sync_now_and_then(core, interval));
        });
    }
}

async fn sync_now_and_then(core: Weak<Core>, interval: Duration) {
    while let Some(pause) = core.upgrade().map(|core| core.fork_random().around(interval)) {
        tokio::time::sleep(pause).await;
        let Some(core) = core.upgrade() else { return };
        if let Err(error) = core.sync_endpoints().await {
            tracing::debug!(%error, "the cluster's members could not be learned");
        }
    }
}

impl fmt::Debug for Upkeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upkeep").field("sync_interval", &self.sync_interval).finish_non_exhaustive()
    }
}
