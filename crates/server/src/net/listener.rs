//! Where connections come from.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::config::Url;

/// How many connections the kernel keeps for us to accept: a restart brings all clients back at once.
const BACKLOG: u32 = 4096;

/// A source of connections: the system's sockets, or a simulated network.
pub trait Listener: Send + 'static {
    /// One connection's bytes.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and the client's address. An error is of this connection, not of the
    /// listener: it is asked again.
    ///
    /// # Errors
    /// What the network says; out of file descriptors, for one.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;

    /// Where it listens.
    fn local_addr(&self) -> SocketAddr;
}

/// A listening TCP socket.
#[derive(Debug)]
pub struct TcpAcceptor {
    socket: TcpListener,
    address: SocketAddr,
}

impl TcpAcceptor {
    /// Listens on a URL of the configuration; port 0 picks a free one.
    ///
    /// # Errors
    /// The address is in use or not this machine's; the text names it.
    pub fn bind(url: &Url) -> io::Result<TcpAcceptor> {
        let port = url.port();
        let bound = match url.host() {
            // All interfaces of both families, or of one on a machine that lacks IPv6.
            "" => Self::bind_to((Ipv6Addr::UNSPECIFIED, port).into())
                .or_else(|_| Self::bind_to((Ipv4Addr::UNSPECIFIED, port).into())),
            "localhost" => Self::bind_to((Ipv4Addr::LOCALHOST, port).into()),
            host => match host.parse() {
                Ok(address) => Self::bind_to(SocketAddr::new(address, port)),
                Err(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not an IP address")),
            },
        };
        bound.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {url}: {error}")))
    }

    /// Listens on an address; port 0 picks a free one.
    ///
    /// # Errors
    /// The address is in use or not this machine's.
    pub fn bind_to(address: SocketAddr) -> io::Result<TcpAcceptor> {
        let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
        // The port can be used again at once after a stop, whatever the kernel still waits for.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        let address = socket.local_addr()?;
        Ok(TcpAcceptor { socket, address })
    }
}

impl Listener for TcpAcceptor {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.socket.accept().await?;
        // An answer is complete when written: waiting for more only delays it.
        stream.set_nodelay(true)?;
        Ok((stream, peer))
    }

    fn local_addr(&self) -> SocketAddr {
        self.address
    }
}
