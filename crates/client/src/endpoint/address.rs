use std::fmt;

/// The address of one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    given: String,
    scheme: Scheme,
    /// Always with http: what encrypts is this crate's own, below HTTP.
    uri: http::Uri,
}

/// What the address says of encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    /// Nothing: it is encrypted if the client has settings for it.
    Unstated,
    /// It is not encrypted.
    Http,
    /// It is encrypted.
    Https,
}

/// A text that is no address of a member, or one that needs what is not built yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid endpoint {endpoint:?}: {reason}")]
pub struct InvalidEndpoint {
    pub(crate) endpoint: String,
    pub(crate) reason: String,
}

const EXPECTED: &str = "expected host:port, http://host:port or https://host:port";

impl Endpoint {
    /// Reads `host:port`, `http://host:port` or `https://host:port`, with or without a `/` at the end.
    ///
    /// # Errors
    /// Anything else is refused, `unix://` included: it is not built yet.
    ///
    /// ```
    /// use stentor_client::Endpoint;
    /// assert_eq!(Endpoint::parse("127.0.0.1:2379").unwrap().authority(), "127.0.0.1:2379");
    /// assert!(Endpoint::parse("127.0.0.1").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Endpoint, InvalidEndpoint> {
        let invalid = |reason: &str| InvalidEndpoint { endpoint: text.to_owned(), reason: reason.to_owned() };
        let (scheme, address) = match text.split_once("://") {
            None => (Scheme::Unstated, text),
            Some(("http", address)) => (Scheme::Http, address),
            Some(("https", address)) => (Scheme::Https, address),
            Some(("unix" | "unixs", _)) => return Err(invalid("unix sockets are not supported yet")),
            Some(_) => return Err(invalid(EXPECTED)),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        let uri: http::Uri = format!("http://{address}").parse().map_err(|_| invalid(EXPECTED))?;
        if uri.port_u16().is_none() || uri.path() != "/" {
            return Err(invalid(EXPECTED));
        }
        Ok(Endpoint { given: text.to_owned(), scheme, uri })
    }

    /// The text it was read from.
    pub fn as_str(&self) -> &str {
        &self.given
    }

    /// `host:port`.
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", |a| a.as_str())
    }

    pub(crate) fn uri(&self) -> &http::Uri {
        &self.uri
    }

    /// What requests name as their origin where the connection is encrypted.
    pub(crate) fn origin_of_tls(&self) -> http::Uri {
        let mut parts = self.uri.clone().into_parts();
        parts.scheme = Some(http::uri::Scheme::HTTPS);
        http::Uri::from_parts(parts).unwrap_or_else(|_| self.uri.clone())
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host's name or address, an address of IPv6 without its brackets.
    #[cfg(feature = "tls")]
    pub(crate) fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// This address cannot be used, for a reason that lies in the client's settings.
    pub(crate) fn invalid(&self, reason: impl Into<String>) -> InvalidEndpoint {
        InvalidEndpoint { endpoint: self.given.clone(), reason: reason.into() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_scheme() {
        for (text, scheme) in [
            ("127.0.0.1:2379", Scheme::Unstated),
            ("http://127.0.0.1:2379", Scheme::Http),
            ("http://127.0.0.1:2379/", Scheme::Http),
            ("https://127.0.0.1:2379", Scheme::Https),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.scheme(), scheme);
            assert_eq!(endpoint.authority(), "127.0.0.1:2379");
            assert_eq!(endpoint.to_string(), text);
        }
        assert_eq!(Endpoint::parse("[::1]:2379").unwrap().authority(), "[::1]:2379");
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        for (text, word) in [
            ("", "host:port"),
            ("bogus", "host:port"),
            ("http://a:1/path", "host:port"),
            ("a b:1", "host:port"),
            ("ftp://a:1", "host:port"),
            ("http://http://a:1", "host:port"),
            ("unix:///tmp/s", "unix"),
        ] {
            let error = Endpoint::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
