use crate::check;
use crate::engine::Durability;

/// A place in the log that feeds the store.
///
/// ```
/// use stentor_mvcc::{LogPosition, Store, engine::memory};
/// # let store = Store::open(memory::MemoryEngine::open(&memory::Disk::new())?, Default::default())?;
/// // Before the first entry.
/// assert_eq!(store.view().applied(), LogPosition { term: 0, index: 0 });
/// assert!(LogPosition { term: 1, index: 9 } < LogPosition { term: 2, index: 3 });
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// The term it was proposed in.
    pub term: u64,
    /// Its number, from 1 on; 0 before the first.
    pub index: u64,
}

/// How a store is run.
///
/// ```
/// use stentor_mvcc::engine::{Durability, memory};
/// use stentor_mvcc::{Options, Store};
/// use stentor_proto::etcdserverpb::TxnRequest;
/// let disk = memory::Disk::new();
/// let options = Options { durability: Durability::Buffered, ..Default::default() };
/// let store = Store::open(memory::MemoryEngine::open(&disk)?, options)?;
/// store.txn(TxnRequest::default())?;
/// // Whoever keeps the log answers for what was acknowledged: nothing was synced.
/// assert_eq!((disk.writes() > 0, disk.syncs()), (true, 0));
/// # Ok::<(), stentor_mvcc::Error>(())
/// ```
#[derive(Clone)]
pub struct Options {
    /// Who answers for what was acknowledged.
    pub durability: Durability,
    /// Wall clock for [`Store::execute`](crate::Store::execute) and its kin, milliseconds since 1970. Entries
    /// applied from a log carry their own time.
    pub wall_clock: fn() -> u64,
    /// Most compares or operations of one branch of a transaction given to
    /// [`Store::txn`](crate::Store::txn).
    pub max_txn_ops: usize,
}

impl Default for Options {
    /// Each write is on disk when it returns; the system's clock.
    fn default() -> Options {
        let wall_clock = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(0, |d| d.as_millis() as u64)
        };
        Options { durability: Durability::Synced, wall_clock, max_txn_ops: check::MAX_TXN_OPS }
    }
}
