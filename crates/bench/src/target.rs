//! The server under load.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use stentor_interop::peers::Version;
use stentor_interop::process::Server;

use crate::account::{self, Cpu};

/// What every etcd is started with: neither a quota nor a snapshot shall come into the way.
const ETCD_FLAGS: &[&str] = &["--quota-backend-bytes", "8589934592"];
const STENTOR_FLAGS: &[&str] = &["--quota-backend-bytes", "8589934592"];

/// A server, or several members of one, and the process that is accounted.
pub struct Target {
    /// What it is called in the output.
    pub name: String,
    /// Where most clients connect.
    pub address: SocketAddr,
    /// Where clients connect that are many; the first is `address`.
    addresses: Vec<SocketAddr>,
    /// None if it is on another machine, or another user's.
    pid: Option<u32>,
    stentor: bool,
    server: Option<Server>,
}

impl Target {
    /// One that runs already; it cannot be restarted. Its process, if it is on this machine, is that which
    /// listens at the first address.
    ///
    /// # Errors
    /// When there is no address.
    pub fn running(name: &str, addresses: Vec<SocketAddr>, pid: Option<u32>) -> Result<Target> {
        let address = *addresses.first().context("no address")?;
        let found = || Some(address).filter(|a| a.ip().is_loopback()).and_then(|a| account::listening(a.port()));
        let pid = pid.or_else(found);
        Ok(Target { name: name.to_owned(), address, addresses, pid, stentor: false, server: None })
    }

    /// Starts a binary on an empty data directory. It is killed when this is dropped.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(binary: &Path) -> Result<Target> {
        let version = Version::of(binary)?;
        let (name, flags) = if version.stentor { ("Stentor", STENTOR_FLAGS) } else { ("etcd", ETCD_FLAGS) };
        let server = Server::start(binary, flags)?;
        let address = server.endpoint().trim_start_matches("http://").parse()?;
        let pid = Some(server.pid().context("the server has no process")?);
        let (name, addresses) = (name.to_owned(), vec![address]);
        Ok(Target { name, address, addresses, pid, stentor: version.stentor, server: Some(server) })
    }

    /// All addresses.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether what it uses of the machine can be seen.
    pub fn is_accounted(&self) -> bool {
        self.pid.is_some()
    }

    /// Whether it is known to be Stentor.
    pub fn is_stentor(&self) -> bool {
        self.stentor
    }

    /// Whether [`Target::restart`] works.
    pub fn restarts(&self) -> bool {
        self.server.is_some()
    }

    /// Kills it and starts it again on its data.
    ///
    /// # Errors
    /// When it was not started here or does not come back.
    pub fn restart(&mut self) -> Result<()> {
        let Some(server) = &mut self.server else { bail!("{} was not started here", self.name) };
        server.restart()?;
        self.pid = Some(server.pid().context("the server has no process")?);
        Ok(())
    }

    /// The bytes of disk that its data takes.
    ///
    /// # Errors
    /// When it was not started here.
    pub fn on_disk(&self) -> Result<u64> {
        let server = self.server.as_ref().with_context(|| format!("{} was not started here", self.name))?;
        account::on_disk(&server.data_dir())
    }

    /// Its CPU time so far; nothing if its process is unknown.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu(&self) -> Result<Cpu> {
        let Some(pid) = self.pid else { return Ok(Cpu::default()) };
        Cpu::of(pid).with_context(|| format!("{} is gone", self.name))
    }

    /// Its resident memory, in bytes; 0 if its process is unknown.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resident(&self) -> Result<u64> {
        let Some(pid) = self.pid else { return Ok(0) };
        account::resident(pid).with_context(|| format!("{} is gone", self.name))
    }

    /// Starts to measure.
    ///
    /// # Errors
    /// When it is gone.
    pub fn meter(&self) -> Result<Meter<'_>> {
        Ok(Meter { target: self, server: self.cpu()?, own: Cpu::own()?, start: std::time::Instant::now() })
    }
}

/// A measurement under way.
pub struct Meter<'a> {
    target: &'a Target,
    server: Cpu,
    own: Cpu,
    start: std::time::Instant,
}

/// What was used meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// By the server, on CPUs.
    pub server: Duration,
    /// By this program.
    pub own: Duration,
    /// By the clock on the wall.
    pub elapsed: Duration,
}

impl Used {
    /// How many CPUs this program had in use.
    pub fn own_share(&self) -> f64 {
        self.own.as_secs_f64() / self.elapsed.as_secs_f64().max(1e-9)
    }
}

impl Meter<'_> {
    /// What has been used since the start.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn read(&self) -> Result<Used> {
        let server = self.target.cpu()?.since(&self.server);
        Ok(Used { server, own: Cpu::own()?.since(&self.own), elapsed: self.start.elapsed() })
    }
}

/// Lets this process, and the servers that it starts, have as many files open as the system allows it:
/// thousands of connections need more than the usual thousand.
pub fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What does not work with fewer says so itself.
    let _ = setrlimit(Resource::Nofile, limit);
}
