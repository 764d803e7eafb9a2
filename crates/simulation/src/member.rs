//! A member: the whole server on disks in memory, replicating with the others over the simulated network.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use stentor_checks::log::{Pair, Published};
use stentor_checks::random::Random;
use stentor_mvcc::engine::memory::MemoryEngine;
use stentor_mvcc::{Commit, Observer, Options, Record, Store};
use stentor_server::cluster::{JoinError, Joined, join};
use stentor_server::config::{self, Command, Config};
use stentor_server::environment::{Environment, Workers};
use stentor_server::member::Member;
use stentor_server::metrics::Metrics;
use stentor_server::net::{Listener, Server};
use stentor_server::peers::{Dialer, PeerIo, Target};
use stentor_server::storage::{Disks, Storage};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use turmoil::net::{TcpListener, TcpStream};

use crate::place::Place;
use crate::world::{Life, Settings, World, now};

const PORT: u16 = 2379;
/// Members listen on both, and are told to be found at one of them or at both.
const PEER_PORTS: [u16; 2] = [2380, 2381];

/// As the process has them.
const HAND_OVER_TIME: Duration = Duration::from_millis(500);
const STOP_TIME: Duration = Duration::from_millis(800);

/// Between two tries to join.
const RETRY: Duration = Duration::from_millis(300);

/// The host's name of a member.
pub(crate) fn name(member: usize) -> String {
    format!("m{member}")
}

/// Where clients find it.
pub(crate) fn endpoint(member: usize) -> String {
    format!("{}:{PORT}", name(member))
}

/// Where other members find it at first.
pub(crate) fn peer_url(member: usize) -> String {
    let [first, _] = peer_urls(member);
    first
}

/// Where it listens for other members.
pub(crate) fn peer_urls(member: usize) -> [String; 2] {
    PEER_PORTS.map(|port| format!("http://{}:{port}", name(member)))
}

/// How `--initial-cluster` names a member that is found at these URLs.
pub(crate) fn in_cluster(member: usize, urls: &[String]) -> String {
    urls.iter().map(|url| format!("{}={url}", name(member))).collect::<Vec<_>>().join(",")
}

/// Runs what is to be run on a host, from what its disks hold, until it is killed.
pub(crate) async fn run(world: World, number: usize, random: Random) -> turmoil::Result {
    let ended = live(&world, number, random).await;
    if ended.is_err() && !world.lock().hosts.get(number).is_some_and(|host| host.is_bad) {
        return ended;
    }
    std::future::pending().await
}

