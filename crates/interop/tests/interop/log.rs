//! What a member's log says after kill -9, by `stentorctl log dump`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use stentor_interop::peers::{CTL, SERVER, required};
use stentor_interop::process::Server;

use crate::tool::Tool;

/// All files below a directory, with what they hold.
fn contents(directory: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.append(&mut contents(&path)?);
        } else {
            found.insert(path.clone(), std::fs::read(path)?);
        }
    }
    Ok(found)
}

fn dump(ctl: &Tool, data: &Path) -> Result<Vec<Value>> {
    let dumped = ctl.run(&["log", "dump", "--data-dir", &data.to_string_lossy()])?;
    dumped.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn text(value: &Value) -> Result<String> {
    Ok(String::from_utf8(STANDARD.decode(value.as_str().context("no bytes")?)?)?)
}

#[test]
fn holds_what_was_acknowledged_in_order_and_once() -> Result<()> {
    let test = "holds_what_was_acknowledged_in_order_and_once";
    let (Some(binary), Some(ctl)) = (required(SERVER, test), required(CTL, test)) else { return Ok(()) };
    let mut server = Server::start(&binary, &["--stentor-keep-log"])?;
    let ctl = Tool::new(&ctl, &server.endpoint());
    let data = server.data_dir();
    let mut expected: Vec<(String, String)> = Vec::new();
    for n in 0..20 {
        let (key, value) = (format!("k{n}"), format!("v{n}"));
        ctl.prints(&["put", &key, &value], "OK\n")?;
        expected.push((key, value));
    }
    let txn = ctl.run_with(&["txn"], "mod(\"k0\") > \"0\"\n\nput k0 again\n\ndel k1\n\n")?;
    ensure!(txn.code == Some(0), "{txn:?}");
    ctl.prints(&["del", "k2"], "1\n")?;
    let granted = ctl.run(&["lease", "grant", "1000"])?;
    let lease = granted.split_whitespace().nth(1).context("no lease id")?.to_owned();
    ctl.prints(&["lease", "revoke", &lease], &format!("lease {lease} revoked\n"))?;
    ctl.prints(&["compaction", "5"], "compacted revision 5\n")?;

    let refused = ctl.run_with(&["log", "dump", "--data-dir", &data.to_string_lossy()], "")?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("in use by a running server"), "{refused:?}");

    server.kill();
    let before = contents(&data)?;
    let lines = dump(&ctl, &data)?;
    ensure!(contents(&data)? == before, "the dump has changed something");

    let indexes: Vec<_> = lines.iter().map(|line| line["index"].as_u64()).collect();
    // Whom a cluster begins with counts as its first entry, and is not in the log.
    let all: Vec<_> = (2..).take(lines.len()).map(Some).collect();
    assert_eq!(indexes, all, "from the first entry on, without a gap");
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    let put = |line: &Value| Ok((text(&line["request"]["key"])?, text(&line["request"]["value"])?));
    let puts = of("put").into_iter().map(put).collect::<Result<Vec<_>>>()?;
    assert_eq!(puts, expected);
    let others: Vec<_> = lines.iter().filter_map(|line| line["type"].as_str()).filter(|kind| *kind != "put").collect();
    let others: Vec<_> = others.into_iter().filter(|kind| !["empty", "member"].contains(kind)).collect();
    assert_eq!(others, ["txn", "delete_range", "lease_grant", "lease_revoke", "compact"]);
    let [txn] = of("txn")[..] else { panic!("one txn") };
    assert_eq!(text(&txn["request"]["success"][0]["request_put"]["value"])?, "again");
    assert_eq!(text(&txn["request"]["failure"][0]["request_delete_range"]["key"])?, "k1");
    let [grant] = of("lease_grant")[..] else { panic!("one lease") };
    let id: i64 = grant["request"]["ID"].as_str().context("no id")?.parse()?;
    assert_eq!(format!("{id:x}"), lease.trim_start_matches('0'));

    // A damaged middle is an error that names the place, not a shorter log.
    let log = data.join("log");
    let copy = server.data_dir().with_file_name("damaged");
    std::fs::create_dir_all(&copy)?;
    for (path, mut bytes) in contents(&log)? {
        if let Some(at) = bytes.windows(2).position(|pair| pair == b"v5") {
            bytes[at] = b'x';
        }
        std::fs::write(copy.join(path.file_name().context("no name")?), bytes)?;
    }
    let (data, copy) = (data.to_string_lossy(), copy.to_string_lossy());
    let damaged = ctl.run_with(&["log", "dump", "--data-dir", &data, "--wal-dir", &copy], "")?;
    ensure!(damaged.code == Some(1) && damaged.stderr.contains("the log is damaged: "), "{damaged:?}");

    server.restart()?;
    ctl.prints(&["get", "k0", "--print-value-only"], "again\n")
}
