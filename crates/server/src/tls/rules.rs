//! What a certificate must be, beside signed by the right authority.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, OtherError};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::error::TlsError;
use super::material::{Material, unusable};
use crate::config::{Allowed, TlsConfig};

/// The rules, ready to be applied.
#[derive(Debug)]
pub(super) struct Rules {
    /// The numbers of certificates that are revoked, whoever issued them: as etcd compares.
    revoked: HashSet<Vec<u8>>,
    holders: Holders,
}

/// Whom a certificate may be for.
#[derive(Debug)]
enum Holders {
    Any,
    CommonNames(Vec<String>),
    Hosts(Vec<ServerName<'static>>),
}

/// Why a certificate that its authority vouches for is not taken.
#[derive(thiserror::Error)]
enum Broken {
    #[error("the common name {0:?} is not allowed")]
    CommonName(String),
    #[error("it is for none of the hosts that are allowed")]
    Host,
}

/// rustls shows no more of a cause that is not its own.
impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Rules {
    pub(super) fn new(config: &TlsConfig, material: &Material) -> Result<Rules, TlsError> {
        let mut revoked = HashSet::new();
        for der in material.crls(config)? {
            let path = config.crl.as_deref().unwrap_or_else(|| "".as_ref());
            let list = match CertificateRevocationList::from_der(&der) {
                Ok(([], list)) => list,
                Ok(_) => return Err(unusable(path, "more follows behind a list of revoked certificates")),
                Err(why) => return Err(unusable(path, format!("it is no list of revoked certificates: {why}"))),
            };
            revoked.extend(list.iter_revoked_certificates().map(|entry| number(entry.raw_serial())));
        }
        Ok(Rules { revoked, holders: Holders::new(&config.allowed)? })
    }

    /// Looks at a certificate whose chain has been verified, and at what came with it.
    pub(super) fn check(
        &self,
        certificate: &CertificateDer<'_>,
        further: &[CertificateDer<'_>],
    ) -> Result<(), CertificateError> {
        if !self.revoked.is_empty() {
            for shown in std::iter::once(certificate).chain(further) {
                if self.revoked.contains(&number(parse(shown)?.raw_serial())) {
                    return Err(CertificateError::Revoked);
                }
            }
        }
        self.holders.check(certificate)
    }
}

impl Holders {
    fn new(allowed: &Allowed) -> Result<Holders, TlsError> {
        Ok(match allowed {
            Allowed::Any => Holders::Any,
            Allowed::CommonNames(names) => Holders::CommonNames(names.clone()),
            Allowed::Hosts(hosts) => Holders::Hosts(
                hosts
                    .iter()
                    .map(|host| {
                        ServerName::try_from(host.clone()).map_err(|_| {
                            TlsError::Settings(format!("{host:?} is neither a host's name nor an address"))
                        })
                    })
                    .collect::<Result<_, _>>()?,
            ),
        })
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), CertificateError> {
        match self {
            Holders::Any => Ok(()),
            Holders::CommonNames(names) => {
                let parsed = parse(certificate)?;
                let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
                let name = name.unwrap_or_default();
                if names.iter().any(|allowed| allowed == name) {
                    return Ok(());
                }
                Err(other(Broken::CommonName(name.to_owned())))
            }
            Holders::Hosts(hosts) => {
                let parsed = ParsedCertificate::try_from(certificate).map_err(|_| CertificateError::BadEncoding)?;
                if hosts.iter().any(|host| verify_server_name(&parsed, host).is_ok()) {
                    return Ok(());
                }
                Err(other(Broken::Host))
            }
        }
    }
}

pub(super) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    X509Certificate::from_der(certificate).map(|(_, parsed)| parsed).map_err(|_| CertificateError::BadEncoding)
}

fn other(broken: Broken) -> CertificateError {
    CertificateError::Other(OtherError(Arc::new(broken)))
}

/// A certificate's number, without the zeros that its encoding may have in front.
fn number(encoded: &[u8]) -> Vec<u8> {
    encoded.iter().copied().skip_while(|byte| *byte == 0).collect()
}
