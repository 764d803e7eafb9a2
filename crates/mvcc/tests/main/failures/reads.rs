//! Reads that fail while a group is evaluated: the store stays where it was, and goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use stentor_mvcc::engine::memory::{Disk, MemoryEngine};
use stentor_mvcc::engine::{Batch, BlobWriter, Durability, Engine, EngineError, Family, Read, Scan, Sizes};
use stentor_mvcc::{CompactionStep, Error, Options, Store};
use stentor_proto::Revision;
use stentor_proto::etcdserverpb::compare::TargetUnion;
use stentor_proto::etcdserverpb::request_op::Request;
use stentor_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RequestOp,
    TxnRequest,
};
use stentor_proto::storagepb::log_entry::Op;

use super::{apply, content, everything, put};

/// An engine of which some read fails, once.
struct Faulty {
    engine: MemoryEngine,
    /// Reads until one fails; negative if none does.
    left: AtomicI64,
    panics: bool,
}

impl Faulty {
    fn new(panics: bool) -> Arc<Faulty> {
        let engine = MemoryEngine::open(&Disk::new()).unwrap();
        Arc::new(Faulty { engine, left: AtomicI64::new(-1), panics })
    }

    fn read(&self) -> Result<(), EngineError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) != 0 {
            return Ok(());
        }
        assert!(!self.panics, "simulated panic");
        Err(EngineError::Io("simulated, during a read".to_owned()))
    }
}

impl Read for Faulty {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.read()?;
        self.engine.get(family, key)
    }

    fn scan(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> Result<Scan<'_>, EngineError> {
        self.read()?;
        let scan = self.engine.scan(family, from, to)?;
        Ok(Box::new(scan.map(|entry| self.read().and(entry))))
    }
}

