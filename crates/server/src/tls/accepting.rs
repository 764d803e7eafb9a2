//! The end of TLS that is connected to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{Acceptor as Hello, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::addresses::{self, Elsewhere};
use super::error::TlsError;
use super::material::Material;
use super::protocols::{provider, versions};
use super::reloading::Reloading;
use super::rules::Rules;
use super::verify::Clients;
use crate::config::TlsConfig;

/// What HTTP is called in a handshake.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Makes connections that were accepted encrypted ones.
#[derive(Clone)]
pub struct Acceptor(Arc<Shared>);

struct Shared {
    server: Reloading<ServerConfig>,
    compares_addresses: bool,
}

/// Why a connection is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It ended before anything was said: somebody who only looks whether the port is open.
    #[error("gone before the handshake")]
    Silent,
    /// They do not agree on how to speak, or do not trust each other.
    #[error(transparent)]
    Handshake(#[from] io::Error),
    /// The certificate is for other addresses.
    #[error(transparent)]
    Elsewhere(#[from] Elsewhere),
}

impl Acceptor {
    /// Reads what the settings name.
    ///
    /// # Errors
    /// It can't be read or used.
    pub fn load(config: &TlsConfig) -> Result<Acceptor, TlsError> {
        let server = Reloading::load(config, server_config)?;
        Ok(Acceptor(Arc::new(Shared { server, compares_addresses: config.compares_addresses })))
    }

    /// The handshake with one who has connected from `from`. It takes as long as the other one lets it.
    ///
    /// # Errors
    /// [`Refused`]; the connection is gone then.
    pub async fn accept<S>(&self, stream: S, from: SocketAddr) -> Result<TlsStream<S>, Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // The files are read when something has been said: who only connects costs nothing.
        let hello = match LazyConfigAcceptor::new(Hello::default(), stream).await {
            Ok(hello) => hello,
            Err(error) if is_end(&error) => return Err(Refused::Silent),
            Err(error) => return Err(error.into()),
        };
        let stream = hello.into_stream(self.0.server.current().await).await?;
        if self.0.compares_addresses
            && let Some(certificate) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first)
        {
            addresses::compare(certificate, from.ip()).await?;
        }
        Ok(stream)
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What it holds is secret.
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

fn server_config(config: &TlsConfig, material: &Material) -> Result<ServerConfig, TlsError> {
    let provider = provider(&config.protocols);
    let own = material.certificate(config, &provider)?;
    // Not needed here, but what is given is looked at before it is needed.
    material.as_client(config, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(&config.protocols))
        .map_err(TlsError::settings)?;
    let builder = match material.roots(config)? {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let inner = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let inner = inner.build().map_err(TlsError::settings)?;
            builder.with_client_cert_verifier(Arc::new(Clients { inner, rules: Rules::new(config, material)? }))
        }
    };
    let mut server = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    server.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    // Nothing is resumed: that would spare a client the look at its certificate, which may have expired since.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(server)
}
