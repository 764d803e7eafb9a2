//! What the engine on disk does besides.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::rocksdb::{Options, RocksDbEngine};
use super::super::{Batch, Durability, Engine, EngineError, Read};
use super::behaviour::{History, Host, Meta, keys, puts};

/// A data directory that goes when it is dropped.
pub(super) struct Directory {
    pub(super) temporary: tempfile::TempDir,
    pub(super) options: Options,
}

impl Directory {
    pub(super) fn new(options: Options) -> Directory {
        Directory { temporary: tempfile::tempdir().unwrap(), options }
    }

    fn path(&self) -> PathBuf {
        self.temporary.path().join("data")
    }

    fn engine(&self) -> Result<RocksDbEngine, EngineError> {
        RocksDbEngine::open(self.path(), &self.options)
    }

    /// The error that opening it ends with.
    fn refusal(&self) -> EngineError {
        self.engine().err().expect("must not open")
    }

    /// What a crash of the process would leave now.
    fn copy(&self) -> Directory {
        let copy = Directory::new(self.options.clone());
        fs::create_dir(copy.path()).unwrap();
        for entry in fs::read_dir(self.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        copy
    }

    fn files(&self, suffix: &str) -> Vec<PathBuf> {
        let files = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.to_string_lossy().ends_with(suffix)).collect()
    }
}

impl Host for Directory {
    fn open(&self) -> Result<Box<dyn Engine>, EngineError> {
        Ok(Box::new(self.engine()?))
    }

    fn persists_when_asked(&self) -> bool {
        self.options.write_ahead_log
    }
}

mod with_log {
    use super::super::behaviour::behaviour;
    behaviour!(super::Directory::new(super::Options::default()));
}

mod replayed {
    use super::super::behaviour::behaviour;
    behaviour!(super::Directory::new(super::Options::replayed()));
}

fn flip(path: &Path, offset: usize) {
    let mut content = fs::read(path).unwrap();
    content[offset..offset + 4].iter_mut().for_each(|byte| *byte ^= 0x5a);
    fs::write(path, content).unwrap();
}

/// Writes `n` synced batches of a numbered key each.
fn write_numbers(engine: &dyn Engine, n: u32) {
    for n in 0..n {
        engine.write(puts(History, &[(&format!("{n:04}"), &"v".repeat(100))]), Durability::Synced).unwrap();
    }
}

#[test]
fn the_format_is_checked() {
    let directory = Directory::new(Options::default());
    let format = directory.path().join("FORMAT");
    write_numbers(&directory.engine().unwrap(), 3);
    assert_eq!(fs::read_to_string(&format).unwrap(), "stentor data format 1\n");
    fs::write(&format, "stentor data format 3\n").unwrap();
    assert_eq!(directory.refusal(), EngineError::TooNew { found: 3, supported: 2 });
    for unreadable in ["", "stentor data format 0\n", "something else\n"] {
        fs::write(&format, unreadable).unwrap();
        assert!(matches!(directory.refusal(), EngineError::Corrupt(_)), "{unreadable:?}");
    }
    fs::remove_file(&format).unwrap();
    let error = directory.refusal();
    assert!(matches!(&error, EngineError::Corrupt(text) if text.contains("RocksDB database of another")), "{error}");
    assert!(!format.exists(), "a foreign directory stays as it is");
    fs::write(&format, "stentor data format 1\n").unwrap();
    assert_eq!(keys(&directory.engine().unwrap(), History, "", None), "0000 0001 0002");
}

/// A database may lose its own log, for one outside, but then it is no whole one any more.
#[test]
fn without_a_log_of_its_own_it_is_not_opened_with_one() {
    let mut directory = Directory::new(Options::default());
    write_numbers(&directory.engine().unwrap(), 3);
    directory.options = Options::replayed();
    // What was in the log is there.
    assert_eq!(keys(&directory.engine().unwrap(), History, "", None), "0000 0001 0002");
    assert_eq!(fs::read_to_string(directory.path().join("FORMAT")).unwrap(), "stentor data format 2\n");
    assert_eq!(keys(&directory.engine().unwrap(), History, "", None), "0000 0001 0002");
    directory.options = Options::default();
    assert!(matches!(directory.refusal(), EngineError::NeedsLog(_)));
}

#[test]
fn a_crash_between_the_format_and_the_database_is_no_harm() {
    let directory = Directory::new(Options::default());
    fs::create_dir(directory.path()).unwrap();
    fs::write(directory.path().join("FORMAT.tmp"), "stent").unwrap();
    drop(directory.engine().unwrap());
    let directory = Directory::new(Options::default());
    fs::create_dir(directory.path()).unwrap();
    fs::write(directory.path().join("FORMAT"), "stentor data format 1\n").unwrap();
    assert_eq!(keys(&directory.engine().unwrap(), History, "", None), "");
}

#[test]
fn tables_without_a_root_are_not_thrown_away() {
    let directory = Directory::new(Options::default());
    let engine = directory.engine().unwrap();
    write_numbers(&engine, 3);
    engine.flush().unwrap();
    drop(engine);
    fs::remove_file(directory.path().join("CURRENT")).unwrap();
    assert!(matches!(directory.refusal(), EngineError::Corrupt(_)));
    assert!(!directory.files(".sst").is_empty());
}

