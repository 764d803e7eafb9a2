//! When leases expire. The store knows which leases there are; this knows how long each has left, and
//! proposes the end of those that have run out.
//!
//! [`Deadlines`] is the state, with time as an argument; [`Lessor`] shares it, and [`Lessor::run`] waits
//! for the next deadline.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use stentor_mvcc::View;
use stentor_proto::EtcdError;
use stentor_proto::etcdserverpb::LeaseRevokeRequest;
use stentor_proto::storagepb::{LogEntry, log_entry::Op};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::environment::Environment;
use crate::metrics::Metrics;
use crate::replication::{ProposeError, Proposer};

/// Most ends proposed at once, so that a burst of expiries leaves room for other writes.
const MAX_EXPIRING: usize = 512;

/// The longest TTL, in seconds.
pub(crate) const MAX_TTL_SECONDS: i64 = 9_000_000_000;

/// How long to wait before trying again when an end could not be proposed.
const RETRY: Duration = Duration::from_millis(500);

/// When each lease expires.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    by_id: HashMap<i64, Lease>,
    /// Every deadline that was ever set and not yet passed; one that was moved since is skipped.
    queue: BinaryHeap<Reverse<(Instant, i64)>>,
    /// The term in which this member ends leases, as the leader; the others know no deadlines.
    term: Option<u64>,
}

#[derive(Debug)]
struct Lease {
    ttl_seconds: i64,
    deadline: Instant,
    expired: bool,
}

/// What came of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// It lives for its TTL, in seconds, from now.
    Renewed(i64),
    /// It has run out and waits for its end; it is not renewed.
    Expired,
    /// There is no such lease.
    Gone,
    /// Only the leader knows.
    NotLeader,
}

impl Deadlines {
    fn set(&mut self, id: i64, ttl_seconds: i64, deadline: Instant) {
        self.by_id.insert(id, Lease { ttl_seconds, deadline, expired: false });
        self.queue.push(Reverse((deadline, id)));
        // Renewals leave old deadlines behind: they are dropped before they outnumber the leases.
        if self.queue.len() > 64 + 4 * self.by_id.len() {
            let by_id = &self.by_id;
            self.queue.retain(|Reverse((at, id))| by_id.get(id).is_some_and(|lease| lease.deadline == *at));
        }
    }

    fn renew(&mut self, id: i64, now: Instant) -> Renewal {
        match self.by_id.get(&id) {
            None if self.term.is_none() => Renewal::NotLeader,
            None => Renewal::Gone,
            Some(lease) if lease.expired || lease.deadline <= now => Renewal::Expired,
            Some(lease) => {
                let ttl_seconds = lease.ttl_seconds;
                self.set(id, ttl_seconds, now + seconds(ttl_seconds));
                Renewal::Renewed(ttl_seconds)
            }
        }
    }

    /// Takes up to `most` leases whose deadline has passed; each is given out once.
    fn expire(&mut self, now: Instant, most: usize) -> Vec<i64> {
        let mut expired = Vec::new();
        while expired.len() < most {
            let Some(&Reverse((at, id))) = self.queue.peek() else { break };
            if at > now {
                break;
            }
            self.queue.pop();
            if let Some(lease) = self.by_id.get_mut(&id)
                && lease.deadline == at
                && !lease.expired
            {
                lease.expired = true;
                expired.push(id);
            }
        }
        expired
    }

    /// A lease whose end could not be proposed is due again.
    fn retry(&mut self, id: i64) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.expired = false;
            self.queue.push(Reverse((lease.deadline, id)));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }
}

/// A TTL from disk may be any number: it is cut to what can be added to the time of day.
fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.clamp(0, MAX_TTL_SECONDS).unsigned_abs())
}

/// Leases' deadlines, shared by those who grant, renew and end them.
pub(crate) struct Lessor {
    deadlines: Mutex<Deadlines>,
    /// An earlier deadline than any before was set.
    changed: Notify,
    /// Counts ended leases, for those who wait for an end.
    ended: watch::Sender<u64>,
    metrics: Metrics,
}

impl Lessor {
    /// Without any lease.
    pub(crate) fn new(metrics: Metrics) -> Lessor {
        Lessor { deadlines: Mutex::default(), changed: Notify::new(), ended: watch::Sender::new(0), metrics }
    }

    /// This member ends leases from now on, as the leader of `term`. Every lease of the store gets its full TTL
    /// again, and `grace` on top: its holder may not have found the leader for that long.
    pub(crate) fn take_office(&self, term: u64, view: impl FnOnce() -> View, grace: Duration) {
        // Grants count from here on, so that none is missing that the view does not have.
        self.deadlines.lock().term = Some(term);
        let (view, now) = (view(), Instant::now());
        let mut deadlines = self.deadlines.lock();
        if deadlines.term != Some(term) {
            return;
        }
        for (id, lease) in view.leases().iter() {
            if !deadlines.by_id.contains_key(&id.get()) {
                deadlines.set(id.get(), lease.ttl_seconds, now + seconds(lease.ttl_seconds) + grace);
            }
        }
        drop(deadlines);
        self.changed.notify_one();
    }

