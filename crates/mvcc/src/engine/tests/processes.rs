//! What needs a process of its own: a second one on the same data, one that is killed, one whose disk is
//! full. Each test runs this test binary again, with [`child`] as its only test.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::super::rocksdb::{Options, RocksDbEngine};
use super::super::{Batch, Durability, Engine, EngineError, Read};
use super::behaviour::{History, Meta, keys, puts};

const ROLE: &str = "STENTOR_ENGINE_CHILD";
const DIRECTORY: &str = "STENTOR_ENGINE_DIRECTORY";

/// The command that plays a role on a data directory, to be run by a shell as `"$@"`.
fn command(shell: &str, role: &str, directory: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", shell, "sh"]).arg(std::env::current_exe().unwrap());
    command.args(["engine::tests::processes::child", "--exact", "--ignored", "--nocapture"]);
    command.env(ROLE, role).env(DIRECTORY, directory);
    command
}

fn options(role: &str) -> Options {
    let options = if role.ends_with("replayed") { Options::replayed() } else { Options::default() };
    // Small, so that tables are written all the time; or never but when asked.
    let memtable_bytes = if role.starts_with("flush") { 32 << 20 } else { 64 << 10 };
    Options { memtable_bytes, ..options }
}

#[test]
#[ignore = "run by the other tests of this file"]
fn child() {
    let (Ok(role), Some(directory)) = (std::env::var(ROLE), std::env::var_os(DIRECTORY)) else { return };
    let directory = PathBuf::from(directory);
    let engine = RocksDbEngine::open(&directory, &options(&role)).unwrap();
    match role.as_str() {
        "hold" => hold(&engine),
        "write" | "write replayed" => write_until_killed(&engine),
        "fill" | "fill replayed" => fill(&engine),
        "flush replayed" => flush_too_much(&engine),
        role => panic!("no role {role}"),
    }
}

/// Has the data open until its standard input ends.
fn hold(engine: &RocksDbEngine) {
    engine.write(puts(Meta, &[("held", "")]), Durability::Synced).unwrap();
    say("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn say(line: &str) {
    // Not println!, which the test harness may keep; and not behind what the harness has on the line.
    writeln!(std::io::stdout(), "\n{line}").unwrap();
}

/// One batch of the sequence: the change with the number `n`, and `n` as the progress.
fn numbered(n: u64) -> Batch {
    let mut batch = Batch::default();
    batch.put(History, format!("{n:08}"), noise(n));
    batch.put(Meta, "n", n.to_string());
    batch
}

/// A value that does not compress.
fn noise(n: u64) -> Vec<u8> {
    let mut random = super::Random::new(n);
    (0..50).flat_map(|_| random.next().to_le_bytes()).collect()
}

fn write_until_killed(engine: &RocksDbEngine) {
    for n in 1.. {
        engine.write(numbered(n), Durability::Buffered).unwrap();
        if n % 100 == 0 {
            say(&format!("wrote {n}"));
        }
    }
}

/// How far the data is: checks that exactly the batches up to the stored progress are there.
fn progress(engine: &RocksDbEngine) -> u64 {
    let n = engine.get(Meta, b"n").unwrap().map_or(0, |n| std::str::from_utf8(&n).unwrap().parse().unwrap());
    let expected: Vec<String> = (1..=n).map(|n| format!("{n:08}")).collect();
    assert_eq!(keys(engine, History, "", None), expected.join(" "), "the families are of different times");
    n
}

/// Starts a child and reads its lines.
fn start(mut command: Command) -> (Child, impl Iterator<Item = String>) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    (child, lines)
}

#[test]
fn the_data_is_locked_against_other_processes() {
    let directory = tempfile::tempdir().unwrap();
    let (mut child, mut lines) = start(command("exec \"$@\"", "hold", directory.path()));
    assert!(lines.any(|line| line == "ready"));
    let open = || RocksDbEngine::open(directory.path(), &Options::default());
    let error = open().err();
    assert!(matches!(error, Some(EngineError::Locked(_))), "{error:?}");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(keys(&open().unwrap(), Meta, "", None), "held");
}

