//! Locks and elections of the client, with each server, and in one queue with etcdctl.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use stentor_client::txn::put;
use stentor_client::{Client, Isolation, KeyRange, Observation, OwnershipLoss};
use stentor_interop::peers::{ETCDCTLS, required};
use tokio::sync::mpsc;

use crate::rig::{Rig, SERVERS, start, within};

/// etcdctl, running until it is interrupted.
struct Ctl {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Ctl {
    fn start(binary: &std::path::Path, rig: &Rig, arguments: &[&str]) -> Result<Ctl> {
        let endpoint = rig.server.endpoint();
        let mut command = Command::new(binary);
        command.args(["--endpoints", endpoint.trim_start_matches("http://")]).args(arguments);
        command.env("ETCDCTL_API", "3").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let output = child.stdout.take().context("no standard output")?;
        let (tell, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
        Ok(Ctl { child, lines })
    }

    async fn line(&mut self) -> Result<String> {
        within("a line of etcdctl", self.lines.recv()).await?.context("etcdctl has ended")
    }

    /// As Ctrl-C does: it gives back what it holds.
    async fn interrupt(mut self) -> Result<()> {
        let killed = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status()?;
        ensure!(killed.success(), "no etcdctl to interrupt");
        while within("the end of etcdctl", self.lines.recv()).await?.is_some() {}
        Ok(())
    }
}

impl Drop for Ctl {
    fn drop(&mut self) {
        // Both fail only when it has already gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the newest of so many keys is there.
async fn queued(client: &Client, prefix: &str, count: usize) -> Result<Vec<String>> {
    let polling = async {
        loop {
            let list = client.list(KeyRange::prefix(prefix.to_owned())).await?;
            if list.pairs().len() == count {
                let mut pairs = list.into_pairs();
                pairs.sort_by_key(|pair| pair.create_revision());
                return Ok(pairs.iter().filter_map(|pair| pair.key_str().map(str::to_owned)).collect());
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    within("keys in the queue", polling).await?
}

async fn leader(leaders: &mut Observation) -> Result<Option<String>> {
    let leader = within("a leader", leaders.next()).await?.context("it goes on")??;
    Ok(leader.and_then(|leader| leader.value_str().map(str::to_owned)))
}

/// Ours among themselves, through a restart of the server.
async fn holds(variable: &str) -> Result<()> {
    let Some(mut rig) = start(variable, "locks").await? else { return Ok(()) };
    let other = Client::connect([rig.server.endpoint()]).await?;
    let guard = rig.client.lock("/l").await?;
    ensure!(other.lock("/l").try_lock().await?.is_none(), "it is held");
    let waiting = tokio::spawn(other.lock("/l").into_future());
    queued(&rig.client, "/l/", 2).await?;
    rig.kill_and_restart().await?;
    ensure!(guard.txn().then(put("/done", "1")).await?.succeeded, "it is held through a restart");
    ensure!(!waiting.is_finished(), "and by one only");
    let fence = guard.fence();
    guard.unlock().await?;
    let guard = within("the lock", waiting).await???;
    ensure!(guard.fence() > fence);
    let lost = guard.lost();
    rig.delete(std::str::from_utf8(guard.key())?).await?;
    ensure!(matches!(within("the loss", lost).await?, OwnershipLoss::Deleted));

    // Transactions of the client's own kind, by the way.
    let mut adding = tokio::task::JoinSet::new();
    for client in [&rig.client, &other, &rig.client, &other] {
        let client = client.clone();
        adding.spawn(async move {
            for _ in 0..10 {
                let add = client.stm(|t| async move {
                    let count = t.get("n").await?.and_then(|n| std::str::from_utf8(&n).ok()?.parse().ok()).unwrap_or(0);
                    t.put("n", (count + 1_u32).to_string());
                    Ok(())
                });
                add.isolation(Isolation::Serializable).await?;
            }
            stentor_client::Result::Ok(())
        });
    }
    adding.join_all().await.into_iter().collect::<stentor_client::Result<()>>()?;
    let counted = other.get("n").await?.context("it was counted")?;
    ensure!(counted.value_str() == Some("40"), "{counted:?}");
    Ok(())
}

/// Ours and etcdctl's in one queue.
async fn shares(server: &str, ctl: &str) -> Result<()> {
    let test = format!("locks with {ctl}");
    let (Some(binary), Some(rig)) = (required(ctl, &test), start(server, &test).await?) else { return Ok(()) };
    let client = &rig.client;

    // Ours, theirs, ours.
    let guard = client.lock("/l").await?;
    let mut theirs = Ctl::start(&binary, &rig, &["lock", "/l"])?;
    let queue = queued(client, "/l/", 2).await?;
    let last = tokio::spawn(client.lock("/l").into_future());
    queued(client, "/l/", 3).await?;
    guard.unlock().await?;
    assert_eq!(theirs.line().await?, queue[1], "they hold it now");
    ensure!(!last.is_finished(), "and by one only");
    ensure!(client.lock("/l").try_lock().await?.is_none());
    theirs.interrupt().await?;
    let guard = within("the lock", last).await???;
    assert_eq!(queued(client, "/l/", 1).await?, [std::str::from_utf8(guard.key())?]);

    let election = client.election("/e");
    let mut leaders = election.observe().await?;
    assert_eq!(leader(&mut leaders).await?, None);
    let ours = election.campaign("ours").await?;
    assert_eq!(leader(&mut leaders).await?.as_deref(), Some("ours"));
    let mut seer = Ctl::start(&binary, &rig, &["elect", "-l", "/e"])?;
    assert_eq!((seer.line().await?, seer.line().await?), (std::str::from_utf8(ours.key())?.into(), "ours".into()));
    let mut theirs = Ctl::start(&binary, &rig, &["elect", "/e", "theirs"])?;
    queued(client, "/e/", 2).await?;
    ours.proclaim("ours, busy").await?;
    assert_eq!(leader(&mut leaders).await?.as_deref(), Some("ours, busy"));
    seer.line().await?;
    assert_eq!(seer.line().await?, "ours, busy");
    ours.resign().await?;
    let key = theirs.line().await?;
    assert_eq!(theirs.line().await?, "theirs");
    assert_eq!(leader(&mut leaders).await?.as_deref(), Some("theirs"));
    assert_eq!(election.leader().await?.context("they lead")?.key_str(), Some(&key[..]));
    theirs.interrupt().await?;
    assert_eq!(leader(&mut leaders).await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_each_server() -> Result<()> {
    for server in SERVERS {
        holds(server).await.with_context(|| server)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_etcdctl_of_stentor() -> Result<()> {
    for ctl in ETCDCTLS {
        shares(SERVERS[0], ctl).await.with_context(|| ctl)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_etcdctl_of_etcd() -> Result<()> {
    for (server, ctl) in SERVERS.into_iter().skip(1).zip(ETCDCTLS) {
        shares(server, ctl).await.with_context(|| ctl)?;
    }
    Ok(())
}
