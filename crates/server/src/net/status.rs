//! gRPC's results as they stand in headers and trailers.

use std::time::Duration;

use http::header::{HeaderMap, HeaderValue};
use tonic::Code;

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
const TIMEOUT: &str = "grpc-timeout";

/// The client's deadline has passed.
pub(crate) const DEADLINE: (Code, &str) = (Code::DeadlineExceeded, "etcdserver: context deadline exceeded");
/// The server stops: clients go elsewhere on this code only.
pub(crate) const STOPPED: (Code, &str) = (Code::Unavailable, "etcdserver: server stopped");

/// There was no leader for too long: clients that ask for one go elsewhere.
pub(crate) const NO_LEADER: (Code, &str) = (Code::Unavailable, "etcdserver: no leader");

/// How tonic's text for a message above its limit begins, and the code it comes with.
const TONIC_TOO_LARGE: &str = "Error, decoded message length too large";
const TONIC_TOO_LARGE_CODE: Code = Code::OutOfRange;

/// Writes a result. `message` is plain ASCII without percent signs.
pub(crate) fn write(headers: &mut HeaderMap, code: Code, message: &'static str) {
    headers.insert(STATUS, HeaderValue::from(code as i32));
    headers.insert(MESSAGE, HeaderValue::from_static(message));
}

/// The result in `headers`, if there is one. tonic's answer to a message above the limit becomes the one
/// that clients of etcd know.
pub(crate) fn settle(headers: &mut HeaderMap) -> Option<Code> {
    let code = Code::from_bytes(headers.get(STATUS)?.as_bytes());
    if code == TONIC_TOO_LARGE_CODE
        && let Some(message) = headers.get(MESSAGE).and_then(too_large)
    {
        headers.insert(STATUS, HeaderValue::from(Code::ResourceExhausted as i32));
        headers.insert(MESSAGE, message);
        return Some(Code::ResourceExhausted);
    }
    Some(code)
}

fn too_large(message: &HeaderValue) -> Option<HeaderValue> {
    let text = message.to_str().ok()?.replace("%20", " ");
    let mut numbers =
        text.strip_prefix(TONIC_TOO_LARGE)?.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let (found, limit) = (numbers.next()?, numbers.next()?);
    HeaderValue::try_from(format!("grpc: received message larger than max ({found} vs. {limit})")).ok()
}

/// The time the client gives the call.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    // gRPC allows eight digits, so that nothing below can overflow.
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use stentor_proto::EtcdError;

    use super::*;

    #[test]
    fn ends_of_calls_are_etcds_errors() {
        for ((code, text), error) in [(DEADLINE, EtcdError::DeadlineExceeded), (STOPPED, EtcdError::Stopped)] {
            assert_eq!((code, text), (tonic::Status::from(error).code(), error.text()));
        }
    }

    #[test]
    fn timeouts_of_clients() {
        for (text, want) in [
            ("5S", Some(Duration::from_secs(5))),
            ("4999998u", Some(Duration::from_micros(4_999_998))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100m", Some(Duration::from_millis(100))),
            ("", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("123456789n", None),
            ("-1S", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, HeaderValue::from_static(text));
            assert_eq!(timeout(&headers), want, "{text:?}");
        }
    }

    #[test]
    fn a_message_above_the_limit_is_named_as_go_does() {
        for text in [
            "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes",
            "Error,%20decoded%20message%20length%20too%20large:%20found%209%20bytes,%20the%20limit%20is:%204%20bytes",
        ] {
            let mut headers = HeaderMap::new();
            write(&mut headers, Code::OutOfRange, text);
            assert_eq!(settle(&mut headers), Some(Code::ResourceExhausted));
            assert_eq!(headers[STATUS], "8");
            assert_eq!(headers[MESSAGE], "grpc: received message larger than max (9 vs. 4)");
        }
        let mut headers = HeaderMap::new();
        write(&mut headers, Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
        assert_eq!(settle(&mut headers), Some(Code::OutOfRange));
        assert_eq!(settle(&mut HeaderMap::new()), None);
    }
}
