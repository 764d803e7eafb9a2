use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use stentor_proto::etcdserverpb::StatusRequest;
use stentor_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::backoff::Backoff;
use crate::endpoint::dial::{DialOptions, Line, Opened, Refusal};
use crate::endpoint::health::Health;
use crate::endpoint::{Class, Endpoint, InvalidEndpoint, Trouble};
use crate::error::{Error, ErrorKind};
use crate::fault::Fault;
use crate::observe::{ClientEvent, Observer};
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
    pub(crate) observer: Observer,
    /// Where connections of leases live; `None` for where they are opened.
    pub(crate) lease_runtime: Option<Handle>,
}

struct Inner {
    members: Mutex<Members>,
    dial: DialOptions,
    try_timeout: Duration,
    observer: Observer,
    lease_runtime: Option<Handle>,
    health: Mutex<Health>,
    /// Counts the times an endpoint became usable again, or others took the place of all.
    recoveries: watch::Sender<u64>,
    /// At most one for each endpoint; they end with the pool.
    probers: Mutex<JoinSet<()>>,
}

/// The endpoints by their numbers, none of which is given twice.
struct Members {
    known: BTreeMap<usize, Arc<Member>>,
    next: usize,
}

struct Member {
    endpoint: Endpoint,
    slots: Slots,
}

/// One for each [`Class`].
#[derive(Default)]
struct Slots {
    call: Slot,
    bulk: Slot,
    watch: Slot,
    lease: Slot,
}

/// Where the connection of one class to one endpoint is kept. Whoever needs it first opens it, the others
/// wait for that.
#[derive(Default)]
struct Slot {
    open: AsyncMutex<Open>,
    /// Connections opened or tried so far.
    dials: AtomicU64,
    line: Arc<Line>,
}

#[derive(Default)]
struct Open {
    channel: Option<(u64, Opened)>,
    /// What the last failed try ran into.
    failure: Option<Fault>,
}

/// Which endpoint is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Route {
    pub(crate) prefer: Option<usize>,
    pub(crate) avoid: Option<usize>,
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
        self.refusal.fault(status, &self.endpoint)
    }
}

impl Pool {
    pub(crate) fn new(options: PoolOptions, random: Random) -> Pool {
        let health = Health::new(options.endpoints.len(), options.backoff, random);
        let known: BTreeMap<_, _> = options.endpoints.into_iter().map(Member::new).enumerate().collect();
        Pool(Arc::new(Inner {
            members: Mutex::new(Members { next: known.len(), known }),
            dial: options.dial,
            try_timeout: options.try_timeout,
            observer: options.observer,
            lease_runtime: options.lease_runtime,
            health: Mutex::new(health),
            recoveries: watch::Sender::new(0),
            probers: Mutex::default(),
        }))
    }

    pub(crate) fn try_timeout(&self) -> Duration {
        self.0.try_timeout
    }

    /// The endpoints, and the number of each.
    pub(crate) fn endpoints(&self) -> Vec<(usize, Endpoint)> {
        self.0.members().known.iter().map(|(index, member)| (*index, member.endpoint.clone())).collect()
    }

    /// Whether an endpoint can be used with the settings of TLS.
    pub(crate) fn admit(&self, endpoint: &Endpoint) -> Result<(), InvalidEndpoint> {
        self.0.dial.admit(endpoint)
    }

    /// These are the endpoints from now on. One that was there before, by host and port, stays as it is; the
    /// connections to one that is left out are not used for anything new.
    pub(crate) fn set_endpoints(&self, endpoints: Vec<Endpoint>) {
        let mut members = self.0.members();
        let mut health = self.0.health();
        let named = |member: &Member| endpoints.iter().any(|e| e.authority() == member.endpoint.authority());
        let gone: Vec<_> = members.known.iter().filter(|(_, member)| !named(member)).map(|(i, _)| *i).collect();
        for index in gone {
            members.known.remove(&index);
            health.remove(index);
        }
        for endpoint in endpoints {
            if members.known.values().all(|member| member.endpoint.authority() != endpoint.authority()) {
                let index = members.next;
                members.next += 1;
                members.known.insert(index, Member::new(endpoint));
                health.add(index);
            }
        }
        drop((health, members));
        self.0.recoveries.send_modify(|count| *count += 1);
    }

