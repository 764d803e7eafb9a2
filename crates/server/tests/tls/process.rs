//! The binary, encrypted.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::authority::{Authority, Identity};
use super::{READY, Running, free_port, get, output, parse};

const HERE: &str = "127.0.0.1";
const FAILED: &str = "a TLS handshake failed";

/// An authority, and the flags of a server that has a certificate of it.
struct Scene {
    folder: tempfile::TempDir,
    authority: Authority,
    server: [String; 2],
    /// To require certificates of clients.
    strict: [String; 2],
}

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let ca = folder.path().join("ca.crt");
        std::fs::write(&ca, &authority.pem).unwrap();
        let files = authority.sign("server", &[HERE, "localhost"]).write(folder.path(), "server");
        let server =
            [format!("--cert-file={}", files.certificate.display()), format!("--key-file={}", files.key.display())];
        let strict = [format!("--trusted-ca-file={}", ca.display()), "--client-cert-auth=true".to_owned()];
        Scene { folder, authority, server, strict }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn client(&self) -> Identity {
        self.authority.sign("client", &[])
    }
}

/// A client that trusts this authority.
fn client(authority: &str, identity: Option<&Identity>, alpn: &[u8]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

/// HTTP/1.1 in TLS, on whatever carries the bytes.
fn ask(carrier: impl Read + Write, client: Arc<ClientConfig>, path: &str) -> std::io::Result<String> {
    let connection = ClientConnection::new(client, HERE.try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, carrier);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    Ok(answer)
}

fn https(port: u16, client: Arc<ClientConfig>, path: &str) -> std::io::Result<String> {
    ask(TcpStream::connect((HERE, port)).unwrap(), client, path)
}

/// Whether gRPC is served in TLS.
async fn serves(port: u16, client: Arc<ClientConfig>) -> bool {
    let connector = tower::service_fn(move |_: http::Uri| {
        let client = Arc::clone(&client);
        async move {
            let stream = tokio::net::TcpStream::connect((HERE, port)).await?;
            let stream = tokio_rustls::TlsConnector::from(client).connect(HERE.try_into().unwrap(), stream).await?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://x");
    let Ok(channel) = endpoint.connect_with_connector(connector).await else { return false };
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.is_ok_and(|it| it.into_inner().status == 1)
}

/// Starts with these URLs in the place of the usual ones.
fn start(data: &Path, port: u16, listen: &str, more: &[&[String]]) -> Running {
    let mut flags = vec![format!("--listen-client-urls={listen}"), format!("--advertise-client-urls={listen}")];
    flags.extend(more.concat());
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    Running::start(data, port, &flags)
}

fn ready(data: &Path, port: u16, listen: &str, more: &[&[String]]) -> Running {
    let mut running = start(data, port, listen, more);
    running.wait_for(READY);
    running
}

/// A start that is refused, and why.
fn refusal(mut running: Running) -> String {
    assert_eq!(running.child.wait().unwrap().code(), Some(1));
    let errors: Vec<_> =
        running.lines.iter().map(|line| parse(&line)).filter(|line| line["level"] == "error").collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].to_string()
}

#[tokio::test]
async fn all_that_is_served_is_encrypted_and_wants_certificates() {
    let scene = Scene::new();
    let [port, http_port, metrics_port] = [(); 3].map(|()| free_port());
    let more = [
        format!("--listen-client-http-urls=https://{HERE}:{http_port}"),
        format!("--listen-metrics-urls=https://{HERE}:{metrics_port}"),
    ];
    let url = format!("https://{HERE}:{port}");
    let running = ready(&scene.data(), port, &url, &[&scene.server, &scene.strict, &more]);
    let identity = scene.client();
    let known = |alpn: &[u8]| client(&scene.authority.pem, Some(&identity), alpn);
    let unknown = |alpn: &[u8]| client(&scene.authority.pem, None, alpn);
    assert!(serves(port, known(b"h2")).await);
    assert!(https(http_port, known(b"http/1.1"), "/health").unwrap().contains(r#"{"health":"true""#));
    assert!(https(metrics_port, known(b"http/1.1"), "/metrics").unwrap().contains("\netcd_server_has_leader 1\n"));
    assert!(https(metrics_port, known(b"http/1.1"), "/livez").unwrap().ends_with("ok\n"));
    assert!(!serves(port, unknown(b"h2")).await);
    assert!(https(http_port, unknown(b"http/1.1"), "/health").is_err());
    assert!(https(metrics_port, unknown(b"http/1.1"), "/metrics").is_err());
    // Who is not encrypted gets no answer, but a record that says why.
    let mut plain = TcpStream::connect((HERE, port)).unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // The rest of what was sent may come as a reset.
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let (code, _, log) = running.stop();
    assert_eq!(code, Some(0), "{log:#?}");
    assert!(log.iter().all(|line| line["level"] == "info"), "{log:#?}");
    // gRPC's client may have tried more than once.
    let failed: Vec<_> = log.iter().filter(|line| line["msg"] == FAILED).collect();
    let without = failed.iter().filter(|line| line["error"].to_string().contains("no certificates")).count();
    assert!(without >= 3 && failed.len() == without + 1, "{failed:#?}");
}

#[tokio::test]
async fn clients_are_chosen_from() {
    let scene = Scene::new();
    let [good, revoked, other] = ["good.example", "good.example", "bad.example"].map(|host| {
        let identity = scene.authority.sign("client", &[host]);
        (client(&scene.authority.pem, Some(&identity), b"h2"), identity)
    });
    let crl = scene.folder.path().join("crl");
    std::fs::write(&crl, scene.authority.revoke(&[&revoked.1]).1).unwrap();
    let more = [
        format!("--client-crl-file={}", crl.display()),
        "--client-cert-allowed-hostname=x.example,good.example".to_owned(),
    ];
    let port = free_port();
    let running = ready(&scene.data(), port, &format!("https://{HERE}:{port}"), &[&scene.server, &scene.strict, &more]);
    assert!(serves(port, good.0.clone()).await);
    assert!(!serves(port, revoked.0).await && !serves(port, other.0).await);
    // While it runs.
    std::fs::write(&crl, scene.authority.revoke(&[&good.1]).1).unwrap();
    assert!(!serves(port, good.0).await);
    let (_, _, log) = running.stop();
    for why in ["Revoked", "none of the hosts"] {
        assert!(log.iter().any(|line| line["msg"] == FAILED && line["error"].to_string().contains(why)), "{log:#?}");
    }
}

/// GHSA-3wh4-j44w-pg92: the list of revoked certificates did not count on every way in.
#[tokio::test]
async fn a_revoked_certificate_is_refused_wherever_it_comes_in() {
    let scene = Scene::new();
    let (good, revoked) = (scene.client(), scene.client());
    let [ca, crl] = ["ca.crt", "crl"].map(|name| scene.folder.path().join(name));
    std::fs::write(&crl, scene.authority.revoke(&[&revoked]).0).unwrap();
    let peer = scene.authority.sign("peer", &[HERE]).write(scene.folder.path(), "peer");
    let [port, http_port, metrics_port, peer_port] = [(); 4].map(|()| free_port());
    let more = [
        format!("--client-crl-file={}", crl.display()),
        format!("--listen-client-http-urls=https://{HERE}:{http_port}"),
        format!("--listen-metrics-urls=https://{HERE}:{metrics_port}"),
        format!("--listen-peer-urls=https://{HERE}:{peer_port}"),
        format!("--initial-advertise-peer-urls=https://{HERE}:{peer_port}"),
        format!("--peer-cert-file={}", peer.certificate.display()),
        format!("--peer-key-file={}", peer.key.display()),
        format!("--peer-trusted-ca-file={}", ca.display()),
        "--peer-skip-client-san-verification".to_owned(),
        format!("--peer-crl-file={}", crl.display()),
    ];
    let url = format!("https://{HERE}:{port}");
    let running = ready(&scene.data(), port, &url, &[&scene.server, &scene.strict, &more]);
    let with = |identity, alpn: &[u8]| client(&scene.authority.pem, Some(identity), alpn);
    assert!(serves(port, with(&good, b"h2")).await && !serves(port, with(&revoked, b"h2")).await);
    for port in [http_port, metrics_port] {
        assert!(https(port, with(&good, b"http/1.1"), "/health").is_ok(), "{port}");
        assert!(https(port, with(&revoked, b"http/1.1"), "/health").is_err(), "{port}");
    }
    assert!(takes(peer_port, with(&good, b"h2")).await && !takes(peer_port, with(&revoked, b"h2")).await);
    let (_, _, log) = running.stop();
    let refused = |line: &&serde_json::Value| line["msg"] == FAILED && line["error"].to_string().contains("Revoked");
    assert!(log.iter().filter(refused).count() >= 4, "{log:#?}");
}

/// Whether a connection is taken, and HTTP/2 spoken on it.
async fn takes(port: u16, client: Arc<ClientConfig>) -> bool {
    let stream = tokio::net::TcpStream::connect((HERE, port)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(client);
    let Ok(stream) = connector.connect(HERE.try_into().unwrap(), stream).await else { return false };
    let Ok((send, connection)) = h2::client::handshake(stream).await else { return false };
    let connection = tokio::spawn(connection);
    let request = http::Request::post("https://x/stentor.peer.v1.Peer/Members").body(()).unwrap();
    let Ok(mut send) = send.ready().await else { return false };
    let Ok((response, _)) = send.send_request(request, true) else { return false };
    let is_answered = response.await.is_ok();
    connection.abort();
    is_answered
}

#[tokio::test]
async fn silent_clients_hold_up_nobody() {
    let scene = Scene::new();
    let port = free_port();
    let running = ready(&scene.data(), port, &format!("https://{HERE}:{port}"), &[&scene.server]);
    let silent: Vec<_> = (0..50).map(|_| TcpStream::connect((HERE, port)).unwrap()).collect();
    assert!(serves(port, client(&scene.authority.pem, None, b"h2")).await);
    drop(silent);
    assert_eq!(running.stop().0, Some(0));
}

#[tokio::test]
async fn a_certificate_of_its_own_making_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let made = || std::fs::read_to_string(folder.path().join("fixtures/client/cert.pem")).unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let running = ready(folder.path(), port, &format!("https://{HERE}:{port}"), &[&["--auto-tls".to_owned()]]);
        seen.push(made());
        // Who takes the certificate for its authority can be sure of the server.
        assert!(serves(port, client(&made(), None, b"h2")).await);
        assert!(!serves(port, client(&Authority::new().pem, None, b"h2")).await);
        let (code, _, log) = running.stop();
        assert_eq!(code, Some(0), "{log:#?}");
        assert!(log.iter().all(|line| line["level"] == "info"), "{log:#?}");
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn plain_and_encrypted_ports_side_by_side_are_served_and_named() {
    let scene = Scene::new();
    let (port, secure_port) = (free_port(), free_port());
    let urls = format!("http://{HERE}:{port},https://{HERE}:{secure_port}");
    let running = ready(&scene.data(), port, &urls, &[&scene.server, &scene.strict]);
    let identity = scene.client();
    assert!(get(port, "/health").contains("true"));
    assert!(serves(secure_port, client(&scene.authority.pem, Some(&identity), b"h2")).await);
    let (_, _, log) = running.stop();
    let warned: Vec<_> = log.iter().filter(|line| line["level"] == "warn").collect();
    assert!(
        warned.len() == 1 && warned[0].to_string().contains(&format!("http://{HERE}:{port} is neither")),
        "{log:?}"
    );
}

#[test]
fn unix_sockets_are_served_plain_and_encrypted() {
    let scene = Scene::new();
    let (plain, secure) = (scene.folder.path().join("plain.sock"), scene.folder.path().join("secure.sock"));
    let urls = format!("unix://{},unixs://{}", plain.display(), secure.display());
    let port = free_port();
    let hello = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for round in 0..2 {
        let mut running = ready(&scene.data(), port, &urls, &[&scene.server]);
        let mut stream = UnixStream::connect(&plain).unwrap();
        stream.write_all(hello).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(r#"{"health":"true""#), "{answer}");
        let trusting = client(&scene.authority.pem, None, b"http/1.1");
        let answer = ask(UnixStream::connect(&secure).unwrap(), trusting, "/health").unwrap();
        assert!(answer.contains(r#"{"health":"true""#), "{answer}");
        let second = start(&scene.folder.path().join("other"), port, &urls, &[&scene.server]);
        assert!(refusal(second).contains("cannot listen on unix://"));
        if round == 0 {
            // What is left of it does not keep the next one from starting.
            running.child.kill().unwrap();
            running.child.wait().unwrap();
            assert!(plain.exists());
        } else {
            assert_eq!(running.stop().0, Some(0));
            assert!(!plain.exists() && !secure.exists());
        }
    }
    std::fs::write(&plain, "not a socket").unwrap();
    let refused = start(&scene.data(), port, &urls, &[&scene.server]);
    assert!(refusal(refused).contains("cannot listen on unix://"));
    assert_eq!(std::fs::read_to_string(&plain).unwrap(), "not a socket");
}

#[test]
fn files_that_cannot_be_used_stop_the_start() {
    let scene = Scene::new();
    let port = free_port();
    let url = format!("https://{HERE}:{port}");
    let other = scene.client().write(scene.folder.path(), "other");
    for (flag, says) in [
        ("--cert-file=/no/such/file".to_owned(), "cannot read /no/such/file"),
        (format!("--key-file={}", other.key.display()), "it is not the key of"),
        (format!("--trusted-ca-file={}", other.key.display()), "no certificate"),
    ] {
        let running = start(&scene.data(), port, &url, &[&scene.server, &[flag]]);
        let why = refusal(running);
        assert!(why.contains(says), "{why}");
    }
    // What the flags alone tell is told before the log is set up.
    let refused = output(&["--listen-metrics-urls=https://127.0.0.1:1"]);
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.lines().count() == 1 && text.contains("asks for TLS"), "{text}");
}
