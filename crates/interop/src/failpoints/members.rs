//! A cluster of three: ends of one of them while others go on, and slow disks.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use stentor_proto::etcdserverpb::{PutRequest, RangeRequest, StatusRequest};

use super::control::Control;
use super::{Options, REACH, Work, check_end, work_for};
use crate::client::Client;
use crate::crash::Report;
use crate::process::Server;

/// The log is forgotten soon, so that a member which lags needs the whole store.
const FLAGS: [&str; 2] = ["--snapshot-count=50", "--snapshot-catchup-entries=20"];
/// Writes between two looks.
const WRITES: u64 = 100;

pub(super) struct Cluster {
    servers: Vec<Server>,
    pub(super) controls: Vec<Control>,
    /// What was acknowledged.
    written: BTreeMap<Bytes, Bytes>,
    sent: u64,
}

/// Ends a member at each of these points.
pub(super) async fn run(options: &Options, points: &[String], report: &mut Report) -> Result<()> {
    let mut servers = Server::start_cluster(&options.server, 3, &FLAGS)?;
    let controls = servers.iter_mut().map(Control::of).collect::<Result<_>>()?;
    let mut cluster = Cluster { servers, controls, written: BTreeMap::new(), sent: 0 };
    for n in 0..cluster.servers.len() {
        cluster.servers[n].restart()?;
    }
    for point in points {
        let reached = match work_for(point) {
            Work::Lag => cluster.end_in_lag(point).await,
            _ => cluster.end_in_following(point).await,
        };
        let member = reached.with_context(|| point.clone())?;
        cluster.check(member).await.with_context(|| format!("after the end at {point}"))?;
        report.add("ends at a failpoint", 1);
        report.add("ends of a member of three", 1);
    }
    cluster.slow_follower(report).await.context("a follower's disk was slow")?;
    cluster.slow_leader(report).await.context("the leader's disk was slow")?;
    report.add("acknowledged writes", cluster.written.len());
    Ok(())
}

impl Cluster {
    /// Ends a member that follows; returns which one, which runs again.
    async fn end_in_following(&mut self, point: &str) -> Result<usize> {
        let follower = self.follower().await?;
        self.controls[follower].set(point, "panic")?;
        self.write(WRITES).await?;
        let (status, log) = self.servers[follower].ended(REACH).await?;
        check_end(point, status, &log)?;
        self.servers[follower].restart()?;
        Ok(follower)
    }

    /// Ends a member that is given the whole store; returns which one, which runs again.
    async fn end_in_lag(&mut self, point: &str) -> Result<usize> {
        let follower = self.follower().await?;
        let deadline = Instant::now() + REACH;
        loop {
            self.servers[follower].kill();
            self.write(WRITES).await?;
            self.servers[follower].set_variable("GOFAIL_FAILPOINTS", Some(&format!("{point}=panic")));
            self.servers[follower].begin()?;
            // It has either ended there or caught up, if the others have not forgotten enough of the log yet.
            if !self.catches_up(follower).await? {
                break;
            }
            ensure!(Instant::now() < deadline, "the log alone brought the member up");
        }
        let (status, log) = self.servers[follower].ended(REACH).await?;
        check_end(point, status, &log)?;
        self.servers[follower].set_variable("GOFAIL_FAILPOINTS", None);
        self.servers[follower].restart()?;
        Ok(follower)
    }

    /// Whether a member that was begun comes to the last write; else it has ended.
    async fn catches_up(&mut self, member: usize) -> Result<bool> {
        let deadline = Instant::now() + REACH;
        let (key, value) = self.written.last_key_value().context("nothing was written")?;
        let (key, value) = (key.clone(), value.clone());
        let mut client = Client::lazy(&self.servers[member].endpoint())?;
        while Instant::now() < deadline {
            if self.servers[member].has_ended()? {
                return Ok(false);
            }
            let range = RangeRequest { key: key.clone(), ..RangeRequest::default() };
            match client.kv.range(range).await {
                Ok(found) if found.get_ref().kvs.first().is_some_and(|pair| pair.value == value) => return Ok(true),
                _ => tokio::time::sleep(super::LOOK_AGAIN).await,
            }
        }
        bail!("it neither ended nor came up; its log ends:\n{}", self.servers[member].log_tail())
    }

    /// Writes so many pairs through a member that leads.
    pub(super) async fn write(&mut self, count: u64) -> Result<()> {
        let deadline = Instant::now() + REACH;
        let mut client = Client::lazy(&self.servers[self.leader().await?].endpoint())?;
        let until = self.sent + count;
        while self.sent < until {
            // Keys are in the order of their writes.
            let (key, value) = (Bytes::from(format!("{:08}", self.sent)), Bytes::from(format!("value {}", self.sent)));
            let put = PutRequest { key: key.clone(), value: value.clone(), ..PutRequest::default() };
            match client.kv.put(put).await {
                Ok(_) => {
                    self.written.insert(key, value);
                    self.sent += 1;
                }
                Err(status) if Instant::now() > deadline => return Err(status).context("no write is taken"),
                // Another may lead.
                Err(_) => client = Client::lazy(&self.servers[self.leader().await?].endpoint())?,
            }
        }
        Ok(())
    }

    /// Everything that was acknowledged is on this member.
    pub(super) async fn check(&mut self, member: usize) -> Result<()> {
        let mut client = Client::connect(&self.servers[member].endpoint()).await?;
        let everything = Bytes::from_static(b"\0");
        let range = RangeRequest { key: everything.clone(), range_end: everything, ..RangeRequest::default() };
        // Linearizable: so the member has come up.
        let pairs = client.kv.range(range).await?.into_inner().kvs;
        let found: BTreeMap<_, _> = pairs.into_iter().map(|pair| (pair.key, pair.value)).collect();
        let lost = self.written.iter().find(|(key, value)| found.get(*key) != Some(value));
        ensure!(lost.is_none(), "{lost:?} was acknowledged and is not there");
        ensure!(found.len() == self.written.len(), "{} pairs of {}", found.len(), self.written.len());
        Ok(())
    }

    pub(super) async fn follower(&self) -> Result<usize> {
        Ok((self.leader().await? + 1) % self.servers.len())
    }

    /// Which member leads.
    pub(super) async fn leader(&self) -> Result<usize> {
        let deadline = Instant::now() + REACH;
        while Instant::now() < deadline {
            for (n, server) in self.servers.iter().enumerate() {
                let mut client = Client::lazy(&server.endpoint())?;
                let Ok(status) = client.maintenance.status(StatusRequest {}).await else { continue };
                let status = status.into_inner();
                if status.leader != 0 && status.header.is_some_and(|header| header.member_id == status.leader) {
                    return Ok(n);
                }
            }
            tokio::time::sleep(super::LOOK_AGAIN).await;
        }
        bail!("no leader for {REACH:?}")
    }
}
