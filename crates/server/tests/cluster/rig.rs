//! Members of one cluster, each in this process and on this thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use stentor_mvcc::engine::Engine;
use stentor_proto::etcdserverpb::cluster_client::ClusterClient;
use stentor_proto::etcdserverpb::{MemberAddRequest, RangeResponse};
use stentor_server::cluster;
use stentor_server::config::{self, Command, Config};
use stentor_server::corruption::InitialCheckError;
use stentor_server::environment::{Environment, Workers};
use stentor_server::member::Member;
use stentor_server::metrics::Metrics;
use stentor_server::net::Server;
use stentor_server::storage::{Disks, Storage};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

use super::net::Net;
use super::stall::{Stall, StallingDisk};
use crate::harness::{self, PATIENCE, Pipes, get, prefixed, put, until};

/// Election and heartbeat as harnesses set them.
const TIMES: [&str; 2] = ["--heartbeat-interval=29", "--election-timeout=271"];

/// A cluster; its members are numbered from 1 on, which are their ports too.
pub(crate) struct Cluster {
    pub(crate) net: Net,
    flags: Vec<String>,
    disks: BTreeMap<u16, Disks>,
    stalls: BTreeMap<u16, Stall>,
    running: BTreeMap<u16, Running>,
}

pub(crate) struct Running {
    pub(crate) member: Member,
    server: Server,
    peers: Server,
    connect: mpsc::UnboundedSender<DuplexStream>,
    /// What its store was opened on.
    engine: Arc<dyn Engine>,
    metrics: Metrics,
}

fn url(number: u16) -> String {
    format!("http://m{number}:{number}")
}

impl Cluster {
    /// Members that begin together, with further flags; there is a leader when this returns.
    pub(crate) async fn start(members: u16, flags: &[&str]) -> Cluster {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (net, disks, stalls, running) = Default::default();
        let mut cluster = Cluster { net, flags, disks, stalls, running };
        let all: Vec<_> = (1..=members).collect();
        for number in 1..=members {
            cluster.run(number, &all, false).await.unwrap();
        }
        cluster.until_led(&all).await;
        cluster
    }

    fn config(&self, number: u16, members: &[u16], joins: bool) -> Config {
        let all: Vec<_> = members.iter().map(|member| format!("m{member}={}", url(*member))).collect();
        let own = [
            format!("--name=m{number}"),
            format!("--initial-cluster={}", all.join(",")),
            format!("--advertise-client-urls=http://client{number}:1"),
            format!("--initial-cluster-state={}", if joins { "existing" } else { "new" }),
        ];
        let flags = own.into_iter().chain(TIMES.map(str::to_owned)).chain(self.flags.iter().cloned());
        match config::load(flags.map(Into::into), []) {
            Ok(Command::Run { config, .. }) => *config,
            other => panic!("no flags to run with: {other:?}"),
        }
    }