/// Kills a writer again and again; the progress found after each time, and what it had said before.
fn kill_writers(role: &str, mut check: impl FnMut(u64, u64)) {
    for until in [100, 1500, 700] {
        let directory = tempfile::tempdir().unwrap();
        let (mut child, mut lines) = start(command("exec \"$@\"", role, directory.path()));
        let wrote = |line: String| line.strip_prefix("wrote ")?.parse::<u64>().ok();
        let wrote = lines.by_ref().filter_map(wrote).find(|n| *n >= until).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        check(wrote, progress(&RocksDbEngine::open(directory.path(), &options(role)).unwrap()));
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_its_log_has() {
    kill_writers("write", |wrote, found| assert!(found >= wrote, "{found} of {wrote}"));
}

#[test]
fn a_killed_writer_without_log_leaves_both_families_at_the_same_time() {
    let mut most = 0;
    kill_writers("write replayed", |_, found| most = most.max(found));
    assert!(most > 0, "no table was written before the kill");
}

/// Writes until there is no space, then frees some and looks at what is there.
fn fill(engine: &RocksDbEngine) {
    let log = options(&std::env::var(ROLE).unwrap()).write_ahead_log;
    let durability = if log { Durability::Synced } else { Durability::Buffered };
    let mut written = 0;
    let error = loop {
        assert!(written < 100_000, "the disk does not get full");
        match engine.write(numbered(written + 1), durability) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, EngineError::Full(_)), "{error}");
    check_refusal(engine, &error);
    let persisted = if log { written } else { persisted(engine) };
    say(&format!("full {persisted} {error}"));
}

/// Has more in memory than the disk takes when it flushes.
fn flush_too_much(engine: &RocksDbEngine) {
    (1..=1000).for_each(|n| engine.write(numbered(n), Durability::Buffered).unwrap());
    engine.flush().unwrap();
    (1001..=20_000).for_each(|n| engine.write(numbered(n), Durability::Buffered).unwrap());
    let error = engine.flush().unwrap_err();
    assert!(matches!(error, EngineError::Full(_)), "{error}");
    check_refusal(engine, &error);
    assert_eq!(persisted(engine), 1000);
    say(&format!("full 1000 {error}"));
}

/// After an error, all writing is refused and reads go on.
fn check_refusal(engine: &RocksDbEngine, error: &EngineError) {
    for durability in [Durability::Synced, Durability::Buffered] {
        let refused = engine.write(puts(Meta, &[("refused", "")]), durability);
        assert_eq!(refused, Err(EngineError::Failed(error.to_string())));
    }
    assert!(matches!(engine.sync(), Err(EngineError::Failed(_))));
    assert!(matches!(engine.flush(), Err(EngineError::Failed(_))));
    assert!(matches!(engine.reclaim(History, None), Err(EngineError::Failed(_))));
    assert_eq!(engine.get(History, b"00000001").unwrap().as_deref(), Some(&noise(1)[..]), "reads go on");
}

fn persisted(engine: &RocksDbEngine) -> u64 {
    let n = engine.get_persisted(Meta, b"n").unwrap();
    n.map_or(0, |n| std::str::from_utf8(&n).unwrap().parse().unwrap())
}

/// Fills a disk by a child under `shell`, which limits it. What the child calls durable, and its error;
/// `None` if the limit cannot be set here.
fn fill_disk(shell: &str, role: &str, directory: &Path) -> Option<(u64, String)> {
    let (mut child, lines) = start(command(shell, role, directory));
    let lines: Vec<String> = lines.collect();
    let status = child.wait().unwrap();
    if lines.iter().any(|line| line == "no limit") {
        return None;
    }
    let full = lines.iter().find_map(|line| line.strip_prefix("full "));
    let (n, error) = full.and_then(|full| full.split_once(' ')).unwrap_or_else(|| panic!("{status}: {lines:#?}"));
    assert!(status.success(), "{status}: {lines:#?}");
    Some((n.parse().unwrap(), error.to_owned()))
}

/// In a small file system of its own, which ends with the child; its content is copied out before.
const SMALL_DISK: &str = r#"
    unshare -rm true 2>/dev/null || { echo; echo "no limit"; exit 0; }
    exec unshare -rm sh -c '
        keep=$STENTOR_ENGINE_DIRECTORY
        export STENTOR_ENGINE_DIRECTORY=$keep/disk
        mkdir $keep/disk && mount -t tmpfs -o size=6m none $keep/disk || { echo; echo "no limit"; exit 0; }
        "$@" || exit 1
        mkdir $keep/copy && cp -R $keep/disk/. $keep/copy
    ' sh "$@"
"#;

/// With a limit on the size of a file.
const SMALL_FILES: &str = r#"
    trap "" XFSZ
    ulimit -f 60 || { echo; echo "no limit"; exit 0; }
    exec "$@"
"#;

fn a_full_disk_is_reported(role: &str) {
    let directory = tempfile::tempdir().unwrap();
    let Some((durable, error)) = fill_disk(SMALL_DISK, role, directory.path()) else {
        println!("SKIPPED: a disk of its own for {role}, since this system has no unprivileged mounts");
        return;
    };
    println!("{durable} before: {error}");
    let engine = RocksDbEngine::open(directory.path().join("copy"), &options(role)).unwrap();
    let found = progress(&engine);
    assert!(found >= durable && durable > 100, "{found} of {durable}");
    engine.write(numbered(found + 1), Durability::Synced).unwrap();
}

#[test]
fn a_full_disk_is_reported_with_log() {
    a_full_disk_is_reported("fill");
}

#[test]
fn a_full_disk_is_reported_without_log() {
    a_full_disk_is_reported("fill replayed");
}

#[test]
fn a_flush_that_finds_no_space_is_reported() {
    a_full_disk_is_reported("flush replayed");
}

#[test]
fn a_limit_on_files_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let Some((durable, error)) = fill_disk(SMALL_FILES, "fill", directory.path()) else {
        println!("SKIPPED: a limit on files, since this system does not let it be set");
        return;
    };
    println!("{durable} before: {error}");
    let found = progress(&RocksDbEngine::open(directory.path(), &options("fill")).unwrap());
    assert!(found >= durable && durable > 10, "{found} of {durable}");
}
