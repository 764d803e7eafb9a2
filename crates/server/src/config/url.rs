//! Lists of URLs, as the flags take them: `http://127.0.0.1:2379,http://[::1]:2379`.

use std::fmt;
use std::path::{Path, PathBuf};

/// One URL of a flag: scheme and place, and the text as it was given, which is what clients are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    secure: bool,
    host: String,
    port: u16,
    socket: Option<PathBuf>,
}

impl Url {
    /// Whether the scheme is https or unixs.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The file of a unix socket, for which host and port are empty.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// The host: a name or an address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Parses one URL; the error is the end of a sentence that names it.
    pub(crate) fn parse(text: &str) -> Result<Url, String> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err("has no scheme: write it as http://HOST:PORT".into());
        };
        let secure = match scheme {
            "http" => false,
            "https" => true,
            "unix" | "unixs" => return Self::parse_socket(text, scheme == "unixs", rest),
            _ => return Err(format!("has the scheme {scheme:?}, not http, https, unix or unixs")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err("must not contain a path".into());
        }
        let Some((host, port)) = authority.rsplit_once(':') else {
            return Err("has no port: write it as http://HOST:PORT".into());
        };
        let port = port.parse().map_err(|_| format!("has the port {port:?}, not a number up to 65535"))?;
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').ok_or("has an unclosed bracket")?,
            None if host.contains(':') => return Err("has an IPv6 address without brackets".into()),
            None => host,
        };
        Ok(Url { text: text.trim_end_matches('/').to_owned(), secure, host: host.to_owned(), port, socket: None })
    }

    /// What stands behind the scheme is a path, relative unless it begins with a slash.
    fn parse_socket(text: &str, secure: bool, path: &str) -> Result<Url, String> {
        if path.is_empty() {
            return Err("has no path: write it as unix:///PATH".into());
        }
        Ok(Url { text: text.to_owned(), secure, host: String::new(), port: 0, socket: Some(path.into()) })
    }

    /// Parses a URL of a member, which others reach over the network.
    pub(crate) fn parse_peer(text: &str) -> Result<Url, String> {
        let url = Url::parse(text)?;
        if url.socket.is_some() {
            return Err("is a unix socket: members reach each other over the network".into());
        }
        Ok(url)
    }

    /// Parses a URL to listen on, whose host has to be an address of this machine.
    pub(crate) fn parse_listen(text: &str) -> Result<Url, String> {
        let url = Url::parse(text)?;
        if url.host != "localhost" && !url.host.is_empty() && url.host.parse::<std::net::IpAddr>().is_err() {
            return Err("names a host: to listen on, give an IP address or localhost".into());
        }
        Ok(url)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_what_is_wrong_with_them() {
        for (text, host, port) in [
            ("http://127.0.0.1:2379", "127.0.0.1", 2379),
            (" http://localhost:0/ ", "localhost", 0),
            ("https://[::1]:1", "::1", 1),
            ("http://:2379", "", 2379),
        ] {
            let url = Url::parse_listen(text).unwrap();
            assert_eq!((url.host(), url.port()), (host, port), "{text}");
        }
        for (text, why) in [
            ("127.0.0.1:2379", "no scheme"),
            ("ftp://a:1", "scheme"),
            ("unix://", "no path"),
            ("http://127.0.0.1", "no port"),
            ("http://127.0.0.1:99999", "port"),
            ("http://127.0.0.1:1/path", "path"),
            ("http://::1:1", "brackets"),
            ("http://example.org:1", "IP address"),
        ] {
            let error = Url::parse_listen(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(Url::parse_peer("unix:///a").unwrap_err().contains("unix socket"));
        assert_eq!(Url::parse("http://example.org:1").unwrap().host(), "example.org");
    }

    #[test]
    fn a_unix_socket_is_a_path() {
        for (text, path, secure) in [
            ("unix:///run/a.sock", "/run/a.sock", false),
            ("unixs:///run/a.sock", "/run/a.sock", true),
            ("unix://localhost:1", "localhost:1", false),
        ] {
            let url = Url::parse_listen(text).unwrap();
            assert_eq!((url.socket(), url.is_secure()), (Some(Path::new(path)), secure), "{text}");
            assert_eq!(url.as_str(), text);
        }
    }
}