    /// Starts a member on its disks.
    async fn run(&mut self, number: u16, members: &[u16], joins: bool) -> Result<(), InitialCheckError> {
        let config = self.config(number, members, joins);
        let (metrics, stop) = (Metrics::new(config.metrics), CancellationToken::new());
        let chance = u64::from(number) << 32;
        let environment = harness::environment(Workers::Tasks);
        let random = environment.random.clone();
        let environment = Environment {
            random: Arc::new(move || random() ^ chance.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            dialer: self.net.dialer(number),
            ..environment
        };
        let joined = match joins {
            true => Some(cluster::join(&config, &environment.dialer).await.unwrap()),
            false => None,
        };
        let storage = self.disks.entry(number).or_default().storage().unwrap();
        let engine = storage.engine.clone();
        let stall = self.stalls.entry(number).or_default().clone();
        let storage = Storage { log: Arc::new(StallingDisk { disk: storage.log.clone(), stall }), ..storage };
        let member =
            Member::start_joined(storage, &config, environment, metrics.clone(), joined.as_ref(), &stop).unwrap();
        if let Err(error) = member.check_against_others().await {
            stop.cancel();
            member.ended().await;
            self.close_disks(number);
            return Err(error);
        }
        let peers = Server::new(&config, metrics.clone(), stop.clone());
        peers.serve(self.net.listen(number), member.peer_app());
        let server = Server::new(&config, metrics.clone(), stop);
        let (connect, accepted) = mpsc::unbounded_channel();
        server.serve(Pipes { accepted }, member.app());
        self.running.insert(number, Running { member, server, peers, connect, engine, metrics });
        Ok(())
    }

    /// Whatever still holds them is as dead as a process that has ended; its writes are there.
    fn close_disks(&self, number: u16) {
        let engine = self.disks[&number].engine();
        engine.write_back();
        engine.crash();
    }

    /// Adds the next member by the first one, and starts it. All members are running.
    pub(crate) async fn grow(&mut self, is_learner: bool) -> Result<u16, Status> {
        self.grow_beside(is_learner, &[]).await
    }

    /// As [`Cluster::grow`], where these members are down.
    pub(crate) async fn grow_beside(&mut self, is_learner: bool, down: &[u16]) -> Result<u16, Status> {
        let number = self.disks.keys().max().unwrap() + 1;
        let add = MemberAddRequest { peer_ur_ls: vec![url(number)], is_learner };
        let by = *self.running.keys().next().unwrap();
        self.members(by).member_add(add).await?;
        let there: Vec<_> = self.running.keys().chain(down).copied().chain([number]).collect();
        self.run(number, &there, true).await.unwrap();
        Ok(number)
    }

    /// Stops a member in order.
    pub(crate) async fn stop(&mut self, number: u16) {
        let Running { member, server, peers, .. } = self.running.remove(&number).unwrap();
        member.node.hand_over(PATIENCE).await;
        server.shutdown(PATIENCE).await;
        peers.shutdown(PATIENCE).await;
        member.ended().await;
        self.close_disks(number);
    }

    /// A member loses power.
    pub(crate) async fn kill(&mut self, number: u16) {
        let Running { member, server, peers, .. } = self.running.remove(&number).unwrap();
        let mut drawn = 0u64;
        self.disks[&number].crash(&mut || {
            drawn += 1;
            drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        self.disks[&number].log.clear_faults();
        drop((server, peers));
        member.ended().await;
    }

    /// As [`Cluster::again`], with a further flag.
    pub(crate) async fn again_with(&mut self, number: u16, flag: &str) {
        self.flags.push(flag.to_owned());
        self.again(number).await;
        self.flags.pop();
    }

    /// Starts a member again, with flags that count for nothing now.
    pub(crate) async fn again(&mut self, number: u16) {
        self.try_again(number).await.unwrap();
    }

    /// As [`Cluster::again`], for one that may refuse to serve what it has.
    pub(crate) async fn try_again(&mut self, number: u16) -> Result<(), InitialCheckError> {
        let members: Vec<_> = self.disks.keys().copied().collect();
        self.run(number, &members, false).await
    }

    /// A value that a member has on its disk becomes another one, and nobody is told.
    pub(crate) fn corrupt(&self, number: u16, revision: i64) {
        assert!(harness::corrupt(&*self.running[&number].engine, revision));
    }

    pub(crate) fn disks(&self, number: u16) -> &Disks {
        &self.disks[&number]
    }

    /// Holds up the syncs of a member's log.
    pub(crate) fn stall(&self, number: u16) -> &Stall {
        &self.stalls[&number]
    }

    pub(crate) fn member(&self, number: u16) -> &Member {
        &self.running[&number].member
    }

    pub(crate) fn metrics(&self, number: u16) -> &Metrics {
        &self.running[&number].metrics
    }

    pub(crate) fn id(&self, number: u16) -> u64 {
        self.member(number).node.identity().member_id
    }

    /// Waits until these agree on one of them as the leader, which is returned.
    pub(crate) async fn until_led(&self, members: &[u16]) -> u16 {
        let leader = || {
            let leaders: Vec<_> = members.iter().map(|number| self.member(*number).node.leader()).collect();
            let one = members.iter().copied().find(|number| leaders[0] == Some(self.id(*number)));
            one.filter(|_| leaders.iter().all(|leader| *leader == leaders[0]))
        };
        until(|| leader().is_some()).await;
        leader().unwrap()
    }

    /// Waits until a member has what another one has.
    pub(crate) async fn until_level(&self, number: u16, with: u16) {
        let applied = |number| self.member(number).node.store.view().applied();
        until(|| applied(number) >= applied(with)).await;
    }

    pub(crate) fn channel(&self, number: u16) -> Channel {
        harness::channel(&self.running[&number].connect)
    }

    pub(crate) fn members(&self, number: u16) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel(number))
    }

    pub(crate) fn kv(&self, number: u16) -> stentor_proto::etcdserverpb::kv_client::KvClient<Channel> {
        stentor_proto::etcdserverpb::kv_client::KvClient::new(self.channel(number))
    }

    /// Puts a pair by a member; its revision.
    pub(crate) async fn put(&self, number: u16, key: &str, value: &str) -> Result<i64, Status> {
        let answer = self.kv(number).put(put(key, value)).await?;
        Ok(harness::revision(answer.into_inner().header))
    }

    /// A linearizable read by a member.
    pub(crate) async fn get(&self, number: u16, key: &str) -> Result<Option<String>, Status> {
        let answer = self.kv(number).range(get(key)).await?.into_inner();
        Ok(answer.kvs.first().map(|pair| String::from_utf8_lossy(&pair.value).into_owned()))
    }

    /// What a member has, linearizable or not.
    pub(crate) async fn list(&self, number: u16, serializable: bool) -> RangeResponse {
        let request = stentor_proto::etcdserverpb::RangeRequest { serializable, ..prefixed("k") };
        self.kv(number).range(request).await.unwrap().into_inner()
    }

    /// The hash of everything that a member has kept.
    pub(crate) fn hash(&self, number: u16) -> u32 {
        self.member(number).node.store.view().hash_kv(0).unwrap().hash
    }
}
