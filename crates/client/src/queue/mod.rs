//! What locks and elections stand on: keys below a prefix, one for each lease that waits, in the order in which
//! they were created. Whose key is the oldest has what all wait for. The layout is that of etcd's own clients,
//! so that all of them wait for each other.

mod stake;
mod watched;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio::time::Duration;

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{Lease, LeaseLoss, LeaseState};
use crate::queue::stake::Stake;
pub use crate::queue::watched::OwnershipLoss;
use crate::queue::watched::{deletion, passes, removed};
use crate::txn::{Compare, Txn, get, key, list};
use crate::{KeyRange, Revision, runtime};

/// How long a lease made for a lock or an election lives without its program.
const TTL: Duration = Duration::from_secs(10);

/// Whose lease the key is to end with.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    given: Option<Lease>,
    ttl: Duration,
}

impl Default for Session {
    fn default() -> Session {
        Session { given: None, ttl: TTL }
    }
}

impl Session {
    pub(crate) fn lease(&mut self, lease: &Lease) {
        self.given = Some(lease.clone());
    }

    pub(crate) fn ttl(&mut self, ttl: Duration) {
        self.ttl = ttl;
    }

    /// The lease, and whether it was made for this.
    async fn open(self, client: &Client) -> Result<(Lease, bool)> {
        match self.given {
            Some(lease) => match lease.state() {
                LeaseState::Lost(loss) => Err(lease_lost(loss)),
                LeaseState::Alive { .. } | LeaseState::Doubtful => Ok((lease, false)),
            },
            None => Ok((client.lease(self.ttl).await?, true)),
        }
    }
}

/// How long to wait for the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    ForTurn,
    /// Only if nobody is before.
    Never,
}

/// A place in a queue, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    stake: Stake,
    queue: KeyRange,
    created: Revision,
}

/// A new ticket, and whether it is the first of the queue.
struct Drawn {
    ticket: Ticket,
    first: bool,
}

impl Ticket {
    /// Takes a place in the queue and waits until it is the first. `None` if that would be a wait, and none is
    /// wanted.
    ///
    /// When the future is dropped, the place is given back by a task of its own.
    pub(crate) async fn first_of(
        client: &Client,
        name: &Bytes,
        session: Session,
        value: Bytes,
        wait: Wait,
    ) -> Result<Option<Ticket>> {
        runtime::current()?;
        let (lease, own) = session.open(client).await?;
        let lost = lease.lost();
        let waiting = async {
            let Some(Drawn { ticket, first }) = draw(client, name, (lease, own), value, wait).await? else {
                return Ok(None);
            };
            if !first {
                match wait {
                    Wait::ForTurn => ticket.turn().await?,
                    Wait::Never if ticket.before().await?.is_some() => return Ok(None),
                    Wait::Never => {}
                }
            }
            ticket.known_to_be_kept().await?;
            Ok(Some(ticket))
        };
        tokio::select! {
            biased;
            loss = lost => Err(lease_lost(loss)),
            taken = waiting => taken,
        }
    }

    pub(crate) fn key(&self) -> &Bytes {
        &self.stake.key
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.stake.lease
    }

    /// When its key was created: every later holder has a greater one.
    pub(crate) fn created(&self) -> Revision {
        self.created
    }

    /// That it is still held, as a condition.
    pub(crate) fn proof(&self) -> Compare {
        key(self.key().clone()).create_revision().eq(self.created)
    }

    /// A transaction that does nothing unless it is still held.
    pub(crate) fn txn(&self) -> Txn {
        self.stake.client.txn().when(self.proof())
    }

    pub(crate) fn is_held(&self) -> bool {
        matches!(self.lease().state(), LeaseState::Alive { .. })
    }

    /// Waits until it is not known to be held any more. Does not keep it.
    pub(crate) fn lost(&self) -> impl Future<Output = OwnershipLoss> + Send + use<> {
        let doubted = self.lease().doubted();
        let removed = removed(self.stake.client.clone(), self.key().clone(), self.created);
        async move {
            tokio::select! {
                biased;
                state = doubted => match state {
                    LeaseState::Lost(loss) => OwnershipLoss::Lease(loss),
                    LeaseState::Alive { .. } | LeaseState::Doubtful => OwnershipLoss::LeaseDoubtful,
                },
                loss = removed => loss,
            }
        }
    }

