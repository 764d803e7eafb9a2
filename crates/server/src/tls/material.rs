//! What the files hold.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::error::TlsError;
use super::self_signed;
use crate::config::{FilePair, OwnCertificate, TlsConfig};

/// How a text in PEM begins its parts; other files are DER.
const PEM_BEGIN: &[u8] = b"-----BEGIN ";

/// The files that settings name, as they were when they were read. Two that are equal give the same.
#[derive(PartialEq, Eq)]
pub(super) struct Material {
    certificate: Pair,
    as_client: Option<Pair>,
    trusted_ca: Option<Vec<u8>>,
    crl: Option<Vec<u8>>,
}

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

impl Material {
    /// Reads all of them, and makes the certificate that is to be of our own making if there is none that
    /// holds. Blocks on the disk.
    pub(super) fn read(config: &TlsConfig) -> Result<Material, TlsError> {
        let certificate = match &config.certificate {
            OwnCertificate::Files(files) => Pair::read(files)?,
            OwnCertificate::SelfSigned { directory, hosts, years } => {
                self_signed::read(directory, hosts, *years, SystemTime::now())?
            }
        };
        Ok(Material {
            certificate,
            as_client: config.as_client.as_ref().map(Pair::read).transpose()?,
            trusted_ca: config.trusted_ca.as_deref().map(read).transpose()?,
            crl: config.crl.as_deref().map(read).transpose()?,
        })
    }

    /// What is shown to those who connect.
    pub(super) fn certificate(&self, config: &TlsConfig, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        self.certificate.certified(&config.certificate.files(), provider)
    }

    /// What is shown where we connect ourselves.
    pub(super) fn as_client(&self, config: &TlsConfig, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        match (&self.as_client, &config.as_client) {
            (Some(pair), Some(files)) => pair.certified(files, provider),
            _ => self.certificate(config, provider),
        }
    }

    /// Who must have signed the others' certificates.
    pub(super) fn roots(&self, config: &TlsConfig) -> Result<Option<Arc<RootCertStore>>, TlsError> {
        let (Some(pem), Some(path)) = (&self.trusted_ca, &config.trusted_ca) else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(pem, path)? {
            roots.add(certificate).map_err(|why| unusable(path, why))?;
        }
        Ok(Some(Arc::new(roots)))
    }

    /// The lists of revoked certificates, DER.
    pub(super) fn crls(&self, config: &TlsConfig) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        let (Some(bytes), Some(path)) = (&self.crl, &config.crl) else { return Ok(Vec::new()) };
        if !bytes.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN) {
            return Ok(vec![bytes.clone().into()]);
        }
        let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(bytes).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            Ok(_) => Err(unusable(path, "there is no list of revoked certificates in it")),
            Err(why) => Err(unusable(path, why)),
        }
    }
}

impl OwnCertificate {
    /// Where it is.
    fn files(&self) -> FilePair {
        match self {
            OwnCertificate::Files(files) => files.clone(),
            OwnCertificate::SelfSigned { directory, .. } => self_signed::files(directory),
        }
    }
}

impl Pair {
    pub(super) fn read(files: &FilePair) -> Result<Pair, TlsError> {
        Ok(Pair { certificate: read(&files.certificate)?, key: read(&files.key)? })
    }

    /// Both, which must belong together. `files` is for the error.
    pub(super) fn certified(&self, files: &FilePair, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let chain = certificates(&self.certificate, &files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|why| unusable(&files.key, why))?;
        CertifiedKey::from_der(chain, key, provider).map_err(|why| match why {
            rustls::Error::InconsistentKeys(_) => {
                unusable(&files.key, format!("it is not the key of {}", files.certificate.display()))
            }
            why => unusable(&files.key, why),
        })
    }
}

/// All certificates of a text, of which there must be one.
fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unusable(path, "there is no certificate in it")),
        Err(why) => Err(unusable(path, why)),
    }
}

pub(super) fn unusable(path: &Path, why: impl std::fmt::Display) -> TlsError {
    TlsError::Unusable { path: path.to_path_buf(), why: why.to_string() }
}

fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, TlsError> {
    let path = path.as_ref();
    std::fs::read(path).map_err(|cause| TlsError::Read { path: path.to_path_buf(), cause })
}
