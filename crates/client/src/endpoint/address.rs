use std::fmt;

/// The address of one member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    given: String,
    uri: http::Uri,
}

/// A text that is no address of a member, or one that needs what is not built yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid endpoint {endpoint:?}: {reason}")]
pub struct InvalidEndpoint {
    pub(crate) endpoint: String,
    pub(crate) reason: String,
}

impl Endpoint {
    /// Reads `host:port`, `http://host:port` or `http://host:port/`.
    ///
    /// # Errors
    /// Anything else is refused, `https://` and `unix://` included: neither is built yet.
    ///
    /// ```
    /// use stentor_client::Endpoint;
    /// assert_eq!(Endpoint::parse("127.0.0.1:2379").unwrap().authority(), "127.0.0.1:2379");
    /// assert!(Endpoint::parse("127.0.0.1").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Endpoint, InvalidEndpoint> {
        let invalid = |reason: &str| InvalidEndpoint { endpoint: text.to_owned(), reason: reason.to_owned() };
        let address = match text.split_once("://") {
            None | Some(("http", _)) => text.trim_start_matches("http://"),
            Some(("https", _)) => return Err(invalid("TLS is not supported yet; use http://")),
            Some(("unix" | "unixs", _)) => return Err(invalid("unix sockets are not supported yet")),
            Some(_) => return Err(invalid("expected host:port or http://host:port")),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        let uri: http::Uri =
            format!("http://{address}").parse().map_err(|_| invalid("expected host:port or http://host:port"))?;
        if uri.port_u16().is_none() || uri.path() != "/" {
            return Err(invalid("expected host:port or http://host:port"));
        }
        Ok(Endpoint { given: text.to_owned(), uri })
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
        for text in ["127.0.0.1:2379", "http://127.0.0.1:2379", "http://127.0.0.1:2379/"] {
            let endpoint = Endpoint::parse(text).unwrap();
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
            ("https://a:1", "TLS"),
            ("unix:///tmp/s", "unix"),
        ] {
            let error = Endpoint::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
