//! Three servers as processes, the links between them, and their disks.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use stentor_proto::etcdserverpb::{RangeRequest, StatusRequest};
use tokio::time::{Instant, sleep, timeout};

use super::Options;
use super::disk::Disk;
use super::links::Links;
use crate::client::Client;
use crate::launch;
use crate::process::free_port;

/// How many there are.
pub(super) const MEMBERS: usize = 3;
/// What must happen at some time has this long: it decides nothing but that the run fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What a member says when it writes no more, and what it names for the reason.
const HALTS: [&str; 2] = ["the log can't be written", "the store can't apply writes"];
const NO_ROOM: [&str; 3] = ["no space left", "no room on the disk", "No space left"];

/// One of the three.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) client: Client,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    disk: Option<Disk>,
}

/// All three.
pub(super) struct Cluster {
    pub(super) members: Vec<Member>,
    pub(super) links: Links,
    /// The terms seen, each with its leader.
    pub(super) leaders: BTreeMap<u64, u64>,
    server: PathBuf,
    launcher: PathBuf,
}

impl Cluster {
    /// Makes all that they need, with data and logs in `directory`. None runs yet.
    pub(super) async fn new(options: &Options, directory: &Path) -> Result<Cluster> {
        let listen = || Ok(format!("http://127.0.0.1:{}", free_port()?));
        let listens = (0..MEMBERS).map(|_| listen()).collect::<Result<Vec<_>>>()?;
        let links = Links::start(&listens).await?;
        let initial: Vec<_> = (0..MEMBERS).map(|n| format!("m{n}={}", links.endpoint(n))).collect();
        let initial = initial.join(",");
        let mut members = Vec::new();
        for (n, listen) in listens.into_iter().enumerate() {
            let name = format!("m{n}");
            let at = directory.join(&name);
            let disk = if options.own_mounts { Some(Disk::mount(&at)?) } else { None };
            let client = format!("http://127.0.0.1:{}", free_port()?);
            let arguments = [
                ("name", name.clone()),
                ("data-dir", at.join("data").display().to_string()),
                ("listen-client-urls", client.clone()),
                ("advertise-client-urls", client.clone()),
                ("listen-peer-urls", listen),
                ("initial-advertise-peer-urls", links.endpoint(n)),
                ("initial-cluster", initial.clone()),
                ("heartbeat-interval", "29".to_owned()),
                ("election-timeout", "271".to_owned()),
                ("snapshot-count", "200".to_owned()),
                ("snapshot-catchup-entries", "100".to_owned()),
                ("watch-progress-notify-interval", "300ms".to_owned()),
            ];
            let arguments = arguments.into_iter().map(|(flag, value)| format!("--{flag}={value}")).collect();
            let log = directory.join(format!("{name}.log"));
            members.push(Member { name, client: Client::lazy(&client)?, arguments, log, child: None, disk });
        }
        let (server, launcher) = (options.server.clone(), options.launcher.clone());
        Ok(Cluster { members, links, leaders: BTreeMap::new(), server, launcher })
    }

    /// Starts a member on the data it has. It is not waited for.
    pub(super) fn spawn(&mut self, member: usize) -> Result<()> {
        let place = self.members.get_mut(member).context("no such member")?;
        let process = place.spawn(&self.launcher, &self.server)?;
        self.links.runs(member, process);
        Ok(())
    }

    /// SIGKILL, and waits until the process is gone.
    pub(super) fn kill(&mut self, member: usize) {
        self.members.get_mut(member).into_iter().for_each(Member::kill);
    }

    /// Ends all, and copies what would be lost with the run.
    pub(super) fn keep(&mut self, directory: &Path) {
        for member in &mut self.members {
            member.kill();
            if let Some(disk) = &member.disk {
                disk.keep(&directory.join(format!("{}.kept", member.name)));
            }
        }
    }

    /// Waits until every member answers a linearizable read.
    pub(super) async fn comes_back(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for member in &mut self.members {
            while !member.answers().await {
                member.is_alive()?;
                ensure!(Instant::now() < deadline, "{} does not answer {PATIENCE:?} after the last fault", member.name);
                sleep(ASK_AGAIN).await;
            }
        }
        self.leader().await?;
        Ok(())
    }

    /// Which member leads.
    pub(super) async fn leader(&mut self) -> Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            for (n, member) in self.members.iter().enumerate() {
                let mut client = member.client.maintenance.clone();
                let Ok(Ok(status)) = timeout(Duration::from_secs(1), client.status(StatusRequest {})).await else {
                    continue;
                };
                let status = status.into_inner();
                if status.leader != 0 && status.header.is_some_and(|header| header.member_id == status.leader) {
                    self.leaders.insert(status.raft_term, status.leader);
                    return Ok(n);
                }
            }
            sleep(ASK_AGAIN).await;
        }
        bail!("no leader for {PATIENCE:?}")
    }

    /// How many lines of all logs say so.
    pub(super) fn logged(&self, what: &str) -> Result<u64> {
        let mut count = 0;
        for member in &self.members {
            let log = std::fs::read_to_string(&member.log)?;
            count += log.lines().filter(|line| line.contains(what)).count() as u64;
        }
        Ok(count)
    }
}

impl Member {
    /// Starts it, and returns the process's number.
    fn spawn(&mut self, launcher: &Path, server: &Path) -> Result<u32> {
        let log: File = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = launch::command(launcher, server);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("ETCD") || text.starts_with("STENTOR_") {
                command.env_remove(&name);
            }
        }
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", launcher.display()))?;
        Ok(self.child.insert(child).id())
    }

    /// SIGKILL, and waits until the process is gone.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when the process has already gone.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        let process = Pid::from_child(child);
        kill_process(process, signal).with_context(|| format!("cannot send {signal:?} to {}", self.name))
    }

    /// Waits for it to end by itself, in order.
    pub(super) async fn ends(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut child = self.child.take().context("it does not run")?;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "{} ended with {status} after SIGTERM", self.name);
                return Ok(());
            }
            sleep(ASK_AGAIN).await;
        }
        self.child = Some(child);
        bail!("{} runs {PATIENCE:?} after SIGTERM", self.name)
    }

    /// An error if it has ended by itself.
    pub(super) fn is_alive(&mut self) -> Result<()> {
        let ended = self.child.as_mut().context("it does not run")?.try_wait()?;
        ensure!(ended.is_none(), "{} has ended by itself: {ended:?}", self.name);
        Ok(())
    }

    /// Its disk.
    pub(super) fn disk(&self) -> Result<&Disk> {
        self.disk.as_ref().context("it has no disk of its own")
    }

    /// How often it has said that it writes no more for want of room.
    pub(super) fn has_said_full(&self) -> Result<usize> {
        let log = std::fs::read_to_string(&self.log)?;
        let halts =
            |line: &&str| HALTS.iter().any(|halt| line.contains(halt)) && NO_ROOM.iter().any(|no| line.contains(no));
        Ok(log.lines().filter(halts).count())
    }

    async fn answers(&self) -> bool {
        let mut client = self.client.kv.clone();
        let range = RangeRequest { key: bytes::Bytes::from_static(b"none"), ..RangeRequest::default() };
        matches!(timeout(Duration::from_secs(2), client.range(range)).await, Ok(Ok(_)))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
