//! Encrypted connections, by rustls over whatever carries the bytes.
//!
//! The gRPC library's own TLS is not used: it binds a provider of cryptography at build time.

mod connector;
mod material;
mod stream;
mod verify;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use rustls::crypto::CryptoProvider;

use crate::fault::Fault;

pub(crate) use connector::Connector;

/// How connections are encrypted: whose certificates are trusted, and what this client shows of itself.
///
/// Certificates and keys are PEM, as bytes or as paths of files. Files are read when the client is built, and
/// again for each new connection: a certificate that was replaced is used from the next connection on, those
/// that are open stay. Files that cannot be used then (half written, say) are left aside with a warning, and
/// what was read before goes on.
///
/// The server has to show a certificate for the host of its endpoint, or for
/// [`server_name`](Self::server_name), and has to speak HTTP/2.
///
/// The provider of cryptography is the one given here (feature `rustls-0_23`), else the one that the program
/// has installed as its default, else aws-lc (feature `tls-aws-lc`), else ring (feature `tls-ring`). Both may be in
/// one build. Without any, building the client fails.
///
/// ```no_run
/// # #[cfg(feature = "tls")]
/// # async fn example() -> stentor_client::Result<()> {
/// use stentor_client::{Client, Tls};
///
/// let tls = Tls::new().ca_file("/etc/etcd/ca.pem").identity_files("/etc/etcd/me.pem", "/etc/etcd/me.key");
/// let client = Client::builder(["https://10.0.0.1:2379"]).tls(tls).connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Tls {
    authorities: Vec<Source>,
    native_roots: bool,
    webpki_roots: bool,
    identity: Option<(Source, Source)>,
    server_name: Option<String>,
    accept_any: bool,
    provider: Option<Arc<CryptoProvider>>,
}

type Result<T> = std::result::Result<T, Fault>;

/// Where a PEM text is.
#[derive(Clone)]
enum Source {
    Bytes(Bytes),
    File(PathBuf),
}

impl Tls {
    /// Trusts nobody yet.
    pub fn new() -> Tls {
        Tls::default()
    }

    /// Trusts what the system trusts, beside authorities that are named. Read once, when the client is built.
    #[cfg(feature = "tls-native-roots")]
    pub fn native_roots(mut self) -> Tls {
        self.native_roots = true;
        self
    }

    /// Trusts the authorities that Mozilla trusts, as they were when the program was built, beside others: for
    /// systems that hold none of their own.
    #[cfg(feature = "tls-webpki-roots")]
    pub fn webpki_roots(mut self) -> Tls {
        self.webpki_roots = true;
        self
    }

    /// Trusts servers whose certificates these authorities have signed. Can be given several times.
    pub fn ca_pem(mut self, certificates: impl Into<Bytes>) -> Tls {
        self.authorities.push(Source::Bytes(certificates.into()));
        self
    }

    /// As [`ca_pem`](Self::ca_pem), from a file.
    pub fn ca_file(mut self, certificates: impl Into<PathBuf>) -> Tls {
        self.authorities.push(Source::File(certificates.into()));
        self
    }

    /// What this client shows to servers that ask for a certificate: its own, followed by those between it and
    /// the authority, and its key.
    pub fn identity_pem(mut self, certificates: impl Into<Bytes>, key: impl Into<Bytes>) -> Tls {
        self.identity = Some((Source::Bytes(certificates.into()), Source::Bytes(key.into())));
        self
    }

    /// As [`identity_pem`](Self::identity_pem), from files.
    pub fn identity_files(mut self, certificates: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Tls {
        self.identity = Some((Source::File(certificates.into()), Source::File(key.into())));
        self
    }

    /// The name or address that servers' certificates are for, instead of the host of each endpoint.
    pub fn server_name(mut self, name: impl Into<String>) -> Tls {
        self.server_name = Some(name.into());
        self
    }

    /// Connects to any server, whoever it is: everything sent, passwords included, can be read and changed by
    /// whoever is on the way. For tests only.
    #[cfg(feature = "dangerous")]
    pub fn dangerous_accept_any(mut self) -> Tls {
        self.accept_any = true;
        self
    }

    /// The provider of cryptography, before the program's default and before this crate's.
    #[cfg(feature = "rustls-0_23")]
    pub fn provider(mut self, provider: Arc<CryptoProvider>) -> Tls {
        self.provider = Some(provider);
        self
    }

    /// What does the cryptography.
    fn choose_provider(&self) -> Result<Arc<CryptoProvider>> {
        let given = self.provider.as_ref().or_else(|| CryptoProvider::get_default()).cloned();
        given.or_else(own_provider).ok_or_else(|| {
            settings("no provider of cryptography: enable `tls-ring` or `tls-aws-lc`, or install a default of rustls")
        })
    }
}

/// This crate's own. aws-lc before ring, as rustls has it.
#[cfg(feature = "tls-aws-lc")]
fn own_provider() -> Option<Arc<CryptoProvider>> {
    Some(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

#[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc")))]
fn own_provider() -> Option<Arc<CryptoProvider>> {
    Some(Arc::new(rustls::crypto::ring::default_provider()))
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc")))]
fn own_provider() -> Option<Arc<CryptoProvider>> {
    None
}

/// The settings cannot be used.
fn settings(reason: impl Into<String>) -> Fault {
    Fault::Settings(reason.into())
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.authorities)
            .field("native_roots", &self.native_roots)
            .field("webpki_roots", &self.webpki_roots)
            .field("identity", &self.identity)
            .field("server_name", &self.server_name)
            .field("accept_any", &self.accept_any)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // It can be a key.
            Source::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Source::File(path) => path.fmt(f),
        }
    }
}

#[cfg(all(test, any(feature = "tls-ring", feature = "tls-aws-lc")))]
mod tests {
    use super::*;

    #[test]
    fn the_provider_of_a_build_with_both_is_aws_lc() {
        let provider = format!("{:?}", own_provider().unwrap());
        let expected = if cfg!(feature = "tls-aws-lc") { "AwsLc" } else { "Ring" };
        assert!(provider.contains(expected), "{provider}");
    }
}
