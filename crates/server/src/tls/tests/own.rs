//! Certificates of our own making.

use std::fs;
use std::time::{Duration, SystemTime};

use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::super::self_signed::{files, read};
use super::super::{PeerConnector, TlsError};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn hosts() -> Vec<String> {
    vec!["a.example".into(), "10.0.0.1".into()]
}

#[test]
fn it_is_made_once_and_anew_when_it_has_expired() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("fixtures/client");
    let now = SystemTime::now();
    let first = read(&directory, &hosts(), 2, now).unwrap();
    assert!(first == read(&directory, &[], 1, now + 729 * DAY).unwrap(), "it holds for two years");
    let second = read(&directory, &hosts(), 2, now + 731 * DAY).unwrap();
    assert!(first != second, "and no longer");
    assert!(second == read(&directory, &hosts(), 2, now + 731 * DAY).unwrap());
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 2, "nothing else is left");
}

#[test]
fn it_is_for_the_hosts_and_its_key_is_its_owners() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("fixtures/peer");
    let pair = read(&directory, &hosts(), 1, SystemTime::now()).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pair.certificate).unwrap();
    let (_, certificate) = X509Certificate::from_der(&pem.contents).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap().value.general_names.len();
    assert_eq!((names, certificate.is_ca()), (2, false));
    for (path, mode) in [(directory.clone(), 0o700), (files(&directory).key, 0o600)] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
    }
}

#[test]
fn what_is_damaged_is_made_anew_and_what_is_not_ours_to_mend_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let first = read(folder.path(), &hosts(), 1, now).unwrap();
    let files = files(folder.path());
    // A key of another certificate, as an interruption between the two leaves it.
    let other = tempfile::tempdir().unwrap();
    fs::write(&files.key, read(other.path(), &hosts(), 1, now).unwrap().key).unwrap();
    let second = read(folder.path(), &hosts(), 1, now).unwrap();
    assert!(first != second);
    fs::write(&files.certificate, "-----BEGIN half of").unwrap();
    assert!(second != read(folder.path(), &hosts(), 1, now).unwrap());
    fs::remove_file(&files.key).unwrap();
    read(folder.path(), &hosts(), 1, now).unwrap();
    fs::remove_file(&files.key).unwrap();
    fs::create_dir(&files.key).unwrap();
    let error = read(folder.path(), &hosts(), 1, now).err().unwrap();
    assert!(matches!(error, TlsError::Read { .. }), "{error}");
    let error = read(&files.certificate, &hosts(), 1, now).err().unwrap();
    assert!(matches!(error, TlsError::Read { .. } | TlsError::Keep { .. }), "{error}");
}

#[test]
fn secrets_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let connector = PeerConnector::load(&super::bounds::own(folder.path())).unwrap();
    assert_eq!(format!("{connector:?}"), "PeerConnector { .. }");
}