/// Until the member is removed from its cluster, or can't start.
async fn live(world: &World, number: usize, mut random: Random) -> turmoil::Result {
    let (disks, life, settings) = {
        let state = world.lock();
        let host = state.hosts.get(number).ok_or("no such host")?;
        (host.disks.clone(), host.life.clone(), state.settings)
    };
    if life == Life::Empty {
        return Ok(());
    }
    let config = config(number, &life, settings)?;
    let environment = environment(random.next());
    // Connections wait from the start on, as they do at a real one.
    let clients = Network(TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?);
    let mut peers = Vec::new();
    for port in PEER_PORTS {
        peers.push(Network(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?));
    }
    let joined = if life != Life::Initial && !holds_data(&disks)? {
        let Some(joined) = joined(world, number, &config, &environment).await? else { return Ok(()) };
        Some(joined)
    } else {
        None
    };
    let metrics = Metrics::new(config.metrics);
    let stop = CancellationToken::new();
    let place = Arc::new(Place {
        world: world.clone(),
        number,
        disks: disks.clone(),
        fails: random.one_in(4).into(),
        has_started: false.into(),
    });
    let storage = Storage { received: place.clone(), ..disks.storage()? };
    let member = Member::start_joined(storage, &config, environment, metrics.clone(), joined.as_ref(), &stop)?;
    if let Err(error) = member.check_against_others().await {
        world.lock().wrong.push(format!("m{number} does not serve: {error}"));
        return Ok(());
    }
    place.has_started.store(true, Ordering::Relaxed);
    let applied = member.node.store.view().applied();
    world.note(format_args!("m{number} starts at {applied:?}"));
    let follower = Arc::new(Follower { world: world.clone(), number, last: AtomicI64::default() });
    follower.last.store(member.node.store.observe(&follower).revision().get(), Ordering::Relaxed);
    let end = Arc::new(Notify::new());
    {
        let mut state = world.lock();
        state.count_comparisons(number, Some(metrics.clone()));
        if let Some(host) = state.hosts.get_mut(number) {
            (host.node, host.end) = (Arc::downgrade(&member.node), end.clone());
        }
    }
    let peer_server = Server::new(&of_peers(&config), metrics.clone(), stop.clone());
    peers.into_iter().for_each(|listener| peer_server.serve(listener, member.peer_app()));
    let server = Server::new(&config, metrics, stop.clone());
    let serving = async {
        member.node.has_leader().await;
        server.serve(clients, member.app());
        member.set_serving(true).await;
        std::future::pending::<()>().await;
    };
    let is_removed = tokio::select! {
        () = serving => false,
        () = write_back(&disks, random) => false,
        () = member.node.removed() => true,
        () = end.notified() => false,
    };
    if is_removed {
        world.note(format_args!("m{number} was removed"));
    } else {
        hand_over(world, number, &member).await;
    }
    member.set_serving(false).await;
    stop.cancel();
    server.shutdown(STOP_TIME).await;
    peer_server.shutdown(STOP_TIME).await;
    member.ended().await;
    let mut state = world.lock();
    state.reached.removed_members += u64::from(is_removed);
    if let Some(host) = state.hosts.get_mut(number) {
        host.node = Weak::new();
        if is_removed {
            (host.life, host.disks) = (Life::Empty, Disks::new());
        }
    }
    Ok(())
}

/// What a member does first when it is told to end.
async fn hand_over(world: &World, number: usize, member: &Member) {
    let node = &member.node;
    let leads = || node.leader() == Some(node.identity().member_id);
    let led = leads();
    node.hand_over(HAND_OVER_TIME).await;
    let mut state = world.lock();
    state.reached.hand_overs += u64::from(led && !leads());
    state.note(now(), format_args!("m{number} ends in order, having led: {led}"));
}

/// What is not synced reaches the disk at any time.
async fn write_back(disks: &Disks, mut random: Random) {
    loop {
        tokio::time::sleep(random.millis(1, 2_000)).await;
        disks.engine().write_back();
    }
}

/// Whether a member has begun on these disks.
fn holds_data(disks: &Disks) -> turmoil::Result<bool> {
    let store = Store::open(MemoryEngine::open(&disks.engine())?, Options::default())?;
    Ok(store.identity()?.is_some())
}

/// Joins the cluster; `None` if it has no such member any more.
async fn joined(
    world: &World,
    number: usize,
    config: &Config,
    environment: &Environment,
) -> turmoil::Result<Option<Joined>> {
    loop {
        match join(config, &environment.dialer).await {
            Ok(joined) => return Ok(Some(joined)),
            // Whoever answers may not know yet.
            Err(JoinError::NoAnswer | JoinError::NotAdded(_) | JoinError::Others(_)) => tokio::time::sleep(RETRY).await,
        }
        if world.lock().hosts.get(number).is_none_or(|host| host.life == Life::Empty) {
            return Ok(None);
        }
    }
}

