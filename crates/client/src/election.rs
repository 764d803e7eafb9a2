//! Elections: one of many leads, and all can see who.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::{FusedStream, Stream};

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::Lease;
use crate::queue::{OwnershipLoss, Session, Ticket, Wait, below};
use crate::txn::{Compare, OpResult, Txn, list, put};
use crate::{Changes, KeyRange, KeyValue, Revision, Subscription, SubscriptionItem};

/// An election, by its name: see [`Client::election`]. Cheap to clone.
#[derive(Clone)]
pub struct Election {
    client: Client,
    name: Bytes,
}

/// A candidacy; see [`Election::campaign`]. Awaiting it waits until it is elected, however long that takes.
///
/// # Errors
/// As those of a [`Lock`](crate::Lock).
///
/// # Cancel safety
/// As that of a [`Lock`](crate::Lock): if the future is dropped, the candidacy is withdrawn in the background.
#[derive(Clone)]
#[must_use = "a candidate stands when it is awaited"]
pub struct Campaign {
    election: Election,
    value: Bytes,
    session: Session,
}

/// A leadership that is held; see [`Election::campaign`]. Dropping it resigns in the background;
/// [`resign`](Self::resign) does it surely.
///
/// **A leadership can be lost while it is held**, as a lock can: see [`LockGuard`](crate::LockGuard).
#[must_use = "a leadership that is dropped ends"]
pub struct Leadership(Ticket);

/// A wish to see who leads; see [`Election::observe`]. Awaiting it waits for the first look.
///
/// # Errors
/// [`PermissionDenied`](ErrorKind::PermissionDenied) and others of a list that do not pass by themselves.
///
/// # Cancel safety
/// Nothing is left of it if the future is dropped.
#[derive(Clone, Debug)]
#[must_use = "nothing is observed until it is awaited"]
pub struct Observe(Election);

/// Who leads, at any time: the leader's pair as it is now, and then each other one, by another leader or another
/// proclamation; `None` while nobody leads. See [`Election::observe`].
///
/// It survives what a [`Reflector`](crate::Reflector) survives. A reader that is slow, or was cut off for long,
/// may miss leaders in between, and has the latest at last.
#[must_use = "streams do nothing unless polled"]
pub struct Observation {
    changes: Subscription,
    /// By the revision that created them: the first leads.
    candidates: BTreeMap<Revision, Arc<KeyValue>>,
    told: Option<Option<Revision>>,
    ended: bool,
}

impl Client {
    /// An election, by its name: of all who campaign in it one leads, and the others follow in the order of coming.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// use std::time::Duration;
    ///
    /// let election = client.election("/leader/billing");
    /// let leadership = election.campaign("10.0.0.1:80").ttl(Duration::from_secs(5)).await?;
    /// tokio::select! {
    ///     why = leadership.lost() => eprintln!("somebody else may lead: {why}"),
    ///     _ = std::future::pending::<()>() => { /* lead */ }
    /// }
    /// leadership.resign().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn election(&self, name: impl Into<Bytes>) -> Election {
        Election { client: self.clone(), name: name.into() }
    }
}

impl Election {
    /// Stands for election, with a value that all can see while it leads: its address, for one.
    ///
    /// An election of a name is the same for etcd's own clients (`clientv3/concurrency`, `etcdctl elect`).
    pub fn campaign(&self, value: impl Into<Bytes>) -> Campaign {
        Campaign { election: self.clone(), value: value.into(), session: Session::default() }
    }

    /// Who leads now: the leader's key and value. `None` if nobody does.
    ///
    /// # Errors
    /// Those of a read.
    ///
    /// # Cancel safety
    /// Nothing is left of it if the future is dropped.
    pub async fn leader(&self) -> Result<Option<KeyValue>> {
        let outcome = self.client.txn().then(list(self.candidates()).oldest_first().limit(1)).await?;
        match outcome.results.into_iter().next() {
            Some(OpResult::List { pairs, .. }) => Ok(pairs.into_iter().next()),
            _ => Err(Error::new(ErrorKind::Protocol)),
        }
    }

    /// Follows who leads.
    ///
    /// ```no_run
    /// # async fn example(client: stentor_client::Client) -> stentor_client::Result<()> {
    /// let mut leaders = client.election("/leader/billing").observe().await?;
    /// while let Some(leader) = leaders.next().await {
    ///     match leader? {
    ///         Some(leader) => println!("{:?} leads", leader.value_str()),
    ///         None => println!("nobody leads"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn observe(&self) -> Observe {
        Observe(self.clone())
    }

    fn candidates(&self) -> KeyRange {
        KeyRange::prefix(below(&self.name))
    }
}

