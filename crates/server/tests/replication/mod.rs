//! Store and log together: what comes again from the log after a crash, and what is refused.

use std::sync::Arc;

use bytes::Bytes;
use stentor_mvcc::engine::memory::MemoryEngine;
use stentor_mvcc::{KvHash, LogPosition, Options, Store};
use stentor_proto::etcdserverpb::alarm_request::AlarmAction;
use stentor_proto::etcdserverpb::{AlarmRequest, AlarmType, DeleteRangeRequest, PutRequest};
use stentor_proto::log_entry::LogEntryError;
use stentor_proto::storagepb::Identity;
use stentor_raft::log::{Durability, Entry, EntryKind, Log, Position};
use stentor_server::config::{self, Command, Config};
use stentor_server::member::{Member, MemberError};
use stentor_server::metrics::Metrics;
use stentor_server::node::StartError;
use stentor_server::replication::Halt;
use stentor_server::storage::Disks;
use tokio_util::sync::CancellationToken;

use crate::harness::{Rig, Setup, environment, put, until};

fn config() -> Config {
    match config::load([], []) {
        Ok(Command::Run { config, .. }) => *config,
        other => panic!("the defaults are no flags to run with: {other:?}"),
    }
}

/// Why a member does not start on these disks.
fn refusal(disks: &Disks) -> StartError {
    let config = config();
    let (metrics, stop) = (Metrics::new(config.metrics), CancellationToken::new());
    let environment = environment(stentor_server::environment::Workers::Tasks);
    match Member::start(disks.storage().unwrap(), &config, environment, metrics, &stop) {
        Ok(_) => panic!("it starts"),
        Err(MemberError::Node(error)) => error,
        Err(other) => panic!("{other}"),
    }
}

fn hash_of(rig: &Rig) -> KvHash {
    rig.member.node.store.view().hash_kv(0).unwrap()
}

/// The disk of the store has kept nothing: all of it comes again, and is the same.
#[tokio::test(start_paused = true)]
async fn a_store_that_has_lost_everything_is_made_anew_from_the_log() {
    let rig = Rig::start(&[]).await;
    for n in 0..50 {
        rig.put(&format!("k{n:02}"), format!("{n}")).await;
    }
    let range = DeleteRangeRequest { key: "k10".into(), range_end: "k20".into(), prev_kv: false };
    rig.kv().delete_range(range).await.unwrap();
    rig.grant(7, 100).await;
    rig.kv().put(PutRequest { lease: 7, ..put("leased", "v") }).await.unwrap();
    let (action, alarm) = (AlarmAction::Activate.into(), AlarmType::Corrupt.into());
    rig.maintenance().alarm(AlarmRequest { action, member_id: 3, alarm }).await.unwrap();
    let before = rig.member.node.store.view();
    let hash = hash_of(&rig);
    let applied = before.applied();
    let persisted = rig.member.node.store.persisted_position().unwrap();
    assert_eq!(persisted, LogPosition { term: 1, index: 1 }, "nothing of it is on disk yet");
    let term = rig.member.node.term();

    let rig = rig.crash().await;
    let after = rig.member.node.store.view();
    assert_eq!((after.revision(), after.keys()), (before.revision(), before.keys()));
    assert_eq!(hash_of(&rig), hash);
    assert_eq!(after.leases().iter().count(), 1);
    assert_eq!(after.all_alarms().count(), 1);
    // One entry more: the election's.
    assert_eq!(after.applied(), LogPosition { term: term + 1, index: applied.index + 1 });
    assert_eq!(rig.member.node.term(), term + 1);
}

