//! What ends a watch, and what does not.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use stentor_client::{ErrorKind, KeyRange};
use stentor_interop::proxy::Mode;
use stentor_proto::etcdserverpb::{CompactionRequest, PutRequest, RequestOp, TxnRequest, request_op};

use crate::rig::{Follower, Rig, SERVERS, at, start, until, within};

impl Rig {
    async fn follow(&self, range: KeyRange, after: i64) -> Result<Follower> {
        Ok(Follower::new(self.client.watch(range).after(at(after)).prev_kv().notices().progress().await?, after))
    }

    pub(crate) async fn compact(&mut self, revision: i64) -> Result<()> {
        self.direct.kv.compact(CompactionRequest { revision, physical: true }).await?;
        Ok(())
    }

    /// Runs `meanwhile` with every connection closed and none possible.
    pub(crate) async fn cut_off(&mut self, meanwhile: impl AsyncFnOnce(&mut Rig) -> Result<()>) -> Result<()> {
        self.proxies.iter().for_each(|proxy| proxy.set(Mode::Refusing));
        until("no connection", || self.proxies.iter().all(|proxy| proxy.connections() == 0)).await?;
        meanwhile(self).await?;
        self.proxies.iter().for_each(|proxy| proxy.set(Mode::Open));
        Ok(())
    }

    /// A number that the server says of itself.
    fn metric(&self, name: &str) -> Result<f64> {
        let address = self.server.endpoint();
        let mut stream = TcpStream::connect(address.trim_start_matches("http://"))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        Ok(line.context("no such metric")?[name.len()..].trim().parse()?)
    }
}

async fn compaction(variable: &str) -> Result<()> {
    let Some(mut rig) = start(variable, "compaction while a client is cut off").await? else { return Ok(()) };
    let begin = rig.put("/a", "1").await?;
    let mut behind = rig.follow(KeyRange::key("/a"), begin - 1).await?;
    behind.until("the first event", |progress| progress.revision >= begin).await?;
    let mut compacted = 0;
    rig.cut_off(async |rig| {
        for value in ["2", "3", "4"] {
            compacted = rig.put("/a", value).await?;
        }
        rig.compact(compacted).await
    })
    .await?;
    let error = behind.end().await?;
    assert_eq!(*error.kind(), ErrorKind::Compacted { at: at(compacted) }, "{error}");
    // To begin with one is as final. etcd confirms the watcher first.
    let early = match rig.client.watch(KeyRange::key("/a")).from(at(2)).await {
        Ok(mut watch) => within("the end", watch.next()).await?.context("no error")?.err().context("no error")?,
        Err(error) => error,
    };
    assert_eq!(*early.kind(), ErrorKind::Compacted { at: at(compacted) }, "{early}");
    // The way on: what there is, and what follows it.
    let list = within("the list", async { rig.client.list(KeyRange::key("/a")).await }).await??;
    assert_eq!(list.pairs().iter().map(|pair| pair.value_str()).collect::<Vec<_>>(), [Some("4")]);
    let mut again = rig.follow(KeyRange::key("/a"), list.revision().get()).await?;
    let last = rig.put("/a", "5").await?;
    again.until("the next event", |progress| progress.revision >= last).await?;
    Ok(())
}