#[test]
fn another_spelling_of_the_path_is_locked_too() {
    let directory = Directory::new(Options::default());
    let _engine = directory.engine().unwrap();
    let spelling = directory.temporary.path().join("data/../data");
    assert!(matches!(RocksDbEngine::open(spelling, &directory.options), Err(EngineError::Locked(_))));
}

#[test]
fn damage_in_a_table_is_found_and_ends_writing() {
    let directory = Directory::new(Options::default());
    let engine = directory.engine().unwrap();
    write_numbers(&engine, 1000);
    engine.flush().unwrap();
    drop(engine);
    directory.files(".sst").iter().for_each(|path| flip(path, 200));
    let engine = directory.engine().unwrap();
    let view = engine.view();
    let mut scan = engine.scan(History, b"", None).unwrap();
    assert!(matches!(scan.next(), Some(Err(EngineError::Corrupt(_)))));
    assert!(scan.next().is_none());
    assert!(matches!(view.get(History, b"0001"), Err(EngineError::Corrupt(_))));
    let write = engine.write(puts(Meta, &[("m", "")]), Durability::Buffered);
    assert!(matches!(write, Err(EngineError::Failed(_))), "{write:?}");
}

impl Directory {
    /// The log that is written to, and its length.
    fn log(&self) -> (PathBuf, u64) {
        let logs = self.files(".log").into_iter().map(|path| (fs::metadata(&path).unwrap().len(), path));
        let (length, path) = logs.max().unwrap();
        (path, length)
    }

    fn write_to_log(&self, offset: u64, content: &[u8]) {
        let log = fs::File::options().write(true).open(self.log().0).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&log, content, offset).unwrap();
    }
}

#[test]
fn a_damaged_log_is_refused() {
    let directory = Directory::new(Options::default());
    let engine = directory.engine().unwrap();
    write_numbers(&engine, 100);
    for part in [2, 10, 99] {
        let damaged = directory.copy();
        let (path, length) = damaged.log();
        flip(&path, (length * part / 100) as usize);
        assert!(matches!(damaged.refusal(), EngineError::Corrupt(_)), "at {part} %");
    }
}

#[test]
fn a_torn_log_keeps_what_is_before_the_tear() {
    let directory = Directory::new(Options::default());
    let engine = directory.engine().unwrap();
    write_numbers(&engine, 100);
    let before = directory.log().1;
    let large: String = (0..40_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    engine.write(puts(History, &[("large", &large)]), Durability::Synced).unwrap();
    let after = directory.log().1;
    let expected = keys(&directory.copy().engine().unwrap(), History, "", Some("large"));
    assert_eq!(expected.split(' ').count(), 100);

    // The file ends early.
    for length in [before + 1, before + 1000, after - 1] {
        let torn = directory.copy();
        fs::File::options().write(true).open(torn.log().0).unwrap().set_len(length).unwrap();
        assert_eq!(keys(&torn.engine().unwrap(), History, "", None), expected, "{before} {length} {after}");
    }
    // Its end was written, and something before the end was not.
    let page = |offset: u64| offset.next_multiple_of(4096);
    for offset in [page(before), page(before) + 8192, page(after) - 8192] {
        let torn = directory.copy();
        torn.write_to_log(offset, &[0; 4096]);
        assert_eq!(keys(&torn.engine().unwrap(), History, "", None), expected, "{before} {offset} {after}");
    }
}

#[test]
fn a_crash_of_the_process_keeps_what_the_log_has() {
    let directory = Directory::new(Options::default());
    let engine = directory.engine().unwrap();
    write_numbers(&engine, 20);
    engine.write(puts(Meta, &[("n", "20")]), Durability::Buffered).unwrap();
    let copy = directory.copy();
    let engine = copy.engine().unwrap();
    assert_eq!(keys(&engine, History, "", None).split(' ').count(), 20);
    assert_eq!(keys(&engine, Meta, "", None), "n");
}

#[test]
fn reclaiming_goes_on_beside_writes() {
    let directory = Directory::new(Options { memtable_bytes: 256 << 10, ..Options::default() });
    let engine = directory.engine().unwrap();
    let value = "0123456789".repeat(100);
    for n in 0..2000u32 {
        engine.write(puts(History, &[(&format!("{n:08}"), &value)]), Durability::Buffered).unwrap();
    }
    std::thread::scope(|scope| {
        let reclaiming = scope.spawn(|| {
            let mut batch = Batch::default();
            (0..1500u32).for_each(|n| batch.delete(History, format!("{n:08}")));
            engine.write(batch, Durability::Buffered).unwrap();
            engine.reclaim(History, Some(b"00001500")).unwrap();
        });
        let mut n = 2000u32;
        while !reclaiming.is_finished() || n < 2100 {
            engine.write(puts(History, &[(&format!("{n:08}"), &value)]), Durability::Buffered).unwrap();
            n += 1;
        }
        reclaiming.join().unwrap();
        let expected: Vec<String> = (1500..n).map(|n| format!("{n:08}")).collect();
        assert_eq!(keys(&engine, History, "", None), expected.join(" "));
    });
}
