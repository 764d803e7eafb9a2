//! Builds RocksDB once for a machine, for every cargo profile.
//!
//! cargo would compile its 343 C++ files one by one, and again for each profile directory: 15
//! minutes each on two cores, nearly all of it parsing the same headers. Here the files are joined
//! into a few large units first, which takes a fifth of that, and `.cargo/rocksdb.toml` hands the
//! one static library to every profile through the variables that librocksdb-sys reads.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::{cargo, machine};

const LIBRARY: &str = "librocksdb.a";

/// Enough for an even split over a few cores; more units parse the headers more often.
const UNITS: usize = 20;

/// The flags of librocksdb-sys' own build script for Linux with the feature `lz4`.
const FLAGS: &[&str] = &[
    "-std=c++20",
    "-O3",
    "-include",
    "cstdint",
    "-fPIC",
    "-ffunction-sections",
    "-fdata-sections",
    "-w",
    "-DNDEBUG",
    "-DLZ4=1",
    "-DHAVE_ALIGNED_NEW",
    "-DHAVE_UINT128_EXTENSION",
    "-DOS_LINUX",
    "-DROCKSDB_PLATFORM_POSIX",
    "-DROCKSDB_LIB_IO_POSIX",
    "-DROCKSDB_SCHED_GETCPU_PRESENT",
    "-DROCKSDB_AUXV_GETAUXVAL_PRESENT",
    "-DROCKSDB_FALLOCATE_PRESENT",
    "-DROCKSDB_RANGESYNC_PRESENT",
];

/// Hardware CRC32C, on every x86-64 server of the last decade.
#[cfg(target_arch = "x86_64")]
const CPU_FLAGS: &[&str] = &["-msse4.2", "-mpclmul"];
#[cfg(target_arch = "aarch64")]
const CPU_FLAGS: &[&str] = &["-march=armv8-a+crc+aes+crypto"];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const CPU_FLAGS: &[&str] = &[];

/// Build RocksDB once for this machine and every cargo profile.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only name what is missing, install nothing
    #[arg(long)]
    no_install: bool,
    /// Build with the crate's own build script instead, and point cargo at nothing
    #[arg(long)]
    stock: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.stock {
        return forget();
    }
    ensure(!args.no_install)
}

/// Makes cargo build RocksDB the crate's own way, as a check on the joined units.
fn forget() -> Result<()> {
    match std::fs::remove_file(link_file()) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).context("cannot remove the link file"),
        _ => Ok(()),
    }
}

fn link_file() -> PathBuf {
    machine::workspace_root().join(".cargo/rocksdb.toml")
}

/// The library is built and this clone points at it, when this returns.
pub(crate) fn ensure(install: bool) -> Result<()> {
    machine::ensure_packages(install)?;
    if !cfg!(target_os = "linux") {
        println!("rocksdb: not Linux, so cargo builds it (slowly) by itself");
        return Ok(());
    }
    let source = Source::find()?;
    let cxx = machine::cxx()?;
    let cache = machine::cache_dir()?.join("rocksdb");
    let dir = cache.join(source.fingerprint(&cxx)?);
    if !dir.join(LIBRARY).is_file() {
        std::fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        // Held until the library is there; whoever waited finds it built.
        let _lock = machine::lock(&cache.join("lock"), "rocksdb")?;
        if !dir.join(LIBRARY).is_file() {
            let start = Instant::now();
            println!("rocksdb: building {} once for this machine with {}", source.version, cxx.join(" "));
            build(&source, &cxx, &dir)?;
            println!("rocksdb: built in {} s: {}", start.elapsed().as_secs(), dir.display());
        }
    }
    point_cargo_at(&dir)
}

