//! A TCP proxy in front of a server, which cuts, holds back, delays and refuses what passes through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What a proxy does with its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Hands on what comes, at once.
    #[default]
    Open,
    /// Hands it on this much later.
    Slow(Duration),
    /// Accepts connections and keeps them open, and hands nothing on: a half-open link.
    Held,
    /// Closes every connection that is made.
    Refusing,
}

/// A proxy on a port of 127.0.0.1. Its connections end with it.
pub struct Proxy {
    gate: Gate,
    link: Arc<Link>,
}

/// A port of 127.0.0.1 whose connections belong to different links. They end with it.
pub struct Gate {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

/// The addresses of a connection to a gate.
pub struct Ends {
    /// Of the one who opened it.
    pub client: SocketAddr,
    /// Of the gate.
    pub server: SocketAddr,
}

/// What becomes of the connections of one link.
pub struct Link {
    mode: watch::Sender<Mode>,
    /// Counts the cuts.
    cuts: watch::Sender<u64>,
    /// Bytes towards the client after which its connection is cut; `u64::MAX` for none.
    budget: AtomicU64,
    open: AtomicUsize,
    disturbed: AtomicU64,
}

impl Default for Link {
    fn default() -> Link {
        Link {
            mode: watch::Sender::new(Mode::Open),
            cuts: watch::Sender::new(0),
            budget: AtomicU64::new(u64::MAX),
            open: AtomicUsize::new(0),
            disturbed: AtomicU64::new(0),
        }
    }
}

impl Link {
    /// From now on, for connections that are open too.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How often something could not pass as it came: a connection, or a piece of what is sent.
    pub fn disturbed(&self) -> u64 {
        self.disturbed.load(Ordering::Relaxed)
    }

    fn disturb(&self) {
        self.disturbed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Gate {
    /// Listens for connections to `endpoint`, as [`Server::endpoint`](crate::process::Server::endpoint) gives it;
    /// `link` says to which link a connection belongs, if to any: else it is reset.
    ///
    /// # Errors
    /// When the endpoint can't be read or no port is free.
    pub async fn start(endpoint: &str, link: impl Fn(Ends) -> Option<Arc<Link>> + Send + 'static) -> Result<Gate> {
        let target = endpoint.trim_start_matches("http://").parse().context("not an address of this machine")?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("cannot listen")?;
        let address = listener.local_addr()?;
        Ok(Gate { address, accepting: tokio::spawn(accept(listener, target, link)) })
    }

    /// Where clients reach it: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // The connections are this task's.
        self.accepting.abort();
    }
}

impl Proxy {
    /// Listens for connections to `endpoint`, as [`Server::endpoint`](crate::process::Server::endpoint) gives it.
    ///
    /// # Errors
    /// When the endpoint can't be read or no port is free.
    pub async fn start(endpoint: &str) -> Result<Proxy> {
        let link = Arc::new(Link::default());
        let gate = Gate::start(endpoint, {
            let link = link.clone();
            move |_| Some(link.clone())
        })
        .await?;
        Ok(Proxy { gate, link })
    }

    /// Where clients reach it: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        self.gate.endpoint()
    }

    /// From now on, for connections that are open too.
    pub fn set(&self, mode: Mode) {
        self.link.set(mode);
    }

    /// Resets every open connection.
    pub fn cut(&self) {
        self.link.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Resets the connection that is the one to receive the last of so many more bytes from the server.
    pub fn cut_after(&self, bytes: u64) {
        self.link.budget.store(bytes, Ordering::Relaxed);
    }

    /// Whether such a cut is yet to come.
    pub fn will_cut(&self) -> bool {
        self.link.budget.load(Ordering::Relaxed) != u64::MAX
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.link.open.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, link: impl Fn(Ends) -> Option<Arc<Link>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, address)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let Ok(server) = client.local_addr() else { continue };
        let Some(link) = link(Ends { client: address, server }) else {
            reset(&client);
            continue;
        };
        if *link.mode.borrow() == Mode::Refusing {
            link.disturb();
            reset(&client);
            continue;
        }
        connections.spawn(serve(client, target, link));
    }
}

/// Closing is then a reset instead of an orderly end.
#[allow(deprecated, reason = "with no time to linger, closing does not block")]
fn reset(stream: &TcpStream) {
    // It only fails for a connection that is gone.
    let _ = stream.set_linger(Some(Duration::ZERO));
}

async fn serve(client: TcpStream, target: SocketAddr, link: Arc<Link>) {
    let Ok(server) = TcpStream::connect(target).await else { return reset(&client) };
    for stream in [&client, &server] {
        reset(stream);
        let _ = stream.set_nodelay(true);
    }
    link.open.fetch_add(1, Ordering::Relaxed);
    let mut cuts = link.cuts.subscribe();
    let mut modes = link.mode.subscribe();
    let refused = async {
        // The sender lives in `link`.
        let _ = modes.wait_for(|mode| *mode == Mode::Refusing).await;
        link.disturb();
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = cuts.changed() => {}
        () = refused => {}
        () = pass(from_client, to_server, &link, false) => {}
        () = pass(from_server, to_client, &link, true) => {}
    }
    link.open.fetch_sub(1, Ordering::Relaxed);
}

/// Hands one direction on until it ends.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, link: &Link, to_client: bool) {
    let mut modes = link.mode.subscribe();
    let mut bytes = vec![0; 16 << 10];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        if *modes.borrow() != Mode::Open {
            link.disturb();
        }
        let mode = match modes.wait_for(|mode| *mode != Mode::Held).await {
            Ok(mode) => *mode,
            Err(_) => return,
        };
        if let Mode::Slow(delay) = mode {
            tokio::time::sleep(delay).await;
        }
        let mut piece = bytes.get(..count).unwrap_or_default();
        let last = to_client && take(&link.budget, &mut piece);
        if to.write_all(piece).await.is_err() || last {
            return;
        }
    }
}

/// Takes a piece's length from what is left. True if that was the last of it; then the piece is shortened.
fn take(budget: &AtomicU64, piece: &mut &[u8]) -> bool {
    let length = piece.len() as u64;
    let left = budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| match left {
        u64::MAX => None,
        left if left <= length => Some(u64::MAX),
        left => Some(left - length),
    });
    match left {
        Ok(left) if left <= length => {
            *piece = piece.get(..left as usize).unwrap_or_default();
            true
        }
        _ => false,
    }
}
