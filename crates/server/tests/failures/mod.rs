//! A disk that fails under the member.

use std::io::ErrorKind;
use std::time::Duration;

use stentor_mvcc::engine::memory::Fault;
use stentor_proto::etcdserverpb::{AlarmRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest, StatusRequest};
use tokio::time::timeout;
use tonic::Code;

use crate::harness::{PATIENCE, Rig, get, prefixed, put};

/// How the disk is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    /// The log can't be written.
    Log(ErrorKind),
    /// The log can't be synced.
    LogSync(ErrorKind),
    /// What is in the log can't be applied.
    Store(Fault),
}

impl Failing {
    fn fail(self, rig: &Rig) {
        match self {
            Failing::Log(kind) => rig.log().fail_write(0, kind),
            Failing::LogSync(kind) => rig.log().fail_sync(0, kind),
            Failing::Store(fault) => rig.disk().fail_next_write(fault),
        }
    }

    /// What the failing write came to by a restart.
    fn fate(self) -> Fate {
        match self {
            Failing::Log(_) => Fate::Lost,
            Failing::LogSync(_) => Fate::Unknown,
            Failing::Store(_) => Fate::Kept,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lost,
    Kept,
    Unknown,
}

const ALL: [Failing; 5] = [
    Failing::Log(ErrorKind::Other),
    Failing::Log(ErrorKind::StorageFull),
    Failing::LogSync(ErrorKind::Other),
    Failing::Store(Fault::Io),
    Failing::Store(Fault::Full),
];

#[tokio::test(start_paused = true)]
async fn writes_end_reads_go_on_and_a_restart_shows_what_was_acknowledged() {
    for failing in ALL {
        let rig = Rig::start(&[]).await;
        for n in 0..20 {
            rig.put(&format!("k{n:02}"), "v").await;
        }
        failing.fail(&rig);
        let mut kv = rig.kv();
        let first = kv.put(put("k00", "lost")).await.unwrap_err();
        let full = matches!(failing, Failing::Store(Fault::Full) | Failing::Log(ErrorKind::StorageFull));
        let code = if full { Code::ResourceExhausted } else { Code::Internal };
        assert_eq!(first.code(), code, "{failing:?}: {first:?}");
        assert!(first.message().contains("then restart"), "{failing:?}: {first:?}");

        // Nothing that changes anything gets through, and each refusal says what to do.
        for _ in 0..3 {
            let later = kv.put(put("later", "lost")).await.unwrap_err();
            assert!(later.message().contains("restart"), "{failing:?}: {later:?}");
        }
        kv.delete_range(DeleteRangeRequest { key: "k01".into(), ..Default::default() }).await.unwrap_err();
        kv.compact(CompactionRequest { revision: 5, physical: false }).await.unwrap_err();
        let physical = kv.compact(CompactionRequest { revision: 5, physical: true });
        timeout(PATIENCE, physical).await.expect("a physical one is answered too").unwrap_err();

        // Reads show the state before, and say so with the same revision.
        let list = kv.range(prefixed("k")).await.unwrap().into_inner();
        assert_eq!((list.count, list.header.unwrap().revision), (20, 21));
        assert_eq!(list.kvs[0].value, "v");
        rig.maintenance().status(StatusRequest {}).await.unwrap();
        rig.maintenance().hash_kv(HashKvRequest { revision: 0 }).await.unwrap();
        rig.maintenance().alarm(AlarmRequest::default()).await.unwrap();

        let rig = rig.crash().await;
        // What was not acknowledged is there whole or not at all, and nothing that came after it is.
        let list = rig.list("k").await;
        let kept = list.kvs[0].value == "lost";
        assert!(failing.fate() == Fate::Unknown || (failing.fate() == Fate::Kept) == kept, "{failing:?}: {kept}");
        let now = 21 + i64::from(kept);
        assert_eq!((list.count, list.header.unwrap().revision), (20, now), "{failing:?}");
        assert!(list.kvs[1..].iter().all(|pair| pair.value == "v"));
        assert_eq!(rig.put("k00", "again").await, now + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn health_tells_of_it_and_liveness_does_not() {
    for failing in ALL {
        let rig = Rig::start(&[]).await;
        assert!(rig.http("/readyz").await.ends_with("\r\n\r\nok\n"));
        failing.fail(&rig);
        rig.kv().put(put("k", "")).await.unwrap_err();
        let ready = rig.http("/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        assert!(ready.contains("[-]linearizable_read failed: ") && ready.contains("restart"), "{ready}");
        let health = rig.http("/health").await;
        assert!(health.starts_with("HTTP/1.1 503") && health.contains("restart"), "{health}");
        assert!(rig.http("/livez").await.ends_with("\r\n\r\nok\n"));
        assert!(rig.http("/readyz/serializable_read").await.ends_with("\r\n\r\nok\n"));
        // A try more does not make it well again.
        rig.kv().put(put("k", "")).await.unwrap_err();
        assert!(rig.http("/health").await.starts_with("HTTP/1.1 503"));
        let rig = rig.crash().await;
        assert!(rig.http("/health").await.ends_with(r#"{"health":"true","reason":""}"#));
    }
}

/// All writes of a group are answered, each with the error.
#[tokio::test(start_paused = true)]
async fn every_write_of_a_failing_group_is_told() {
    let rig = Rig::start(&[]).await;
    rig.put("before", "").await;
    let kv = rig.kv();
    rig.log().fail_write(0, ErrorKind::Other);
    let writes = (0..200).map(|n| {
        let mut kv = kv.clone();
        async move { kv.put(put(&format!("{n}"), "")).await }
    });
    let answers = timeout(PATIENCE, futures::future::join_all(writes)).await.unwrap();
    assert!(answers.iter().all(Result::is_err));
    let rig = rig.crash().await;
    assert_eq!(rig.revision(), 2);
}

/// A compaction whose space work meets a failing disk: its callers are told, and nothing is lost.
#[tokio::test(start_paused = true)]
async fn a_physical_compaction_that_cannot_finish_is_answered() {
    let rig = Rig::start(&["--compaction-batch-limit=10"]).await;
    for n in 0..200 {
        rig.put("k", format!("{n}")).await;
    }
    let now = rig.revision();
    let mut kv = rig.kv();
    let physical = tokio::spawn(async move { kv.compact(CompactionRequest { revision: now, physical: true }).await });
    crate::harness::until(|| rig.member.node.store.view().compacted().is_some_and(|r| r.get() == now)).await;
    rig.disk().fail_next_write(Fault::Io);
    let told = timeout(Duration::from_secs(60), physical).await.expect("waits for ever").unwrap().unwrap_err();
    assert!(told.message().contains("restart"), "{told:?}");
    let rig = rig.crash().await;
    assert_eq!(rig.kv().range(get("k")).await.unwrap().into_inner().kvs[0].value, "199");
    crate::harness::until(|| rig.member.node.store.compaction_finished().get() == now).await;
}