    /// Whether an endpoint is still one of the client's.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.0.members().known.contains_key(&index)
    }

    /// Looks at what is known of the endpoints.
    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.0.health()
    }

    /// Counts the changes of which endpoints are usable.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.recoveries.subscribe()
    }

    /// As [`connection`](Self::connection), to the endpoint `prefer` if that is usable.
    pub(crate) async fn connection_by(&self, class: Class, route: Route) -> Connection {
        if let Some(index) = route.prefer.filter(|&index| self.0.health().is_usable(index)) {
            match self.open(index, class).await {
                Ok(connection) => return connection,
                Err(fault) => self.trouble(index, Trouble::of_opening(&fault)),
            }
        }
        self.connection(class, route.avoid).await
    }

    /// A connection to a usable endpoint, another than `avoid` if there is one. Waits while all are in
    /// trouble: the caller's deadline is the end of it. Cancel safe.
    pub(crate) async fn connection(&self, class: Class, mut avoid: Option<usize>) -> Connection {
        let mut recoveries = self.0.recoveries.subscribe();
        loop {
            recoveries.mark_unchanged();
            let picked = self.0.health().pick(avoid);
            let Some(index) = picked else {
                // The sender lives as long as the pool.
                recoveries.changed().await.ok();
                continue;
            };
            match self.open(index, class).await {
                Ok(connection) => return connection,
                Err(fault) => {
                    self.trouble(index, Trouble::of_opening(&fault));
                    avoid = Some(index);
                }
            }
        }
    }

    /// A connection to the first endpoint, whatever is known of it.
    pub(crate) async fn first(&self, class: Class) -> Result<Connection, Fault> {
        self.0.open(0, class).await
    }

    /// Opens a connection on the runtime that is to carry it, where there is one.
    async fn open(&self, index: usize, class: Class) -> Result<Connection, Fault> {
        if let Some(runtime) = self.0.lease_runtime.as_ref().filter(|_| class == Class::Lease) {
            let inner = self.0.clone();
            // A runtime that has ended opens nothing: calls on leases can still be made from here.
            if let Ok(opened) = runtime.spawn(async move { inner.open(index, class).await }).await {
                return opened;
            }
        }
        self.0.open(index, class).await
    }

    /// A pool like this of one endpoint.
    pub(crate) fn narrowed(&self, endpoint: Endpoint, backoff: Backoff, random: Random) -> Pool {
        let (dial, try_timeout, observer) = (self.0.dial.clone(), self.0.try_timeout, self.0.observer.clone());
        let (endpoints, lease_runtime) = (vec![endpoint], self.0.lease_runtime.clone());
        Pool::new(PoolOptions { endpoints, dial, backoff, try_timeout, observer, lease_runtime }, random)
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
        let troubles: Vec<_> = health.troubles().collect();
        let distrust = troubles.iter().all(|trouble| matches!(trouble, Trouble::Untrusted(_)));
        let kind = if distrust { ErrorKind::Tls } else { ErrorKind::Unavailable };
        let texts: Vec<_> = troubles.iter().map(|trouble| trouble.text()).collect();
        (!texts.is_empty()).then(|| Error::with(kind, texts.join("; ")))
    }

    fn trouble(&self, index: usize, trouble: Trouble) {
        let reason = trouble.text().to_owned();
        let failed = self.0.health().failed(index, trouble, Instant::now());
        if failed.went_down
            && let Some(member) = self.0.member(index)
        {
            let endpoint = member.endpoint.clone();
            tracing::warn!(%endpoint, reason, "endpoint in trouble");
            self.0.observer.tell(|| ClientEvent::EndpointDown { endpoint, reason });
        }
        if failed.needs_prober {
            let mut probers = lock(&self.0.probers);
            while probers.try_join_next().is_some() {}
            probers.spawn(probe(Arc::downgrade(&self.0), index));
        }
    }

    /// Drops the connection from its slot. False if the slot holds another by now. One that is being
    /// opened just now counts as another.
    fn forget(&self, connection: &Connection) -> bool {
        let Some(member) = self.0.member(connection.index) else { return false };
        let Ok(mut open) = member.slot(connection.class).open.try_lock() else { return false };
        let same = open.channel.as_ref().is_none_or(|(number, _)| *number == connection.number);
        if same {
            open.channel = None;
        }
        same
    }
}

impl Member {
    fn new(endpoint: Endpoint) -> Arc<Member> {
        Arc::new(Member { endpoint, slots: Default::default() })
    }

    fn slot(&self, class: Class) -> &Slot {
        match class {
            Class::Call => &self.slots.call,
            Class::Bulk => &self.slots.bulk,
            Class::Watch => &self.slots.watch,
            Class::Lease => &self.slots.lease,
        }
    }
}

impl Inner {
    fn health(&self) -> MutexGuard<'_, Health> {
        lock(&self.health)
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        lock(&self.members)
    }

    fn member(&self, index: usize) -> Option<Arc<Member>> {
        self.members().known.get(&index).cloned()
    }

    /// The connection of its class, opened if need be. Several who ask at once open one.
    async fn open(&self, index: usize, class: Class) -> Result<Connection, Fault> {
        let member = self.member(index).ok_or(Fault::NoEndpoint)?;
        let slot = member.slot(class);
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
        match self.dial.open(&member.endpoint, &slot.line).await {
            Ok(channel) => {
                let (_, channel) = open.channel.insert((number + 1, channel));
                Ok(connection(number + 1, channel))
            }
            Err(fault) => Err(open.failure.insert(fault).clone()),
        }
    }

    fn recovered(&self, index: usize) {
        let came_back = self.health().succeeded(index, Instant::now());
        if came_back && let Some(member) = self.member(index) {
            let endpoint = member.endpoint.clone();
            tracing::info!(%endpoint, "endpoint is well again");
            self.observer.tell(|| ClientEvent::EndpointUp { endpoint });
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
        if let Some(member) = self.member(index) {
            member.slot(class).open.lock().await.channel = None;
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
        f.debug_list().entries(self.endpoints().iter().map(|(_, endpoint)| endpoint)).finish()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("endpoint", &self.endpoint).field("class", &self.class).finish()
    }
}
