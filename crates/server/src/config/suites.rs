//! Which versions of TLS are spoken, and how TLS 1.2 encrypts.

use super::error::ConfigError;
use super::values::{Values, list};

/// How TLS 1.2 may encrypt: what rustls has, all of it with forward secrecy and authenticated encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CipherSuite {
    /// `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`
    EcdsaAes128,
    /// `TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384`
    EcdsaAes256,
    /// `TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256`
    EcdsaChaCha20,
    /// `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`
    RsaAes128,
    /// `TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384`
    RsaAes256,
    /// `TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256`
    RsaChaCha20,
}

/// What may be spoken; never nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocols {
    /// The suites of TLS 1.2; none: it is not spoken.
    pub tls12: Vec<CipherSuite>,
    /// Whether TLS 1.3 is spoken, with all of its suites.
    pub tls13: bool,
}

impl CipherSuite {
    /// All of them.
    pub const ALL: [CipherSuite; 6] = [
        CipherSuite::EcdsaAes128,
        CipherSuite::EcdsaAes256,
        CipherSuite::EcdsaChaCha20,
        CipherSuite::RsaAes128,
        CipherSuite::RsaAes256,
        CipherSuite::RsaChaCha20,
    ];
}

/// By the names that etcd takes, the two older ones at the end.
const TLS12: &[(&str, CipherSuite)] = &[
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::EcdsaAes128),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::EcdsaAes256),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::EcdsaChaCha20),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::RsaAes128),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::RsaAes256),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::RsaChaCha20),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", CipherSuite::EcdsaChaCha20),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", CipherSuite::RsaChaCha20),
];

/// Those of TLS 1.3, which are not chosen from: not by etcd, not here.
const TLS13: &[&str] = &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// What etcd takes too, but rustls has not: without forward secrecy or authenticated encryption.
const WEAK: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    Tls12,
    Tls13,
}

/// Reads `--tls-min-version`, `--tls-max-version` and `--cipher-suites`.
pub(crate) fn protocols(values: &Values, warnings: &mut Vec<String>) -> Result<Protocols, ConfigError> {
    let least = version(values, "tls-min-version")?.unwrap_or(Version::Tls12);
    let most = version(values, "tls-max-version")?.unwrap_or(Version::Tls13);
    if least > most {
        return Err(ConfigError::Usage("--tls-min-version is above --tls-max-version".into()));
    }
    let suites = values.text("cipher-suites");
    if least == Version::Tls13 {
        return match list(suites).next() {
            None => Ok(Protocols { tls12: Vec::new(), tls13: true }),
            Some(_) => Err(ConfigError::Usage(
                "--cipher-suites: those of TLS 1.3 cannot be chosen, and --tls-min-version allows no other".into(),
            )),
        };
    }
    let tls12 = chosen(suites, warnings)?;
    let tls13 = most == Version::Tls13;
    match (tls12.is_empty(), tls13) {
        (true, false) => {
            return Err(ConfigError::Refused(
                "--cipher-suites names none that can be had of TLS 1.2, and --tls-max-version allows no other".into(),
            ));
        }
        (true, true) => warnings.push("--cipher-suites names none of TLS 1.2, so TLS 1.3 alone is spoken".into()),
        (false, _) => {}
    }
    Ok(Protocols { tls12, tls13 })
}

fn version(values: &Values, name: &str) -> Result<Option<Version>, ConfigError> {
    match values.text(name) {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(Version::Tls12)),
        "TLS1.3" => Ok(Some(Version::Tls13)),
        other => Err(ConfigError::Usage(format!("--{name}: {other:?} is neither TLS1.2 nor TLS1.3"))),
    }
}

/// The suites of TLS 1.2 that a list leaves, in its order; an empty list leaves all.
fn chosen(text: &str, warnings: &mut Vec<String>) -> Result<Vec<CipherSuite>, ConfigError> {
    if list(text).next().is_none() {
        return Ok(CipherSuite::ALL.to_vec());
    }
    let mut chosen = Vec::new();
    for name in list(text) {
        if let Some((_, suite)) = TLS12.iter().find(|(known, _)| *known == name) {
            if !chosen.contains(suite) {
                chosen.push(*suite);
            }
        } else if WEAK.contains(&name) {
            warnings.push(format!("--cipher-suites: {name} is too weak to be had here"));
        } else if !TLS13.contains(&name) {
            return Err(ConfigError::Usage(format!("--cipher-suites: {name:?} is no cipher suite of TLS 1.2 or 1.3")));
        }
    }
    Ok(chosen)
}
