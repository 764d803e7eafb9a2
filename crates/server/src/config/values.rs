//! The values given, by flag, from whichever source.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::error::ConfigError;
use super::flags::{Effect, Flag, Kind, find};
use super::{duration, url::Url};

/// What was given. What was not has the table's default.
#[derive(Debug, Default)]
pub(crate) struct Values(BTreeMap<&'static str, Given>);

#[derive(Debug)]
struct Given {
    flag: &'static Flag,
    text: String,
}

impl Values {
    /// Notes a value, over an earlier one. `origin` names where it comes from, for the error.
    pub(crate) fn set(&mut self, flag: &'static Flag, text: String, origin: &str) -> Result<(), ConfigError> {
        check(flag.kind, &text)
            .map_err(|why| ConfigError::Usage(format!("{origin}: the value {text:?} of --{} {why}", flag.name)))?;
        self.0.insert(flag.name, Given { flag, text });
        Ok(())
    }

    /// Whether a value was given, be it the default one.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The given flags whose effect is `effect`, with their values.
    pub(crate) fn given_with(&self, effect: Effect) -> impl Iterator<Item = (&'static Flag, &str)> {
        self.0.values().filter(move |given| given.flag.effect == effect).map(|given| (given.flag, given.text.as_str()))
    }

    /// The value, or the table's default.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.0.get(name) {
            Some(given) => &given.text,
            None => find(name).map_or("", |flag| flag.default),
        }
    }

    pub(crate) fn bool(&self, name: &str) -> bool {
        parse_bool(self.text(name)).unwrap_or(false)
    }

    pub(crate) fn int(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    pub(crate) fn uint(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    pub(crate) fn duration(&self, name: &str) -> Duration {
        duration::parse(self.text(name)).unwrap_or(Duration::ZERO)
    }

    /// The URLs of a flag that names what others are told.
    pub(crate) fn urls(&self, name: &str) -> Result<Vec<Url>, ConfigError> {
        self.urls_by(name, Url::parse)
    }

    /// The URLs of a flag that names members.
    pub(crate) fn peer_urls(&self, name: &str) -> Result<Vec<Url>, ConfigError> {
        self.urls_by(name, Url::parse_peer)
    }

    /// The URLs of a flag that names what to listen on.
    pub(crate) fn listen_urls(&self, name: &str) -> Result<Vec<Url>, ConfigError> {
        self.urls_by(name, Url::parse_listen)
    }

    /// The file that a flag names, if it names one.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    fn urls_by(&self, name: &str, parse: fn(&str) -> Result<Url, String>) -> Result<Vec<Url>, ConfigError> {
        list(self.text(name))
            .map(|text| parse(text).map_err(|why| ConfigError::Usage(format!("--{name}: {text} {why}"))))
            .collect()
    }
}

/// The items of a list by comma; empty ones don't count.
pub(crate) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// The booleans that etcd's command line and files take.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn check(kind: Kind, text: &str) -> Result<(), &'static str> {
    let (fits, want) = match kind {
        Kind::Bool => (parse_bool(text).is_some(), "is neither true nor false"),
        Kind::Int => (text.parse::<i64>().is_ok(), "is not an integer"),
        Kind::Uint => (text.parse::<u64>().is_ok(), "is not an integer of 0 or more"),
        Kind::Float => (text.parse::<f64>().is_ok_and(f64::is_finite), "is not a number"),
        Kind::Duration => (duration::parse(text).is_some(), "is not a duration such as 100ms or 1m30s"),
        // URLs are looked at where they are used: those of an ignored flag need not be understood.
        Kind::Urls | Kind::Text => (true, ""),
    };
    if fits { Ok(()) } else { Err(want) }
}

#[cfg(test)]
mod tests {
    use super::super::flags::FLAGS;
    use super::*;

    #[test]
    fn every_default_is_of_its_own_kind() {
        for flag in FLAGS {
            check(flag.kind, flag.default).unwrap_or_else(|why| panic!("--{}: {:?} {why}", flag.name, flag.default));
            if flag.kind == Kind::Urls {
                Values::default().urls(flag.name).unwrap();
            }
        }
    }

    #[test]
    fn no_name_has_two_rows() {
        let mut names: Vec<_> = FLAGS.iter().map(|flag| flag.name).collect();
        names.sort_unstable();
        let rows = names.len();
        names.dedup();
        assert_eq!(names.len(), rows);
    }
}
