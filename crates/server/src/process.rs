//! The process: what `stentor` does between its command line and its end.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::cluster::{self, JoinError};
use crate::config::{Config, InitialClusterState, Keepalive, Url};
use crate::corruption::InitialCheckError;
use crate::data_dir::{self, DataDirError};
use crate::environment::Environment;
use crate::logging;
use crate::member::{Member, MemberError};
use crate::metrics::Metrics;
use crate::net::{App, Server, SocketAcceptor};
use crate::peers::Dialer;
use crate::tls::{Acceptor, MaybeTls, PeerConnector, TlsError, TlsListener};
use crate::version;

/// What runs is waited for so long after the stop, then cut.
const STOP_TIME: Duration = Duration::from_millis(800);

/// So long a leader may take to hand over before it stops; those who follow would notice its end later.
const HAND_OVER_TIME: Duration = Duration::from_millis(500);

/// Why the process ends with an error.
#[derive(Debug, thiserror::Error)]
enum RunError {
    /// An address can't be listened on, a signal or a thread can't be set up.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Member(#[from] MemberError),
    #[error(transparent)]
    Check(#[from] InitialCheckError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Serves until SIGTERM or SIGINT. Status 0 after an orderly stop, 1 if it could not start.
pub fn run(config: &Config, warnings: &[String]) -> ExitCode {
    if let Err(error) = logging::init(&config.log) {
        // There is no log to say it in, and there may be no standard error either.
        let _ = writeln!(std::io::stderr(), "stentor: cannot log: {error}");
        return ExitCode::FAILURE;
    }
    for warning in warnings {
        warn!("{warning}");
    }
    info!(
        version = version::STENTOR_VERSION,
        etcd_version = version::ETCD_VERSION,
        name = config.name,
        data_dir = %config.data_dir.display(),
        "starting"
    );
    #[cfg(feature = "failpoints")]
    if let Err(error) = crate::failpoints::start() {
        error!(%error, "cannot serve");
        return ExitCode::FAILURE;
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // One is always allowed to wait for the disk.
        .worker_threads(processors + 1)
        .enable_all()
        .thread_name("serve")
        .build();
    let ended = runtime.map_err(RunError::from).and_then(|runtime| {
        let ended = runtime.block_on(serve(config));
        // Calls that still block, a large read say, are not waited for.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!(%error, "cannot serve");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: &Config) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let metrics = Metrics::new(config.metrics);
    // An address in use is told before the data is opened, which may take longer.
    let client = bind(&config.listen_client_urls)?;
    let client_http = bind(&config.listen_client_http_urls)?;
    let metrics_only = bind(&config.listen_metrics_urls)?;

    let peers = bind_peers(config)?;

    let (tls, peer_tls) = (client_tls(config)?, peer_tls(config)?);
    let environment = Environment { dialer: dialer(config)?, ..Environment::system() };
    let is_existing = config.initial_cluster_state == InitialClusterState::Existing;
    // A fresh cluster beside the one that was meant would take its clients' writes.
    let mut joined = match is_existing && !data_dir::holds_data(&config.data_dir) {
        true => Some(cluster::join(config, &environment.dialer).await?),
        false => None,
    };
    let storage = data_dir::open(&config.data_dir, &config.wal_dir)?;
    if is_existing && joined.is_none() && data_dir::is_unclaimed(&storage)? {
        // It ended while it joined.
        joined = Some(cluster::join(config, &environment.dialer).await?);
    }
    let stop = CancellationToken::new();
    let member = Member::start_joined(storage, config, environment, metrics.clone(), joined.as_ref(), &stop)?;
    let server = Server::new(config, metrics.clone(), stop.clone());
    let peer_server = Server::new(&of_peers(config), metrics, stop.clone());
    attach(&server, metrics_only, &member.http_app(), tls.as_ref())?;
    let taking_part = async {
        member.check_against_others().await?;
        attach(&peer_server, peers, &member.peer_app(), peer_tls.as_ref())?;
        member.node.has_leader().await;
        Ok::<_, RunError>(())
    };
    let takes_part = tokio::select! {
        led = taking_part => led.map(|()| true),
        () = member.node.removed() => Ok(false),
        _ = terminate.recv() => Ok(false),
        _ = interrupt.recv() => Ok(false),
    };
    if !matches!(takes_part, Ok(true)) {
        end(member, server, peer_server).await;
        return takes_part.map(drop);
    }
    let client_app = if client_http.is_empty() { member.app() } else { member.grpc_app() };
    attach(&server, client, &client_app, tls.as_ref())?;
    attach(&server, client_http, &member.http_app(), tls.as_ref())?;
    member.set_serving(true).await;
    info!(
        revision = member.node.store.view().revision().get(),
        cluster_id = format!("{:x}", member.node.identity().cluster_id),
        member_id = format!("{:x}", member.node.identity().member_id),
        urls = config.listen_client_urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        "ready to serve client requests"
    );

    tokio::select! {
        _ = terminate.recv() => info!(signal = "SIGTERM", "stopping"),
        _ = interrupt.recv() => info!(signal = "SIGINT", "stopping"),
        () = member.node.removed() => {}
    }
    member.node.hand_over(HAND_OVER_TIME).await;
    member.set_serving(false).await;
    end(member, server, peer_server).await;
    Ok(())
}

/// Stops everything that runs, and waits for it: a process that ends while its threads use the store may crash.
async fn end(member: Member, server: Server, peer_server: Server) {
    if !server.shutdown(STOP_TIME).await {
        info!("calls that had not ended were cut");
    }
    peer_server.shutdown(STOP_TIME).await;
    member.ended().await;
}

/// The sockets for other members. One that is alone and was not told where to listen does without them if the
/// default's are taken: nobody talks to it there.
fn bind_peers(config: &Config) -> std::io::Result<Vec<Bound>> {
    match bind(&config.listen_peer_urls) {
        Err(error) if !config.listens_for_peers && config.initial_cluster.len() == 1 => {
            info!(%error, "other members can't be served: give --listen-peer-urls before you add one");
            Ok(Vec::new())
        }
        bound => bound,
    }
}

/// Members ask each other for a sign of life as often as they like.
fn of_peers(config: &Config) -> Config {
    let keepalive = Keepalive { min_time: Duration::ZERO, ..config.keepalive };
    Config { keepalive, max_concurrent_streams: u32::MAX, ..config.clone() }
}

/// A socket that is listened on, and whether its connections are encrypted.
type Bound = (SocketAcceptor, bool);

fn bind(urls: &[Url]) -> std::io::Result<Vec<Bound>> {
    urls.iter().map(|url| Ok((SocketAcceptor::bind(url)?, url.is_secure()))).collect()
}

/// Reads the certificates for clients, if any URL needs them.
fn client_tls(config: &Config) -> Result<Option<Acceptor>, TlsError> {
    let urls = [&config.listen_client_urls, &config.listen_client_http_urls, &config.listen_metrics_urls];
    let needed = urls.into_iter().flatten().any(Url::is_secure);
    config.client_tls.as_ref().filter(|_| needed).map(Acceptor::load).transpose()
}

/// Reads the certificates for other members, if they are served encrypted.
fn peer_tls(config: &Config) -> Result<Option<Acceptor>, TlsError> {
    let needed = config.listen_peer_urls.iter().any(Url::is_secure);
    config.peer_tls.as_ref().filter(|_| needed).map(Acceptor::load).transpose()
}

/// Connects to other members, encrypted if their URLs say so. Members may change theirs, so this depends on the
/// settings alone.
fn dialer(config: &Config) -> Result<Dialer, TlsError> {
    let urls = config.initial_cluster.values().flatten().chain(&config.listen_peer_urls);
    let is_secure = urls.into_iter().any(Url::is_secure);
    Ok(match config.peer_tls.as_ref().filter(|_| is_secure) {
        Some(tls) => Dialer::with_tls(PeerConnector::load(tls)?),
        None => Dialer::system(),
    })
}

fn attach(server: &Server, sockets: Vec<Bound>, app: &App, tls: Option<&Acceptor>) -> Result<(), TlsError> {
    for (socket, is_secure) in sockets {
        let listener = match tls {
            _ if !is_secure => MaybeTls::Plain(socket),
            Some(tls) => MaybeTls::Tls(TlsListener::new(socket, tls.clone())),
            None => return Err(TlsError::Settings("there is no certificate".into())),
        };
        server.serve(listener, app.clone());
    }
    Ok(())
}
