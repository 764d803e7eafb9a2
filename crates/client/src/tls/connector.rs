use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::endpoint::{Endpoint, InvalidEndpoint, Io, Refusal};
use crate::fault::Distrust;
use crate::tls::material::Material;
use crate::tls::stream::Encrypted;
use crate::tls::verify::AcceptAny;
use crate::tls::{Result, Tls, settings};

/// Encrypts connections.
pub(crate) struct Connector {
    tls: Arc<Tls>,
    provider: Arc<CryptoProvider>,
    /// What the system trusts.
    native: Vec<CertificateDer<'static>>,
    loaded: Mutex<Loaded>,
}

/// What was read last, of what could be used.
struct Loaded {
    material: Material,
    config: Arc<ClientConfig>,
}

impl Connector {
    /// Reads the files.
    pub(crate) fn new(tls: Tls) -> Result<Connector> {
        let provider = tls.choose_provider()?;
        let native = if tls.native_roots { native_roots()? } else { Vec::new() };
        let material = Material::read(&tls)?;
        let config = config(&tls, &provider, &native, &material)?;
        let loaded = Mutex::new(Loaded { material, config });
        Ok(Connector { tls: Arc::new(tls), provider, native, loaded })
    }

    /// Whether a certificate can be for this endpoint's host.
    pub(crate) fn admit(&self, endpoint: &Endpoint) -> std::result::Result<(), InvalidEndpoint> {
        self.name(endpoint).map(|_| ())
    }

    /// The TLS handshake, on a connection of its own.
    pub(crate) async fn encrypt(&self, endpoint: &Endpoint, io: Box<dyn Io>, refusal: Refusal) -> Encryption {
        let name = self.name(endpoint)?;
        let shaken = TlsConnector::from(self.config().await).connect(name, io).await;
        refusal.set(None);
        match shaken {
            Ok(stream) => Ok(Encrypted::new(stream, refusal)),
            Err(error) if error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()) => {
                Err(Distrust(error.to_string()).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn name(&self, endpoint: &Endpoint) -> std::result::Result<ServerName<'static>, InvalidEndpoint> {
        let name = self.tls.server_name.as_deref().unwrap_or_else(|| endpoint.host());
        let invalid = |_| endpoint.invalid(format!("{name:?} is no name that a certificate can be for"));
        ServerName::try_from(name).map(|name| name.to_owned()).map_err(invalid)
    }

    /// What a connection that is opened now is opened with.
    async fn config(&self) -> Arc<ClientConfig> {
        if self.tls.has_files() {
            let tls = self.tls.clone();
            match tokio::task::spawn_blocking(move || Material::read(&tls)).await {
                Ok(read) => self.renew(read),
                // The runtime ends.
                Err(error) => tracing::debug!(%error, "certificates not read again"),
            }
        }
        self.loaded().config.clone()
    }

    /// Takes what was read if it is new and can be used.
    fn renew(&self, read: Result<Material>) {
        let mut loaded = self.loaded();
        let renewed = match read {
            Ok(material) if material == loaded.material => return,
            Ok(material) => {
                let config = config(&self.tls, &self.provider, &self.native, &material);
                config.map(|config| Loaded { material, config })
            }
            Err(error) => Err(error),
        };
        match renewed {
            Ok(renewed) => *loaded = renewed,
            Err(error) => tracing::warn!(%error, "certificates cannot be used; going on with those read before"),
        }
    }

    /// Nothing panics while it holds the lock.
    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Encryption = std::result::Result<Encrypted, tower::BoxError>;

fn config(
    tls: &Tls,
    provider: &Arc<CryptoProvider>,
    native: &[CertificateDer<'static>],
    material: &Material,
) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| settings(e.to_string()))?;
    let builder = if tls.accept_any {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(provider.clone())))
    } else {
        builder.with_root_certificates(roots(tls, material, native)?)
    };
    let mut config = match material.identity()? {
        Some((certificates, key)) => builder
            .with_client_auth_cert(certificates, key)
            .map_err(|e| settings(format!("the certificate and key of this client: {e}")))?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn roots(tls: &Tls, material: &Material, native: &[CertificateDer<'static>]) -> Result<RootCertStore> {
    let mut roots = material.roots()?;
    if tls.webpki_roots {
        add_webpki_roots(&mut roots);
    }
    // Systems hold certificates that rustls does not take.
    let (taken, ignored) = roots.add_parsable_certificates(native.iter().cloned());
    tracing::debug!(taken, ignored, "certificates of the system");
    if roots.is_empty() {
        return Err(settings("nobody is trusted: name an authority, or trust the system's"));
    }
    Ok(roots)
}

#[cfg(feature = "tls-native-roots")]
fn native_roots() -> Result<Vec<CertificateDer<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    match found.errors.first() {
        Some(error) if found.certs.is_empty() => Err(settings(format!("the system's certificates: {error}"))),
        _ => Ok(found.certs),
    }
}

#[cfg(not(feature = "tls-native-roots"))]
fn native_roots() -> Result<Vec<CertificateDer<'static>>> {
    Ok(Vec::new())
}

#[cfg(feature = "tls-webpki-roots")]
fn add_webpki_roots(roots: &mut RootCertStore) {
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
}

/// Without the feature nobody can ask for them.
#[cfg(not(feature = "tls-webpki-roots"))]
fn add_webpki_roots(_: &mut RootCertStore) {}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tls.fmt(f)
    }
}