/// Only where progress notes can be relied on.
async fn quiet(variable: &str) -> Result<()> {
    let Some(mut rig) = start(variable, "a quiet watch beside compaction").await? else { return Ok(()) };
    let mut last = rig.put("/quiet", "1").await?;
    let watch = rig.client.watch(KeyRange::key("/quiet")).from(at(last)).notices().progress().await?;
    let control = watch.control();
    let mut follower = Follower::new(watch, last - 1);
    for number in 0..50 {
        last = rig.put("/busy", &number.to_string()).await?;
    }
    // A note is not given while a watcher catches up, nor trusted until the member has said its version.
    let asked = async {
        while control.position().is_none_or(|position| position < at(last)) {
            control.request_progress();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within("a note", asked).await?;
    rig.cut_off(async |rig| rig.compact(last).await).await?;
    follower.until("a resume", |progress| progress.resumes > 0).await?;
    rig.put("/quiet", "2").await?;
    let end = rig.put("/quiet", "3").await?;
    follower.until("the change after it", |progress| progress.revision >= end).await?;
    Ok(())
}

async fn restored(variable: &str) -> Result<()> {
    let Some(mut rig) = start(variable, "a store whose history is gone").await? else { return Ok(()) };
    let mut last = 0;
    for number in 0..10 {
        last = rig.put("/a", &number.to_string()).await?;
    }
    let mut follower = rig.follow(KeyRange::key("/a"), 1).await?;
    follower.until("the events", |progress| progress.revision >= last).await?;
    rig.server.kill();
    std::fs::remove_dir_all(rig.server.data_dir())?;
    rig.server.restart()?;
    let error = follower.end().await?;
    ensure!(matches!(error.kind(), ErrorKind::HistoryReset { .. }), "{error}");
    Ok(())
}

/// One revision that comes in parts is handed on whole, or again from its beginning.
async fn torn(variable: &str) -> Result<()> {
    let Some(mut rig) = start(variable, "a break within a revision").await? else { return Ok(()) };
    let mut last = 0;
    for round in 0..2 {
        let put = |number: usize| {
            let key = format!("/big/{number:02}").into();
            let put = PutRequest { key, value: vec![b'0' + round; 30_000].into(), ..PutRequest::default() };
            RequestOp { request: Some(request_op::Request::RequestPut(put)) }
        };
        let request = TxnRequest { success: (0..40).map(put).collect(), ..TxnRequest::default() };
        last = rig.direct.kv.txn(request).await?.into_inner().header.context("no header")?.revision;
    }
    for bytes in [400_000, 1_300_000, 2_200_000] {
        for proxy in &rig.proxies {
            proxy.cut_after(bytes);
        }
        let mut follower = rig.follow(KeyRange::prefix("/big/"), 1).await?;
        follower.until("all of it", |progress| progress.revision >= last).await?;
        ensure!(rig.proxies.iter().any(|proxy| !proxy.will_cut()), "nothing was cut after {bytes} bytes");
        follower.check(&rig.history(last).await?)?;
        rig.proxies.iter().for_each(|proxy| proxy.cut_after(u64::MAX));
    }
    Ok(())
}

/// A link that is open and carries nothing is found out by pings, and left.
async fn half_open(variable: &str) -> Result<()> {
    let Some(mut rig) = start(variable, "a half-open link").await? else { return Ok(()) };
    let begin = rig.put("/a", "0").await?;
    let mut follower = rig.follow(KeyRange::key("/a"), begin).await?;
    // Whichever it is on.
    for held in [0, 1] {
        rig.proxies[held].set(Mode::Held);
        let last = rig.put("/a", "1").await?;
        follower.until("the event", |progress| progress.revision >= last).await?;
        rig.proxies[held].set(Mode::Open);
    }
    ensure!(follower.resumes() >= 1, "the link was not left");
    follower.check(&rig.history(begin + 2).await?)?;
    Ok(())
}

async fn dropped(variable: &str) -> Result<()> {
    const WATCHERS: &str = "etcd_debugging_mvcc_watcher_total";
    let Some(mut rig) = start(variable, "watches that are dropped").await? else { return Ok(()) };
    rig.put("/a", "0").await?;
    let mut watches = Vec::new();
    for _ in 0..20 {
        watches.push(rig.client.watch(KeyRange::prefix("/a")).await?);
    }
    let counted = |count: f64| move |rig: &Rig| rig.metric(WATCHERS).is_ok_and(|found| found == count);
    until("twenty watchers", || counted(20.0)(&rig)).await?;
    drop(watches.split_off(5));
    until("five watchers", || counted(5.0)(&rig)).await?;
    watches.iter().for_each(|watch| watch.control().cancel());
    until("no watcher", || counted(0.0)(&rig)).await?;
    for mut watch in watches {
        let next = within("the end", watch.next()).await?;
        ensure!(next.is_none(), "{next:?} after it was cancelled");
    }
    Ok(())
}

/// A test for each server there is.
macro_rules! for_each_server {
    ($($name:ident: $scenario:ident, $server:expr;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            $scenario(SERVERS[$server]).await
        })*
    };
}

for_each_server! {
    compaction_of_stentor: compaction, 0;
    compaction_of_etcd_3_4: compaction, 1;
    compaction_of_etcd_3_5: compaction, 2;
    compaction_of_etcd_3_7: compaction, 3;
    quiet_beside_stentor: quiet, 0;
    quiet_beside_etcd_3_7: quiet, 3;
    restored_stentor: restored, 0;
    restored_etcd_3_4: restored, 1;
    restored_etcd_3_5: restored, 2;
    restored_etcd_3_7: restored, 3;
    torn_from_stentor: torn, 0;
    torn_from_etcd_3_4: torn, 1;
    torn_from_etcd_3_5: torn, 2;
    torn_from_etcd_3_7: torn, 3;
    half_open_to_stentor: half_open, 0;
    half_open_to_etcd_3_5: half_open, 2;
    dropped_at_stentor: dropped, 0;
    dropped_at_etcd_3_4: dropped, 1;
    dropped_at_etcd_3_5: dropped, 2;
    dropped_at_etcd_3_7: dropped, 3;
}
