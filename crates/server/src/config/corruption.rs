//! When members are compared: flags, and the feature gates that newer etcds have in their place.

use std::collections::BTreeMap;

use super::CorruptionChecks;
use super::error::ConfigError;
use super::flags::{ALL_ALPHA, COMPACT_HASH_CHECK, FEATURE_GATES, GATES_THAT_ACT, INITIAL_CORRUPT_CHECK};
use super::values::{Values, list, parse_bool};

pub(super) fn checks(values: &Values, warnings: &mut Vec<String>) -> Result<CorruptionChecks, ConfigError> {
    let gates = feature_gates(values.text("feature-gates"))?;
    let without = gates.keys().filter(|name| !GATES_THAT_ACT.contains(name));
    warnings.extend(without.map(|name| format!("--feature-gates: {name} has no effect in this version")));
    // One that is named counts for more than all.
    let gate = |name| gates.get(name).or_else(|| gates.get(ALL_ALPHA)).is_some_and(|on| *on);
    let newest = values.duration("corrupt-check-time");
    let compacted = values.duration("compact-hash-check-time");
    if compacted.is_zero() {
        return Err(ConfigError::Usage("--compact-hash-check-time must be above 0".into()));
    }
    let compares_compacted = values.bool("compact-hash-check-enabled") || gate(COMPACT_HASH_CHECK);
    Ok(CorruptionChecks {
        initial: values.bool("initial-corrupt-check") || gate(INITIAL_CORRUPT_CHECK),
        newest: Some(newest).filter(|newest| !newest.is_zero()),
        compacted: Some(compacted).filter(|_| compares_compacted),
    })
}

/// The gates that are given, the last value of each.
fn feature_gates(text: &str) -> Result<BTreeMap<&str, bool>, ConfigError> {
    let mut gates = BTreeMap::new();
    for item in list(text) {
        let (name, value) = item.split_once('=').unwrap_or((item, ""));
        match parse_bool(value.trim()).filter(|_| FEATURE_GATES.contains(&name.trim())) {
            Some(on) => gates.insert(name.trim(), on),
            None => {
                return Err(ConfigError::Usage(format!(
                    "--feature-gates: {item:?} is not NAME=true or NAME=false with NAME one of {}",
                    FEATURE_GATES.join(", ")
                )));
            }
        };
    }
    Ok(gates)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{error, ok, run};
    use super::*;

    #[test]
    fn each_has_a_flag_an_older_one_or_a_gate() {
        let checks = |args: &[&str]| {
            let CorruptionChecks { initial, newest, compacted } = ok(args).corruption_checks;
            (initial, newest.map(|it| it.as_secs()), compacted.map(|it| it.as_secs()))
        };
        assert_eq!(checks(&[]), (false, None, None));
        for prefix in ["--", "--experimental-"] {
            let given = |flag: &str| format!("{prefix}{flag}");
            assert_eq!(checks(&[&given("corrupt-check-time=5m")]), (false, Some(300), None));
            assert_eq!(checks(&[&given("corrupt-check-time=0")]), (false, None, None));
            assert_eq!(checks(&[&given("initial-corrupt-check")]), (true, None, None));
            let enabled = given("compact-hash-check-enabled=true");
            assert_eq!(checks(&[&enabled]), (false, None, Some(60)));
            assert_eq!(checks(&[&enabled, &given("compact-hash-check-time=5s")]), (false, None, Some(5)));
        }
        let gates = |text: &str| checks(&[&format!("--feature-gates={text}")]);
        assert_eq!(gates("InitialCorruptCheck=true"), (true, None, None));
        assert_eq!(gates("CompactHashCheck=true, InitialCorruptCheck=false"), (false, None, Some(60)));
        assert_eq!(gates("AllAlpha=true"), (true, None, Some(60)));
        assert_eq!(gates("AllAlpha=true,CompactHashCheck=false"), (true, None, None));
        assert_eq!(gates("CompactHashCheck=true,CompactHashCheck=false"), (false, None, None));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_what_does_nothing_is_named() {
        for args in [&["--compact-hash-check-time=0s"][..], &["--feature-gates=CompactHashCheck"]] {
            assert_eq!(error(args).exit_code(), 2, "{args:?}");
        }
        let (_, warnings) = run(&["--feature-gates=LeaseCheckpoint=true,CompactHashCheck=true"], &[]).unwrap();
        assert_eq!(warnings, ["--feature-gates: LeaseCheckpoint has no effect in this version"]);
        let acts = ["--corrupt-check-time=1h", "--compact-hash-check-enabled", "--initial-corrupt-check"];
        assert_eq!(run(&acts, &[]).unwrap().1, Vec::<String>::new());
        assert_eq!(ok(&acts).corruption_checks.newest, Some(Duration::from_secs(3600)));
    }
}