/// Whatever part of it was on disk when the power went: each entry is applied once.
#[tokio::test(start_paused = true)]
async fn from_wherever_the_store_was_flushed_the_rest_follows() {
    let mut rig = Rig::start(&[]).await;
    for round in 0..8 {
        for n in 0..round * 3 {
            rig.put(&format!("{n}"), format!("{round}")).await;
            if n % 4 == round % 4 {
                rig.member.node.store.flush().unwrap();
            }
        }
        let (revision, hash) = (rig.revision(), hash_of(&rig));
        rig = rig.crash().await;
        assert_eq!((rig.revision(), hash_of(&rig)), (revision, hash), "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_whose_log_is_missing_is_not_served() {
    let rig = Rig::start(&[]).await;
    rig.put("k", "v").await;
    let disks = rig.disks().clone();
    rig.stop().await;
    disks.engine().write_back();
    let without = Disks::of(disks.engine(), Default::default());
    let error = refusal(&without);
    assert!(matches!(error, StartError::LogMissing), "{error}");
    assert!(error.to_string().contains("put it back"), "{error}");
}

/// A log of an older time than the store is not one to go on with: what it lacks was acknowledged.
#[tokio::test(start_paused = true)]
async fn a_log_that_ends_before_the_store_is_refused() {
    let rig = Rig::start(&[]).await;
    rig.put("k", "1").await;
    let disks = rig.disks().clone();
    let old = disks.log.copy();
    rig.put("k", "2").await;
    rig.member.node.store.flush().unwrap();
    rig.stop().await;
    disks.engine().write_back();
    let error = refusal(&Disks::of(disks.engine(), old));
    assert!(matches!(&error, StartError::Halted(Halt::Log(_))), "{error}");
    assert!(error.to_string().contains("restore a snapshot"), "{error}");
}

/// A store from before there was a log is taken over as it is.
#[tokio::test(start_paused = true)]
async fn a_store_without_a_log_gets_one() {
    let disks = Disks::new();
    let store = Store::open(MemoryEngine::open(&disks.engine()).unwrap(), Options::default()).unwrap();
    store.set_identity(&Identity { cluster_id: 5, member_id: 6, has_log: false }).unwrap();
    for n in 0..10 {
        store.put(put(&format!("{n}"), "v")).unwrap();
    }
    let (revision, position) = (store.view().revision(), store.view().applied());
    drop(store);
    disks.engine().write_back();

    let rig = Setup::on_disks(disks, &[]).start().await;
    assert_eq!(rig.revision(), revision.get());
    assert_eq!((rig.member.node.identity().cluster_id, rig.member.node.identity().member_id), (5, 6));
    assert_eq!(rig.member.node.store.view().applied().index, position.index + 1, "the election's entry");
    rig.put("more", "v").await;
    let rig = rig.crash().await;
    assert_eq!((rig.member.node.store.view().keys(), rig.revision()), (11, revision.get() + 1));
}

/// An entry of a later version stops the member where it is: skipping it would part it from the others.
#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_read_is_never_skipped() {
    let rig = Rig::start(&[]).await;
    rig.put("k", "v").await;
    let disks = rig.disks().clone();
    rig.stop().await;
    disks.engine().write_back();
    let mut log = Log::open(Arc::new(disks.log.clone()), Default::default()).unwrap().unwrap();
    let last = log.last();
    let position = Position { index: last.index + 1, ..last };
    let data = Bytes::from_static(&[9, 1, 2, 3]);
    let entry = Entry { position, kind: EntryKind::Normal, context: Bytes::new(), data };
    log.append(None, &[entry], Durability::Synced).unwrap();
    drop(log);
    for _ in 0..2 {
        let error = refusal(&disks);
        assert!(matches!(&error, StartError::Halted(Halt::Entry(LogEntryError::TooNew(9)))), "{error}");
        assert!(error.to_string().contains("run a newer version"), "{error}");
    }
}

const WRITES: u64 = 10_000;
/// What may be forgotten is looked at once in some thousand entries.
const STEP: u64 = 4_096;

/// The entry behind which the log begins, after so many writes and a step more.
async fn start_of_a_log_of_many_writes(flags: &[&str]) -> u64 {
    let rig = Rig::start(flags).await;
    let mut kv = rig.kv();
    for n in 0..WRITES {
        kv.put(put("k", format!("{n}"))).await.unwrap();
    }
    // The checkpoints flush, by the clock.
    until(|| rig.member.node.store.persisted_position().unwrap().index > WRITES).await;
    for n in 0..STEP {
        kv.put(put("k", format!("{n}"))).await.unwrap();
    }
    let log = Log::open(Arc::new(rig.log().copy()), Default::default()).unwrap().unwrap();
    let rig = rig.crash().await;
    assert_eq!(rig.revision(), 1 + (WRITES + STEP) as i64);
    log.start().index
}

/// What the store has on disk need not stay in the log.
#[tokio::test(start_paused = true)]
async fn the_log_is_purged_behind_what_is_on_disk() {
    let start = start_of_a_log_of_many_writes(&["--snapshot-count=1000", "--snapshot-catchup-entries=100"]).await;
    assert!(start + 2 * STEP > WRITES, "{start}");
}

#[tokio::test(start_paused = true)]
async fn the_log_is_kept_if_that_is_asked_for() {
    let flags = ["--snapshot-count=1000", "--snapshot-catchup-entries=100", "--stentor-keep-log"];
    // Whom it begins with counts as the first entry.
    assert_eq!(start_of_a_log_of_many_writes(&flags).await, 1);
}
