//! A server as a process: started on free ports of 127.0.0.1, killed when dropped.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(120);
/// How often other ports are tried when somebody else has taken one.
const PORT_ATTEMPTS: usize = 5;
/// Below the ports that systems hand out by themselves (from 32768 on), so that no connection of somebody
/// else gets one between its choice and its use, or while a server is restarted.
const PORTS: Range<u16> = 12_000..32_000;
/// Lines of the log that a failure shows.
const TAIL: usize = 60;
/// How soon to look again whether the process has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// The line that says that clients can be served.
const READY: &str = "ready to serve client requests";

/// A server binary with etcd's flags, running on a data directory of its own.
pub struct Server {
    binary: PathBuf,
    directory: TempDir,
    name: String,
    scheme: &'static str,
    client_port: u16,
    peer_port: u16,
    /// All members as `--initial-cluster` has them; empty for a server alone.
    initial_cluster: String,
    flags: Vec<String>,
    environment: BTreeMap<String, String>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    tail: Arc<Mutex<VecDeque<String>>>,
    /// They end with its outputs.
    followers: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts `binary` with an empty data directory and these flags besides the addresses.
    ///
    /// # Errors
    /// When it cannot be started or does not say that it is ready in time; the error holds the
    /// end of its log.
    pub fn start(binary: &Path, flags: &[&str]) -> Result<Server> {
        Self::start_by(binary, "http", flags)
    }

