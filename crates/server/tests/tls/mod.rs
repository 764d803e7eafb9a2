//! Encrypted connections: between members, and of clients.

mod authority;
mod loading;
mod members;
mod reloading;

use std::path::{Path, PathBuf};

use stentor_server::config::{self, Command, TlsConfig};
use stentor_server::tls::{Acceptor, PeerConnector, TlsError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use self::authority::{Authority, Identity};

/// Where the other end of a connection is said to be.
const HERE: &str = "127.0.0.1";

/// Members of one authority, and their files.
struct Scene {
    folder: tempfile::TempDir,
    authority: Authority,
}

/// A member: what it connects with, and what others connect to.
struct Member {
    acceptor: Acceptor,
    connector: PeerConnector,
}

/// How a handshake ended: for who was connected to, and for who connected.
type Ends = (Result<(), String>, Result<(), String>);

impl Scene {
    fn new() -> Scene {
        let scene = Scene { folder: tempfile::tempdir().unwrap(), authority: Authority::new() };
        scene.write("ca.crt", &scene.authority.pem);
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Flags for a member with a certificate of its own and the scene's authority, and these.
    fn flags(&self, identity: &Identity, name: &str, more: &[&str]) -> Vec<String> {
        let files = identity.write(self.folder.path(), name);
        let mut flags = vec![
            format!("--peer-cert-file={}", files.certificate.display()),
            format!("--peer-key-file={}", files.key.display()),
            format!("--peer-trusted-ca-file={}", self.path("ca.crt").display()),
        ];
        flags.extend(more.iter().map(ToString::to_string));
        flags
    }

    /// A member for the name `a` and this machine's address.
    fn member(&self, name: &str, more: &[&str]) -> Member {
        let identity = self.authority.sign(name, &["a", HERE]);
        Member::load(&self.flags(&identity, name, more)).unwrap()
    }
}

impl Member {
    fn load(flags: &[String]) -> Result<Member, TlsError> {
        let config = peer_tls(flags);
        Ok(Member { acceptor: Acceptor::load(&config)?, connector: PeerConnector::load(&config)? })
    }

    /// Connects to another one, as if to a host and from an address.
    async fn connect_as(&self, other: &Member, host: &str, from: &str) -> Ends {
        shake(&other.acceptor, &self.connector, host, from).await
    }

    async fn connect(&self, other: &Member) -> Ends {
        self.connect_as(other, "a", HERE).await
    }
}

fn peer_tls(flags: &[String]) -> TlsConfig {
    let loaded = config::load(flags.iter().map(Into::into), []);
    let Ok(Command::Run { config, .. }) = loaded else { panic!("{flags:?}: {loaded:?}") };
    config.peer_tls.unwrap()
}

/// A handshake, and a word behind it: only with that the one who connects knows that it is trusted.
async fn shake(acceptor: &Acceptor, connector: &PeerConnector, host: &str, from: &str) -> Ends {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let from = (from.parse::<std::net::IpAddr>().unwrap(), 1).into();
    let accepting = async {
        let mut stream = acceptor.accept(theirs, from).await.map_err(|error| error.to_string())?;
        stream.write_all(b"word").await.map_err(|error| error.to_string())?;
        stream.flush().await.map_err(|error| error.to_string())
    };
    let connecting = async {
        let mut stream = connector.connect(ours, host).await.map_err(|error| error.to_string())?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.map_err(|error| error.to_string())?;
        assert_eq!(&word, b"word");
        Ok(())
    };
    tokio::join!(accepting, connecting)
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

/// Neither end takes the other's word, and the one that decided says why.
fn assert_refused_there((there, here): Ends, why: &str) {
    let there = there.unwrap_err();
    assert!(there.contains(why), "{there}");
    assert!(here.is_err(), "the refused one must not go on");
}

fn assert_refused_here((there, here): Ends, why: &str) {
    let here = here.unwrap_err();
    assert!(here.contains(why), "{here}");
    assert!(there.is_err(), "the refused one must not go on");
}
