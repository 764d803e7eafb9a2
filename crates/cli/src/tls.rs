//! What the global flags say of TLS.

use stentor_client::Tls;

use crate::failure::{Failure, Result};

/// As given; an empty text is none.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) cacert: String,
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) insecure_transport: bool,
    pub(crate) insecure_skip_verify: bool,
}

impl Settings {
    /// Refuses a certificate without its key, and a key without its certificate.
    pub(crate) fn checked(self) -> Result<Settings> {
        if self.cert.is_empty() != self.key.is_empty() {
            return Err(Failure::args("--cert and --key are of use only together"));
        }
        Ok(self)
    }

    /// How connections to these endpoints are encrypted, if they are.
    pub(crate) fn of(&self, endpoints: &[String]) -> Option<Tls> {
        let asked_for = !self.cacert.is_empty() || !self.cert.is_empty() || !self.insecure_transport;
        if !asked_for && !endpoints.iter().any(|endpoint| endpoint.starts_with("https://")) {
            return None;
        }
        let tls = match self.cacert.as_str() {
            _ if self.insecure_skip_verify => Tls::new().dangerous_accept_any(),
            "" => Tls::new().native_roots(),
            file => Tls::new().ca_file(file),
        };
        Some(if self.cert.is_empty() { tls } else { tls.identity_files(&self.cert, &self.key) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Settings {
        let none = String::new();
        let (cacert, cert, key) = (none.clone(), none.clone(), none);
        Settings { cacert, cert, key, insecure_transport: true, insecure_skip_verify: false }
    }

    #[test]
    fn it_is_encrypted_if_a_flag_or_an_endpoint_says_so() {
        let encrypts = |settings: &Settings, endpoint: &str| settings.of(&[endpoint.to_owned()]).is_some();
        assert!(!encrypts(&plain(), "a:1") && !encrypts(&plain(), "http://a:1"));
        assert!(encrypts(&plain(), "https://a:1"));
        assert!(!encrypts(&Settings { insecure_skip_verify: true, ..plain() }, "a:1"), "as in etcdctl");
        for asking in [
            Settings { cacert: "ca.pem".into(), ..plain() },
            Settings { cert: "c.pem".into(), key: "k.pem".into(), ..plain() },
            Settings { insecure_transport: false, ..plain() },
        ] {
            assert!(encrypts(&asking, "a:1"));
        }
    }

    #[test]
    fn whom_to_trust() {
        let shown = |settings: Settings| format!("{:?}", settings.of(&["https://a:1".to_owned()]).unwrap());
        assert!(shown(plain()).contains("native_roots: true"), "{}", shown(plain()));
        let named = shown(Settings { cacert: "ca.pem".into(), ..plain() });
        assert!(named.contains("ca.pem") && named.contains("native_roots: false"), "{named}");
        let anyone = shown(Settings { cacert: "ca.pem".into(), insecure_skip_verify: true, ..plain() });
        assert!(anyone.contains("accept_any: true") && !anyone.contains("ca.pem"), "{anyone}");
    }
}
