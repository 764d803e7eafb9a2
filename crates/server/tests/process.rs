//! The binary as operators and harnesses meet it: started, asked, stopped.
#![cfg(all(feature = "binary", feature = "rocksdb"))]
// Helpers of tests may fail as tests do.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[path = "tls/authority.rs"]
mod authority;
#[path = "harness/ports.rs"]
mod ports;
#[path = "tls/process.rs"]
mod tls;

use ports::free_port;

/// For what should take a second or two, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon a server must be gone after SIGTERM, on a machine that lets it run.
const STOP_TIME: Duration = Duration::from_millis(1500);
/// How often it may take longer, since the machine was busy.
const STOP_ATTEMPTS: usize = 6;
const READY: &str = "ready to serve client requests";

fn stentor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stentor"));
    // Nothing may be needed from the environment.
    command.env_clear().stdin(Stdio::null());
    command
}

/// A running server; killed when dropped.
struct Running {
    child: Child,
    port: u16,
    lines: mpsc::Receiver<String>,
    seen: Vec<serde_json::Value>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(data: &Path, port: u16, more: &[&str]) -> Running {
        let url = format!("http://127.0.0.1:{port}");
        let mut child = stentor()
            .arg("--data-dir")
            .arg(data)
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Running { child, port, lines, seen: Vec::new() }
    }

    fn ready(data: &Path, port: u16, more: &[&str]) -> Running {
        let mut running = Self::start(data, port, more);
        running.wait_for(READY);
        running
    }

    /// Reads the log up to a line with that message.
    fn wait_for(&mut self, msg: &str) {
        let due = Instant::now() + PATIENCE;
        while !self.seen.iter().any(|line| line["msg"] == msg) {
            let left = due.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no {msg:?} in {:#?}", self.seen));
            self.seen.push(parse(&line));
        }
    }

    /// Sends SIGTERM and returns the exit status, the time it took and the whole log.
    fn stop(mut self) -> (Option<i32>, Duration, Vec<serde_json::Value>) {
        let begun = Instant::now();
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let status = self.child.wait().unwrap();
        let took = begun.elapsed();
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        assert_eq!(stdout, "", "nothing but the log is printed");
        let rest: Vec<_> = self.lines.iter().map(|line| parse(&line)).collect();
        self.seen.extend(rest);
        (status.code(), took, std::mem::take(&mut self.seen))
    }

    fn get(&self, path: &str) -> String {
        get(self.port, path)
    }
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A log line has the shape that collectors expect.
fn parse(line: &str) -> serde_json::Value {
    let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    for name in ["level", "ts", "caller", "msg"] {
        assert!(value[name].is_string(), "{name} in {line}");
    }
    value
}

/// What a command that ends by itself prints.
fn output(args: &[&str]) -> Output {
    stentor().args(args).output().unwrap()
}

#[test]
fn a_whole_life() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("not/yet/there");
    let (port, metrics_port) = (free_port(), free_port());
    let metrics_url = format!("--listen-metrics-urls=http://127.0.0.1:{metrics_port}");
    let args = ["--name=first", "--initial-cluster-state=new", metrics_url.as_str()];
    let (mut round, mut quick) = (0, false);
    while round < 2 || !quick {
        assert!(round < STOP_ATTEMPTS, "a stop takes more than {STOP_TIME:?}");
        // The later rounds are on the same port, at once, with the same flags.
        let running = Running::ready(&data, port, &args);
        assert!(running.get("/health").ends_with(r#"{"health":"true","reason":""}"#));
        assert!(running.get("/version").contains("\"etcdserver\":\"3.7."));
        assert!(running.get("/readyz?verbose").ends_with("ok\n"));
        assert!(running.get("/nosuch").starts_with("HTTP/1.1 404"));
        assert!(running.get("/metrics").contains("\netcd_server_has_leader 1\n"));
        assert!(get(metrics_port, "/livez").ends_with("\r\n\r\nok\n"));
        assert!(get(metrics_port, "/metrics").contains("\nprocess_resident_memory_bytes "));
        let (code, took, log) = running.stop();
        assert_eq!(code, Some(0), "round {round}: {log:#?}");
        quick |= took < STOP_TIME;
        assert_eq!(log.iter().filter(|line| line["msg"] == READY).count(), 1);
        assert!(log.iter().all(|line| line["level"] == "info"), "round {round}: {log:#?}");
        round += 1;
    }
}

#[tokio::test]
async fn health_by_grpc_and_the_end_of_a_stream() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::ready(folder.path(), free_port(), &[]);
    let endpoint = tonic::transport::Endpoint::try_from(format!("http://127.0.0.1:{}", running.port)).unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(endpoint.connect().await.unwrap());
    let everything = tonic_health::pb::HealthCheckRequest { service: String::new() };
    assert_eq!(health.check(everything.clone()).await.unwrap().into_inner().status, 1, "SERVING");
    let mut stream = health.watch(everything).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().status, 1);
    let stopping = tokio::task::spawn_blocking(|| running.stop());
    let end = loop {
        match stream.message().await {
            Ok(Some(change)) => assert_eq!(change.status, 2, "NOT_SERVING"),
            end => break end,
        }
    };
    assert_eq!(end.unwrap_err().code(), tonic::Code::Unavailable);
    let (code, _, _) = stopping.await.unwrap();
    assert_eq!(code, Some(0));
}

/// With URLs for HTTP alone, the others serve gRPC alone.
#[tokio::test]
async fn http_can_have_a_port_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let http_port = free_port();
    let url = format!("--listen-client-http-urls=http://127.0.0.1:{http_port}");
    let running = Running::ready(folder.path(), free_port(), &[&url]);
    assert!(get(http_port, "/health").contains("true"));
    assert!(get(http_port, "/version").contains("3.7."));
    assert!(running.get("/health").starts_with("HTTP/1.1 404"));
    for (port, served) in [(running.port, true), (http_port, false)] {
        let endpoint = tonic::transport::Endpoint::try_from(format!("http://127.0.0.1:{port}")).unwrap();
        let mut health = tonic_health::pb::health_client::HealthClient::new(endpoint.connect().await.unwrap());
        let everything = tonic_health::pb::HealthCheckRequest { service: String::new() };
        assert_eq!(health.check(everything).await.is_ok(), served, "port {port}");
    }
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn an_existing_cluster_needs_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let existing = "--initial-cluster-state=existing";
    let refused = output(&[
        "--data-dir",
        data.to_str().unwrap(),
        existing,
        "--listen-client-urls=http://127.0.0.1:0",
        "--advertise-client-urls=http://127.0.0.1:1",
    ]);
    let log = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{log}");
    assert!(log.contains("can't be joined"), "{log}");
    assert!(!data.exists(), "nothing was made");
    assert_eq!(Running::ready(&data, free_port(), &[]).stop().0, Some(0));
    // What is there is resumed.
    assert_eq!(Running::ready(&data, free_port(), &[existing]).stop().0, Some(0));
}

