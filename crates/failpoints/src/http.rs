//! Points by HTTP, as gofail serves them.
//!
//! On threads of its own, so that it answers whatever the program does, and with an end to each connection
//! after its answer: a point can end the process the moment it is set, but not before that was answered.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::{Error, Registry};

/// Held while a request is carried out and answered.
pub(crate) static ANSWERING: Mutex<()> = Mutex::new(());

/// So long a client may take to say what it wants, and to hear the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The request line and headers, in bytes.
const MAX_HEAD: u64 = 16 << 10;
/// Terms, in bytes.
const MAX_BODY: usize = 64 << 10;

/// Serves the points at `HOST:PORT` until the process ends. Whoever can connect can end it. Returns where it
/// listens.
///
/// # Errors
/// The address can't be listened on, or no thread can be started.
pub fn serve(registry: Registry, address: &str) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let registry = Arc::new(registry);
    std::thread::Builder::new().name("failpoints".into()).spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let registry = registry.clone();
            // Each on its own: one that says nothing keeps nobody waiting.
            let thread = std::thread::Builder::new().name("failpoint".into());
            if let Err(error) = thread.spawn(move || drop(converse(&registry, &stream))) {
                tracing::warn!(%error, "a request for failpoints can't be served");
            }
        }
    })?;
    Ok(address)
}

#[derive(Debug, PartialEq, Eq)]
struct Response {
    status: &'static str,
    body: String,
}

const OK: &str = "200 OK";
const NO_CONTENT: &str = "204 No Content";
const BAD_REQUEST: &str = "400 Bad Request";
const NOT_FOUND: &str = "404 Not Found";
const NOT_ALLOWED: &str = "405 Method Not Allowed";

impl Response {
    fn new(status: &'static str, body: impl Into<String>) -> Response {
        Response { status, body: body.into() }
    }

    fn bytes(&self) -> Vec<u8> {
        let Response { status, body } = self;
        let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
        if *status == NOT_ALLOWED {
            head += "Allow: DELETE, GET, PUT\r\n";
        }
        if *status != NO_CONTENT {
            head += &format!("Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n", body.len());
        }
        [head.as_bytes(), b"\r\n", body.as_bytes()].concat()
    }
}

impl From<Error> for Response {
    fn from(error: Error) -> Response {
        let status = match error {
            Error::Unknown(_) | Error::Unset(_) => NOT_FOUND,
            Error::Malformed { .. } => BAD_REQUEST,
        };
        Response::new(status, format!("{error}\n"))
    }
}

/// What a client wants.
struct Request {
    method: String,
    target: String,
    body: String,
}

/// One request and its answer.
fn converse(registry: &Registry, stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = read(&mut BufReader::new(stream))?;
    let answering = ANSWERING.lock();
    let response = request.map_or_else(
        || Response::new(BAD_REQUEST, "not a request that is understood here\n"),
        |request| answer(registry, &request),
    );
    let mut stream = stream;
    stream.write_all(&response.bytes())?;
    stream.flush()?;
    drop(answering);
    stream.shutdown(Shutdown::Write)
}

/// The request; `None` if it makes no sense, or is larger than any that does.
fn read(stream: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    let mut rest = stream.by_ref().take(MAX_HEAD);
    while !head.ends_with(b"\n\r\n") {
        if rest.read_until(b'\n', &mut head)? == 0 {
            return Ok(None);
        }
    }
    let Ok(head) = String::from_utf8(head) else { return Ok(None) };
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0")) = (words.next(), words.next(), words.next()) else {
        return Ok(None);
    };
    let mut length = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(None);
        }
        if name.eq_ignore_ascii_case("content-length") {
            let Ok(bytes) = value.trim().parse() else { return Ok(None) };
            length = bytes;
        }
    }
    if length > MAX_BODY {
        return Ok(None);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let (method, target) = (method.to_owned(), target.to_owned());
    Ok(String::from_utf8(body).ok().map(|body| Request { method, target, body }))
}