    /// Another member ends leases now.
    pub(crate) fn leave_office(&self) {
        let was = std::mem::take(&mut *self.deadlines.lock());
        if was.term.is_some() {
            self.changed.notify_one();
            // Who waits for an end must ask somebody else.
            self.ended.send_modify(|n| *n += 1);
        }
    }

    /// The term in which this member ends leases.
    pub(crate) fn term(&self) -> Option<u64> {
        self.deadlines.lock().term
    }

    /// A grant was applied.
    pub(crate) fn granted(&self, id: i64, ttl_seconds: i64) {
        let deadline = Instant::now() + seconds(ttl_seconds);
        let mut deadlines = self.deadlines.lock();
        if deadlines.term.is_none() {
            return;
        }
        let is_first = deadlines.next().is_none_or(|next| deadline < next);
        deadlines.set(id, ttl_seconds, deadline);
        drop(deadlines);
        if is_first {
            self.changed.notify_one();
        }
    }

    /// An end was applied.
    pub(crate) fn revoked(&self, id: i64) {
        self.deadlines.lock().by_id.remove(&id);
        self.ended.send_modify(|n| *n += 1);
    }

    /// Gives a lease its full TTL again and returns that, in seconds; `None` if it is gone. One that has
    /// run out is not renewed: this waits until its end was applied.
    ///
    /// # Errors
    /// `NotLeader`: only the leader can.
    pub(crate) async fn renew(&self, id: i64) -> Result<Option<i64>, EtcdError> {
        let mut ended = self.ended.subscribe();
        loop {
            match self.renew_now(id) {
                Renewal::Renewed(ttl_seconds) => {
                    self.metrics.lease.renewed.inc();
                    return Ok(Some(ttl_seconds));
                }
                Renewal::Gone => return Ok(None),
                Renewal::NotLeader => return Err(EtcdError::NotLeader),
                // The lessor is never gone while it is asked.
                Renewal::Expired => ended.changed().await.map_err(|_| EtcdError::Stopped)?,
            }
        }
    }

    fn renew_now(&self, id: i64) -> Renewal {
        let mut deadlines = self.deadlines.lock();
        let before = deadlines.next();
        let renewal = deadlines.renew(id, Instant::now());
        let is_earlier = deadlines.next() < before;
        drop(deadlines);
        if is_earlier {
            // The deadline after a restart, with its grace, was later.
            self.changed.notify_one();
        }
        renewal
    }

    /// Time left of a lease; `None` if it is gone.
    ///
    /// # Errors
    /// `NotLeader`: only the leader knows.
    pub(crate) fn remaining(&self, id: i64) -> Result<Option<Duration>, EtcdError> {
        let deadlines = self.deadlines.lock();
        if deadlines.term.is_none() {
            return Err(EtcdError::NotLeader);
        }
        Ok(deadlines.by_id.get(&id).map(|lease| lease.deadline.saturating_duration_since(Instant::now())))
    }

    /// Proposes the end of leases as they run out, until stopped.
    pub(crate) async fn run(self: Arc<Self>, proposer: Proposer, environment: Environment, stop: CancellationToken) {
        let mut outage = Outage::default();
        loop {
            let next = self.deadlines.lock().next();
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.changed.notified() => continue,
                () = due => {}
            }
            let (term, expired) = {
                let mut deadlines = self.deadlines.lock();
                (deadlines.term.unwrap_or_default(), deadlines.expire(Instant::now(), MAX_EXPIRING))
            };
            let due = expired.len();
            let ends = expired.into_iter().map(|id| self.end(id, term, &proposer, &environment));
            let failed: Vec<_> = futures::future::join_all(ends).await.into_iter().filter_map(Result::err).collect();
            // One that could not be ended is due again, and is counted then.
            self.metrics.server.lease_expired.inc_by(due.saturating_sub(failed.len()) as u64);
            match (outage.changed_by(due, failed.len()), failed.first()) {
                (Some(Change::Begun), Some(error)) => {
                    warn!(leases = failed.len(), %error, "expired leases can't be ended for now");
                }
                (Some(Change::Over), _) => info!("expired leases are ended again"),
                _ => {}
            }
            if !failed.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(RETRY) => {}
                }
            }
        }
    }

    /// Proposes the end of one lease, which is due again if that fails.
    async fn end(
        &self,
        id: i64,
        term: u64,
        proposer: &Proposer,
        environment: &Environment,
    ) -> Result<(), ProposeError> {
        let entry = LogEntry {
            time_unix_ms: (environment.wall_unix_ms)(),
            user: String::new(),
            // Once another member has taken over, it has given the lease its full time again.
            only_in_term: term,
            op: Some(Op::LeaseRevoke(LeaseRevokeRequest { id })),
        };
        match proposer.propose(entry).await {
            Ok(_) => Ok(()),
            // Someone else has ended it.
            Err(ProposeError::Etcd(EtcdError::LeaseNotFound)) => {
                self.deadlines.lock().by_id.remove(&id);
                Ok(())
            }
            Err(error) => {
                self.deadlines.lock().retry(id);
                Err(error)
            }
        }
    }
}

