use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use stentor_proto::etcdserverpb::StatusRequest;
use stentor_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::backoff::Backoff;
use crate::endpoint::dial::{DialOptions, Opened, Refusal};
use crate::endpoint::health::Health;
use crate::endpoint::{Class, Endpoint, Trouble};
use crate::error::{Error, ErrorKind};
use crate::fault::Fault;
use crate::random::Random;

/// The endpoints of a client and its connections to them. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

/// How a pool behaves.
pub(crate) struct PoolOptions {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) dial: DialOptions,
    pub(crate) backoff: Backoff,
    /// How long one try of a call may take.
    pub(crate) try_timeout: Duration,
}

struct Inner {
    members: Vec<Member>,
    dial: DialOptions,
    try_timeout: Duration,
    health: Mutex<Health>,
    /// Counts the times an endpoint became usable again.
    recoveries: watch::Sender<u64>,
    /// At most one for each endpoint; they end with the pool.
    probers: Mutex<JoinSet<()>>,
}

struct Member {
    endpoint: Endpoint,
    slots: [Slot; Class::COUNT],
}

/// Where the connection of one class to one endpoint is kept. Whoever needs it first opens it, the others
/// wait for that.
#[derive(Default)]
struct Slot {
    open: AsyncMutex<Open>,
    /// Connections opened or tried so far.
    dials: AtomicU64,
}

#[derive(Default)]
struct Open {
    channel: Option<(u64, Opened)>,
    /// What the last failed try ran into.
    failure: Option<Fault>,
}

/// A connection to call on.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    refusal: Refusal,
    pub(crate) endpoint: Endpoint,
    pub(crate) index: usize,
    class: Class,
    /// Which of the slot's connections it is.
    number: u64,
}

impl Connection {
    /// What the status of a call on it means.
    pub(crate) fn fault(&self, status: &Status) -> Fault {
        match (Fault::from_status(status, self.endpoint.as_str()), self.refusal.reason()) {
            (Fault::Connection { endpoint, .. } | Fault::Unreachable { endpoint, .. }, Some(reason)) => {
                Fault::Tls { endpoint, reason }
            }
            (fault, _) => fault,
        }
    }
}

impl Pool {
    pub(crate) fn new(options: PoolOptions, random: Random) -> Pool {
        let health = Health::new(options.endpoints.len(), options.backoff, random);
        let member = |endpoint| Member { endpoint, slots: Default::default() };
        Pool(Arc::new(Inner {
            members: options.endpoints.into_iter().map(member).collect(),
            dial: options.dial,
            try_timeout: options.try_timeout,
            health: Mutex::new(health),
            recoveries: watch::Sender::new(0),
            probers: Mutex::default(),
        }))
    }

    pub(crate) fn try_timeout(&self) -> Duration {
        self.0.try_timeout
    }

    /// A connection to a usable endpoint, another than `avoid` if there is one. Waits while all are in
    /// trouble: the caller's deadline is the end of it. Cancel safe.
    pub(crate) async fn connection(&self, class: Class, mut avoid: Option<usize>) -> Connection {
        let mut recoveries = self.0.recoveries.subscribe();
        loop {
            recoveries.mark_unchanged();
            let Some(index) = self.0.health().pick(avoid) else {
                // The sender lives as long as the pool.
                recoveries.changed().await.ok();
                continue;
            };
            match self.0.open(index, class).await {
                Ok(connection) => return connection,
                Err(fault) => {
                    self.trouble(index, Trouble::of_opening(&fault));
                    avoid = Some(index);
                }
            }
        }
    }

    /// A call on the connection was answered, if only by a refusal.
    pub(crate) fn succeeded(&self, connection: &Connection) {
        self.0.recovered(connection.index);
    }

    /// A call on the connection failed in a way that speaks against its endpoint.
    pub(crate) fn failed(&self, connection: &Connection, trouble: Trouble) {
        if !matches!(trouble, Trouble::Unfit(_)) && !self.forget(connection) {
            // Others have moved on to a newer connection: nothing is known of that.
            return;
        }
        self.trouble(connection.index, trouble);
    }

    /// Why nothing is usable, if something is in trouble.
    pub(crate) fn why_unavailable(&self) -> Option<Error> {
        let health = self.0.health();
        let troubles: Vec<_> = (0..self.0.members.len()).filter_map(|i| Some(health.trouble(i)?.0)).collect();
        let distrust = troubles.iter().all(|trouble| matches!(trouble, Trouble::Untrusted(_)));
        let kind = if distrust { ErrorKind::Tls } else { ErrorKind::Unavailable };
        let texts: Vec<_> = troubles.iter().map(|trouble| trouble.text()).collect();
        (!texts.is_empty()).then(|| Error::with(kind, texts.join("; ")))
    }