    /// Deletes its key. If that fails, or the future is dropped, it goes on in the background.
    pub(crate) async fn give_back(mut self) -> Result<()> {
        let was_held = self.stake.leave().await?;
        self.stake.forget();
        if was_held { Ok(()) } else { Err(Error::with(ErrorKind::LeaseLost, "it was not held any more")) }
    }

    /// Waits until nobody is before it.
    async fn turn(&self) -> Result<()> {
        let core = self.stake.client.core();
        let mut pauses = core.backoff.start();
        loop {
            let step = async {
                match self.before().await? {
                    None => Ok(true),
                    Some((holder, seen)) => deletion(&self.stake.client, holder, seen).await.map(|()| false),
                }
            };
            match step.await {
                Ok(true) => return Ok(()),
                Ok(false) => pauses.reset(),
                Err(error) if passes(&error) => {
                    tracing::debug!(key = ?self.key(), %error, "waiting for a turn goes on");
                    tokio::time::sleep(core.pause(&mut pauses)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The key just before it, and when that was there.
    async fn before(&self) -> Result<Option<(Bytes, Revision)>> {
        let before = list(self.queue.clone()).created_before(self.created).newest_first().limit(1).keys_only();
        let outcome = self.stake.client.txn().then(get(self.key().clone())).then(before).await?;
        match outcome.pair(0) {
            Some(own) if own.create_revision() == self.created => {}
            _ => return Err(Error::with(ErrorKind::LeaseLost, "its key is gone from the queue")),
        }
        Ok(outcome.pair(1).map(|holder| (holder.key().clone(), outcome.revision)))
    }

    /// A lease that is doubtful may have ended since its key was seen.
    async fn known_to_be_kept(&self) -> Result<()> {
        let mut changes = self.lease().changes();
        while let Some(state) = changes.next().await {
            match state {
                LeaseState::Alive { .. } => return Ok(()),
                LeaseState::Doubtful => {}
                LeaseState::Lost(loss) => return Err(lease_lost(loss)),
            }
        }
        Err(Error::new(ErrorKind::Closed))
    }
}

/// By a task of its own: if nobody waits for it any more, the place is given back once it is known.
async fn draw(
    client: &Client,
    name: &Bytes,
    (lease, own): (Lease, bool),
    value: Bytes,
    wait: Wait,
) -> Result<Option<Drawn>> {
    let prefix = below(name);
    let key = Bytes::from([&prefix[..], lease.id().to_string().as_bytes()].concat());
    let named = client.namespace().key(key.clone())?;
    let claim = match wait {
        Wait::ForTurn => lease.claims().claim(&named).await,
        Wait::Never => match lease.claims().try_claim(&named) {
            Some(claim) => claim,
            None => return Ok(None),
        },
    };
    let runtime = runtime::current()?;
    let (tell, drawn) = oneshot::channel();
    let stake = Stake::new(client.clone(), key, (lease, own), claim, runtime.clone());
    runtime.spawn(async move { tell.send(stake.draw(KeyRange::prefix(prefix), value, wait).await).ok() });
    drawn.await.map_err(|_| Error::new(ErrorKind::Closed))?
}

/// What the keys of a queue begin with.
pub(crate) fn below(name: &Bytes) -> Bytes {
    let mut prefix = BytesMut::with_capacity(name.len() + 1);
    prefix.put_slice(name);
    prefix.put_u8(b'/');
    prefix.freeze()
}

fn lease_lost(loss: LeaseLoss) -> Error {
    match loss {
        LeaseLoss::Closed => Error::new(ErrorKind::Closed),
        LeaseLoss::Gone => Error::with(ErrorKind::LeaseLost, "it expired, or somebody has revoked it"),
        LeaseLoss::Revoked => Error::with(ErrorKind::LeaseLost, "this program has revoked it"),
    }
}