fn config(number: usize, life: &Life, settings: Settings) -> Result<Config, String> {
    let (cluster, state) = match life {
        Life::Joins(cluster) => (cluster.clone(), "existing"),
        _ => {
            let initial = (0..settings.members).map(|member| in_cluster(member, &[peer_url(member)]));
            (initial.collect::<Vec<_>>().join(","), "new")
        }
    };
    let own = format!("{}=", name(number));
    let own: Vec<_> = cluster.split(',').filter_map(|entry| entry.strip_prefix(&own)).collect();
    let mut flags = vec![
        format!("--name={}", name(number)),
        format!("--initial-cluster={cluster}"),
        format!("--initial-cluster-state={state}"),
        format!("--initial-cluster-token=t{}", settings.token),
        format!("--initial-advertise-peer-urls={}", own.join(",")),
        format!("--listen-client-urls=http://0.0.0.0:{PORT}"),
        format!("--advertise-client-urls=http://{}", endpoint(number)),
        format!("--snapshot-count={}", settings.snapshot_count),
        format!("--snapshot-catchup-entries={}", settings.catch_up_entries),
        format!("--strict-reconfig-check={}", settings.strict),
        format!("--max-request-bytes={}", 1 << 20),
    ];
    if settings.compares {
        let checks = ["corrupt-check-time=1100ms", "compact-hash-check-time=700ms", "compact-hash-check-enabled"];
        flags.extend(checks.map(|flag| format!("--{flag}")));
        flags.push("--initial-corrupt-check".to_owned());
    }
    match config::load(flags.into_iter().map(Into::into), []) {
        Ok(Command::Run { config, .. }) => Ok(*config),
        Ok(_) => Err("no configuration".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Members ask each other for a sign of life as often as they like.
fn of_peers(config: &Config) -> Config {
    let mut config = config.clone();
    config.keepalive.min_time = Duration::ZERO;
    config.max_concurrent_streams = u32::MAX;
    config
}

fn environment(seed: u64) -> Environment {
    let drawn = AtomicU64::new(seed);
    let dialer = Dialer::new(|target: Target| {
        Box::pin(async move {
            let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
            Ok(Box::new(stream) as Box<dyn PeerIo>)
        })
    });
    Environment {
        wall_unix_ms: Arc::new(|| 1_700_000_000_000 + now().as_millis() as u64),
        random: Arc::new(move || Random::new(drawn.fetch_add(1, Ordering::Relaxed)).next()),
        workers: Workers::Tasks,
        dialer,
    }
}

/// Holds what a member applies against what the others did.
struct Follower {
    world: World,
    number: usize,
    /// The last revision.
    last: AtomicI64,
}

impl Follower {
    fn follow(&self, commit: &Commit) -> Result<(), String> {
        let mut state = self.world.lock();
        state.log.compactions.extend(commit.compacted.map(stentor_client::Revision::get));
        let revision = commit.revision.get();
        let last = self.last.swap(revision, Ordering::Relaxed);
        let changes = commit.records.iter().map(published).collect::<Result<Vec<_>, _>>()?;
        if let Some(first) = changes.first() {
            if first.revision != last + 1 {
                return Err(format!("revision {} comes after {last}", first.revision));
            }
            return state.publish(changes, now());
        }
        if revision < last {
            return Err(format!("it goes back from revision {last} to {revision}"));
        }
        if revision > last {
            state.reached.stores_received += 1;
            state.note(now(), format_args!("m{} has received a store at {revision}", self.number));
        }
        Ok(())
    }
}

fn published(record: &Record) -> Result<Published, String> {
    let pair = record.pair().map_err(|error| error.to_string())?;
    let key = String::from_utf8(pair.key.to_vec()).map_err(|error| error.to_string())?;
    let after = (!record.is_delete()).then(|| Pair::from(&pair));
    Ok(Published { revision: record.id.revision.get(), key, after })
}

impl Observer for Follower {
    fn committed(&self, commit: &Commit) {
        if let Err(error) = self.follow(commit) {
            let mut state = self.world.lock();
            state.wrong.push(format!("m{}: {error}", self.number));
        }
    }
}

/// Accepts what comes over the simulated network.
struct Network(TcpListener);

impl Listener for Network {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }

    fn local_addr(&self) -> SocketAddr {
        self.0.local_addr().unwrap_or((IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT).into())
    }
}
