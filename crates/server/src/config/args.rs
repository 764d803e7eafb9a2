//! The command line and the environment.

use super::error::ConfigError;
use super::flags::{FLAGS, Flag, Kind, OWN_PREFIX, find};
use super::values::{Values, parse_bool};

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Run,
    Version,
    Help,
}

/// Reads the arguments behind the program's name into `values`: `-f v`, `--f v`, `-f=v`, `--f=v`, and for
/// booleans `--b` too. A flag given twice: the last one holds.
pub(crate) fn read_args(args: &[String], values: &mut Values) -> Result<Asked, ConfigError> {
    let mut rest = args.iter();
    let mut version = false;
    while let Some(arg) = rest.next() {
        let Some(body) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            return Err(not_a_flag(arg));
        };
        if body.is_empty() {
            // `--` ends the flags; nothing may follow. A lone `-` is no flag.
            match (arg.as_str(), rest.next()) {
                ("--", None) => break,
                ("--", Some(extra)) => return Err(not_a_flag(extra)),
                _ => return Err(not_a_flag(arg)),
            }
        }
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        match name {
            "h" | "help" => return Ok(Asked::Help),
            "version" => {
                version = match inline.as_deref() {
                    None => true,
                    Some(text) => parse_bool(text)
                        .ok_or_else(|| ConfigError::Usage(format!("--version={text}: neither true nor false")))?,
                };
                continue;
            }
            _ => {}
        }
        let flag = find(name)
            .ok_or_else(|| ConfigError::Usage(format!("flag provided but not defined: --{name} (--help lists all)")))?;
        let value = match inline {
            Some(value) => value,
            None if flag.kind == Kind::Bool => "true".to_owned(),
            None => {
                rest.next().cloned().ok_or_else(|| ConfigError::Usage(format!("flag needs an argument: --{name}")))?
            }
        };
        values.set(flag, value, "command line")?;
    }
    Ok(if version { Asked::Version } else { Asked::Run })
}

fn not_a_flag(arg: &str) -> ConfigError {
    match arg {
        "gateway" | "grpc-proxy" => {
            ConfigError::Usage(format!("{arg} is a command of etcd that this server does not have"))
        }
        _ => ConfigError::Usage(format!("{arg:?} is not a valid flag")),
    }
}

const ETCD: &str = "ETCD_";
const STENTOR: &str = "STENTOR_";

/// Reads `ETCD_` and `STENTOR_` variables into `values`, the latter over the former; an empty one counts
/// as absent. Returns a warning per unknown name: an orchestrator puts names of its own into the
/// environment (a Kubernetes service called `etcd` or `stentor` makes `ETCD_PORT`, `STENTOR_PORT`), so
/// none of them can stop the start.
pub(crate) fn read_env(env: &[(String, String)], values: &mut Values) -> Result<Vec<String>, ConfigError> {
    let mut unknown = Vec::new();
    for prefix in [ETCD, STENTOR] {
        let mut found: Vec<_> =
            env.iter().filter(|(name, value)| name.starts_with(prefix) && !value.is_empty()).collect();
        found.sort();
        for (name, value) in found {
            match flag_of_variable(name, prefix) {
                Some(flag) => values.set(flag, value.clone(), name)?,
                None if matches!(name.as_str(), "ETCD_UNSUPPORTED_ARCH") => {}
                None => unknown.push(format!("unrecognized environment variable {name}")),
            }
        }
    }
    Ok(unknown)
}

fn flag_of_variable(name: &str, prefix: &str) -> Option<&'static Flag> {
    let rest = name.strip_prefix(prefix)?.to_ascii_lowercase().replace('_', "-");
    if prefix == STENTOR {
        let own = format!("{OWN_PREFIX}{rest}");
        if let Some(flag) = FLAGS.iter().find(|flag| flag.name == own) {
            return Some(flag);
        }
    }
    find(&rest).filter(|flag| !flag.is_own())
}
