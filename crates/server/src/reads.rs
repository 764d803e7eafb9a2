//! How much of the store may be on its way to clients at once.
//!
//! A large read takes its answer's size in memory until the client has taken it. Reads beyond the budget
//! wait, in order, though not for ever and not any number of them (`gate.rs`); small ones and writes
//! don't take part.

use std::time::Duration;

use stentor_mvcc::View;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{DeleteRangeRequest, RangeRequest, RequestOp, TxnRequest};
use stentor_proto::{EtcdError, KeyRange};
use tokio::sync::OwnedSemaphorePermit;

use crate::environment::Workers;
use crate::gate::Gate;

/// Reads of no more than this are served at once and in place.
pub const SMALL_BYTES: u64 = 64 << 10;

/// The budget is counted in units, since a semaphore's permits are.
const UNIT_BYTES: u64 = 4 << 10;

/// Large reads that are carried out at a time, per core.
const READERS_PER_CORE: usize = 2;

/// What a pair takes in an answer beside its key and value.
const PAIR_OVERHEAD: u64 = 64;

/// The budget for large reads.
#[derive(Clone, Debug)]
pub struct ReadAdmission {
    units: Gate,
    /// All there are.
    most: u32,
    readers: Gate,
}

/// A part of the budget, free again when dropped.
#[derive(Debug)]
pub struct Admitted {
    bytes: u64,
    units: Option<OwnedSemaphorePermit>,
}

impl Admitted {
    /// How large the answer may become; the whole budget is without bound, since an answer that is larger
    /// has to be given too.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives back what an answer of so many bytes doesn't need.
    pub(crate) fn shrink_to(&mut self, bytes: u64) {
        let Some(units) = &mut self.units else { return };
        let needed = usize::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(usize::MAX);
        drop(units.split(units.num_permits().saturating_sub(needed)));
        self.bytes = self.bytes.min(bytes);
    }

    /// Whether it takes anything of the budget.
    pub(crate) fn is_share(&self) -> bool {
        self.units.is_some()
    }
}

impl ReadAdmission {
    /// A budget of so many bytes, free, for which nobody waits longer than `time_limit`.
    pub fn new(bytes: u64, time_limit: Duration) -> ReadAdmission {
        let most = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        let readers = std::thread::available_parallelism().map_or(1, usize::from) * READERS_PER_CORE;
        ReadAdmission { units: Gate::new(most as usize, time_limit), most, readers: Gate::new(readers, time_limit) }
    }

    /// Waits for room for an answer of about `bytes`. A larger one than the budget gets it all, alone.
    ///
    /// # Errors
    /// `RequestTooManyRequests` when too many wait already, `Timeout` when there was no room for too long.
    pub async fn admit(&self, bytes: u64) -> Result<Admitted, EtcdError> {
        if bytes <= SMALL_BYTES {
            return Ok(Admitted { bytes: SMALL_BYTES, units: None });
        }
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.most);
        let bytes = if units == self.most { u64::MAX } else { u64::from(units) * UNIT_BYTES };
        Ok(Admitted { bytes, units: Some(self.units.enter(units).await?) })
    }

    /// Bytes in flight now.
    pub fn in_flight_bytes(&self) -> u64 {
        self.units.taken() as u64 * UNIT_BYTES
    }

    /// Large reads that run now.
    pub(crate) fn running(&self) -> usize {
        self.readers.taken()
    }

    /// Runs a large read where it may block. Few run at a time: writes, leases and small reads need the
    /// processor too.
    ///
    /// # Errors
    /// As [`ReadAdmission::admit`]; `Stopped`.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        workers: Workers,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EtcdError> {
        self.readers.run(workers, read).await
    }
}

/// About how many bytes the answer to a transaction takes: that of the branch that reads more.
pub fn estimate_txn(view: &View, request: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| {
        let bytes = |op: &RequestOp| match &op.request {
            Some(Request::RequestRange(range)) if range.range_end.is_empty() => 0,
            Some(Request::RequestRange(range)) => estimate(view, range),
            Some(Request::RequestDeleteRange(delete)) => estimate_delete(view, delete),
            Some(Request::RequestTxn(nested)) => estimate_txn(view, nested),
            _ => 0,
        };
        ops.iter().map(bytes).fold(0, u64::saturating_add)
    };
    branch(&request.success).max(branch(&request.failure))
}

/// About how many bytes the answer to a delete takes: the pairs, if they are asked for.
pub fn estimate_delete(view: &View, request: &DeleteRangeRequest) -> u64 {
    if !request.prev_kv || request.range_end.is_empty() {
        return 0;
    }
    let range =
        RangeRequest { key: request.key.clone(), range_end: request.range_end.clone(), ..RangeRequest::default() };
    estimate(view, &range)
}

/// About how many bytes the answer to a range takes, from what is cheap to know.
pub fn estimate(view: &View, request: &RangeRequest) -> u64 {
    if request.count_only {
        return 0;
    }
    let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    if range.single().is_some() {
        return SMALL_BYTES;
    }
    let count = view.count(&range);
    // With a sort or a filter everything is read first.
    let filtered = request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    let limit = u64::try_from(request.limit).ok().filter(|n| *n > 0 && request.sort_order == 0 && !filtered);
    let pairs = limit.unwrap_or(u64::MAX).min(count);
    let average = view.logical_bytes() / view.keys().max(1);
    pairs.saturating_mul(average + PAIR_OVERHEAD)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::join_all;
    use tokio::time::Instant;

    use super::*;
    use crate::gate::MAX_WAITING;

    const LIMIT: Duration = Duration::from_secs(7);
    const BUDGET: u64 = 1 << 20;

    #[tokio::test(start_paused = true)]
    async fn large_reads_wait_for_room_but_not_for_ever() {
        let reads = ReadAdmission::new(BUDGET, LIMIT);
        let held = reads.admit(BUDGET).await.unwrap();
        let begun = Instant::now();
        assert!(reads.admit(SMALL_BYTES).await.is_ok());
        assert_eq!(reads.admit(SMALL_BYTES + 1).await.unwrap_err(), EtcdError::Timeout);
        assert_eq!(begun.elapsed(), LIMIT);
        drop(held);
        assert!(reads.admit(BUDGET).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many_wait_for_room() {
        let reads = ReadAdmission::new(BUDGET, LIMIT);
        let _held = reads.admit(BUDGET).await.unwrap();
        let mut waiting = Box::pin(join_all((0..MAX_WAITING).map(|_| reads.admit(BUDGET))));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(reads.admit(BUDGET).await.unwrap_err(), EtcdError::RequestTooManyRequests);
        assert!(reads.admit(SMALL_BYTES).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn admitted_reads_do_not_wait_for_ever_to_be_run() {
        let reads = ReadAdmission::new(BUDGET, LIMIT);
        let places = u32::try_from(READERS_PER_CORE * std::thread::available_parallelism().unwrap().get()).unwrap();
        let held = reads.readers.enter(places).await.unwrap();
        assert_eq!(reads.run(Workers::Tasks, || 1).await, Err(EtcdError::Timeout));
        let mut waiting = Box::pin(join_all((0..MAX_WAITING).map(|_| reads.run(Workers::Tasks, || 1))));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(reads.run(Workers::Tasks, || 1).await, Err(EtcdError::RequestTooManyRequests));
        drop(held);
        assert!(waiting.await.into_iter().all(|ran| ran == Ok(1)));
    }
}