#[test]
fn a_second_process_on_one_directory_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let first = Running::ready(folder.path(), free_port(), &[]);
    let mut second = Running::start(folder.path(), free_port(), &[]);
    let status = second.child.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    let errors: Vec<_> = second.lines.iter().map(|line| parse(&line)).filter(|line| line["level"] == "error").collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(first.get("/health").contains("true"));
}

#[test]
fn an_address_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut running = Running::start(folder.path(), port, &[]);
    assert_eq!(running.child.wait().unwrap().code(), Some(1));
    let log: Vec<_> = running.lines.iter().map(|line| parse(&line)).collect();
    let text = serde_json::to_string(&log).unwrap();
    assert!(text.contains(&format!("cannot listen on http://127.0.0.1:{port}")), "{text}");
}

#[test]
fn what_is_printed_and_the_exit_status() {
    let version = output(&["--version"]);
    assert!(version.status.success() && version.stderr.is_empty());
    let text = String::from_utf8(version.stdout).unwrap();
    let number = text.lines().next().unwrap().strip_prefix("etcd Version: 3.7.").unwrap();
    number.parse::<u32>().unwrap();

    for (args, code) in [(&["--nosuch=1"][..], 2), (&["--max-txn-ops", "many"], 2), (&["--cert-file=a"], 1)] {
        let refused = output(args);
        assert_eq!(refused.status.code(), Some(code), "{args:?}");
        assert!(refused.stdout.is_empty());
        let text = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn a_log_that_nobody_reads_is_no_reason_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut running = Running::ready(folder.path(), port, &["--log-level=debug"]);
    // The thread that reads stops at the next line, and the pipe is closed.
    let (_, closed) = mpsc::channel();
    drop(std::mem::replace(&mut running.lines, closed));
    for _ in 0..50 {
        assert!(running.get("/health").contains("true"));
    }
    let (code, _, _) = running.stop();
    assert_eq!(code, Some(0));
}

/// The log of writes can have a disk of its own; without it the store is not served.
#[test]
fn a_store_goes_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let elsewhere = format!("--wal-dir={}", log.display());
    for _ in 0..2 {
        assert_eq!(Running::ready(&data, free_port(), &[&elsewhere]).stop().0, Some(0));
    }
    assert!(std::fs::read_dir(&log).unwrap().count() > 0 && !data.join("log").exists());
    let mut without = Running::start(&data, free_port(), &[]);
    assert_eq!(without.child.wait().unwrap().code(), Some(1));
    let errors: Vec<_> =
        without.lines.iter().map(|line| parse(&line)).filter(|line| line["level"] == "error").collect();
    assert!(errors.len() == 1 && errors[0].to_string().contains("the log of this store is missing"), "{errors:?}");
    assert_eq!(Running::ready(&data, free_port(), &[&elsewhere]).stop().0, Some(0));
}

#[test]
fn the_log_goes_where_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let outputs = format!("--log-outputs={}", log.display());
    let mut running =
        Running::start(&folder.path().join("data"), free_port(), &[&outputs, "--log-format=console", "--max-wals=3"]);
    let due = Instant::now() + PATIENCE;
    while !std::fs::read_to_string(&log).unwrap_or_default().contains(READY) {
        assert!(Instant::now() < due && running.child.try_wait().unwrap().is_none(), "never ready");
        std::thread::yield_now();
    }
    let (code, _, printed) = running.stop();
    assert_eq!((code, printed.len()), (Some(0), 0));
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(text.matches("--max-wals has no effect").count(), 1, "{text}");
    assert!(!text.contains('\u{1b}') && !text.starts_with('{'));
}
