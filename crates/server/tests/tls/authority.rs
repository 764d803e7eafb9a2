//! Who signs certificates, and what is signed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

static MADE: AtomicU64 = AtomicU64::new(1);

/// An authority.
pub(super) struct Authority {
    pub(super) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
    serial: SerialNumber,
}

/// The files of one.
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Authority {
    pub(super) fn new() -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        // Two of the same name are taken for the same authority.
        params.distinguished_name.push(DnType::CommonName, format!("authority {}", number()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// For both roles, as members have it.
    pub(super) fn sign(&self, common_name: &str, hosts: &[&str]) -> Identity {
        let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let serial = SerialNumber::from(0x80 + number());
        params.serial_number = Some(serial.clone());
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem(), serial }
    }

    /// A list of revoked certificates, PEM and DER.
    pub(super) fn revoke(&self, identities: &[&Identity]) -> (String, Vec<u8>) {
        let revoked = |identity: &&Identity| RevokedCertParams {
            serial_number: identity.serial.clone(),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2024, 2, 1),
            crl_number: SerialNumber::from(number()),
            issuing_distribution_point: None,
            revoked_certs: identities.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap();
        (list.pem().unwrap(), list.der().to_vec())
    }
}

impl Identity {
    /// Writes both into a directory, under a name.
    pub(super) fn write(&self, directory: &Path, name: &str) -> Files {
        let files =
            Files { certificate: directory.join(format!("{name}.crt")), key: directory.join(format!("{name}.key")) };
        // The key first: a member that reads between the two goes on with what it has.
        std::fs::write(&files.key, &self.key).unwrap();
        std::fs::write(&files.certificate, &self.certificate).unwrap();
        files
    }
}

fn number() -> u64 {
    MADE.fetch_add(1, Ordering::Relaxed)
}