impl Engine for Faulty {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        self.engine.write(batch, durability)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.engine.sync()
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.engine.flush()
    }

    fn get_persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.engine.get_persisted(family, key)
    }

    fn view(&self) -> Box<dyn Read + '_> {
        self.engine.view()
    }

    fn reclaim(&self, family: Family, to: Option<&[u8]>) -> Result<(), EngineError> {
        self.engine.reclaim(family, to)
    }

    fn save_blob(&self, name: &str, write: &mut BlobWriter<'_>) -> Result<(), EngineError> {
        self.engine.save_blob(name, write)
    }

    fn load_blob(&self, name: &str) -> Result<Option<Box<dyn std::io::Read + Send>>, EngineError> {
        self.engine.load_blob(name)
    }

    fn sizes(&self) -> Result<Sizes, EngineError> {
        self.engine.sizes()
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// A group in which every kind of operation reads from history after the group has changed something.
fn group() -> Vec<Op> {
    let delete = |key: &'static str, prev_kv| DeleteRangeRequest { key: key.into(), prev_kv, ..Default::default() };
    let compare = Compare {
        key: "b".into(),
        target: 3,
        result: 0,
        target_union: Some(TargetUnion::Value("1".into())),
        ..Default::default()
    };
    vec![
        Op::Put(put("z", "0")),
        Op::LeaseGrant(LeaseGrantRequest { id: 9, ttl: 4 }),
        Op::Put(PutRequest { lease: 9, prev_kv: true, ..put("a", "2") }),
        Op::Put(PutRequest { key: "b".into(), ignore_value: true, lease: 8, ..Default::default() }),
        Op::DeleteRange(delete("c", true)),
        Op::Txn(TxnRequest {
            compare: vec![compare],
            success: vec![
                op(Request::RequestPut(put("d", "2"))),
                op(Request::RequestRange(everything())),
                op(Request::RequestDeleteRange(delete("e", true))),
            ],
            failure: vec![],
        }),
        Op::Compact(CompactionRequest { revision: 3, physical: false }),
        Op::LeaseRevoke(LeaseRevokeRequest { id: 8 }),
    ]
}

fn filled(engine: &Arc<Faulty>) -> Store {
    let store = Store::open_shared(engine.clone(), Options::default()).unwrap();
    store.execute(Op::LeaseGrant(LeaseGrantRequest { id: 8, ttl: 4 })).unwrap();
    for key in ["a", "b", "c", "d", "e"] {
        store.put(PutRequest { lease: if key < "c" { 8 } else { 0 }, ..put(key, "1") }).unwrap();
    }
    store
}

/// Whether what fails is left without a trace, whichever read it is.
fn leaves_no_trace(panics: bool) {
    let well = Faulty::new(false);
    let expected = apply(&filled(&well), group()).unwrap();
    let mut failed = 0;
    loop {
        let engine = Faulty::new(panics);
        let store = filled(&engine);
        let (before, leases) = (content(&store), store.view().leases().get(lease(8)).cloned());
        let (revision, hash) = (store.view().revision(), store.view().hash_kv(0).unwrap());

        engine.left.store(failed, Ordering::SeqCst);
        match catch_unwind(AssertUnwindSafe(|| apply(&store, group()))) {
            // Every read that there is has failed once.
            Ok(Ok(_)) => break,
            Ok(Err(error)) => assert!(matches!(error, Error::Engine(EngineError::Io(_))), "{error}"),
            Err(_) => assert!(panics),
        }
        engine.left.store(-1, Ordering::SeqCst);
        failed += 1;

        assert_eq!(content(&store), before);
        assert_eq!((store.view().revision(), store.view().hash_kv(0).unwrap()), (revision, hash));
        assert_eq!(store.view().leases().get(lease(8)).cloned(), leases);
        assert_eq!(apply(&store, group()).unwrap(), expected, "after read {failed} had failed");
        assert_eq!(content(&store), "a=2 d=2 z=0");
    }
    assert!(failed >= 5, "only {failed} reads");
}

fn lease(id: i64) -> stentor_mvcc::LeaseId {
    stentor_mvcc::LeaseId::new(id).unwrap()
}

#[test]
fn a_group_whose_read_fails_leaves_no_trace() {
    leaves_no_trace(false);
}

#[test]
fn a_group_that_panics_leaves_no_trace() {
    leaves_no_trace(true);
}

#[test]
fn space_work_goes_on_after_a_read_failed() {
    let engine = Faulty::new(false);
    let store = filled(&engine);
    for value in ["2", "3"] {
        store.put(put("a", value)).unwrap();
    }
    store.compact(store.view().revision()).unwrap();
    let hash = store.view().hash_kv(0).unwrap();
    let mut failed = 0;
    loop {
        // Another read of the step each time, until all of them have failed once.
        engine.left.store(failed, Ordering::SeqCst);
        match store.compact_step(2) {
            Ok(CompactionStep::Idle) => break,
            Ok(_) => {}
            Err(error) => assert!(matches!(error, Error::Engine(EngineError::Io(_))), "{error}"),
        }
        failed += 1;
        assert!(failed < 100, "it does not come to an end");
    }
    engine.left.store(-1, Ordering::SeqCst);
    assert_eq!(store.view().hash_kv(0).unwrap(), hash);
    assert_eq!(content(&store), "a=3 b=1 c=1 d=1 e=1");
}

#[test]
fn a_failing_read_is_an_error_of_that_read_alone() {
    let engine = Faulty::new(false);
    let store = filled(&engine);
    let view = store.view();
    let all = |range: &dyn Fn() -> Result<(), Error>| {
        for read in 0..2 {
            engine.left.store(read, Ordering::SeqCst);
            assert!(matches!(range(), Err(Error::Engine(EngineError::Io(_)))), "read {read}");
            range().unwrap();
        }
    };
    all(&|| view.range(&everything()).map(drop));
    all(&|| view.hash_kv(0).map(drop));
    all(&|| view.history(Revision::FIRST, view.revision())?.collect::<Result<Vec<_>, _>>().map(drop));
    all(&|| Store::open_shared(engine.clone(), Options::default()).map(drop));
    store.put(put("f", "1")).unwrap();
}