/// Whether leases that have run out can't be ended. While it lasts they are tried twice a second, and the log
/// tells of its two ends alone.
#[derive(Debug, Default)]
struct Outage {
    lasts: bool,
}

/// An end of an [`Outage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Begun,
    Over,
}

impl Outage {
    /// So many ends were proposed, and so many of them failed.
    fn changed_by(&mut self, proposed: usize, failed: usize) -> Option<Change> {
        if proposed == 0 || self.lasts == (failed > 0) {
            return None;
        }
        self.lasts = failed > 0;
        Some(if self.lasts { Change::Begun } else { Change::Over })
    }
}

#[cfg(test)]
mod tests {
    use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
    use stentor_mvcc::{LogPosition, Options, Store};
    use stentor_proto::etcdserverpb::LeaseGrantRequest;

    use super::*;
    use crate::config::MetricsLevel;

    #[tokio::test(start_paused = true)]
    async fn a_lease_expires_once_and_at_its_last_deadline() {
        let mut deadlines = Deadlines { term: Some(1), ..Deadlines::default() };
        let start = Instant::now();
        deadlines.set(7, 10, start + seconds(10));
        deadlines.set(8, 20, start + seconds(20));
        assert_eq!(deadlines.renew(7, start + seconds(9)), Renewal::Renewed(10));
        assert!(deadlines.expire(start + seconds(12), 9).is_empty());
        assert_eq!(deadlines.expire(start + seconds(30), 1), [7]);
        assert_eq!(deadlines.expire(start + seconds(30), 9), [8]);
        assert!(deadlines.expire(start + seconds(30), 9).is_empty());
        assert_eq!(deadlines.renew(7, start + seconds(30)), Renewal::Expired);
        deadlines.retry(7);
        assert_eq!(deadlines.expire(start + seconds(31), 9), [7]);
        assert_eq!(deadlines.renew(9, start), Renewal::Gone);
    }

    #[tokio::test(start_paused = true)]
    async fn any_ttl_of_a_stored_lease_is_resumed() {
        let disk = Disk::new();
        let store = Store::open(MemoryEngine::open(&disk).unwrap(), Options::default()).unwrap();
        let ttls = [i64::MIN, -1, 0, 1, MAX_TTL_SECONDS, MAX_TTL_SECONDS + 1, i64::MAX];
        for (ttl, id) in ttls.into_iter().zip(1..) {
            // Below the service, which would have refused it.
            let op = Op::LeaseGrant(LeaseGrantRequest { id, ttl });
            let entry = LogEntry { op: Some(op), ..LogEntry::default() };
            let index = u64::try_from(id).unwrap();
            store.apply(&[entry], LogPosition { term: 1, index }).unwrap()[0].as_ref().unwrap();
        }
        let grace = seconds(1);
        let lessor = Lessor::new(Metrics::new(MetricsLevel::Basic));
        assert!(lessor.remaining(4).is_err() && lessor.renew(4).await.is_err(), "only the leader knows");
        lessor.take_office(2, || store.view(), grace);
        let left: Vec<_> = (1..=7).map(|id| lessor.remaining(id).unwrap().unwrap()).collect();
        let most = seconds(MAX_TTL_SECONDS) + grace;
        assert_eq!(left, [grace, grace, grace, grace * 2, most, most, most]);
        assert_eq!(lessor.renew(7).await, Ok(Some(i64::MAX)), "as granted");
        assert_eq!(lessor.renew(8).await, Ok(None));
        lessor.leave_office();
        assert!(lessor.remaining(7).is_err() && lessor.renew(7).await.is_err());
        lessor.granted(9, 5);
        lessor.take_office(3, || store.view(), grace);
        assert_eq!(
            lessor.remaining(9),
            Ok(None),
            "it was granted while another was the leader, and is not in the store"
        );
        assert_eq!(lessor.remaining(4), Ok(Some(grace * 2)), "with its full time again");
    }

    #[test]
    fn an_outage_is_told_when_it_begins_and_when_it_is_over() {
        let mut outage = Outage::default();
        assert_eq!(outage.changed_by(5, 0), None);
        assert_eq!(outage.changed_by(5, 2), Some(Change::Begun));
        for _ in 0..100 {
            assert_eq!(outage.changed_by(2, 2), None);
            assert_eq!(outage.changed_by(2, 1), None, "one got through");
            assert_eq!(outage.changed_by(0, 0), None, "nothing was tried");
        }
        assert_eq!(outage.changed_by(1, 0), Some(Change::Over));
        assert_eq!(outage.changed_by(1, 0), None);
        assert_eq!(outage.changed_by(1, 1), Some(Change::Begun));
    }

    #[tokio::test(start_paused = true)]
    async fn many_renewals_do_not_pile_up() {
        let mut deadlines = Deadlines::default();
        let start = Instant::now();
        deadlines.set(1, 60, start + seconds(60));
        for n in 0..10_000 {
            assert_eq!(deadlines.renew(1, start + Duration::from_millis(n)), Renewal::Renewed(60));
        }
        assert!(deadlines.queue.len() < 100);
    }
}
