use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;

use crate::net::PeerAddr;

/// A client may call itself anything; so much of it is kept per stream.
const USER_AGENT_BYTES: usize = 128;

/// Whose a stream is. It goes into the stream's options as text, its label, and comes back in the
/// stream's reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamLabel {
    /// When it was opened, milliseconds since 1970.
    pub opened_unix_ms: u64,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// How the client calls itself: no more than 128 bytes, and nothing that does not print.
    pub user_agent: String,
}

impl StreamLabel {
    /// Who sent a request, as the server that took it in has noted.
    pub fn of<T>(request: &Request<T>, opened_unix_ms: u64) -> StreamLabel {
        let peer = request.extensions().get::<PeerAddr>().map(|peer| peer.0);
        let user_agent = request.headers().get(http::header::USER_AGENT).map_or(&[][..], |value| value.as_bytes());
        StreamLabel { opened_unix_ms, peer, user_agent: printable(user_agent) }
    }

    /// As one text: the time, the address and the name, with `|` between.
    pub fn text(&self) -> Arc<str> {
        let mut text = self.opened_unix_ms.to_string();
        text.push('|');
        if let Some(peer) = self.peer {
            // Writing into a string does not fail.
            let _ = write!(text, "{peer}");
        }
        text.push('|');
        text.push_str(&self.user_agent);
        text.into()
    }

    /// Reads [`StreamLabel::text`]; what it can't read is left at its default.
    pub fn parse(text: &str) -> StreamLabel {
        let mut parts = text.splitn(3, '|');
        let mut next = || parts.next().unwrap_or_default();
        StreamLabel {
            opened_unix_ms: next().parse().unwrap_or_default(),
            peer: next().parse().ok(),
            user_agent: next().to_owned(),
        }
    }

    /// The address as text; empty if it isn't known.
    pub fn peer_text(&self) -> String {
        self.peer.map_or_else(String::new, |peer| peer.to_string())
    }
}

/// A header's value fit for logs and terminals.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        let c = if c.is_control() { '?' } else { c };
        if text.len() + c.len_utf8() > USER_AGENT_BYTES {
            break;
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(user_agent: &[u8]) -> Request<()> {
        let mut request = Request::new(());
        request.headers_mut().insert(http::header::USER_AGENT, http::HeaderValue::from_bytes(user_agent).unwrap());
        request.extensions_mut().insert(PeerAddr("[::1]:4711".parse().unwrap()));
        request
    }

    #[test]
    fn a_label_survives_as_text() {
        let label = StreamLabel::of(&request(b"grpc-go/1.2|odd"), 17);
        assert_eq!(&*label.text(), "17|[::1]:4711|grpc-go/1.2|odd");
        assert_eq!(StreamLabel::parse(&label.text()), label);
        assert_eq!(label.peer_text(), "[::1]:4711");
    }

    #[test]
    fn what_is_missing_stays_empty() {
        let label = StreamLabel::of(&Request::new(()), 3);
        assert_eq!(label, StreamLabel { opened_unix_ms: 3, ..StreamLabel::default() });
        assert_eq!(StreamLabel::parse(&label.text()), label);
        assert_eq!(StreamLabel::parse("anything"), StreamLabel::default());
    }

    #[test]
    fn names_are_short_and_print() {
        let long = StreamLabel::of(&request(&[b'\xc3'; 4096]), 0).user_agent;
        assert!(long.len() <= USER_AGENT_BYTES && long.len() > USER_AGENT_BYTES - 4, "{}", long.len());
        assert_eq!(StreamLabel::of(&request(b"a\tb"), 0).user_agent, "a?b");
    }
}
