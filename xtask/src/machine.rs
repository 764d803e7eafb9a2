//! What a build needs from the machine: finding it, and installing what is missing.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A C++ compiler by preference: clang takes two thirds of g++'s time for RocksDB.
const COMPILERS: [&str; 3] = ["clang++", "g++", "c++"];

/// The root of this clone.
pub(crate) fn workspace_root() -> PathBuf {
    // cargo says where it runs this from; the place at compile time is for a binary started by hand.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let manifest = manifest.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    manifest.parent().unwrap_or(&manifest).to_path_buf()
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

/// The command that starts the C++ compiler: `CXX` (which may hold a launcher: `ccache clang++`), or
/// the first one on the path.
pub(crate) fn cxx() -> Result<Vec<String>> {
    let words = std::env::var("CXX").unwrap_or_default();
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    if !words.is_empty() {
        return Ok(words);
    }
    let found = COMPILERS.iter().find_map(|name| on_path(name)).context("no C++ compiler found: install clang")?;
    Ok(vec![found.to_string_lossy().into_owned()])
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

/// Runs a command and returns its standard output; its standard error becomes the failure's text.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", show(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}\n{}", show(command), output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as a person would type it.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// What RocksDB, its bindings and jemalloc need beyond Rust, and is not there.
fn missing_packages() -> Vec<&'static str> {
    let mut packages = Vec::new();
    if cxx().is_err() {
        packages.push("clang");
    }
    if !has_libclang() {
        packages.push("libclang-dev");
    }
    if on_path("make").is_none() {
        packages.push("make");
    }
    packages
}

fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let holds_libclang = |dir: &Path| {
        std::fs::read_dir(dir)
            .is_ok_and(|entries| entries.flatten().any(|e| is_libclang(&e.file_name().to_string_lossy())))
    };
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

/// The library with C's interface, in any version; not the one with C++'s, which bindings can't use.
fn is_libclang(name: &str) -> bool {
    let of_a_version = name.starts_with("libclang-") && !name.starts_with("libclang-cpp");
    name.starts_with("libclang.so") || of_a_version && name.contains(".so")
}

/// Installs what a build needs and is missing, or with `install` false only names it.
pub(crate) fn ensure_packages(install: bool) -> Result<()> {
    install_packages(&missing_packages(), install)
}

/// Installs Debian packages with apt-get, as root or through sudo, printing the one command; with
/// `install` false only names it and fails.
pub(crate) fn install_packages(missing: &[&str], install: bool) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(", ");
    if on_path("apt-get").is_none() {
        bail!("missing: {names}; install them with this system's package manager");
    }
    let line =
        as_root(&format!("apt-get update && apt-get install --yes --no-install-recommends {}", missing.join(" ")));
    if !install {
        bail!("missing: {names}. Install with: {line}");
    }
    println!("$ {line}");
    // apt-get must not ask: CI has no one to answer.
    run(Command::new("sh").arg("-c").arg(&line).env("DEBIAN_FRONTEND", "noninteractive"))
        .with_context(|| format!("{names} could not be installed"))
}

/// `line` as this user has to type it in order to run it as root.
pub(crate) fn as_root(line: &str) -> String {
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    let sudo = if root { "" } else { "sudo " };
    format!("{sudo}sh -c '{line}'")
}

/// A lock that is held until this is dropped.
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it is not enough: a process that is just being started holds our files until it runs
        // its program. If this fails, the lock ends a little later.
        let _ = self.0.unlock();
    }
}

/// Waits until this process alone holds the lock file `path`, for building `what` into the cache. The
/// system gives the lock back when it is dropped or the process ends, however it does.
pub(crate) fn lock(path: &Path, what: &str) -> Result<Lock> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => println!("{what}: another process is at it; waiting"),
        Err(TryLockError::Error(e)) => return Err(e).with_context(|| format!("cannot lock {}", path.display())),
    }
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(Lock(file))
}

/// Removes a directory and what is in it, if it is there.
pub(crate) fn remove_dir(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_for_bindings_is_told_from_its_neighbours() {
        for name in ["libclang.so", "libclang.so.1", "libclang-14.so.1", "libclang-14.so.14.0.6"] {
            assert!(is_libclang(name), "{name}");
        }
        for name in ["libclang-cpp.so.14", "libclang-cpp14.so", "libclang_rt.asan.so", "libclang-14.a"] {
            assert!(!is_libclang(name), "{name}");
        }
    }

    #[test]
    fn a_lock_is_held_by_one_and_given_back() {
        let path = std::env::temp_dir().join(format!("stentor-lock-{}", std::process::id()));
        let first = lock(&path, "test").unwrap();
        let second = File::create(&path).unwrap();
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
        drop(first);
        assert!(second.try_lock().is_ok());
        std::fs::remove_file(&path).unwrap();
    }
}
