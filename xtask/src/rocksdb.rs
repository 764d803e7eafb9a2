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
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::machine;

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
    let dir = machine::cache_dir()?.join("rocksdb").join(source.fingerprint(&cxx)?);
    let library = dir.join("librocksdb.a");
    if !library.is_file() {
        let start = Instant::now();
        println!("rocksdb: building {} once for this machine with {}", source.version, cxx.display());
        build(&source, &cxx, &dir)?;
        println!("rocksdb: built in {} s: {}", start.elapsed().as_secs(), library.display());
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
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked"])
            .current_dir(machine::workspace_root())
            .output()
            .context("cannot run cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
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
    fn fingerprint(&self, cxx: &Path) -> Result<String> {
        let compiler = Command::new(cxx).arg("--version").output().context("cannot run the C++ compiler")?;
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

fn build(source: &Source, cxx: &Path, dir: &Path) -> Result<()> {
    let work = dir.with_extension("building");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;

    let mut units = units(&source.files()?);
    // Largest first, so that no core is left with the longest one at the end.
    units.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let objects: Vec<PathBuf> = (0..units.len()).map(|n| work.join(format!("unit{n:02}.o"))).collect();
    let queue = Mutex::new(units.iter().zip(&objects).enumerate());
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    loop {
                        let next = queue.lock().map_err(|_| anyhow::anyhow!("another unit failed"))?.next();
                        let Some((n, ((text, _), object))) = next else { return Ok(()) };
                        compile(source, cxx, &work.join(format!("unit{n:02}.cc")), text, object)?;
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|w| w.join().map_err(|_| anyhow::anyhow!("a build thread panicked"))?)
    })?;

    machine::run(Command::new("ar").arg("crs").arg(work.join("librocksdb.a")).args(&objects))?;
    for object in &objects {
        std::fs::remove_file(object)?;
    }
    // Whoever comes second finds the directory there, with the same content.
    let _ = std::fs::rename(&work, dir);
    if !dir.join("librocksdb.a").is_file() {
        bail!("cannot move {} to {}", work.display(), dir.display());
    }
    Ok(())
}

fn compile(source: &Source, cxx: &Path, unit: &Path, text: &str, object: &Path) -> Result<()> {
    std::fs::write(unit, text)?;
    let root = &source.rocksdb;
    let mut command = Command::new(cxx);
    command.args(FLAGS).args(CPU_FLAGS);
    for include in [root.clone(), root.join("rocksdb"), root.join("rocksdb/include"), source.lz4.join("liblz4/lib")] {
        command.arg("-I").arg(include);
    }
    machine::run(command.arg("-c").arg(unit).arg("-o").arg(object))
}
