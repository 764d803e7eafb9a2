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

/// A server, or the members of a cluster, and the processes that are accounted.
pub struct Target {
    /// What it is called in the output.
    pub name: String,
    /// Where most clients connect.
    pub address: SocketAddr,
    /// Where clients connect that are many; the first is `address`.
    addresses: Vec<SocketAddr>,
    /// Of each member whose process is known: none if it is on another machine, or another user's.
    pids: Vec<u32>,
    stentor: bool,
    /// Those that were started here, in the order of `addresses`.
    servers: Vec<Server>,
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
        let pids = pid.or_else(found).into_iter().collect();
        Ok(Target { name: name.to_owned(), address, addresses, pids, stentor: false, servers: Vec::new() })
    }

    /// Starts a binary on empty data directories: alone, or as so many members of one cluster. They are killed
    /// when this is dropped.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start(binary: &Path, members: usize) -> Result<Target> {
        let version = Version::of(binary)?;
        let (name, flags) = if version.stentor { ("Stentor", STENTOR_FLAGS) } else { ("etcd", ETCD_FLAGS) };
        let servers = if members > 1 {
            Server::start_cluster(binary, members, flags)?
        } else {
            vec![Server::start(binary, flags)?]
        };
        let addresses = servers
            .iter()
            .map(|server| Ok(server.endpoint().trim_start_matches("http://").parse()?))
            .collect::<Result<Vec<SocketAddr>>>()?;
        let mut target = Target::running(name, addresses, None)?;
        (target.stentor, target.servers) = (version.stentor, servers);
        target.find_processes()?;
        Ok(target)
    }

    fn find_processes(&mut self) -> Result<()> {
        let pids = self.servers.iter().map(|server| server.pid().context("a server has no process"));
        self.pids = pids.collect::<Result<_>>()?;
        Ok(())
    }

    /// All addresses.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether what it uses of the machine can be seen.
    pub fn is_accounted(&self) -> bool {
        !self.pids.is_empty()
    }

    /// Whether it is known to be Stentor.
    pub fn is_stentor(&self) -> bool {
        self.stentor
    }

    /// Whether [`Target::restart`] works.
    pub fn restarts(&self) -> bool {
        !self.servers.is_empty()
    }

    /// Puts a member first, so that clients who don't share all of them connect to it.
    pub fn put_first(&mut self, member: usize) {
        if member < self.addresses.len() {
            self.addresses.swap(0, member);
            if self.servers.len() > member {
                self.servers.swap(0, member);
                self.pids.swap(0, member);
            }
        }
        self.address = self.addresses.first().copied().unwrap_or(self.address);
    }

    /// Kills the first member and starts it again on its data.
    ///
    /// # Errors
    /// When it was not started here or does not come back.
    pub fn restart(&mut self) -> Result<()> {
        self.first()?.restart()?;
        self.find_processes()
    }

    /// Kills the first member, which [`Target::restart`] brings back. Nothing can be measured meanwhile.
    ///
    /// # Errors
    /// When it was not started here.
    pub fn kill(&mut self) -> Result<()> {
        self.first()?.kill();
        Ok(())
    }

    fn first(&mut self) -> Result<&mut Server> {
        let Some(server) = self.servers.first_mut() else { bail!("{} was not started here", self.name) };
        Ok(server)
    }

    /// The bytes of disk that its data takes.
    ///
    /// # Errors
    /// When it was not started here.
    pub fn on_disk(&self) -> Result<u64> {
        if self.servers.is_empty() {
            bail!("{} was not started here", self.name);
        }
        self.servers.iter().map(|server| account::on_disk(&server.data_dir())).sum()
    }

    /// The CPU time of each member so far; none of those whose process is unknown.
    ///
    /// # Errors
    /// When one is gone.
    pub fn cpu(&self) -> Result<Vec<Cpu>> {
        let cpu = |pid: &u32| Cpu::of(*pid).with_context(|| format!("{} is gone", self.name));
        self.pids.iter().map(cpu).collect()
    }

    /// Its resident memory, of all members, in bytes; 0 if no process is known.
    ///
    /// # Errors
    /// When one is gone.
    pub fn resident(&self) -> Result<u64> {
        let resident = |pid: &u32| account::resident(*pid).with_context(|| format!("{} is gone", self.name));
        self.pids.iter().map(resident).sum()
    }

    /// Starts to measure.
    ///
    /// # Errors
    /// When it is gone.
    pub fn meter(&self) -> Result<Meter<'_>> {
        Ok(Meter { target: self, servers: self.cpu()?, own: Cpu::own()?, start: std::time::Instant::now() })
    }
}

/// A measurement under way.
pub struct Meter<'a> {
    target: &'a Target,
    servers: Vec<Cpu>,
    own: Cpu,
    start: std::time::Instant,
}

/// What was used meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// By the server, on CPUs; by all members of a cluster.
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
    /// What each member has used since the start, on CPUs.
    ///
    /// # Errors
    /// When one is gone.
    pub fn members(&self) -> Result<Vec<Duration>> {
        Ok(self.target.cpu()?.iter().zip(&self.servers).map(|(now, before)| now.since(before)).collect())
    }

    /// What has been used since the start.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn read(&self) -> Result<Used> {
        let server = self.members()?.iter().sum();
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
