//! What lies between clients and a member.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use stentor_client::{Client, ClientBuilder, Endpoint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};

use super::door::{Door, PIPE_BYTES};

/// The way of some clients to a member. Clones are the same way.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Shared>);

struct Shared {
    leads_to: Mutex<Option<mpsc::UnboundedSender<DuplexStream>>>,
    /// What the member sends is lost.
    deaf: AtomicBool,
    /// What the clients send is lost.
    mute: AtomicBool,
    /// No connection can be made.
    down: AtomicBool,
    cuts: watch::Sender<u64>,
    dials: AtomicU64,
}

impl Wire {
    /// It leads nowhere.
    pub(crate) fn loose() -> Wire {
        let [deaf, mute, down] = [false; 3].map(AtomicBool::new);
        let (leads_to, cuts, dials) = (Mutex::new(None), watch::Sender::new(0), AtomicU64::new(0));
        Wire(Arc::new(Shared { leads_to, deaf, mute, down, cuts, dials }))
    }

    pub(crate) fn to(door: &Door) -> Wire {
        let wire = Wire::loose();
        wire.join(door);
        wire
    }

    /// Connections are made to there from now on.
    pub(crate) fn join(&self, door: &Door) {
        *self.0.leads_to.lock().unwrap() = Some(door.connect.clone());
    }

    /// All connections break, and none can be made before it is joined again.
    pub(crate) fn sever(&self) {
        *self.0.leads_to.lock().unwrap() = None;
        self.cut();
    }

    pub(crate) fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    pub(crate) fn builder(&self) -> ClientBuilder {
        over([self.clone()])
    }

    /// Whether what the member sends is lost.
    pub(crate) fn set_deaf(&self, deaf: bool) {
        self.0.deaf.store(deaf, Ordering::Relaxed);
    }

    /// Whether what the clients send is lost.
    pub(crate) fn set_mute(&self, mute: bool) {
        self.0.mute.store(mute, Ordering::Relaxed);
    }

    /// Whether connecting fails.
    pub(crate) fn set_down(&self, down: bool) {
        self.0.down.store(down, Ordering::Relaxed);
    }

    /// Breaks every connection.
    pub(crate) fn cut(&self) {
        self.0.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Connections made so far.
    pub(crate) fn dials(&self) -> u64 {
        self.0.dials.load(Ordering::Relaxed)
    }

    pub(crate) fn dial(&self) -> io::Result<DuplexStream> {
        let leads_to = self.0.leads_to.lock().unwrap().clone();
        let leads_to = leads_to.filter(|_| !self.0.down.load(Ordering::Relaxed));
        let leads_to = leads_to.ok_or(io::ErrorKind::ConnectionRefused)?;
        self.0.dials.fetch_add(1, Ordering::Relaxed);
        let (client, near) = tokio::io::duplex(PIPE_BYTES);
        let (far, server) = tokio::io::duplex(PIPE_BYTES);
        // A listener that is gone drops the pipe, and the client meets its end.
        let _ = leads_to.send(server);
        tokio::spawn(carry(near, far, self.0.cuts.subscribe(), self.clone()));
        Ok(client)
    }
}

/// A client for whom each of the ways is a member.
pub(crate) fn over<const N: usize>(wires: [Wire; N]) -> ClientBuilder {
    let endpoints = (0..N).map(|n| format!("pipe:{}", n + 1));
    Client::builder(endpoints).seed(1).connector(move |endpoint: Endpoint| {
        let n: usize = endpoint.authority().trim_start_matches("pipe:").parse().unwrap();
        let dialled = wires[n - 1].dial();
        async { dialled }
    })
}

/// Carries bytes both ways until one side ends, or the wire is cut.
async fn carry(near: DuplexStream, far: DuplexStream, mut cuts: watch::Receiver<u64>, wire: Wire) {
    let (from_client, to_client) = tokio::io::split(near);
    let (from_server, to_server) = tokio::io::split(far);
    tokio::select! {
        biased;
        _ = cuts.changed() => {}
        _ = copy(from_client, to_server, &wire.0.mute) => {}
        _ = copy(from_server, to_client, &wire.0.deaf) => {}
    }
}

async fn copy(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, lost: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; PIPE_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        if !lost.load(Ordering::Relaxed) {
            to.write_all(&buffer[..read]).await?;
        }
    }
}
