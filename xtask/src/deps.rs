//! Checks the dependencies against `deny.toml`, and that no crate reaches what it must not know.
//!
//! This needs nothing but cargo. cargo-deny checks more, and runs too where it is installed.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::{cargo, machine};

/// Check the dependencies: bans, licences, sources, and what no crate may reach.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// What `deny.toml` says, as far as it is read here.
#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<Licensee>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

/// Licences that one crate alone may have.
#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<Licensee>,
}

/// A licence that is allowed, as `deny.toml` writes it.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Licensee(spdx::Licensee);

impl TryFrom<String> for Licensee {
    type Error = spdx::ParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        spdx::Licensee::parse(&text).map(Licensee)
    }
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
    /// Who may depend on it all the same.
    #[serde(default)]
    wrappers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// A crate, the features it is built with, and the crates that must not be below it then.
struct Layer {
    package: &'static str,
    default_features: bool,
    never: &'static [&'static str],
}

/// The boundaries between the crates, as docs/architecture.md draws them.
const LAYERS: &[Layer] = &[
    Layer { package: "stentor-proto", default_features: true, never: &["tonic", "tokio", "librocksdb-sys"] },
    Layer { package: "stentor-failpoints", default_features: true, never: &["tokio", "tracing", "stentor-proto"] },
    Layer { package: "stentor-mvcc", default_features: true, never: &["tonic", "tokio", "hyper"] },
    Layer { package: "stentor-mvcc", default_features: false, never: &["librocksdb-sys"] },
    Layer { package: "stentor-watch", default_features: true, never: &["tonic", "hyper", "librocksdb-sys"] },
    Layer {
        package: "stentor-raft",
        default_features: true,
        never: &["tonic", "tokio", "stentor-mvcc", "stentor-watch"],
    },
    Layer { package: "stentor-server", default_features: false, never: &["librocksdb-sys", "aws-lc-sys"] },
    Layer { package: "stentor-client", default_features: true, never: STORE },
    Layer { package: "stentor-checks", default_features: true, never: STORE },
    Layer { package: "stentor-simulation", default_features: true, never: &["librocksdb-sys"] },
    Layer { package: "stentor-cli", default_features: true, never: STORE },
    Layer { package: "stentor-bench", default_features: true, never: STORE },
];

/// What a client must build without.
const STORE: &[&str] = &["librocksdb-sys", "rocksdb", "stentor-mvcc", "stentor-watch", "stentor-server", "aws-lc-sys"];

pub(crate) fn run(_: &Args) -> Result<()> {
    let root = machine::workspace_root();
    let policy = std::fs::read_to_string(root.join("deny.toml")).context("cannot read deny.toml")?;
    let policy: Policy = toml::from_str(&policy).context("deny.toml is not as expected")?;
    cargo::fetch()?;
    let metadata = cargo::metadata()?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let nodes = metadata["resolve"]["nodes"].as_array().context("cargo metadata resolves nothing")?;
    let mut faults = policy.faults(packages);
    faults.extend(policy.wrapped(packages, nodes));
    for layer in LAYERS {
        faults.extend(layer.faults()?);
    }
    for fault in &faults {
        println!("deps: {fault}");
    }
    if !faults.is_empty() {
        bail!("{} faults in the dependencies", faults.len());
    }
    println!("deps: {} packages: bans, licences and sources are in order, and so are the layers", packages.len());
    cargo_deny()
}

impl Policy {
    fn faults(&self, packages: &[Value]) -> Vec<String> {
        packages.iter().flat_map(|p| [self.ban(p), self.license(p), self.source(p)]).flatten().collect()
    }

    fn ban(&self, package: &Value) -> Option<String> {
        let ban = self.bans.deny.iter().find(|ban| package["name"] == ban.name.as_str())?;
        ban.wrappers.is_empty().then(|| format!("{} is banned: {}", name(package), ban.reason))
    }

    /// Who depends on what is banned for it.
    fn wrapped(&self, packages: &[Value], nodes: &[Value]) -> Vec<String> {
        let name_of = |id: &Value| packages.iter().find(|p| p["id"] == *id).and_then(|p| p["name"].as_str());
        let mut faults = Vec::new();
        for node in nodes {
            let Some(dependent) = name_of(&node["id"]) else { continue };
            for dependency in node["dependencies"].as_array().into_iter().flatten().filter_map(name_of) {
                let ban = self.bans.deny.iter().find(|ban| ban.name == dependency && !ban.wrappers.is_empty());
                if let Some(ban) = ban.filter(|ban| !ban.wrappers.iter().any(|wrapper| wrapper == dependent)) {
                    faults.push(format!("{dependency} is banned for {dependent}: {}", ban.reason));
                }
            }
        }
        faults
    }