/// Carries a request out.
fn answer(registry: &Registry, request: &Request) -> Response {
    let Some(name) = request.target.strip_prefix('/') else {
        return Response::new(BAD_REQUEST, "the path must begin with /\n");
    };
    let no_content = |()| Response::new(NO_CONTENT, "");
    let done = match (request.method.as_str(), name) {
        ("GET", "") => Ok(Response::new(OK, registry.list())),
        ("GET", name) => match name.strip_suffix("/count") {
            Some(name) => registry.terms(name).map(|(_, acted)| Response::new(OK, acted.to_string())),
            None => registry.terms(name).map(|(terms, _)| Response::new(OK, format!("{terms}\n"))),
        },
        ("PUT", "failpoints") => registry.set_all(&request.body).map(no_content),
        ("PUT", name) => registry.set(name, &request.body).map(no_content),
        ("DELETE", name) => registry.clear(name).map(no_content),
        _ => Ok(Response::new(NOT_ALLOWED, "use GET, PUT or DELETE\n")),
    };
    done.unwrap_or_else(Response::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    mod points {
        crate::points! {
            B = "b";
            pub(super) A = "a";
        }
    }

    mod others {
        crate::points! {
            A = "a";
        }
    }

    fn ask(registry: &Registry, method: &str, target: &str, body: &str) -> (&'static str, String) {
        let request = Request { method: method.into(), target: target.into(), body: body.into() };
        let response = answer(registry, &request);
        (response.status, response.body)
    }

    #[test]
    fn it_speaks_as_gofail_does() {
        let registry = Registry::new(&[points::ALL]);
        let ask = |method, target, body| ask(&registry, method, target, body);
        let body_of = |method, target| ask(method, target, "").1;
        assert_eq!(ask("GET", "/", ""), (OK, "a=\nb=\n".to_owned()));
        assert_eq!(ask("PUT", "/a", "1*sleep(0)->off"), (NO_CONTENT, String::new()));
        assert_eq!(body_of("GET", "/"), "a=1*sleep(0)->off\nb=\n");
        assert_eq!(ask("GET", "/a", ""), (OK, "1*sleep(0)->off\n".to_owned()));
        points::A.hit();
        assert_eq!(ask("GET", "/a/count", ""), (OK, "1".to_owned()));
        assert_eq!(ask("PUT", "/failpoints", "a=off;b=print").0, NO_CONTENT);
        assert_eq!(body_of("GET", "/"), "a=off\nb=print\n");
        assert_eq!(ask("DELETE", "/a", ""), (NO_CONTENT, String::new()));
        assert_eq!(body_of("GET", "/"), "a=\nb=print\n");
        for (method, target, body, status) in [
            ("PUT", "/b", "explode", BAD_REQUEST),
            ("PUT", "/failpoints", "b=explode", BAD_REQUEST),
            ("PUT", "/z", "off", NOT_FOUND),
            ("DELETE", "/z", "", NOT_FOUND),
            ("GET", "/z", "", NOT_FOUND),
            ("GET", "/z/count", "", NOT_FOUND),
            // A point that is not set has no terms.
            ("GET", "/a", "", NOT_FOUND),
            ("POST", "/a", "off", NOT_ALLOWED),
            ("GET", "a", "", BAD_REQUEST),
        ] {
            assert_eq!(ask(method, target, body).0, status, "{method} {target}");
        }
        assert_eq!(body_of("GET", "/"), "a=\nb=print\n");
    }

    #[test]
    fn requests_are_read_as_clients_write_them() {
        let read = |text: &str| read(&mut text.as_bytes()).map(|request| request.map(|r| (r.method, r.target, r.body)));
        let request = "PUT /a HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 5\r\n\r\npanicand more";
        assert_eq!(read(request).unwrap(), Some(("PUT".into(), "/a".into(), "panic".into())));
        assert_eq!(read("GET / HTTP/1.0\r\n\r\n").unwrap(), Some(("GET".into(), "/".into(), String::new())));
        for bad in [
            "".to_owned(),
            "GET /\r\n\r\n".to_owned(),
            "GET / HTTP/2\r\n\r\n".to_owned(),
            "PUT /a HTTP/1.1\r\nContent-Length: five\r\n\r\npanic".to_owned(),
            "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            format!("PUT /a HTTP/1.1\r\nContent-Length: {}\r\n\r\n", MAX_BODY + 1),
            format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(MAX_HEAD as usize)),
        ] {
            assert_eq!(read(&bad).unwrap(), None, "{:.40}", bad);
        }
        // The client has gone amid its request.
        assert!(read("PUT /a HTTP/1.1\r\nContent-Length: 9\r\n\r\npanic").is_err());
    }

    #[test]
    fn it_is_served_on_a_port() {
        let address = serve(Registry::new(&[others::ALL]), "127.0.0.1:0").unwrap();
        let ask = |request: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).unwrap();
            response
        };
        // One that says nothing keeps nobody waiting.
        let _silent = TcpStream::connect(address).unwrap();
        let set = ask("PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\noff");
        assert_eq!(set, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        let list = ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(list.starts_with("HTTP/1.1 200 OK\r\n") && list.ends_with("\r\n\r\na=off\n"), "{list}");
        assert!(ask("POST / HTTP/1.1\r\n\r\n").contains("\r\nAllow: DELETE, GET, PUT\r\n"));
        assert!(ask("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    }
}
