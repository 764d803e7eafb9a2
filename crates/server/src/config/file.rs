//! The configuration file: YAML with the flags' names.

use serde_json::Value;

use super::error::ConfigError;
use super::flags::{Flag, Kind, find};
use super::values::Values;

/// The sections whose keys are flags with another prefix, or none.
const SECTIONS: [(&str, &str); 2] = [("client-transport-security", ""), ("peer-transport-security", "peer-")];

/// Reads the file's text into `values`. `path` is for the error.
pub(crate) fn read_file(text: &str, path: &str, values: &mut Values) -> Result<(), ConfigError> {
    let usage = |why: String| ConfigError::Usage(format!("{path}: {why}"));
    if text.trim().is_empty() {
        return Ok(());
    }
    let root: Value = serde_saphyr::from_str(text).map_err(|error| usage(one_line(&error.to_string())))?;
    let entries = match root {
        Value::Object(entries) => entries,
        Value::Null => return Ok(()),
        _ => return Err(usage("is not a list of NAME: VALUE".into())),
    };
    for (key, value) in entries {
        if let Some((_, prefix)) = SECTIONS.iter().find(|(section, _)| *section == key) {
            read_section(&key, prefix, value, path, values)?;
            continue;
        }
        let flag = find(&key).ok_or_else(|| usage(format!("{key:?} is no flag's name (--help lists all)")))?;
        if flag.name == "config-file" {
            return Err(usage("config-file cannot be given in a file".into()));
        }
        set(flag, &value, path, values)?;
    }
    Ok(())
}

fn read_section(section: &str, prefix: &str, value: Value, path: &str, values: &mut Values) -> Result<(), ConfigError> {
    let entries = match value {
        Value::Object(entries) => entries,
        Value::Null => return Ok(()),
        _ => return Err(ConfigError::Usage(format!("{path}: {section} is not a list of NAME: VALUE"))),
    };
    for (key, value) in entries {
        let name = match (prefix, key.as_str()) {
            // Two names that a section has and the command line spells otherwise.
            (_, "allowed-cn" | "allowed-hostname") if prefix.is_empty() => format!("client-cert-{key}"),
            (_, "allowed-cn" | "allowed-hostname") => format!("{prefix}cert-{key}"),
            (_, "skip-client-san-verification") => "peer-skip-client-san-verification".to_owned(),
            ("", "client-crl-file" | "crl-file") => "client-crl-file".to_owned(),
            _ => format!("{prefix}{key}"),
        };
        let flag =
            find(&name).ok_or_else(|| ConfigError::Usage(format!("{path}: {section} has no setting {key:?}")))?;
        set(flag, &value, path, values)?;
    }
    Ok(())
}

fn set(flag: &'static Flag, value: &Value, path: &str, values: &mut Values) -> Result<(), ConfigError> {
    let text = match scalar(value, flag.kind) {
        Some(text) => text,
        None => return Err(ConfigError::Usage(format!("{path}: the value of {} is not a plain one", flag.name))),
    };
    // An empty value in a file is no value.
    if text.is_empty() && !matches!(flag.kind, Kind::Text | Kind::Urls) {
        return Ok(());
    }
    values.set(flag, text, path)
}

/// The text that the command line would have. Lists join by comma, maps are `name=value` by comma, and a
/// number given for a duration is nanoseconds.
fn scalar(value: &Value, kind: Kind) -> Option<String> {
    Some(match value {
        Value::Null => String::new(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) if kind == Kind::Duration => format!("{number}ns"),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(|item| scalar(item, Kind::Text)).collect::<Option<Vec<_>>>()?.join(","),
        Value::Object(entries) => entries
            .iter()
            .map(|(name, value)| Some(format!("{name}={}", scalar(value, Kind::Text)?)))
            .collect::<Option<Vec<_>>>()?
            .join(","),
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