    fn trouble(&self, index: usize, trouble: Trouble) {
        let text = trouble.text().to_owned();
        if self.0.health().failed(index, trouble, Instant::now()) {
            let endpoint = self.0.members.get(index).map(|m| m.endpoint.as_str());
            tracing::warn!(endpoint, reason = text, "endpoint in trouble");
            let mut probers = lock(&self.0.probers);
            while probers.try_join_next().is_some() {}
            probers.spawn(probe(Arc::downgrade(&self.0), index));
        }
    }

    /// Drops the connection from its slot. False if the slot holds another by now. One that is being
    /// opened just now counts as another.
    fn forget(&self, connection: &Connection) -> bool {
        let slot = self.0.slot(connection.index, connection.class);
        let Some(Ok(mut open)) = slot.map(|slot| slot.open.try_lock()) else { return false };
        let same = open.channel.as_ref().is_none_or(|(number, _)| *number == connection.number);
        if same {
            open.channel = None;
        }
        same
    }
}

impl Inner {
    fn health(&self) -> MutexGuard<'_, Health> {
        lock(&self.health)
    }

    fn slot(&self, index: usize, class: Class) -> Option<&Slot> {
        self.members.get(index)?.slots.get(class.index())
    }

    /// The connection of its class, opened if need be. Several who ask at once open one.
    async fn open(&self, index: usize, class: Class) -> Result<Connection, Fault> {
        let (Some(member), Some(slot)) = (self.members.get(index), self.slot(index, class)) else {
            return Err(Fault::NoEndpoint);
        };
        let seen = slot.dials.load(Ordering::Relaxed);
        let mut open = slot.open.lock().await;
        let connection = |number, opened: &Opened| Connection {
            channel: opened.channel.clone(),
            refusal: opened.refusal.clone(),
            endpoint: member.endpoint.clone(),
            index,
            class,
            number,
        };
        if let Some((number, channel)) = &open.channel {
            return Ok(connection(*number, channel));
        }
        let number = slot.dials.load(Ordering::Relaxed);
        if number != seen
            && let Some(fault) = &open.failure
        {
            // Somebody tried while this call waited for the lock.
            return Err(fault.clone());
        }
        slot.dials.store(number + 1, Ordering::Relaxed);
        open.failure = None;
        match self.dial.open(&member.endpoint).await {
            Ok(channel) => {
                let (_, channel) = open.channel.insert((number + 1, channel));
                Ok(connection(number + 1, channel))
            }
            Err(fault) => Err(open.failure.insert(fault).clone()),
        }
    }

    fn recovered(&self, index: usize) {
        if self.health().succeeded(index, Instant::now()) {
            let endpoint = self.members.get(index).map(|m| m.endpoint.as_str());
            tracing::info!(endpoint, "endpoint is well again");
            self.recoveries.send_modify(|count| *count += 1);
        }
    }

    /// Asks the member how it is.
    async fn ask(&self, index: usize) -> Result<(), Trouble> {
        let unreachable = |fault: Fault| Trouble::of_opening(&fault);
        let connection = self.open(index, Class::Call).await.map_err(unreachable)?;
        let mut stub = MaintenanceClient::new(connection.channel.clone());
        let status = match tokio::time::timeout(self.try_timeout, stub.status(Request::new(StatusRequest {}))).await {
            Ok(Ok(status)) => status.into_inner(),
            Ok(Err(status)) => match connection.fault(&status) {
                // It answers; that it tells no more (it may want a token) is no trouble.
                Fault::Etcd(_) | Fault::Server { .. } => return Ok(()),
                fault => {
                    self.close(index, Class::Call).await;
                    return Err(unreachable(fault));
                }
            },
            Err(_) => {
                self.close(index, Class::Call).await;
                return Err(Trouble::Unreachable(format!("{}: no answer in time", connection.endpoint)));
            }
        };
        if status.is_learner {
            return Err(Trouble::Unfit(format!("{} is a learner", connection.endpoint)));
        }
        if status.leader == 0 {
            return Err(Trouble::Unfit(format!("{} has no leader", connection.endpoint)));
        }
        Ok(())
    }

    async fn close(&self, index: usize, class: Class) {
        if let Some(slot) = self.slot(index, class) {
            slot.open.lock().await.channel = None;
        }
    }
}

/// Asks one endpoint in trouble until it is well or the pool is gone.
async fn probe(pool: Weak<Inner>, index: usize) {
    loop {
        let Some(pause) = pool.upgrade().map(|pool| pool.health().pause(index)) else { return };
        tokio::time::sleep(pause).await;
        let Some(pool) = pool.upgrade() else { return };
        // A call that was still under way may have found it well.
        if pool.health().ends_probing(index) {
            return;
        }
        match pool.ask(index).await {
            Ok(()) => pool.recovered(index),
            Err(trouble) => {
                pool.health().failed(index, trouble, Instant::now());
            }
        }
        if pool.health().ends_probing(index) {
            return;
        }
    }
}

/// Nothing panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.members.iter().map(|m| &m.endpoint)).finish()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("endpoint", &self.endpoint).field("class", &self.class).finish()
    }
}
