//! A real disk that is full, and real files that are damaged.

use std::path::{Path, PathBuf};
use std::process::Command;

use stentor_mvcc::engine::EngineError;
use stentor_mvcc::engine::rocksdb::{Options as EngineOptions, RocksDbEngine};
use stentor_mvcc::{Error, Options, Store};
use stentor_proto::etcdserverpb::{PutRequest, RangeRequest};

use super::{content, put};

const DIRECTORY: &str = "STENTOR_STORE_DIRECTORY";

fn open(path: &Path) -> Result<Store, Error> {
    Store::open(RocksDbEngine::open(path, &EngineOptions::default())?, Options::default())
}

#[test]
#[ignore = "run by the other tests of this file"]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let store = open(Path::new(&directory)).unwrap();
    let mut random = 1u64;
    for n in 0.. {
        // A value that does not compress.
        let mut step = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 56) as u8
        };
        let value: Vec<u8> = (0..10_000).map(|_| step()).collect();
        let put = |key| PutRequest { key, value: value.clone().into(), ..PutRequest::default() };
        match store.put(put(format!("{n:05}").into())) {
            Ok(_) => assert!(n < 10_000, "the limit is not there"),
            Err(error) => {
                let again = store.put(put("again".into())).unwrap_err();
                let readable = store.view().range(&RangeRequest { key: "00000".into(), ..Default::default() });
                assert_eq!(readable.unwrap().count, 1, "reads go on");
                println!("\nACKNOWLEDGED {n}\nERROR {error}\nAGAIN {again}");
                return;
            }
        }
    }
}

#[test]
fn a_full_disk_takes_nothing_back() {
    let directory = tempfile::tempdir().unwrap();
    // A file may not grow above a mebibyte, which is as good as a full disk to who writes it.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["failures::files::child", "--exact", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |name| output.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{output}"));
    let acknowledged: i64 = line("ACKNOWLEDGED ").parse().unwrap();
    assert!(acknowledged > 10, "{output}");
    assert!(line("ERROR ").contains("no space left on the disk"), "{output}");
    assert!(line("AGAIN ").contains("restart"), "{output}");

    let store = open(directory.path()).unwrap();
    let all = RangeRequest { key: b"\0"[..].into(), range_end: b"\0"[..].into(), ..RangeRequest::default() };
    let found = store.view().range(&RangeRequest { keys_only: true, ..all }).unwrap();
    // The one that failed may have come through after all, whole.
    assert!((acknowledged..=acknowledged + 1).contains(&found.count), "{} of {acknowledged}", found.count);
    let numbers = found.kvs.iter().map(|p| p.key.clone());
    assert!(numbers.eq((0..found.count).map(|n| format!("{n:05}"))), "not the first ones");
    store.put(put("after", "1")).unwrap();
}

#[test]
fn a_damaged_table_is_an_error_that_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    for n in 0..50 {
        let value = format!("value {n} ").repeat(200);
        store.put(PutRequest { key: format!("{n:02}").into(), value: value.into(), ..Default::default() }).unwrap();
    }
    store.flush().unwrap();
    drop(store);
    let tables: Vec<PathBuf> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "sst"))
        .collect();
    let largest = tables.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let good = std::fs::read(largest).unwrap();
    for at in [10, good.len() / 4, good.len() / 2, good.len() - 20] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(largest, &bad).unwrap();
        let error = open(directory.path()).err().unwrap_or_else(|| panic!("damage at {at} is not seen"));
        assert!(matches!(error, Error::Engine(EngineError::Corrupt(_))), "{error}");
        assert!(error.to_string().contains("restore the data directory from a snapshot"), "{error}");
    }
    std::fs::write(largest, &good).unwrap();
    let store = open(directory.path()).unwrap();
    assert!(content(&store).starts_with("00=value 0 value 0"));
}