    /// Starts it to serve clients by `https`; the flags name its certificate.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_https(binary: &Path, flags: &[&str]) -> Result<Server> {
        Self::start_by(binary, "https", flags)
    }

    /// Starts so many members of one new cluster, named m0, m1 and so on, with these flags each. All are ready.
    ///
    /// # Errors
    /// As [`Server::start`]; a port that somebody else has taken meanwhile is an error here.
    pub fn start_cluster(binary: &Path, members: usize, flags: &[&str]) -> Result<Vec<Server>> {
        let mut servers = Server::new_cluster(binary, members, flags)?;
        Server::start_all(&mut servers)?;
        Ok(servers)
    }

    /// The members of a new cluster, none of which runs yet.
    ///
    /// # Errors
    /// No port is free, or no directory can be made.
    pub fn new_cluster(binary: &Path, members: usize, flags: &[&str]) -> Result<Vec<Server>> {
        let stopped = |n| Server::stopped(binary, &format!("m{n}"), "http", flags);
        let mut servers = (0..members).map(stopped).collect::<Result<Vec<_>>>()?;
        let places: Vec<String> = servers.iter().map(|s| format!("{}={}", s.name, s.peer_url())).collect();
        servers.iter_mut().for_each(|server| server.initial_cluster = places.join(","));
        Ok(servers)
    }

    /// Starts members that do not run: none is ready before most of them run.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_all(servers: &mut [Server]) -> Result<()> {
        let starting = servers.iter_mut().map(Server::spawn).collect::<Result<Vec<_>>>()?;
        servers.iter_mut().zip(starting).try_for_each(|(server, is_ready)| server.wait_ready(&is_ready))
    }

    fn stopped(binary: &Path, name: &str, scheme: &'static str, flags: &[&str]) -> Result<Server> {
        Ok(Server {
            binary: binary.to_path_buf(),
            directory: tempfile::tempdir().context("cannot make a data directory")?,
            name: name.to_owned(),
            scheme,
            client_port: free_port()?,
            peer_port: free_port()?,
            initial_cluster: String::new(),
            flags: flags.iter().map(ToString::to_string).collect(),
            environment: BTreeMap::new(),
            running: None,
        })
    }

    fn start_by(binary: &Path, scheme: &'static str, flags: &[&str]) -> Result<Server> {
        let mut server = Server::stopped(binary, "interop", scheme, flags)?;
        for _ in 1..PORT_ATTEMPTS {
            match server.restart() {
                Err(error) if error.to_string().to_lowercase().contains("address already in use") => {
                    (server.client_port, server.peer_port) = (free_port()?, free_port()?);
                }
                started => return started.map(|()| server),
            }
        }
        server.restart()?;
        Ok(server)
    }

    /// Where clients reach it: `http://127.0.0.1:PORT`, or `https`.
    pub fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.client_port)
    }

    /// Its name, and its whole cluster as `--initial-cluster` has it; empty for one alone.
    pub fn place(&self) -> (&str, &str) {
        (&self.name, &self.initial_cluster)
    }

    /// Where other members reach it.
    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// Where its data lies.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// SIGKILL, and waits until the process is gone. Nothing happens when it is not running.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            // Both fail only when the process has already gone.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        self.running.as_ref().map(|running| joined(&running.tail)).unwrap_or_default()
    }

    /// From the next start on, it has this variable in its environment; `None` takes it away.
    pub fn set_variable(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => drop(self.environment.insert(name.to_owned(), value.to_owned())),
            None => drop(self.environment.remove(name)),
        }
    }

    /// Waits until the process has ended by itself; how it did, and the end of its log.
    ///
    /// # Errors
    /// It does not run, or not end in time: then it runs on.
    pub async fn ended(&mut self, patience: Duration) -> Result<(ExitStatus, String)> {
        let deadline = Instant::now() + patience;
        loop {
            let running = self.running.as_mut().context("it does not run")?;
            if let Some(status) = running.child.try_wait().context("cannot wait for it")? {
                running.followers.drain(..).for_each(|follower| drop(follower.join()));
                let log = joined(&running.tail);
                self.running = None;
                return Ok((status, log));
            }
            if Instant::now() >= deadline {
                bail!("{} has not ended after {patience:?}; its log ends:\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Whether the process has ended by itself.
    ///
    /// # Errors
    /// It was not started, or was killed.
    pub fn has_ended(&mut self) -> Result<bool> {
        let running = self.running.as_mut().context("it does not run")?;
        Ok(running.child.try_wait().context("cannot wait for it")?.is_some())
    }

    /// Starts it, killed before if it runs, without waiting for anything.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn begin(&mut self) -> Result<()> {
        self.kill();
        self.spawn().map(drop)
    }

    /// Kills it if it runs and starts it again on the same data and addresses.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let is_ready = self.spawn()?;
        self.wait_ready(&is_ready)
    }

    /// Starts the process; what is returned hears when it is ready.
    fn spawn(&mut self) -> Result<Receiver<()>> {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("ETCD") || text.starts_with("STENTOR_") {
                command.env_remove(&name);
            }
        }
        let (client, peer) = (self.endpoint(), self.peer_url());
        let alone = format!("{}={peer}", self.name);
        let initial = if self.initial_cluster.is_empty() { &alone } else { &self.initial_cluster };
        command.arg("--data-dir").arg(self.data_dir());
        command.args(["--name", &self.name, "--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", initial]);
        command.args(&self.flags).envs(&self.environment);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))?;
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let (ready, is_ready) = channel();
        let followers = [follow(child.stdout.take(), &tail, ready.clone()), follow(child.stderr.take(), &tail, ready)];
        self.running = Some(Running { child, tail, followers: followers.into_iter().flatten().collect() });
        Ok(is_ready)
    }

    fn wait_ready(&mut self, is_ready: &Receiver<()>) -> Result<()> {
        let Err(error) = is_ready.recv_timeout(START) else { return Ok(()) };
        let why = match error {
            RecvTimeoutError::Timeout => format!("not ready after {START:?}"),
            RecvTimeoutError::Disconnected => "ended before it was ready".to_owned(),
        };
        let log = self.log_tail();
        self.kill();
        bail!("{}: {why}; its log ends:\n{log}", self.binary.display());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads the log to its end, so that the server never blocks on a full pipe.
fn follow(
    output: Option<impl Read + Send + 'static>,
    tail: &Arc<Mutex<VecDeque<String>>>,
    ready: Sender<()>,
) -> Option<JoinHandle<()>> {
    let output = output?;
    let tail = Arc::clone(tail);
    Some(std::thread::spawn(move || {
        let mut ready = Some(ready);
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if line.contains(READY)
                && let Some(ready) = ready.take()
            {
                // Nobody listens any more when the start was given up.
                let _ = ready.send(());
            }
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(line);
        }
    }))
}

fn joined(tail: &Mutex<VecDeque<String>>) -> String {
    let tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
    tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// A port that nobody listens on, and that no other call here returns soon.
pub(crate) fn free_port() -> Result<u16> {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(RandomState::new().hash_one(()) as u16));
    for _ in PORTS {
        let port = PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
        // By connecting: a listener of ours would live on for a moment in a process that is just being started.
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            return Ok(port);
        }
    }
    bail!("no free port in {PORTS:?}")
}