    fn license(&self, package: &Value) -> Option<String> {
        let Some(license) = package["license"].as_str() else {
            return Some(format!("{} names no licence", name(package)));
        };
        let expression = match spdx::Expression::parse_mode(license, spdx::ParseMode::LAX) {
            Ok(expression) => expression,
            Err(e) => return Some(format!("{}: {license}: {e}", name(package))),
        };
        let exceptions = self.licenses.exceptions.iter().filter(|e| package["name"] == e.name.as_str());
        let allow: Vec<_> = exceptions.flat_map(|e| &e.allow).chain(&self.licenses.allow).collect();
        let allowed = expression.evaluate(|one| allow.iter().any(|licensee| licensee.0.satisfies(one)));
        (!allowed).then(|| format!("{}: the licence {license} is not allowed", name(package)))
    }

    fn source(&self, package: &Value) -> Option<String> {
        // A package of this workspace has none.
        let source = package["source"].as_str()?;
        let registry = source.strip_prefix("registry+").or_else(|| source.strip_prefix("sparse+"));
        let known = registry.is_some_and(|r| self.sources.allow_registry.iter().any(|a| a == r));
        (!known).then(|| format!("{} comes from {source}", name(package)))
    }
}

fn name(package: &Value) -> String {
    let text = |field: &str| package[field].as_str().unwrap_or("?").to_owned();
    format!("{} {}", text("name"), text("version"))
}

impl Layer {
    fn faults(&self) -> Result<Vec<String>> {
        let mut tree = cargo::cargo();
        tree.args([
            "tree",
            "--locked",
            "--edges=normal,build",
            "--prefix=none",
            "--format={p}",
            "--package",
            self.package,
        ]);
        if !self.default_features {
            tree.arg("--no-default-features");
        }
        let tree = machine::capture(&mut tree)?;
        let below: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let features = if self.default_features { "" } else { " without default features" };
        let fault = |found: &&str| format!("{}{features} depends on {found}", self.package);
        Ok(self.never.iter().filter(|never| below.contains(*never)).map(fault).collect())
    }
}

/// cargo-deny's own opinion, where it is installed. Advisories never fail: they come without a
/// change of ours, and their database is fetched from the network.
fn cargo_deny() -> Result<()> {
    if machine::on_path("cargo-deny").is_none() {
        println!("SKIPPED: cargo-deny and its advisories: not installed (cargo install --locked cargo-deny)");
        return Ok(());
    }
    machine::run(cargo::cargo().args([
        "deny",
        "--locked",
        "--log-level=error",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))?;
    if machine::run(cargo::cargo().args(["deny", "--locked", "--log-level=error", "check", "advisories"])).is_err() {
        println!("deps: look at the advisories above, or at why their database cannot be reached; this does not fail");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy() -> Policy {
        let text = std::fs::read_to_string(machine::workspace_root().join("deny.toml")).unwrap();
        toml::from_str(&text).unwrap()
    }

    fn package(name: &str, license: &str) -> Value {
        let source = "registry+https://github.com/rust-lang/crates.io-index";
        json!({ "name": name, "version": "1.0.0", "license": license, "source": source })
    }

    #[test]
    fn licences_are_read_as_expressions() {
        let policy = policy();
        for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
            assert_eq!(policy.license(&package("a", good)), None);
        }
        for bad in ["GPL-3.0-only", "MIT AND GPL-3.0-only", "no licence at all"] {
            assert!(policy.license(&package("a", bad)).is_some(), "{bad}");
        }
    }

    #[test]
    fn an_exception_is_for_its_crate_alone() {
        let mut policy = policy();
        let allow = vec![Licensee::try_from("MPL-2.0".to_owned()).unwrap()];
        policy.licenses.exceptions.push(Exception { name: "known".into(), allow });
        assert_eq!(policy.license(&package("known", "MPL-2.0+")), None);
        assert!(policy.license(&package("other", "MPL-2.0+")).is_some());
    }

    #[test]
    fn what_is_banned_is_open_to_its_wrappers_alone() {
        let policy = policy();
        let named = |name: &str| json!({ "name": name, "id": name, "version": "1.0.0" });
        let packages = [named("protobuf"), named("raft"), named("other")];
        let node = |id: &str| json!({ "id": id, "dependencies": ["protobuf"] });
        assert_eq!(policy.ban(&packages[0]), None);
        assert!(policy.wrapped(&packages, &[node("raft")]).is_empty());
        let faults = policy.wrapped(&packages, &[node("raft"), node("other")]);
        assert!(faults.len() == 1 && faults[0].contains("banned for other"), "{faults:?}");
    }

    #[test]
    fn banned_crates_and_foreign_sources_are_faults() {
        let policy = policy();
        assert!(policy.ban(&package("openssl-sys", "MIT")).is_some());
        let mut foreign = package("a", "MIT");
        assert_eq!(policy.source(&foreign), None);
        foreign["source"] = json!("git+https://example.com/a");
        assert!(policy.source(&foreign).is_some());
        assert_eq!(policy.faults(&[foreign, package("openssl-sys", "GPL-3.0-only")]).len(), 3);
    }
}
