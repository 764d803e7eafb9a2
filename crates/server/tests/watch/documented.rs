//! docs/watch-tests.md says which test is for what; here is whether those tests are there.

use std::collections::BTreeSet;
use std::path::Path;

/// The names of functions in all sources below a directory that look like tests.
fn tests_below(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(tests_in(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Functions after an attribute that makes a test of them.
fn tests_in(source: &str) -> Vec<String> {
    let mut is_test = false;
    let mut found = Vec::new();
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(name) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "))
            && std::mem::take(&mut is_test)
        {
            found.extend(name.split('(').next().map(str::to_owned));
        }
    }
    found
}

/// The names in backticks of the last column of each table's row; none for rows without a test.
fn named_in(document: &str) -> Vec<(&str, Vec<&str>)> {
    let rows = document.lines().filter(|line| line.starts_with("| "));
    let rows = rows.filter_map(|line| {
        let (what, tests) = line.trim_matches(['|', ' ']).rsplit_once(" | ")?;
        Some((what, tests.split('`').skip(1).step_by(2).collect()))
    });
    rows.filter(|(what, _)| !["what", "issue"].contains(&what.split(" | ").next().unwrap_or_default())).collect()
}

#[test]
fn every_test_that_the_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tests = BTreeSet::new();
    for directory in ["crates/server/tests", "crates/server/src/net/tests", "crates/watch", "crates/interop/tests"] {
        tests_below(&root.join(directory), &mut tests);
    }
    let document = std::fs::read_to_string(root.join("docs/watch-tests.md")).unwrap();
    let rows = named_in(&document);
    assert!(rows.len() > 80, "{} rows", rows.len());
    for (what, names) in rows {
        assert!(!names.is_empty(), "no test is named for {what}");
        for name in names {
            let name = name.rsplit("::").next().unwrap_or_default();
            assert!(tests.contains(name), "{name}, named for {what}, is no test");
        }
    }
}

#[test]
fn rows_and_tests_are_found() {
    let document = "| what | test |\n|---|---|\n| A `b` | `c::one`, `two` |\ntext\n";
    assert_eq!(named_in(document), [("A `b`", vec!["c::one", "two"])]);
    let source = "#[test]\nfn one() {}\nfn helper() {}\n#[tokio::test(start_paused = true)]\nasync fn two() {}\n";
    assert_eq!(tests_in(source), ["one", "two"]);
}
