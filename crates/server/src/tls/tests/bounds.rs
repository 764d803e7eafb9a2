//! Slow and silent ones among many.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::listener::Bounds;
use super::super::{Acceptor, PeerConnector, TlsListener};
use crate::config::{Allowed, CipherSuite, OwnCertificate, Protocols, TlsConfig};
use crate::net::Listener;

/// Of time that stands still while anything else can be done.
const LONG: Duration = Duration::from_secs(3600);
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(10), at_once: 2, grace: Duration::from_secs(1) };

/// A member with a certificate of its own making.
pub(super) fn own(directory: &Path) -> TlsConfig {
    TlsConfig {
        certificate: OwnCertificate::SelfSigned { directory: directory.into(), hosts: vec!["a".into()], years: 1 },
        as_client: None,
        trusted_ca: None,
        crl: None,
        allowed: Allowed::Any,
        compares_addresses: false,
        protocols: Protocols { tls12: CipherSuite::ALL.to_vec(), tls13: true },
    }
}

struct Pipes(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for Pipes {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(pipe) => Ok((pipe, self.local_addr())),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }
}

/// A listener that sends a byte to whom it takes.
struct Scene {
    connect: mpsc::UnboundedSender<DuplexStream>,
    connector: PeerConnector,
    _folder: tempfile::TempDir,
    _serving: JoinHandle<()>,
}

impl Scene {
    fn new(bounds: Bounds) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let config = own(folder.path());
        let (connect, pipes) = mpsc::unbounded_channel();
        let mut listener = TlsListener::with_bounds(Pipes(pipes), Acceptor::load(&config).unwrap(), bounds);
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(b"!").await.unwrap();
                stream.flush().await.unwrap();
            }
        });
        let connector = PeerConnector::load(&config).unwrap();
        Scene { connect, connector, _folder: folder, _serving: serving }
    }

    /// Somebody who says nothing.
    fn silent(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        self.connect.send(theirs).unwrap();
        ours
    }

    async fn is_taken(&self) -> bool {
        let Ok(mut stream) = self.connector.connect(self.silent(), "a").await else { return false };
        stream.read_u8().await.is_ok_and(|byte| byte == b'!')
    }
}

/// Waits until the other end closes, without a word from us.
async fn is_closed(stream: &mut DuplexStream) -> bool {
    let mut rest = Vec::new();
    timeout(LONG, stream.read_to_end(&mut rest)).await.is_ok()
}

/// GHSA-6vch-q96h-7gc3, for those beside them.
#[tokio::test]
async fn silent_ones_hold_up_nobody() {
    let scene = Scene::new(Bounds { at_once: 5, time: LONG, grace: LONG });
    let silent: Vec<_> = (0..4).map(|_| scene.silent()).collect();
    for _ in 0..3 {
        assert!(scene.is_taken().await);
    }
    drop(silent);
}

/// GHSA-6vch-q96h-7gc3, for handshakes of TLS.
#[tokio::test(start_paused = true)]
async fn a_silent_one_is_cut_in_the_end() {
    let scene = Scene::new(BOUNDS);
    let begun = tokio::time::Instant::now();
    assert!(is_closed(&mut scene.silent()).await);
    assert_eq!(begun.elapsed().as_secs(), BOUNDS.time.as_secs());
}

#[tokio::test(start_paused = true)]
async fn with_too_many_the_oldest_gives_way() {
    let scene = Scene::new(BOUNDS);
    let begun = tokio::time::Instant::now();
    let (mut first, mut second, mut third) = (scene.silent(), scene.silent(), scene.silent());
    assert!(is_closed(&mut first).await);
    assert_eq!(begun.elapsed().as_secs(), BOUNDS.grace.as_secs(), "not before it has had its time");
    // Room for the third was made by the first alone.
    assert!(is_closed(&mut second).await);
    assert_eq!(begun.elapsed().as_secs(), BOUNDS.time.as_secs());
    assert!(is_closed(&mut third).await);
    assert_eq!(begun.elapsed().as_secs(), (BOUNDS.grace + BOUNDS.time).as_secs());
}

#[tokio::test]
async fn room_comes_back_after_those_that_gave_way() {
    let scene = Scene::new(Bounds { grace: Duration::ZERO, ..BOUNDS });
    let silent: Vec<_> = (0..20).map(|_| scene.silent()).collect();
    assert!(scene.is_taken().await);
    drop(silent);
    assert!(scene.is_taken().await);
}
