//! Runs cargo in this workspace, and finds what it built.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::machine;

/// The cargo that runs this program, in the workspace.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(machine::workspace_root());
    // What cargo told this program about its own package is not true of what it starts.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// Everything Cargo.lock names is on this machine when this returns.
pub(crate) fn fetch() -> Result<()> {
    machine::run(cargo().args(["fetch", "--locked", "--quiet"]))
}

/// What `cargo metadata` says of the workspace and all its dependencies.
pub(crate) fn metadata() -> Result<Value> {
    let text = machine::capture(cargo().args(["metadata", "--format-version=1", "--locked"]))?;
    serde_json::from_str(&text).context("cargo metadata printed no JSON")
}

/// Runs a cargo command that builds, and returns the workspace's own programs by name.
///
/// The command must not set the message format.
pub(crate) fn programs_of(command: &mut Command) -> Result<BTreeMap<String, PathBuf>> {
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", machine::show(command)))?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut programs = BTreeMap::new();
    for line in BufReader::new(output).lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else { continue };
        if let Some((name, path)) = program(&message) {
            programs.insert(name, path);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{} failed: {status}", machine::show(command));
    }
    Ok(programs)
}

/// The program that a message of cargo's is about, if it is one and no test.
fn program(message: &Value) -> Option<(String, PathBuf)> {
    let target = &message["target"];
    let is_bin = target["kind"].as_array()?.iter().any(|kind| kind == "bin");
    if message["reason"] != "compiler-artifact" || !is_bin || message["profile"]["test"] == true {
        return None;
    }
    Some((target["name"].as_str()?.to_owned(), PathBuf::from(message["executable"].as_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_programs_but_not_their_tests() {
        let message = |kind: &str, test: bool| {
            serde_json::json!({
                "reason": "compiler-artifact",
                "target": { "kind": [kind], "name": "stentor" },
                "profile": { "test": test },
                "executable": "/target/debug/stentor",
            })
        };
        assert_eq!(program(&message("bin", false)), Some(("stentor".into(), "/target/debug/stentor".into())));
        assert_eq!(program(&message("bin", true)), None, "a binary's unit tests are no program");
        assert_eq!(program(&message("test", false)), None);
    }
}
