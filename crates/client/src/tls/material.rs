use bytes::Bytes;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::tls::{Result, Source, Tls, settings};

/// The PEM texts that settings name, as they were when they were read. Two that are equal give the same.
#[derive(PartialEq, Eq)]
pub(super) struct Material {
    authorities: Vec<Bytes>,
    identity: Option<(Bytes, Bytes)>,
}

impl Source {
    fn read(&self) -> Result<Bytes> {
        match self {
            Source::Bytes(bytes) => Ok(bytes.clone()),
            Source::File(path) => match std::fs::read(path) {
                Ok(bytes) => Ok(bytes.into()),
                Err(error) => Err(settings(format!("cannot read {}: {error}", path.display()))),
            },
        }
    }

    fn is_file(&self) -> bool {
        matches!(self, Source::File(_))
    }
}

impl Tls {
    /// Whether what they name can change.
    pub(super) fn has_files(&self) -> bool {
        let identity = self.identity.iter().flat_map(|(certificates, key)| [certificates, key]);
        self.authorities.iter().chain(identity).any(Source::is_file)
    }
}

impl Material {
    /// Reads what the settings name. Blocks on the disk.
    pub(super) fn read(tls: &Tls) -> Result<Material> {
        let authorities = tls.authorities.iter().map(Source::read).collect::<Result<_>>()?;
        let identity = match &tls.identity {
            Some((certificates, key)) => Some((certificates.read()?, key.read()?)),
            None => None,
        };
        Ok(Material { authorities, identity })
    }

    /// The authorities, without those of the system.
    pub(super) fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for pem in &self.authorities {
            for certificate in certificates(pem, "an authority")? {
                roots.add(certificate).map_err(|e| settings(format!("the certificate of an authority: {e}")))?;
            }
        }
        Ok(roots)
    }

    pub(super) fn identity(&self) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>> {
        let Some((pem, key)) = &self.identity else { return Ok(None) };
        let certificates = certificates(pem, "this client")?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| settings(format!("the key of this client: {e}")))?;
        Ok(Some((certificates, key)))
    }
}

/// All certificates of a text, of which there must be one.
fn certificates(pem: &[u8], whose: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(settings(format!("no certificate in what is given for {whose}"))),
        Err(error) => Err(settings(format!("the certificates of {whose}: {error}"))),
    }
}
