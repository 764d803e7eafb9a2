//! A snapshot from save to a server that has taken it in, whichever tool saved it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stentor_interop::peers::{CTL, ETCDCTLS, SERVER, required};
use stentor_interop::process::Server;

use crate::tool::Tool;

/// What two servers must have in common if one holds the other's snapshot.
#[derive(Debug, PartialEq)]
struct Content {
    revision: Value,
    hash: Value,
    compacted: Value,
    pairs: Value,
    leases: String,
}

fn field(value: &Value, path: &str) -> Result<Value> {
    value.pointer(path).cloned().with_context(|| format!("no {path} in {value}"))
}

fn content(ctl: &Tool) -> Result<Content> {
    let hash = ctl.json(&["endpoint", "hashkv"])?;
    Ok(Content {
        revision: field(&ctl.json(&["endpoint", "status"])?, "/0/Status/header/revision")?,
        hash: field(&hash, "/0/HashKV/hash")?,
        compacted: field(&hash, "/0/HashKV/compact_revision")?,
        pairs: field(&ctl.json(&["get", "", "--prefix"])?, "/kvs")?,
        leases: ctl.run(&["lease", "list"])?,
    })
}

/// The cluster's and the member's id.
fn ids(ctl: &Tool) -> Result<[Value; 2]> {
    let status = ctl.json(&["endpoint", "status"])?;
    Ok([field(&status, "/0/Status/header/cluster_id")?, field(&status, "/0/Status/header/member_id")?])
}

fn saved_with(variable: &str) -> Result<()> {
    let test = format!("a snapshot saved with {variable}");
    let (Some(server), Some(saver)) = (required(SERVER, &test), required(variable, &test)) else { return Ok(()) };
    let Some(ctl) = required(CTL, &test) else { return Ok(()) };
    let mut server = Server::start(&server, &[])?;
    let (saver, ctl) = (Tool::new(&saver, &server.endpoint()), Tool::new(&ctl, &server.endpoint()));
    ctl.prints(&["put", "a", "1"], "OK\n")?;
    ctl.prints(&["put", "a", "2"], "OK\n")?;
    ctl.prints(&["compaction", "3"], "compacted revision 3\n")?;
    ctl.prints(&["put", "b", "1"], "OK\n")?;
    ctl.prints(&["del", "b"], "1\n")?;
    let granted = ctl.run(&["lease", "grant", "1000"])?;
    let lease = granted.split_whitespace().nth(1).context("no lease id")?.to_owned();
    ctl.prints(&["put", "held", "x", &format!("--lease={lease}")], "OK\n")?;
    let (before, ids_before) = (content(&ctl)?, ids(&ctl)?);

    let (data, file) = (server.data_dir(), server.data_dir().with_file_name("snapshot.db"));
    let path = file.to_string_lossy();
    saver.run(&["snapshot", "save", &path])?;
    let status = ctl.json(&["snapshot", "status", &path])?;
    assert_eq!(field(&status, "/revision")?, before.revision, "{status}");
    ctl.prints(&["put", "late", "x"], "OK\n")?;

    server.kill();
    std::fs::remove_dir_all(&data)?;
    ctl.run(&["snapshot", "restore", &path, "--bump-revision", "0", "--data-dir", &data.to_string_lossy()])?;
    server.restart()?;
    assert_eq!(content(&ctl)?, before);
    let ids_after = ids(&ctl)?;
    ensure!(ids_before.iter().zip(&ids_after).all(|(old, new)| old != new), "{ids_before:?}, then {ids_after:?}");

    // History came along, and goes on.
    let watch = ctl.start(&["watch", "", "--prefix", "--rev=3"])?;
    for line in ["PUT", "a", "2", "PUT", "b", "1", "DELETE", "b", "", "PUT", "held", "x"] {
        assert_eq!(watch.line()?, line);
    }
    ctl.prints(&["put", "a", "3"], "OK\n")?;
    for line in ["PUT", "a", "3"] {
        assert_eq!(watch.line()?, line);
    }
    drop(watch);
    ctl.prints(&["lease", "revoke", &lease], &format!("lease {lease} revoked\n"))?;
    ctl.prints(&["get", "held"], "")?;

    let before = content(&ctl)?;
    server.restart()?;
    assert_eq!(content(&ctl)?, before);
    assert_eq!(ids(&ctl)?, ids_after);
    Ok(())
}

/// Revisions are moved up unless told otherwise, so that whoever has followed the old cluster notices.
#[test]
fn into_a_cluster_of_three() -> Result<()> {
    let test = "into_a_cluster_of_three";
    let (Some(binary), Some(ctl)) = (required(SERVER, test), required(CTL, test)) else { return Ok(()) };
    let mut old = Server::start(&binary, &[])?;
    let at = |server: &Server| Tool::new(&ctl, &server.endpoint());
    at(&old).prints(&["put", "a", "1"], "OK\n")?;
    let old_ids = ids(&at(&old))?;
    let file = old.data_dir().with_file_name("snapshot.db");
    at(&old).run(&["snapshot", "save", &file.to_string_lossy()])?;
    at(&old).prints(&["put", "a", "2"], "OK\n")?;
    old.kill();

    let mut members = Server::new_cluster(&binary, 3, &[])?;
    for member in &members {
        let ((name, cluster), data) = (member.place(), member.data_dir());
        let flags = ["--name", name, "--initial-cluster", cluster, "--data-dir", &data.to_string_lossy()];
        at(member).run(&[&["snapshot", "restore", &file.to_string_lossy()][..], &flags].concat())?;
    }
    Server::start_all(&mut members)?;
    at(&members[1]).prints(&["put", "b", "1"], "OK\n")?;
    for member in &members {
        at(member).prints(&["get", "a", "--print-value-only"], "1\n")?;
    }
    let all = members.iter().map(|member| content(&at(member))).collect::<Result<Vec<_>>>()?;
    assert!(all.iter().all(|content| content == &all[0]), "{all:?}");
    assert_eq!(all[0].revision, 1_000_000_003);
    assert_eq!(all[0].compacted, 1_000_000_002);
    let new_ids = members.iter().map(|member| ids(&at(member))).collect::<Result<Vec<_>>>()?;
    ensure!(new_ids.iter().all(|ids| ids[0] == new_ids[0][0] && ids[0] != old_ids[0]), "{old_ids:?}, {new_ids:?}");
    ensure!(new_ids[0][1] != new_ids[1][1] && new_ids[1][1] != new_ids[2][1], "{new_ids:?}");

    // One who has seen the second put of the old cluster is told that its history is gone.
    let output = at(&members[2]).run_with(&["watch", "a", "--rev=4"], "")?;
    ensure!(output.code != Some(0) && output.stderr.contains("compacted"), "{output:?}");
    // All of it lasts.
    members.iter_mut().for_each(Server::kill);
    Server::start_all(&mut members)?;
    assert_eq!(content(&at(&members[0]))?, all[0]);
    Ok(())
}

#[test]
fn with_stentorctl() -> Result<()> {
    saved_with(CTL)
}

#[test]
fn with_etcdctl_3_4() -> Result<()> {
    saved_with(ETCDCTLS[0])
}

#[test]
fn with_etcdctl_3_5() -> Result<()> {
    saved_with(ETCDCTLS[1])
}

#[test]
fn with_etcdctl_3_7() -> Result<()> {
    saved_with(ETCDCTLS[2])
}
