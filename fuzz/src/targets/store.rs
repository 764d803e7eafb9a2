//! A small store with a bit of everything in it, for targets that need one.

use stentor_mvcc::engine::Durability;
use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_mvcc::{Error, Options, Store};
use stentor_proto::etcdserverpb::{
    AlarmRequest, AlarmType, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    alarm_request, request_op,
};
use stentor_proto::storagepb::{Identity, log_entry::Op};
use stentor_proto::{KeyRange, Revision};

/// Opens what is on the disk.
pub(crate) fn open(disk: &Disk) -> Result<Store, Error> {
    let options = Options { durability: Durability::Synced, wall_clock: || 1_790_000_000_000, ..Options::default() };
    Store::open(MemoryEngine::open(disk)?, options)
}

/// Puts, a delete, a transaction, a lease and a compaction: revisions 2 to 6.
pub(crate) fn fill(store: &Store) -> Result<(), Error> {
    store.set_identity(&Identity { cluster_id: 1, member_id: 2, has_log: false })?;
    store.execute(Op::LeaseGrant(LeaseGrantRequest { id: 77, ttl: 60 }))?;
    store.put(put("a", "1", 0))?;
    store.put(put("a", "2", 77))?;
    store.put(put("b", "3", 0))?;
    store.delete_range(DeleteRangeRequest { key: "b".into(), ..Default::default() })?;
    let two = ["c", "d"].map(|key| RequestOp { request: Some(request_op::Request::RequestPut(put(key, "4", 77))) });
    store.txn(TxnRequest { success: two.to_vec(), ..Default::default() })?;
    store.compact(Revision::new(3).unwrap_or(Revision::FIRST))?;
    Ok(())
}

/// Every key, every change that is kept, and the hash of it all.
pub(crate) fn read_everything(store: &Store) -> Result<(), Error> {
    let view = store.view();
    let (key, range_end) = KeyRange::all().to_wire();
    view.range(&RangeRequest { key, range_end, ..Default::default() })?;
    for record in view.history(view.compacted().unwrap_or(Revision::FIRST), view.revision())? {
        let record = record?;
        record.pair().map_err(|e| Error::Record { at: record.id, cause: e.to_string() })?;
    }
    view.hash_kv(0).map(drop)
}

/// The alarm of a full store, raised.
pub(crate) fn alarm() -> Op {
    let action = alarm_request::AlarmAction::Activate.into();
    Op::Alarm(AlarmRequest { action, member_id: 2, alarm: AlarmType::Nospace.into() })
}

/// A put.
pub(crate) fn put(key: &'static str, value: &'static str, lease: i64) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), lease, ..Default::default() }
}
