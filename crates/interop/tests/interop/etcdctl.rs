//! etcdctl 3.4, 3.5 and 3.7, unchanged, against the server: output and exit codes.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stentor_interop::peers::{CTL, ETCDCTLS, SERVER, required, skipped};
use stentor_interop::process::Server;

use crate::tool::Tool;

/// Starts a server for a tool and tests it; skipped with a line when one is not there.
fn with(variable: &str, test: &str, check: fn(&Tool, &Server) -> Result<()>) -> Result<()> {
    let test = format!("{test} with {variable}");
    let (Some(server), Some(tool)) = (required(SERVER, &test), required(variable, &test)) else { return Ok(()) };
    let server = Server::start(&server, &[])?;
    check(&Tool::new(&tool, &server.endpoint()), &server).with_context(|| test)
}

fn with_each(test: &str, check: fn(&Tool, &Server) -> Result<()>) -> Result<()> {
    ETCDCTLS.iter().chain([&CTL]).try_for_each(|variable| with(variable, test, check))
}

fn number(value: &Value, path: &str) -> Result<i64> {
    value.pointer(path).and_then(Value::as_i64).with_context(|| format!("no number {path} in {value}"))
}

#[test]
fn keys() -> Result<()> {
    with_each("keys", |tool, _| {
        tool.prints(&["put", "a", "1"], "OK\n")?;
        tool.prints(&["put", "a", "2", "--prev-kv"], "OK\na\n1\n")?;
        tool.prints(&["put", "b", "3"], "OK\n")?;
        tool.prints(&["get", "a"], "a\n2\n")?;
        tool.prints(&["get", "a", "--rev=2"], "a\n1\n")?;
        tool.prints(&["get", "missing"], "")?;
        tool.prints(&["get", "", "--prefix", "--order=DESCEND"], "b\n3\na\n2\n")?;
        tool.prints(&["get", "a", "--from-key", "--limit=1", "--print-value-only"], "2\n")?;
        tool.prints(&["get", "", "--prefix", "--keys-only"], "a\n\nb\n\n")?;
        let count = tool.run(&["get", "", "--prefix", "-w", "fields"])?;
        ensure!(count.contains("\"Count\" : 2"), "{count}");
        tool.prints(&["del", "a", "z"], "2\n")?;
        tool.prints(&["del", "a"], "0\n")?;
        let refused = tool.run_with(&["get", "a", "--rev=999"], "")?;
        assert_eq!(refused.code, Some(1));
        ensure!(refused.stderr.contains("required revision is a future revision"), "{refused:?}");
        Ok(())
    })
}

#[test]
fn transactions() -> Result<()> {
    with_each("transactions", |tool, _| {
        tool.prints(&["put", "a", "1"], "OK\n")?;
        let done = tool.run_with(&["txn"], "value(\"a\") = \"1\"\n\nput b 2\nget a\n\ndel a\n\n")?;
        assert_eq!((done.code, done.stdout.as_str()), (Some(0), "SUCCESS\n\nOK\n\na\n1\n"), "{}", done.stderr);
        let done = tool.run_with(&["txn"], "version(\"a\") > \"5\"\n\nput b 2\n\ndel a\nget b\n\n")?;
        assert_eq!((done.code, done.stdout.as_str()), (Some(0), "FAILURE\n\n1\n\nb\n2\n"), "{}", done.stderr);
        Ok(())
    })
}

#[test]
fn leases() -> Result<()> {
    with_each("leases", |tool, _| {
        let granted = tool.run(&["lease", "grant", "100"])?;
        let id = granted.split_whitespace().nth(1).context("no lease id")?.to_owned();
        assert_eq!(granted, format!("lease {id} granted with TTL(100s)\n"));
        tool.prints(&["put", "held", "x", &format!("--lease={id}")], "OK\n")?;
        tool.prints(&["lease", "keep-alive", "--once", &id], &format!("lease {id} keepalived with TTL(100)\n"))?;
        let left = tool.run(&["lease", "timetolive", "--keys", &id])?;
        ensure!(left.contains("TTL(100s)") && left.contains("[held]"), "{left}");
        tool.prints(&["lease", "list"], &format!("found 1 leases\n{id}\n"))?;
        tool.prints(&["lease", "revoke", &id], &format!("lease {id} revoked\n"))?;
        tool.prints(&["get", "held"], "")?;
        let gone = tool.run_with(&["lease", "revoke", &id], "")?;
        assert_eq!(gone.code, Some(1));
        ensure!(gone.stderr.contains("requested lease not found"), "{gone:?}");
        Ok(())
    })
}

