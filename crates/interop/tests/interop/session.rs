//! The README's session, word for word, with every tool it names; then once more after kill -9.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stentor_interop::peers::{CTL, ETCDCTLS, SERVER, required};
use stentor_interop::process::Server;

use crate::tool::{Running, Tool};

/// The next events that a watch prints, as (key, create revision, revision, version, value).
fn events(watch: &Running, count: usize) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    while events.len() < count {
        let line = watch.line()?;
        let response: Value = serde_json::from_str(&line).with_context(|| format!("not JSON: {line:?}"))?;
        for event in response.get("Events").and_then(Value::as_array).into_iter().flatten() {
            ensure!(event.get("type").is_none(), "not a PUT: {line}");
            let kv = event.get("kv").with_context(|| format!("no pair: {line}"))?;
            let fields = ["key", "create_revision", "mod_revision", "version", "value"];
            events.push(fields.iter().map(|field| kv.get(field).cloned().unwrap_or_default()).collect());
        }
    }
    Ok(events)
}

fn session(variable: &str) -> Result<()> {
    let test = "the README's session";
    let (Some(server), Some(tool)) = (required(SERVER, test), required(variable, test)) else { return Ok(()) };
    let mut server = Server::start(&server, &[])?;
    let tool = Tool::new(&tool, &server.endpoint());
    tool.prints(&["put", "hello", "world1"], "OK\n")?;
    tool.prints(&["put", "hello", "world2"], "OK\n")?;
    let one = json!(["aGVsbG8=", 2, 2, 1, "d29ybGQx"]);
    let two = json!(["aGVsbG8=", 2, 3, 2, "d29ybGQy"]);
    let three = json!(["aGVsbG8=", 2, 4, 3, "d29ybGQz"]);
    let watch = tool.start(&["watch", "hello", "--rev=1", "-w", "json"])?;
    assert_eq!(events(&watch, 2)?, [one.clone(), two.clone()]);
    tool.prints(&["put", "hello", "world3"], "OK\n")?;
    assert_eq!(events(&watch, 1)?.first(), Some(&three));
    drop(watch);

    server.kill();
    server.restart()?;
    let watch = tool.start(&["watch", "hello", "--rev=1", "-w", "json"])?;
    assert_eq!(events(&watch, 3)?, [one, two, three]);
    tool.prints(&["put", "hello", "world4"], "OK\n")?;
    assert_eq!(events(&watch, 1)?, [json!(["aGVsbG8=", 2, 5, 4, "d29ybGQ0"])]);
    Ok(())
}

#[test]
fn with_etcdctl_3_4() -> Result<()> {
    session(ETCDCTLS[0])
}

#[test]
fn with_etcdctl_3_5() -> Result<()> {
    session(ETCDCTLS[1])
}

#[test]
fn with_etcdctl_3_7() -> Result<()> {
    session(ETCDCTLS[2])
}

#[test]
fn with_stentorctl() -> Result<()> {
    session(CTL)
}
