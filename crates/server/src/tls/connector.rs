//! The end of TLS that connects: a member to another one.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::TlsError;
use super::material::Material;
use super::protocols::{provider, versions};
use super::reloading::Reloading;
use super::rules::Rules;
use super::verify::{AnyServer, Servers};
use crate::config::{OwnCertificate, TlsConfig};

/// What HTTP/2 is called in a handshake.
const ALPN: &[u8] = b"h2";

/// Makes connections to other members encrypted ones, with this member's certificate and in the knowledge of
/// whom it talks to.
///
/// With `--peer-auto-tls` there is no such knowledge: certificates of members' own making have no authority, so
/// any is taken, as etcd does it. Who can come between two members can read and change what they say then.
#[derive(Clone)]
pub struct PeerConnector(Arc<Reloading<ClientConfig>>);

impl PeerConnector {
    /// Reads what the settings name.
    ///
    /// # Errors
    /// It can't be read or used, or no authority for members is named.
    pub fn load(config: &TlsConfig) -> Result<PeerConnector, TlsError> {
        Ok(PeerConnector(Arc::new(Reloading::load(config, client_config)?)))
    }

    /// The handshake, on a connection to `host`: a name or an address, IPv6 without brackets. It takes as long as
    /// the other member lets it.
    ///
    /// # Errors
    /// The other end is not trusted, does not trust this one, or cannot be understood. That it does not trust this
    /// one may come out only when the connection is read.
    pub async fn connect<S>(&self, stream: S, host: &str) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is no host's name")))?;
        TlsConnector::from(self.0.current().await).connect(name, stream).await
    }
}

impl std::fmt::Debug for PeerConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What it holds is secret.
        f.debug_struct("PeerConnector").finish_non_exhaustive()
    }
}

fn client_config(config: &TlsConfig, material: &Material) -> Result<ClientConfig, TlsError> {
    let provider = provider(&config.protocols);
    let own = material.as_client(config, &provider)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(&config.protocols))
        .map_err(TlsError::settings)?
        .dangerous();
    let builder = match (material.roots(config)?, &config.certificate) {
        (Some(roots), _) => {
            let inner = WebPkiServerVerifier::builder_with_provider(roots, provider);
            let inner = inner.build().map_err(TlsError::settings)?;
            builder.with_custom_certificate_verifier(Arc::new(Servers { inner, rules: Rules::new(config, material)? }))
        }
        (None, OwnCertificate::SelfSigned { .. }) => {
            builder.with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        }
        (None, OwnCertificate::Files(_)) => return Err(TlsError::NoAuthority),
    };
    let mut client = builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    client.alpn_protocols = vec![ALPN.to_vec()];
    // Nothing is resumed: that would spare both the look at certificates that may have changed since.
    client.resumption = Resumption::disabled();
    Ok(client)
}
