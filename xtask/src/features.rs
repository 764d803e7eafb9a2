//! Checks that each feature of the client builds alone, those of TLS in every combination of a provider and of whom to
//! trust, and all of them together; and the server with failpoints.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{cargo, machine, simulate};

/// The crate whose users choose features.
const PACKAGE: &str = "stentor-client";
/// The crate with failpoints, which no default has.
const SERVER: &str = "stentor-server";

/// Which provider of cryptography, and whom to trust: programs choose one or more of each.
const PROVIDERS: [&str; 3] = ["tls-ring", "tls-aws-lc", "tls-ring,tls-aws-lc"];
const ROOTS: [&str; 3] = ["tls-native-roots", "tls-webpki-roots", "tls-native-roots,tls-webpki-roots"];

/// Check that each feature of the client builds alone, TLS in each combination, and the server with failpoints
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Instead of that, let the client shake hands with servers by aws-lc (some minutes)
    #[arg(long)]
    handshakes: bool,
}

/// With both providers on, programs that choose none get aws-lc; the servers of the tests have ring.
const HANDSHAKES: &str = "tls-ring,tls-aws-lc,tls-native-roots,tls-webpki-roots,rustls-0_23,dangerous";

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.handshakes {
        let mut tests = cargo::cargo();
        tests.args([
            "test",
            "--locked",
            "--package",
            PACKAGE,
            "--test=main",
            &format!("--features={HANDSHAKES}"),
            "tls",
        ]);
        return machine::run(tests.args(["--profile=test-fast"]).env("RUSTFLAGS", simulate::RUSTFLAGS));
    }
    let features = features()?;
    ensure!(!features.is_empty(), "{PACKAGE} has no features to check");
    check(PACKAGE, &["--no-default-features"])?;
    for feature in &features {
        check(PACKAGE, &["--no-default-features", &format!("--features={feature}")])?;
    }
    for provider in PROVIDERS {
        for roots in ROOTS {
            check(PACKAGE, &["--no-default-features", &format!("--features={provider},{roots}")])?;
        }
    }
    check(PACKAGE, &["--all-features"])?;
    let combinations = PROVIDERS.len() * ROOTS.len();
    println!(
        "{PACKAGE} builds without features, with each of {} alone, with {combinations} combinations of TLS and with all",
        features.len()
    );
    // With the process, and without all that it needs.
    check(SERVER, &["--features=failpoints"])?;
    check(SERVER, &["--no-default-features", "--features=failpoints"])?;
    println!("{SERVER} builds with failpoints");
    Ok(())
}

/// Without other crates of the workspace, whose own choice of features would count too. A warning is an error: it is of
/// code that only another feature needs.
fn check(package: &str, features: &[&str]) -> Result<()> {
    let mut command = cargo::cargo();
    command.args(["check", "--locked", "--quiet", "--package", package, "--lib", "--message-format=json"]);
    command.args(features);
    let output = command.output().with_context(|| format!("cannot start {}", machine::show(&command)))?;
    let found = findings(&String::from_utf8_lossy(&output.stdout));
    ensure!(
        output.status.success() && found.is_empty(),
        "{} found:\n{}\n{}",
        machine::show(&command),
        found.join("\n"),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(())
}

/// Warnings and errors about code of this workspace, among cargo's messages. cargo repeats those of what it need not
/// check again.
fn findings(messages: &str) -> Vec<String> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = messages.filter(|message| message["reason"] == "compiler-message");
    found.filter_map(|message| Some(message["message"]["rendered"].as_str()?.to_owned())).collect()
}

/// Their names.
fn features() -> Result<Vec<String>> {
    let metadata = cargo::metadata()?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let package = packages.iter().find(|package| package["name"] == PACKAGE);
    let features = package.with_context(|| format!("there is no {PACKAGE}"))?["features"].as_object();
    Ok(features.context("cargo metadata has no features")?.keys().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_found_among_the_messages() {
        let messages = [
            serde_json::json!({ "reason": "compiler-artifact", "target": { "name": "x" } }),
            serde_json::json!({ "reason": "compiler-message", "message": { "rendered": "warning: unused" } }),
            serde_json::json!({ "reason": "build-finished", "success": true }),
        ];
        let text = messages.map(|message| message.to_string()).join("\n");
        assert_eq!(findings(&text), ["warning: unused"]);
    }
}