impl Campaign {
    /// Leads as long as this lease lives, at most: see [`Lock::lease`](crate::Lock::lease).
    pub fn lease(mut self, lease: &Lease) -> Self {
        self.session.lease(lease);
        self
    }

    /// How long a lease that is made for the candidacy lives without the program: see
    /// [`Lock::ttl`](crate::Lock::ttl).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.session.ttl(ttl);
        self
    }

    async fn run(self) -> Result<Leadership> {
        let Campaign { election: Election { client, name }, value, session } = self;
        match Ticket::first_of(&client, &name, session, value, Wait::ForTurn).await? {
            Some(ticket) => Ok(Leadership(ticket)),
            None => Err(Error::new(ErrorKind::Closed)),
        }
    }
}

impl Leadership {
    /// The key that stands for it in the store.
    pub fn key(&self) -> &Bytes {
        self.0.key()
    }

    /// The lease that it ends with. One that was made for the candidacy ends with it.
    pub fn lease(&self) -> &Lease {
        self.0.lease()
    }

    /// A number that is greater than that of every leader before: see [`LockGuard::fence`](crate::LockGuard::fence).
    pub fn fence(&self) -> Revision {
        self.0.created()
    }

    /// Whether its lease is known to be alive now: see [`LockGuard::is_held`](crate::LockGuard::is_held).
    pub fn is_held(&self) -> bool {
        self.0.is_held()
    }

    /// Waits until it is not known to be held any more: see [`LockGuard::lost`](crate::LockGuard::lost).
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub fn lost(&self) -> impl Future<Output = OwnershipLoss> + Send + use<> {
        self.0.lost()
    }

    /// That it still leads, as a condition of a transaction.
    pub fn proof(&self) -> Compare {
        self.0.proof()
    }

    /// A transaction that does nothing unless it still leads.
    pub fn txn(&self) -> Txn {
        self.0.txn()
    }

    /// Lets all see another value, without an election.
    ///
    /// # Errors
    /// [`LeaseLost`](ErrorKind::LeaseLost) if it does not lead any more; those of a write.
    ///
    /// # Cancel safety
    /// If the future is dropped, the value may have changed or not.
    pub async fn proclaim(&self, value: impl Into<Bytes>) -> Result<()> {
        let value = put(self.key().clone(), value).lease(self.lease());
        match self.txn().then(value).await?.succeeded {
            true => Ok(()),
            false => Err(Error::with(ErrorKind::LeaseLost, "it does not lead any more")),
        }
    }

    /// Ends it: the next candidate leads.
    ///
    /// # Errors
    /// As those of [`LockGuard::unlock`](crate::LockGuard::unlock).
    ///
    /// # Cancel safety
    /// If the future is dropped, it goes on in the background.
    pub async fn resign(self) -> Result<()> {
        self.0.give_back().await
    }
}

impl Observation {
    /// Who leads now, at first, and then whenever that is another pair. An error is the last item.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Option<KeyValue>>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn apply(&mut self, changes: &Changes) {
        for change in changes {
            if let Some(before) = change.before() {
                self.candidates.remove(&before.create_revision());
            }
            if let Some(after) = change.after() {
                self.candidates.insert(after.create_revision(), after.clone());
            }
        }
    }

    /// The leader, if it is another than was told last.
    fn news(&mut self) -> Option<Option<KeyValue>> {
        let leader = self.candidates.values().next();
        let now = leader.map(|leader| leader.mod_revision());
        (self.told.replace(now) != Some(now)).then(|| leader.map(|leader| (**leader).clone()))
    }
}

impl Stream for Observation {
    type Item = Result<Option<KeyValue>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.ended {
            if let Some(leader) = self.news() {
                return Poll::Ready(Some(Ok(leader)));
            }
            match ready!(Pin::new(&mut self.changes).poll_next(cx)) {
                Some(Ok(SubscriptionItem::Changes(changes))) => self.apply(&changes),
                Some(Ok(SubscriptionItem::Lagged { .. })) => {}
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => self.ended = true,
            }
        }
        Poll::Ready(None)
    }
}

impl FusedStream for Observation {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl IntoFuture for Campaign {
    type Output = Result<Leadership>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl IntoFuture for Observe {
    type Output = Result<Observation>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let copy = self.0.client.reflect(self.0.candidates()).start();
            copy.ready().await?;
            let (now, changes) = copy.subscribe();
            let candidates = now.iter().map(|pair| (pair.create_revision(), pair.clone())).collect();
            Ok(Observation { changes, candidates, told: None, ended: false })
        })
    }
}

impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Election").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Campaign")
            .field("election", &self.election)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership")
            .field("key", self.key())
            .field("fence", &self.fence())
            .field("lease", self.lease())
            .finish()
    }
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observation").field("candidates", &self.candidates.len()).finish_non_exhaustive()
    }
}
