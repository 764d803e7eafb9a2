//! Certificates of our own making, for `--auto-tls` and `--peer-auto-tls`.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::crypto::ring;
use tracing::info;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::error::TlsError;
use super::material::Pair;
use crate::config::FilePair;

/// A year of a certificate, as etcd counts.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// It holds from a while ago: clocks differ.
const BACKDATED: Duration = Duration::from_secs(3600);

/// One at a time: of two that are made at once, the certificate of one could meet the key of the other.
static MAKING: Mutex<()> = Mutex::new(());

/// Where they are in a directory: where etcd has them.
pub(super) fn files(directory: &Path) -> FilePair {
    FilePair { certificate: directory.join("cert.pem"), key: directory.join("key.pem") }
}

/// The certificate in the directory. It is made anew if there is none, if it has expired, or if it is damaged.
pub(super) fn read(directory: &Path, hosts: &[String], years: u64, now: SystemTime) -> Result<Pair, TlsError> {
    let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let files = files(directory);
    match Pair::read(&files) {
        Ok(pair) if holds(&pair, &files, now) => return Ok(pair),
        Ok(_) => info!(path = %files.certificate.display(), "the certificate does not hold any more"),
        Err(TlsError::Read { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let pair = make(hosts, years, now).map_err(TlsError::settings)?;
    keep(directory, &files, &pair).map_err(|cause| TlsError::Keep { path: directory.to_path_buf(), cause })?;
    info!(path = %files.certificate.display(), years, "made a certificate");
    Ok(pair)
}

/// Whether both can be used now.
fn holds(pair: &Pair, files: &FilePair, now: SystemTime) -> bool {
    let Ok(certified) = pair.certified(files, &ring::default_provider()) else { return false };
    let Some(certificate) = certified.cert.first() else { return false };
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    u64::try_from(certificate.validity().not_after.timestamp()).is_ok_and(|end| now < end)
}

fn make(hosts: &[String], years: u64, now: SystemTime) -> Result<Pair, rcgen::Error> {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "stentor");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = date_time_ymd(1970, 1, 1) + since.saturating_sub(BACKDATED);
    let validity = YEAR.saturating_mul(u32::try_from(years).unwrap_or(u32::MAX));
    params.not_after = date_time_ymd(1970, 1, 1) + since + validity;
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() })
}

fn keep(directory: &Path, files: &FilePair, pair: &Pair) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(directory)?;
    // If this is interrupted, what is there does not belong together, and is made anew.
    write(&files.key, &pair.key, 0o600)?;
    write(&files.certificate, &pair.certificate, 0o644)
}

/// Writes a file beside its place and moves it there, so that nobody reads half of it.
fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let beside = path.with_extension("pem.new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    options.open(&beside)?.write_all(bytes)?;
    fs::rename(&beside, path)
}
