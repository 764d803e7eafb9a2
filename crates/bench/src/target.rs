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

/// A server and its process.
pub struct Target {
    /// What it is called in the output.
    pub name: String,
    /// Where its clients connect.
    pub address: SocketAddr,
    pid: u32,
    stentor: bool,
    server: Option<Server>,
}

impl Target {
    /// One that runs already; it cannot be restarted.
    pub fn running(name: &str, address: SocketAddr, pid: u32) -> Target {
        Target { name: name.to_owned(), address, pid, stentor: false, server: None }
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
        let pid = server.pid().context("the server has no process")?;
        Ok(Target { name: name.to_owned(), address, pid, stentor: version.stentor, server: Some(server) })
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
        self.pid = server.pid().context("the server has no process")?;
        Ok(())
    }

    /// Its CPU time so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu(&self) -> Result<Cpu> {
        Cpu::of(self.pid).with_context(|| format!("{} is gone", self.name))
    }

    /// Its resident memory, in bytes.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resident(&self) -> Result<u64> {
        account::resident(self.pid).with_context(|| format!("{} is gone", self.name))
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
