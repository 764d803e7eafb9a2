//! What a build needs from the machine: finding it, and installing what is missing.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A C++ compiler by preference: clang takes two thirds of g++'s time for RocksDB.
const COMPILERS: [&str; 3] = ["clang++", "g++", "c++"];

/// The root of this clone.
pub(crate) fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Where things that are built once per machine are kept.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("STENTOR_CACHE_DIR") {
        return Ok(dir.into());
    }
    if let Some(dir) = std::env::var_os("XDG_CACHE_HOME").filter(|d| !d.is_empty()) {
        return Ok(PathBuf::from(dir).join("stentor"));
    }
    let home = std::env::var_os("HOME").context("neither STENTOR_CACHE_DIR nor HOME is set: set one of them")?;
    Ok(PathBuf::from(home).join(".cache").join("stentor"))
}

/// The first C++ compiler on the path.
pub(crate) fn cxx() -> Result<PathBuf> {
    if let Some(cxx) = std::env::var_os("CXX").filter(|c| !c.is_empty()) {
        return Ok(cxx.into());
    }
    COMPILERS.iter().find_map(|name| on_path(name)).context("no C++ compiler found: install clang")
}

/// Looks `name` up on PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Runs a command and fails with its name when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", show(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", show(command));
    }
    Ok(())
}

/// The command as a person would type it.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// What RocksDB and its bindings need beyond Rust, and is not there.
fn missing_packages() -> Vec<&'static str> {
    let mut packages = Vec::new();
    if cxx().is_err() {
        packages.push("clang");
    }
    if !has_libclang() {
        packages.push("libclang-dev");
    }
    packages
}

fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let is_libclang = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.starts_with("libclang.so") || name.starts_with("libclang-") && name.contains(".so")
    };
    let holds_libclang =
        |dir: &Path| std::fs::read_dir(dir).is_ok_and(|entries| entries.flatten().any(|e| is_libclang(&e.file_name())));
    let system =
        ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    if system.iter().any(|dir| holds_libclang(Path::new(dir))) {
        return true;
    }
    std::fs::read_dir("/usr/lib").is_ok_and(|entries| {
        entries
            .flatten()
            .any(|e| e.file_name().to_string_lossy().starts_with("llvm") && holds_libclang(&e.path().join("lib")))
    })
}

/// Installs what is missing with apt-get, as root or through sudo, or with `install` false only
/// names it.
pub(crate) fn ensure_packages(install: bool) -> Result<()> {
    let missing = missing_packages();
    if missing.is_empty() {
        return Ok(());
    }
    let as_root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    let sudo = if as_root { "" } else { "sudo " };
    let line =
        format!("{sudo}sh -c 'apt-get update && apt-get install --yes --no-install-recommends {}'", missing.join(" "));
    if !install {
        bail!("missing: {}. Install with: {line}", missing.join(", "));
    }
    if on_path("apt-get").is_none() {
        bail!("missing: {}; install them with this system's package manager", missing.join(", "));
    }
    println!("$ {line}");
    run(Command::new("sh").arg("-c").arg(&line))
}
