//! The system's sockets, of either kind that a URL can name.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use super::listener::{Listener, TcpAcceptor};
use crate::config::Url;

/// A listening socket, on the network or in the file system.
#[derive(Debug)]
pub enum SocketAcceptor {
    /// `http` and `https`.
    Tcp(TcpAcceptor),
    /// `unix` and `unixs`.
    Unix(UnixAcceptor),
}

impl SocketAcceptor {
    /// Listens on a URL of the configuration.
    ///
    /// # Errors
    /// The address is in use or not this machine's, or the file can't be made; the text names it.
    pub fn bind(url: &Url) -> io::Result<SocketAcceptor> {
        match url.socket() {
            None => TcpAcceptor::bind(url).map(SocketAcceptor::Tcp),
            Some(path) => UnixAcceptor::bind(path)
                .map(SocketAcceptor::Unix)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {url}: {error}"))),
        }
    }
}

impl Listener for SocketAcceptor {
    type Io = Either<TcpStream, UnixStream>;

    async fn accept(&mut self) -> io::Result<(Self::Io, SocketAddr)> {
        match self {
            SocketAcceptor::Tcp(acceptor) => acceptor.accept().await.map(|(io, from)| (Either::Left(io), from)),
            SocketAcceptor::Unix(acceptor) => acceptor.accept().await.map(|(io, from)| (Either::Right(io), from)),
        }
    }

    fn local_addr(&self) -> SocketAddr {
        match self {
            SocketAcceptor::Tcp(acceptor) => acceptor.local_addr(),
            SocketAcceptor::Unix(acceptor) => acceptor.local_addr(),
        }
    }
}

/// A listening unix socket; its file goes with it.
#[derive(Debug)]
pub struct UnixAcceptor {
    socket: UnixListener,
    path: PathBuf,
}

impl UnixAcceptor {
    /// Listens at a path, in the place of a socket that a process before has left there.
    ///
    /// # Errors
    /// Somebody listens there, or something else than a socket is there.
    pub fn bind(path: &Path) -> io::Result<UnixAcceptor> {
        if is_abandoned(path)? {
            fs::remove_file(path)?;
        }
        Ok(UnixAcceptor { socket: UnixListener::bind(path)?, path: path.to_path_buf() })
    }
}

/// Whether a socket is there that nobody listens on.
fn is_abandoned(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::FileTypeExt as _;
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(matches!(
            std::os::unix::net::UnixStream::connect(path),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused
        )),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl Listener for UnixAcceptor {
    type Io = UnixStream;

    async fn accept(&mut self) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, _) = self.socket.accept().await?;
        Ok((stream, self.local_addr()))
    }

    /// Who connects is on this machine; there is no port.
    fn local_addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }
}

impl Drop for UnixAcceptor {
    fn drop(&mut self) {
        // If it is gone already, that was to be done.
        let _ = fs::remove_file(&self.path);
    }
}