#[test]
fn compaction() -> Result<()> {
    with_each("compaction", |tool, _| {
        for value in ["1", "2", "3"] {
            tool.prints(&["put", "a", value], "OK\n")?;
        }
        tool.prints(&["compaction", "3"], "compacted revision 3\n")?;
        tool.prints(&["compaction", "--physical", "4"], "compacted revision 4\n")?;
        let refused = tool.run_with(&["get", "a", "--rev=2"], "")?;
        assert_eq!(refused.code, Some(1));
        ensure!(refused.stderr.contains("required revision has been compacted"), "{refused:?}");
        let watch = tool.run_with(&["watch", "a", "--rev=2"], "")?;
        ensure!(watch.code != Some(0) && watch.stderr.contains("required revision has been compacted"), "{watch:?}");
        Ok(())
    })
}

#[test]
fn endpoints_and_members() -> Result<()> {
    with_each("endpoints and members", |tool, server| {
        tool.prints(&["put", "a", "1"], "OK\n")?;
        let health = tool.run_with(&["endpoint", "health"], "")?;
        assert_eq!(health.code, Some(0), "{health:?}");
        ensure!(format!("{}{}", health.stdout, health.stderr).contains("is healthy: successfully committed proposal"));
        let status = tool.json(&["endpoint", "status"])?;
        assert_eq!(number(&status, "/0/Status/header/revision")?, 2);
        ensure!(number(&status, "/0/Status/dbSize")? > 0, "{status}");
        let leader = status.pointer("/0/Status/leader").cloned();
        ensure!(leader.is_some() && leader == status.pointer("/0/Status/header/member_id").cloned(), "{status}");
        let hash = tool.json(&["endpoint", "hashkv"])?;
        ensure!(number(&hash, "/0/HashKV/hash")? != 0, "{hash}");
        let members = tool.json(&["member", "list"])?;
        assert_eq!(members.pointer("/members/0/name"), Some(&json!("interop")));
        assert_eq!(members.pointer("/members/0/clientURLs"), Some(&json!([server.endpoint()])));
        let listed = tool.run(&["member", "list"])?;
        assert_eq!(listed.lines().count(), 1);
        ensure!(listed.contains(", started, interop, "), "{listed}");
        Ok(())
    })
}

#[test]
fn maintenance() -> Result<()> {
    with_each("maintenance", |tool, server| {
        tool.prints(&["put", "a", "1"], "OK\n")?;
        tool.prints(&["alarm", "list"], "")?;
        tool.prints(&["alarm", "disarm"], "")?;
        let done = tool.run(&["defrag"])?;
        ensure!(done.starts_with("Finished defragmenting etcd member"), "{done}");
        tool.prints(&["get", "a"], "a\n1\n")?;
        let file = server.data_dir().with_file_name("snapshot.db");
        let path = file.to_string_lossy();
        let saved = tool.run(&["snapshot", "save", &path])?;
        ensure!(saved.contains("Snapshot saved at"), "{saved}");
        // etcdctl wants this of the whole: the store in blocks of 512 bytes, then a hash of 32.
        let bytes = std::fs::metadata(&file)?.len();
        assert_eq!((bytes % 512, bytes > 512), (32, true), "{bytes} bytes");
        Ok(())
    })
}

/// A minute of load, so only asked for by name.
#[test]
fn check_perf() -> Result<()> {
    if std::env::var_os("STENTOR_TEST_CHECK_PERF").is_none() {
        skipped("etcdctl check perf takes a minute: set STENTOR_TEST_CHECK_PERF to run it");
        return Ok(());
    }
    with(ETCDCTLS[1], "check perf", |tool, _| {
        let mut perf = tool.start(&["check", "perf", "--load=s"])?;
        perf.ends_within(std::time::Duration::from_secs(120))?;
        tool.prints(&["get", "/etcdctl-check-perf/", "--prefix", "--keys-only"], "")
    })
}
