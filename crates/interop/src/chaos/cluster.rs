//! Three servers as processes, each behind a proxy of its peer port.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use stentor_proto::etcdserverpb::{RangeRequest, StatusRequest};
use tokio::time::{Instant, sleep, timeout};

use crate::client::Client;
use crate::process::free_port;
use crate::proxy::Proxy;

/// How soon all members must answer linearizable reads again once nothing keeps them from it.
const COMES_BACK: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// One of the three.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) client: Client,
    pub(super) proxy: Proxy,
    arguments: Vec<String>,
    binary: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

/// All three, and the directory of their data and logs.
pub(super) struct Cluster {
    pub(super) members: Vec<Member>,
    /// The terms seen, each with its leader.
    pub(super) leaders: std::collections::BTreeMap<u64, u64>,
}

impl Cluster {
    pub(super) async fn start(binary: &Path, directory: &Path) -> Result<Cluster> {
        let mut places = Vec::new();
        for n in 0..3 {
            let listen = format!("http://127.0.0.1:{}", free_port()?);
            places.push((format!("m{n}"), Proxy::start(&listen).await?, listen));
        }
        let initial: Vec<String> =
            places.iter().map(|(name, proxy, _)| format!("{name}={}", proxy.endpoint())).collect();
        let initial = initial.join(",");
        let mut members = Vec::new();
        for (name, proxy, listen) in places {
            let client = format!("http://127.0.0.1:{}", free_port()?);
            let advertised = proxy.endpoint();
            let data = directory.join(&name).display().to_string();
            let mut arguments: Vec<String> = [
                ("--name", &name),
                ("--data-dir", &data),
                ("--listen-client-urls", &client),
                ("--advertise-client-urls", &client),
                ("--listen-peer-urls", &listen),
                ("--initial-advertise-peer-urls", &advertised),
                ("--initial-cluster", &initial),
            ]
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value.clone()])
            .collect();
            arguments.extend(
                ["--heartbeat-interval=29", "--election-timeout=271", "--snapshot-count=200"].map(str::to_owned),
            );
            arguments.push("--snapshot-catchup-entries=100".to_owned());
            let log = directory.join(format!("{name}.log"));
            let (client, binary) = (Client::lazy(&client)?, binary.to_path_buf());
            members.push(Member { name, client, proxy, arguments, binary, log, child: None });
        }
        let mut cluster = Cluster { members, leaders: std::collections::BTreeMap::new() };
        cluster.members.iter_mut().try_for_each(Member::spawn)?;
        cluster.comes_back().await?;
        Ok(cluster)
    }

    /// Waits until every member answers a linearizable read.
    pub(super) async fn comes_back(&mut self) -> Result<()> {
        let deadline = Instant::now() + COMES_BACK;
        for member in &mut self.members {
            while !member.answers().await {
                member.is_alive()?;
                ensure!(
                    Instant::now() < deadline,
                    "{} does not answer {COMES_BACK:?} after the last fault",
                    member.name
                );
                sleep(ASK_AGAIN).await;
            }
        }
        self.leader().await?;
        Ok(())
    }

    /// Which member leads.
    pub(super) async fn leader(&mut self) -> Result<usize> {
        let deadline = Instant::now() + COMES_BACK;
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
        bail!("no leader for {COMES_BACK:?}")
    }

    /// How many lines of all logs say so.
    pub(super) fn logged(&self, what: &str) -> Result<usize> {
        let mut count = 0;
        for member in &self.members {
            let log = std::fs::read_to_string(&member.log)?;
            count += log.lines().filter(|line| line.contains(what)).count();
        }
        Ok(count)
    }
}

impl Member {
    /// Starts it on the data it has. It is not waited for.
    pub(super) fn spawn(&mut self) -> Result<()> {
        let log: File = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("ETCD") || text.starts_with("STENTOR_") {
                command.env_remove(&name);
            }
        }
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))?);
        Ok(())
    }

    /// SIGKILL, and waits until the process is gone.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when the process has already gone.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal, by its name without SIG.
    pub(super) fn signal(&self, name: &str) -> Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", child.id())).status()?;
        ensure!(sent.success(), "SIG{name} could not be sent");
        Ok(())
    }

    /// Waits for it to end by itself, in order.
    pub(super) async fn ends(&mut self) -> Result<()> {
        let deadline = Instant::now() + COMES_BACK;
        let mut child = self.child.take().context("it does not run")?;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "{} ended with {status} after SIGTERM", self.name);
                return Ok(());
            }
            sleep(ASK_AGAIN).await;
        }
        self.child = Some(child);
        bail!("{} runs {COMES_BACK:?} after SIGTERM", self.name)
    }

    fn is_alive(&mut self) -> Result<()> {
        let ended = self.child.as_mut().context("it does not run")?.try_wait()?;
        ensure!(ended.is_none(), "{} has ended by itself: {ended:?}", self.name);
        Ok(())
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
