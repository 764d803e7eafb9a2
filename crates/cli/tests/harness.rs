//! Servers, tools and their output.

use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// How long a tool may wait for a server; etcdctl's own 5 s are short on a busy machine.
const TIMEOUT: &str = "60s";
/// How often other ports are tried when a server does not come up on some.
const PORT_ATTEMPTS: usize = 3;
/// Below the ports that systems hand out by themselves (from 32768 on), so that no connection of somebody
/// else gets one between its choice and its use, or while a server is restarted.
const PORTS: Range<u16> = 12_000..32_000;

/// The first program that one of these variables names; says so when there is none.
pub(crate) fn program(variables: &[&str]) -> Option<PathBuf> {
    let named = variables.iter().find_map(|v| std::env::var_os(v).filter(|path| !path.is_empty()));
    if named.is_none() {
        // Past the test harness, which hides what passing tests print.
        writeln!(std::io::stderr().lock(), "SKIPPED: none of {variables:?} names a program").ok();
    }
    named.map(PathBuf::from)
}

/// The etcdctls there are, oldest first.
pub(crate) fn etcdctls() -> Vec<Tool> {
    let versions = [("34", 34), ("35", 35), ("37", 37)];
    let tool = |(suffix, version)| {
        let path = program(&[&format!("STENTOR_TEST_ETCDCTL_{suffix}")])?;
        Some(Tool { path, version, ours: false })
    };
    versions.into_iter().filter_map(tool).collect()
}

/// A server in a directory of its own, killed when dropped.
pub(crate) struct Etcd {
    child: Child,
    binary: PathBuf,
    dir: tempfile::TempDir,
    pub(crate) port: u16,
    peer_port: u16,
    extra: Vec<String>,
}

/// Where a server may be named, the newest first.
const SERVERS: &[&str] = &["STENTOR_TEST_ETCD", "STENTOR_TEST_ETCD_37", "STENTOR_TEST_ETCD_35"];

/// A port that nobody listens on, and that no other call here returns soon.
fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(RandomState::new().hash_one(()) as u16));
    let mut ports = PORTS.map(|_| PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start));
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

impl Etcd {
    /// Starts the server that the environment names.
    pub(crate) fn start(extra: &[&str]) -> Option<Etcd> {
        let binary = program(SERVERS)?;
        let extra: Vec<String> = extra.iter().map(|e| (*e).to_owned()).collect();
        for attempt in 1.. {
            let dir = tempfile::tempdir().unwrap();
            let (port, peer_port) = (free_port(), free_port());
            let child = spawn(&binary, dir.path(), port, peer_port, &extra);
            let mut etcd = Etcd { child, binary: binary.clone(), dir, port, peer_port, extra: extra.clone() };
            match etcd.serves() {
                Ok(()) => return Some(etcd),
                Err(why) => assert!(attempt < PORT_ATTEMPTS, "{why}"),
            }
        }
        None
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Waits until it serves, or is gone.
    fn serves(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let run = Tool::ours().run(&self.endpoint(), &["get", "x", "--command-timeout=1s"], "");
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server has ended: {status}"));
            }
            if run.code == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("the server does not serve: {run:?}"));
            }
        }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.binary, self.dir.path(), self.port, self.peer_port, &self.extra);
        self.serves().unwrap();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn spawn(binary: &Path, dir: &Path, port: u16, peer_port: u16, extra: &[String]) -> Child {
    let client = format!("http://127.0.0.1:{port}");
    // The advertised peer address makes the ids: the same one for every server, the same ids.
    let peer = "http://127.0.0.1:2380";
    Command::new(binary)
        .args(["--name", "default", "--data-dir"])
        .arg(dir.join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &format!("http://127.0.0.1:{peer_port}")])
        .args(["--initial-advertise-peer-urls", peer, "--initial-cluster", &format!("default={peer}")])
        .args(extra)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A command line client.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) path: PathBuf,
    /// 35 is 3.5; ours is as new as the newest.
    pub(crate) version: u32,
    pub(crate) ours: bool,
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Tool {
    pub(crate) fn ours() -> Tool {
        Tool { path: env!("CARGO_BIN_EXE_stentorctl").into(), version: u32::MAX, ours: true }
    }

    pub(crate) fn command(&self, endpoint: &str, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        // The endpoint goes last, before any `--`: then `-i` and exec commands stay what they are.
        let split = args.iter().position(|a| *a == "--").unwrap_or(args.len());
        command.args(&args[..split]);
        if !endpoint.is_empty() {
            command.arg(format!("--endpoints={endpoint}"));
        }
        command.args(&args[split..]);
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("ETCDCTL_")) {
            command.env_remove(name);
        }
        command.env("ETCDCTL_COMMAND_TIMEOUT", TIMEOUT).env("ETCDCTL_DIAL_TIMEOUT", TIMEOUT);
        if self.version == 34 {
            command.env("ETCDCTL_API", "3");
        }
        command
    }

    /// Runs it to its end; one that takes too long is killed and fails the test.
    pub(crate) fn run(&self, endpoint: &str, args: &[&str], input: &str) -> Run {
        let mut command = self.command(endpoint, args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A tool that does not read its input may be gone by now.
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        let id = child.id();
        let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let watchdog = {
            let done = done.clone();
            std::thread::spawn(move || {
                let deadline = Instant::now() + PATIENCE;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    if Instant::now() > deadline {
                        Command::new("kill").args(["-9", &id.to_string()]).status().ok();
                        return;
                    }
                    std::thread::park_timeout(PATIENCE);
                }
            })
        };
        let output = child.wait_with_output().unwrap();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        watchdog.thread().unpark();
        watchdog.join().unwrap();
        let code = output.status.code().unwrap_or_else(|| panic!("{args:?} did not end: {output:?}"));
        Run { code, out: lossless(&output.stdout), err: lossless(&output.stderr) }
    }

    /// Runs it and asserts that it worked.
    pub(crate) fn ok(&self, endpoint: &str, args: &[&str]) -> String {
        let run = self.run(endpoint, args, "");
        assert_eq!(run.code, 0, "{args:?}: {run:?}");
        run.out
    }
}

/// Bytes as text that differs where they differ.
pub(crate) fn lossless(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}