fn point_cargo_at(dir: &Path) -> Result<()> {
    let dir = dir.to_str().context("the cache directory is not UTF-8")?;
    let text = format!(
        "# Written by `cargo xtask rocksdb`; remove it and cargo builds RocksDB itself.\n\
         [env]\nROCKSDB_LIB_DIR = {dir:?}\nROCKSDB_STATIC = \"1\"\n"
    );
    let file = link_file();
    // An unchanged file keeps its time, so that cargo does not run the build script again.
    if std::fs::read_to_string(&file).is_ok_and(|old| old == text) {
        return Ok(());
    }
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The sources that cargo has fetched.
struct Source {
    version: String,
    rocksdb: PathBuf,
    lz4: PathBuf,
}

impl Source {
    fn find() -> Result<Source> {
        cargo::fetch()?;
        let metadata = cargo::metadata()?;
        let package = |name: &str| -> Result<(String, PathBuf)> {
            let packages = metadata["packages"].as_array().into_iter().flatten();
            let found = packages.into_iter().find(|p| p["name"] == name);
            let found = found.with_context(|| format!("{name} is not in Cargo.lock"))?;
            let manifest = found["manifest_path"].as_str().context("no manifest path")?;
            let dir = Path::new(manifest).parent().context("no package directory")?;
            Ok((found["version"].as_str().unwrap_or_default().to_owned(), dir.to_path_buf()))
        };
        let (version, rocksdb) = package("librocksdb-sys")?;
        let (_, lz4) = package("lz4-sys")?;
        Ok(Source { version, rocksdb, lz4 })
    }

    /// A library is used again only for the same sources, compiler and flags.
    fn fingerprint(&self, cxx: &[String]) -> Result<String> {
        let compiler = command(cxx)?.arg("--version").output().context("cannot run the C++ compiler")?;
        let mut hash = DefaultHasher::new();
        (&self.version, &compiler.stdout, FLAGS, CPU_FLAGS, UNITS).hash(&mut hash);
        Ok(format!("{}-{:016x}", self.version, hash.finish()))
    }

    /// The C++ files, as absolute paths, with their sizes.
    fn files(&self) -> Result<Vec<(PathBuf, u64)>> {
        let list = std::fs::read_to_string(self.rocksdb.join("rocksdb_lib_sources.txt"))
            .context("librocksdb-sys has no list of sources: its layout changed")?;
        let listed = list.lines().map(str::trim).filter(|f| !f.is_empty() && *f != "util/build_version.cc");
        let files = listed.map(|f| self.rocksdb.join("rocksdb").join(f));
        let files = files.chain([self.rocksdb.join("build_version.cc")]);
        files
            .map(|file| {
                let size = std::fs::metadata(&file).with_context(|| format!("{} is not there", file.display()))?.len();
                Ok((file, size))
            })
            .collect()
    }
}

/// Joins the files, in order, into units of about equal size.
fn units(files: &[(PathBuf, u64)]) -> Vec<(String, u64)> {
    let total: u64 = files.iter().map(|(_, size)| size).sum();
    let mut units = vec![(String::new(), 0); UNITS];
    let mut before = 0;
    for (file, size) in files {
        let at = (before * UNITS as u64 / total.max(1)) as usize;
        let unit = &mut units[at.min(UNITS - 1)];
        unit.0.push_str(&format!("#include \"{}\"\n", file.display()));
        unit.1 += size;
        before += size;
    }
    units.retain(|(text, _)| !text.is_empty());
    units
}

fn build(source: &Source, cxx: &[String], dir: &Path) -> Result<()> {
    // What an interrupted build left is of no use: only a finished one is moved to its place.
    let name = dir.file_name().context("the cache directory has no name")?.to_string_lossy();
    let work = dir.with_file_name(format!("{name}.building"));
    machine::remove_dir(&work)?;
    machine::remove_dir(dir)?;
    std::fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;

    let mut units = units(&source.files()?);
    // Largest first, so that no core is left with the longest one at the end.
    units.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let objects: Vec<PathBuf> = (0..units.len()).map(|n| work.join(format!("unit{n:02}.o"))).collect();
    compile_all(source, cxx, &units, &objects)?;

    machine::run(Command::new("ar").arg("crs").arg(work.join(LIBRARY)).args(&objects))?;
    for object in &objects {
        std::fs::remove_file(object)?;
    }
    std::fs::rename(&work, dir).with_context(|| format!("cannot move {} to {}", work.display(), dir.display()))
}

/// Compiles the units, as many at a time as there are cores; the first failure stops the rest.
fn compile_all(source: &Source, cxx: &[String], units: &[(String, u64)], objects: &[PathBuf]) -> Result<()> {
    let queue = Mutex::new(units.iter().zip(objects));
    let failed = AtomicBool::new(false);
    let done = AtomicUsize::new(0);
    let start = Instant::now();
    let work = || -> Result<()> {
        while !failed.load(Ordering::Relaxed) {
            let next = queue.lock().map_err(|_| anyhow::anyhow!("a build thread panicked"))?.next();
            let Some(((text, _), object)) = next else { break };
            let result = compile(source, cxx, text, object);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            result?;
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            println!("rocksdb: {done} of {} units, {} s", units.len(), start.elapsed().as_secs());
        }
        Ok(())
    };
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|w| w.join().map_err(|_| anyhow::anyhow!("a build thread panicked"))?)
    })
}

fn compile(source: &Source, cxx: &[String], text: &str, object: &Path) -> Result<()> {
    let unit = object.with_extension("cc");
    std::fs::write(&unit, text)?;
    let root = &source.rocksdb;
    let mut command = command(cxx)?;
    command.args(FLAGS).args(CPU_FLAGS);
    for include in [root.clone(), root.join("rocksdb"), root.join("rocksdb/include"), source.lz4.join("liblz4/lib")] {
        command.arg("-I").arg(include);
    }
    machine::run(command.arg("-c").arg(&unit).arg("-o").arg(object))
}

fn command(words: &[String]) -> Result<Command> {
    let (program, first) = words.split_first().context("no C++ compiler is named")?;
    let mut command = Command::new(program);
    command.args(first);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_hold_every_file_once_and_in_order() {
        let files: Vec<(PathBuf, u64)> = (0..343).map(|n| (PathBuf::from(format!("/f{n}.cc")), 10 + n % 7)).collect();
        let units = units(&files);
        assert_eq!(units.len(), UNITS);
        let joined: String = units.iter().map(|(text, _)| text.as_str()).collect();
        let expected: String = files.iter().map(|(file, _)| format!("#include \"{}\"\n", file.display())).collect();
        assert_eq!(joined, expected);
        let (least, most) = (units.iter().map(|u| u.1).min(), units.iter().map(|u| u.1).max());
        assert!(most <= least.map(|l| l + 40), "uneven: {least:?} to {most:?}");
    }

    #[test]
    fn fewer_files_than_units_leave_no_empty_unit() {
        let units = units(&[(PathBuf::from("/a.cc"), 1), (PathBuf::from("/b.cc"), 1)]);
        assert_eq!(units.len(), 2);
    }
}
