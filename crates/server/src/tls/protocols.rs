//! The settings' versions and cipher suites, as rustls takes them.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use crate::config::{CipherSuite, Protocols};

impl CipherSuite {
    fn of_ring(self) -> SupportedCipherSuite {
        match self {
            CipherSuite::EcdsaAes128 => ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::EcdsaAes256 => ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::EcdsaChaCha20 => ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            CipherSuite::RsaAes128 => ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::RsaAes256 => ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::RsaChaCha20 => ring::cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        }
    }
}

/// ring, with the suites that may be used.
pub(super) fn provider(protocols: &Protocols) -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)));
    provider.cipher_suites.extend(protocols.tls12.iter().map(|suite| suite.of_ring()));
    Arc::new(provider)
}

/// The versions that may be used.
pub(super) fn versions(protocols: &Protocols) -> Vec<&'static SupportedProtocolVersion> {
    let tls13 = protocols.tls13.then_some(&TLS13);
    let tls12 = (!protocols.tls12.is_empty()).then_some(&TLS12);
    tls13.into_iter().chain(tls12).collect()
}
